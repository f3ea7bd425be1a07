"""The small Inception, with and without batch normalization."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.models.initializers import initializer
from rethink_gen.models.layers import BatchNorm, max_pool

_BATCH_NORM_EPSILON = 1e-3  # not stated in the paper


class ConvModule(nn.Module):
    """Convolution, batch norm and ReLU; without batch norm, convolution with a bias and ReLU.

    Both variants have one parameter per channel beside the kernel: the offset of batch norm, or the bias. Batch norm
    has no trainable scale, and its convolution has no bias. This is the default of TF-slim in 2016. It is the only
    reading under which both networks of Table 1 have 1,649,402 parameters without redundant ones.
    """

    channels: int
    size: int
    stride: int = 1
    batch_norm: bool = True
    batch_norm_momentum: float = 0.9
    initialization: str = "he"

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Conv(
            self.channels,
            (self.size, self.size),
            (self.stride, self.stride),
            use_bias=not self.batch_norm,
            kernel_init=initializer(self.initialization),
        )(x)
        if self.batch_norm:
            return BatchNorm(self.batch_norm_momentum, _BATCH_NORM_EPSILON)(x, train=train)
        return nn.relu(x)


class SmallInception(nn.Module):
    """Small Inception: a convolution, eight Inception and two downsample modules, mean pooling, a dense layer.

    Maps images float32[B, H, W, C] to logits float32[B, K]. With 10 classes it has 1,649,402 parameters.

    References:
      Zhang et al. 2017, Figure 3.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    batch_norm: bool = True
    # Not stated in the paper. With 0.9 the statistics for evaluation follow the weights within about ten steps. While
    # the weights move fast, evaluation still lags behind training (see the experiment fig1a_learning_curves).
    batch_norm_momentum: float = 0.9
    initialization: str = "he"  # a name in initializers.py
    last_layer: str = "small"  # initialization of the last layer

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        def conv(x: jax.Array, channels: int, size: int, stride: int = 1) -> jax.Array:
            norm = (self.batch_norm, self.batch_norm_momentum)
            return ConvModule(channels, size, stride, *norm, self.initialization)(x, train=train)

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
        return nn.Dense(self.num_classes, kernel_init=initializer(self.last_layer))(x)
