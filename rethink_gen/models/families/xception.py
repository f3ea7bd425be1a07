"""Xception: residual blocks of separable convolutions."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.models.families.blocks import Conv, ConvNorm, batch_norm, classify
from rethink_gen.models.families.mobilenet import rounded
from rethink_gen.models.layers import max_pool


class SeparableNorm(nn.Module):
    """A 3×3 depthwise and a 1×1 convolution, and batch norm."""

    channels: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = Conv(0)(x)
        return batch_norm(Conv(self.channels, 1)(x), train=train)


class SeparableBlock(nn.Module):
    """ReLU and separable convolution, once for each number of channels; then 3×3 max pooling if the stride is 2."""

    channels: tuple[int, ...]
    stride: int = 1
    activate_first: bool = True  # whether the first ReLU is there

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y: Any = x
        for i, channels in enumerate(self.channels):
            y = nn.relu(y) if i or self.activate_first else y
            y = SeparableNorm(channels)(y, train=train)
        if self.stride == 2:
            y = max_pool(jnp.pad(y, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf), "VALID")
        if (x.shape[-1], 1) == (self.channels[-1], self.stride):
            return y + x
        return y + ConvNorm(self.channels[-1], 1, self.stride, activation=None)(x, train=train)


class Xception(nn.Module):
    """Xception for small images. With 1000 classes it has the 22.9 million parameters of the paper.

    Maps images float32[B, H, W, C] to logits float32[B, K]. The first convolution and the first block have stride 1,
    and all convolutions pad; in the paper, which has images of 299×299, stride 2, and the first two do not pad.

    References:
      Chollet 2017, "Xception: deep learning with depthwise separable convolutions", Figure 5.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    width: float = 1.0  # factor of all channels
    depth: int = 8  # blocks of the middle flow

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        small, first, second, middle, last, wide, widest = (
            channels if self.width == 1 else rounded(channels * self.width)
            for channels in (32, 64 * 2, 256, 728, 1024, 1536, 2048)
        )
        x = ConvNorm(small)(x, train=train)
        x = ConvNorm(first // 2)(x, train=train)
        x = SeparableBlock((first, first), activate_first=False)(x, train=train)
        x = SeparableBlock((second, second), stride=2)(x, train=train)
        x = SeparableBlock((middle, middle), stride=2)(x, train=train)
        for _ in range(self.depth):
            x = SeparableBlock((middle, middle, middle))(x, train=train)
        x = SeparableBlock((middle, last), stride=2)(x, train=train)
        for channels in (wide, widest):
            x = nn.relu(SeparableNorm(channels)(x, train=train))
        return classify(x, self.num_classes, self.dropout, train=train)
