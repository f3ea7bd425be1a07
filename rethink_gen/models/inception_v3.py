"""Inception V3 (Szegedy et al. 2015), as in TensorFlow's Inception package of 2016 with TF-slim, which the paper used.

The constants are those of the package: the defaults of `InceptionV3`, and dropout 0.2, label smoothing 0.1 and weight
decay 4e-5 of a run. Beside its kernel, a convolution has one parameter per channel: the offset of batch norm. With 1000
classes the network has 23,817,352 parameters without the auxiliary head and 27,143,152 with it. The package has one
more class, "background"; this network does not.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.errors import UsageError
from rethink_gen.models import layers

_Layer = Callable[..., jax.Array]
_SMALLEST = 107  # pixels per side; on smaller images the pooling of the auxiliary head has no input


class InceptionV3(nn.Module):
    """Inception V3. Maps images in [0, 1], float32[B, H, W, C], to logits float32[B, K].

    Images have 299×299 pixels in the package; at least 107×107 are needed. In training the module sows the logits of
    the auxiliary head in the collection `auxiliary`. The training loss adds their loss, times `auxiliary_weight`.

    Raises:
      UsageError: the images are smaller than 107×107.

    References:
      Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision".
    """

    num_classes: int
    dropout: float = 0.0
    auxiliary_weight: float = 0.4  # 0: no auxiliary head
    batch_norm_momentum: float = 0.9997
    batch_norm_epsilon: float = 1e-3

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        if min(x.shape[1:3]) < _SMALLEST:
            size = "×".join(map(str, x.shape[1:3]))
            raise UsageError(f"Inception V3 needs images of at least {_SMALLEST}×{_SMALLEST} pixels, not {size}")
        # The momentum grows from 0.1 to 0.9997, as in tf.train.ExponentialMovingAverage with num_updates. A constant
        # 0.9997 would evaluate runs of less than 10,000 steps with statistics from their start.
        steps = self.variable("batch_stats", "steps", jnp.zeros, (), jnp.float32)
        momentum = jnp.minimum(self.batch_norm_momentum, (1 + steps.value) / (10 + steps.value))
        if train and not self.is_initializing():
            steps.value += 1

        def conv(
            x: jax.Array,
            channels: int,
            size: int | tuple[int, int] = 1,
            stride: int = 1,
            padding: str = "SAME",
            stddev: float = 0.1,
        ) -> jax.Array:
            window = (size, size) if isinstance(size, int) else size
            init = _truncated_normal(stddev)
            x = nn.Conv(channels, window, stride, padding, use_bias=False, kernel_init=init)(x)
            return layers.BatchNorm(momentum, self.batch_norm_epsilon)(x, train=train)

        x = _stem(conv, 2 * x - 1)
        for pooled in (32, 64, 64):
            x = _mixed_35x35(conv, x, pooled)
        x = _downsample_to_17x17(conv, x)
        for channels in (128, 160, 160, 192):
            x = _mixed_17x17(conv, x, channels)
        side = x
        x = _downsample_to_8x8(conv, x)
        for _ in range(2):
            x = _mixed_8x8(conv, x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        logits = nn.Dense(self.num_classes, kernel_init=_truncated_normal(0.01))(x)
        if self.auxiliary_weight and (train or self.is_initializing()):
            x = conv(nn.avg_pool(side, (5, 5), (3, 3)), 128)
            x = conv(x, 768, (x.shape[1], x.shape[2]), padding="VALID", stddev=0.01).mean((1, 2))
            auxiliary = nn.Dense(self.num_classes, kernel_init=_truncated_normal(0.001))(x)
            if train:
                self.sow("auxiliary", "logits", auxiliary)
        return logits


def _truncated_normal(stddev: float) -> nn.initializers.Initializer:
    """jax's truncated normal initializer, drawn flat: the same numbers, but it compiles in a third of the time."""
    draw = nn.initializers.truncated_normal(stddev)

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        return draw(key, (math.prod(shape),), dtype).reshape(shape)

    return init


def _chain(conv: _Layer, x: jax.Array, *layers: tuple) -> jax.Array:
    for layer in layers:
        x = conv(x, *layer)
    return x


def _join(*branches: jax.Array) -> jax.Array:
    return jnp.concatenate(branches, axis=-1)


_mean_pool = partial(nn.avg_pool, window_shape=(3, 3), padding="SAME", count_include_pad=False)
_max_pool = partial(layers.max_pool, padding="VALID")


def _stem(conv: _Layer, x: jax.Array) -> jax.Array:
    """First layers: images [B, 299, 299, 3] → [B, 35, 35, 192]."""
    x = conv(conv(conv(x, 32, 3, 2, "VALID"), 32, 3, 1, "VALID"), 64, 3)
    x = conv(conv(_max_pool(x), 80), 192, 3, 1, "VALID")
    return _max_pool(x)


def _mixed_35x35(conv: _Layer, x: jax.Array, pooled: int) -> jax.Array:
    return _join(
        conv(x, 64),
        _chain(conv, x, (48,), (64, 5)),
        _chain(conv, x, (64,), (96, 3), (96, 3)),
        conv(_mean_pool(x), pooled),
    )


def _downsample_to_17x17(conv: _Layer, x: jax.Array) -> jax.Array:
    return _join(conv(x, 384, 3, 2, "VALID"), _chain(conv, x, (64,), (96, 3), (96, 3, 2, "VALID")), _max_pool(x))


def _mixed_17x17(conv: _Layer, x: jax.Array, channels: int) -> jax.Array:
    row, column = (1, 7), (7, 1)
    twice = ((channels, column), (channels, row), (channels, column))
    return _join(
        conv(x, 192),
        _chain(conv, x, (channels,), (channels, row), (192, column)),
        _chain(conv, x, (channels,), *twice, (192, row)),
        conv(_mean_pool(x), 192),
    )


def _downsample_to_8x8(conv: _Layer, x: jax.Array) -> jax.Array:
    return _join(
        _chain(conv, x, (192,), (320, 3, 2, "VALID")),
        _chain(conv, x, (192,), (192, (1, 7)), (192, (7, 1)), (192, 3, 2, "VALID")),
        _max_pool(x),
    )


def _mixed_8x8(conv: _Layer, x: jax.Array) -> jax.Array:
    def fork(x: jax.Array) -> jax.Array:
        return _join(conv(x, 384, (1, 3)), conv(x, 384, (3, 1)))

    return _join(
        conv(x, 320),
        fork(conv(x, 384)),
        fork(_chain(conv, x, (448,), (384, 3))),
        conv(_mean_pool(x), 192),
    )
