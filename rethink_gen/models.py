"""Name → flax module. The networks of the paper: four with its parameter counts on 28×28×3 images and 10 classes, and
Inception V3, which has a module of its own.

A model takes whitened images float32[B, H, W, C] and returns logits float32[B, K]. It is built by `create` with the
number of classes and the dropout rate, and called with `train`, which decides batch norm's statistics and dropout.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.errors import unknown
from rethink_gen.inception_v3 import InceptionV3
from rethink_gen.layers import BatchNorm, local_response_normalization, max_pool


@partial(jax.jit, static_argnums=(1, 2))
def scaled(drawn: jax.Array, shape: tuple[int, ...], variance: float) -> jax.Array:
    """The first of the numbers drawn, as many as this shape has, with this variance in place of 1."""
    return (drawn[: math.prod(shape)] * jnp.sqrt(jnp.array(variance, drawn.dtype))).reshape(shape)


def he_normal(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Weights from N(0, 2 / inputs), to the bit those of flax's `variance_scaling(2.0, "fan_in", "normal")`.

    Drawn flat and in lengths that are powers of two: there XLA compiles a few generators, and not one per shape, which
    took the small Inception 22 seconds.
    """
    size, inputs = math.prod(shape), math.prod(shape[:-1])
    return scaled(jax.random.normal(key, (1 << (size - 1).bit_length(),), dtype), tuple(shape), 2 / inputs)


# Not stated in the paper. He initialization and zero biases: with them the paper's schedule fits random labels.
KERNEL_INIT = he_normal
# The last layer of the networks that convolve starts small, as in TensorFlow's CIFAR-10 tutorial. For the small AlexNet
# this decides whether it fits random labels: see experiments/alexnet_last_layer.py.
SMALL_LOGITS = nn.initializers.truncated_normal(1 / 192)
# Not stated either. 0.9 follows the weights within about ten steps; while these move fast, evaluation still lags behind
# training (see experiments/fig1a_learning_curves.py).
BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON = 0.9, 1e-3


class MLP(nn.Module):
    """Hidden layers of 512 ReLU units (Appendix A): 1,209,866 parameters with one, 1,735,178 with three."""

    num_classes: int
    dropout: float = 0.0
    hidden: Sequence[int] = (512,)

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=KERNEL_INIT)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=KERNEL_INIT)(x)


class SoftmaxRegression(MLP):
    """No hidden layer, one linear map: the contrast to networks that fit anything. Not in the paper."""

    hidden: Sequence[int] = ()


class SmallAlexNet(nn.Module):
    """Two (5×5 convolution, 3×3 max-pool, response normalization) modules, then 384, 192 and K units (Appendix A).

    1,387,786 parameters. The text gives neither channels nor strides: 64 channels and stride-2 pooling with "same"
    padding are the choice that gives the count, and TensorFlow's CIFAR-10 tutorial network.
    """

    num_classes: int
    dropout: float = 0.0
    logits_init: nn.initializers.Initializer = SMALL_LOGITS

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        for _ in range(2):
            x = nn.relu(nn.Conv(64, (5, 5), kernel_init=KERNEL_INIT)(x))
            x = max_pool(x)
            x = local_response_normalization(x)
        x = x.reshape(len(x), -1)
        for width in (384, 192):
            x = nn.relu(nn.Dense(width, kernel_init=KERNEL_INIT)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=self.logits_init)(x)


class ConvModule(nn.Module):
    """Convolution, batch norm, ReLU. One parameter per channel either way: batch norm's offset, or the bias without it.

    Batch norm has no trainable scale and the convolution no bias of its own, the default of TF-slim in 2016: the only
    reading under which both networks of Table 1 have 1,649,402 parameters and every one of them matters.
    """

    channels: int
    size: int
    stride: int = 1
    batch_norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Conv(
            self.channels,
            (self.size, self.size),
            (self.stride, self.stride),
            use_bias=not self.batch_norm,
            kernel_init=KERNEL_INIT,
        )(x)
        if self.batch_norm:
            return BatchNorm(BATCH_NORM_MOMENTUM, BATCH_NORM_EPSILON)(x, train=train)
        return nn.relu(x)


class SmallInception(nn.Module):
    """Figure 3: a convolution, eight Inception and two downsample modules, mean pooling. 1,649,402 parameters."""

    num_classes: int
    dropout: float = 0.0
    batch_norm: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        def conv(x: jax.Array, channels: int, size: int, stride: int = 1) -> jax.Array:
            return ConvModule(channels, size, stride, self.batch_norm)(x, train=train)

        def inception(x: jax.Array, channels_1x1: int, channels_3x3: int) -> jax.Array:
            return jnp.concatenate([conv(x, channels_1x1, 1), conv(x, channels_3x3, 3)], axis=-1)

        def downsample(x: jax.Array, channels: int) -> jax.Array:
            return jnp.concatenate([conv(x, channels, 3, 2), max_pool(x)], axis=-1)

        x = conv(x, 96, 3)
        x = inception(inception(x, 32, 32), 32, 48)
        x = downsample(x, 80)
        for channels in ((112, 48), (96, 64), (80, 80), (48, 96)):
            x = inception(x, *channels)
        x = downsample(x, 96)
        x = inception(inception(x, 176, 160), 176, 160)
        x = x.mean((1, 2))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=SMALL_LOGITS)(x)


def inception_v3(**options) -> nn.Module:
    """Inception V3 as in TF-slim, for images of 299×299 pixels: 23,817,352 parameters and an auxiliary head."""
    return InceptionV3(**options)


def create(name: str, num_classes: int, dropout: float = 0.0) -> nn.Module:
    """The model of that name for so many classes."""
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    return MODELS[name](num_classes=num_classes, dropout=dropout)


MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp_1x512": lambda **options: MLP(hidden=(512,), **options),
    "mlp_3x512": lambda **options: MLP(hidden=(512, 512, 512), **options),
    "small_alexnet": SmallAlexNet,
    "small_alexnet_he": lambda **options: SmallAlexNet(logits_init=KERNEL_INIT, **options),
    "small_inception": SmallInception,
    "small_inception_without_batch_norm": lambda **options: SmallInception(batch_norm=False, **options),
    "softmax_regression": SoftmaxRegression,
    "inception_v3": inception_v3,
}
