"""MobileNetV2 and its block, the inverted bottleneck, which EfficientNet and IdleNet share."""

import math
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax

from rethink_gen.models.families.blocks import Activation, Conv, ConvNorm, classify


class Stage(NamedTuple):
    """Inverted bottlenecks in a row; the first one has the stride."""

    expansion: int
    channels: int
    blocks: int
    stride: int
    size: int = 3  # of the depthwise kernels

    def scaled(self, width: float, depth: float = 1.0) -> "Stage":
        """With channels times `width` and blocks times `depth`, rounded as in the papers."""
        return self._replace(channels=rounded(self.channels * width), blocks=math.ceil(self.blocks * depth))


# Table 2 of the paper; its second stage and its first convolution have stride 2, which is 1 for small images.
STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 1),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
STEM, LAST = 32, 1280  # channels of the first and the last convolution


def rounded(channels: float) -> int:
    """The nearest multiple of 8, at least 8, and not less than 90 % of the number."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


class SqueezeExcitation(nn.Module):
    """Scales each channel by a factor in (0, 1) that depends on the means of all channels."""

    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        means = x.mean((1, 2), keepdims=True)
        hidden = nn.silu(Conv(self.hidden, 1, use_bias=True)(means))
        return x * nn.sigmoid(Conv(x.shape[-1], 1, use_bias=True)(hidden))


class InvertedBottleneck(nn.Module):
    """1×1 convolution to more channels, depthwise convolution, 1×1 convolution to few; a shortcut if the shape is kept.

    References:
      Sandler et al. 2018, "MobileNetV2: inverted residuals and linear bottlenecks", Figure 3.
    """

    channels: int
    expansion: int
    stride: int = 1
    size: int = 3
    activation: Activation = nn.relu6
    squeeze: bool = False  # squeeze-and-excitation to a quarter of the channels that come in

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        y, given = x, x.shape[-1]
        if self.expansion > 1:
            y = ConvNorm(self.expansion * given, 1, activation=self.activation)(y, train=train)
        y = ConvNorm(0, self.size, self.stride, self.activation)(y, train=train)
        if self.squeeze:
            y = SqueezeExcitation(max(1, given // 4))(y)
        y = ConvNorm(self.channels, 1, activation=None)(y, train=train)
        return x + y if (given, 1) == (self.channels, self.stride) else y


class MobileNetV2(nn.Module):
    """MobileNetV2 for small images: 2,236,682 parameters for 10 classes, and for 1000 the 3.5 million of the paper.

    Maps images float32[B, H, W, C] to logits float32[B, K].

    References:
      Sandler et al. 2018, Table 2.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    width: float = 1.0  # factor of all channels
    depth: float = 1.0  # factor of the blocks in a stage

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = body(x, self.width, self.depth, InvertedBottleneck, train=train)
        return classify(x, self.num_classes, self.dropout, train=train)


def body(
    x: jax.Array, width: float, depth: float, repeated: Callable[[int, int], nn.Module], *, train: bool
) -> jax.Array:
    """All of MobileNetV2 but the last layer, as submodules of the calling module.

    Args:
      repeated: (channels, expansion) → the blocks of a stage after the first.
    """
    x = ConvNorm(rounded(STEM * width), activation=nn.relu6)(x, train=train)
    for stage in STAGES:
        expansion, channels, blocks, stride, _ = stage.scaled(width, depth)
        x = InvertedBottleneck(channels, expansion, stride)(x, train=train)
        for _ in range(blocks - 1):
            x = repeated(channels, expansion)(x, train=train)  # type: ignore[operator]
    return ConvNorm(rounded(LAST * max(1.0, width)), 1, activation=nn.relu6)(x, train=train)
