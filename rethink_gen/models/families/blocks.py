"""Building blocks of the families of networks: convolution, batch norm, pooling, patches and the last layer.

Our choices for all families, where their papers differ or are silent: He initialization of convolutions; the last layer
starts near zero, as in the small AlexNet and the small Inception; zero padding is symmetric, as in PyTorch; batch norm
has a scale and an offset, epsilon 1e-5, and momentum 0.9, so that its statistics follow within about ten steps.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from rethink_gen.models.initializers import initializer
from rethink_gen.models.layers import GhostBatchNorm

Activation = Callable[[jax.Array], jax.Array]
_AXES = ("NHWC", "HWIO", "NHWC")


class Conv(nn.Module):
    """Convolution: float[B, H, W, C] → float[B, ⌈H / stride⌉, ⌈W / stride⌉, channels], with an odd size of the kernel.

    A 1×1 convolution is computed as a matrix product, which takes half the time on CPU. `channels=0` is a depthwise
    convolution: each channel has a kernel of its own.
    """

    channels: int
    size: int = 3
    stride: int = 1
    use_bias: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (self.size, self.size, x.shape[-1] if self.channels else 1, self.channels or x.shape[-1])
        kernel = self.param("kernel", initializer("he"), shape)
        if not self.channels:
            x = depthwise(x, kernel[:, :, 0], self.stride)
        elif self.size == 1:
            x = x[:, :: self.stride, :: self.stride]
            x = (x.reshape(-1, shape[2]) @ kernel[0, 0]).reshape(*x.shape[:-1], shape[3])
        else:
            padding = [(self.size // 2, self.size // 2)] * 2
            x = lax.conv_general_dilated(x, kernel, [self.stride] * 2, padding, dimension_numbers=_AXES)
        return x + self.param("bias", nn.initializers.zeros, shape[-1:]) if self.use_bias else x


class ConvNorm(nn.Module):
    """Convolution, batch norm, and an activation if one is given; see `Conv`."""

    channels: int
    size: int = 3
    stride: int = 1
    activation: Activation | None = nn.relu
    ghost_batch: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = batch_norm(Conv(self.channels, self.size, self.stride)(x), train=train, ghost_batch=self.ghost_batch)
        return self.activation(x) if self.activation else x


def batch_norm(x: jax.Array, *, train: bool, ghost_batch: int = 0) -> jax.Array:
    """Batch norm over all axes but the last, as a submodule of the calling module.

    Args:
      ghost_batch: how many examples share their statistics; 0: the whole batch.
    """
    if ghost_batch:
        return GhostBatchNorm(ghost_batch, momentum=0.9, epsilon=1e-5)(x, train=train)
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5)(x)


def norm_relu(x: jax.Array, *, train: bool, ghost_batch: int = 0) -> jax.Array:
    """Batch norm and ReLU, as a submodule of the calling module."""
    return nn.relu(batch_norm(x, train=train, ghost_batch=ghost_batch))


def classify(x: jax.Array, num_classes: int, dropout: float, *, train: bool) -> jax.Array:
    """Mean over the pixels of images [B, H, W, C], dropout and the last layer; vectors [B, C] have no pixels."""
    x = x.mean((1, 2)) if x.ndim == 4 else x
    x = nn.Dropout(dropout, deterministic=not train)(x)
    return nn.Dense(num_classes, kernel_init=initializer("small"))(x)


def max_pool(x: jax.Array) -> jax.Array:
    """2×2 max pooling with stride 2; an odd side is padded with -∞ at its end."""
    return jnp.max(_quarters(x, -jnp.inf), axis=0)


def mean_pool(x: jax.Array) -> jax.Array:
    """2×2 mean pooling with stride 2; an odd side is padded with zeros at its end."""
    return jnp.mean(_quarters(x, 0.0), axis=0)


def _quarters(x: jax.Array, padding: float) -> jax.Array:
    """[B, H, W, C] → [4, B, ⌈H / 2⌉, ⌈W / 2⌉, C]: the values of each window."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), constant_values=padding)
    return jnp.stack([x[:, i::2, j::2] for i in range(2) for j in range(2)])


def patches(x: jax.Array, size: int) -> jax.Array:
    """Images [B, H, W, C] → patches [B, N, size² · C], row by row; zeros fill up the last ones."""
    batch, height, width, channels = x.shape
    x = jnp.pad(x, ((0, 0), (0, -height % size), (0, -width % size), (0, 0)))
    x = x.reshape(batch, x.shape[1] // size, size, x.shape[2] // size, size, channels)
    return x.swapaxes(2, 3).reshape(batch, -1, size * size * channels)


class MLPBlock(nn.Module):
    """Two linear layers with a GELU between them, on the last axis; its size is kept."""

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = gelu(nn.Dense(self.hidden)(x))
        return nn.Dense(x.shape[-1])(hidden)


gelu = partial(nn.gelu, approximate=False)
layer_norm = partial(nn.LayerNorm, epsilon=1e-6)


def depthwise(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Depthwise convolution of images [B, H, W, C] with kernels [k, k, C], k odd.

    XLA's grouped convolution is slow on CPU: 3×3 kernels on [32, 14, 14, 96] take 166 ms on two cores, forward and
    backward, where these sums of shifted images take 3 ms. Other devices use XLA's.
    """
    if jax.default_backend() == "cpu":
        return _shifted_sum(x, kernel, stride)
    padding = [(len(kernel) // 2, len(kernel) // 2)] * 2
    return lax.conv_general_dilated(
        x, kernel[:, :, None], [stride] * 2, padding, dimension_numbers=_AXES, feature_group_count=x.shape[-1]
    )


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _shifted_sum(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    height, width = x.shape[1:3]
    x, size = _padded(x, len(kernel) // 2), len(kernel)
    shifted = lambda i, j: x[:, i : i + height : stride, j : j + width : stride]
    return sum((shifted(i, j) * kernel[i, j] for i in range(size) for j in range(size)), start=jnp.zeros((), x.dtype))


def _shifted_sum_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    return _shifted_sum(x, kernel, stride), (x, kernel)


def _shifted_sum_backward(stride: int, saved: tuple[jax.Array, ...], dy: Any) -> tuple[jax.Array, jax.Array]:
    """The gradients: dx is dy, with zeros between its rows and columns, convolved with the turned kernel; that of a
    kernel's value is the sum of x · dy, shifted. A loop over the values: side by side they take four times as long.
    """
    x, kernel = saved
    spread = lambda axis: (0, (x.shape[axis] - 1) % stride, stride - 1)
    dy = lax.pad(dy, jnp.zeros((), dy.dtype), ((0, 0, 0), spread(1), spread(2), (0, 0, 0)))
    padded, size = _padded(x, len(kernel) // 2), len(kernel)
    corners = jnp.stack([jnp.arange(size * size) // size, jnp.arange(size * size) % size], 1)
    at = lambda corner: lax.dynamic_slice(padded, (0, *corner, 0), x.shape)
    d_kernel = lax.map(lambda corner: (at(corner) * dy).sum((0, 1, 2)), corners)
    return _shifted_sum(dy, kernel[::-1, ::-1], 1), d_kernel.reshape(kernel.shape)


_shifted_sum.defvjp(_shifted_sum_forward, _shifted_sum_backward)


def _padded(x: jax.Array, by: int) -> jax.Array:
    return jnp.pad(x, ((0, 0), (by, by), (by, by), (0, 0)))
