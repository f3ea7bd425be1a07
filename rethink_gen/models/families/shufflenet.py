"""ShuffleNetV2 and IdleNet: part of the channels pass a block unchanged; a shuffle mixes them with the others."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.errors import UsageError
from rethink_gen.models.families.blocks import ConvNorm, classify
from rethink_gen.models.families.mobilenet import InvertedBottleneck, body


def channel_shuffle(x: jax.Array) -> jax.Array:
    """Interleaves the two halves of the channels: 0, n, 1, n + 1, … of 2 n."""
    return x.reshape(*x.shape[:-1], 2, -1).swapaxes(-1, -2).reshape(x.shape)


class ShuffleBlock(nn.Module):
    """Half of the channels pass; the others take a 1×1, a depthwise and a 1×1 convolution. With stride 2 all take one.

    References:
      Ma et al. 2018, "ShuffleNet V2: practical guidelines for efficient CNN architecture design", Figure 3.
    """

    channels: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        half = self.channels // 2
        if self.stride == 1:
            passing, x = jnp.split(x, 2, axis=-1)
        else:
            passing = ConvNorm(0, stride=self.stride, activation=None)(x, train=train)
            passing = ConvNorm(half, 1)(passing, train=train)
        x = ConvNorm(half, 1)(x, train=train)
        x = ConvNorm(0, stride=self.stride, activation=None)(x, train=train)
        x = ConvNorm(half, 1)(x, train=train)
        return channel_shuffle(jnp.concatenate([passing, x], axis=-1))


class ShuffleNetV2(nn.Module):
    """ShuffleNetV2 for small images: 1,263,854 parameters for 10 classes, and for 1000 the 2.3 million of the paper.

    Maps images float32[B, H, W, C] to logits float32[B, K]. The first convolution has stride 1, and no pooling follows.
    Widths 48, 116 and 176 are the 0.5×, 1× and 1.5× of the paper.

    Raises:
      UsageError: the width is odd.

    References:
      Ma et al. 2018, Table 5.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    width: int = 116  # channels of the first stage; even
    blocks: Sequence[int] = (4, 8, 4)  # in each stage
    last: int = 1024  # channels of the last convolution

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        if self.width % 2:
            raise UsageError(f"ShuffleNetV2: width must be even, got {self.width}")
        x = ConvNorm(24)(x, train=train)
        for stage, count in enumerate(self.blocks):
            for i in range(count):
                x = ShuffleBlock(self.width * 2**stage, 1 if i else 2)(x, train=train)
        x = ConvNorm(self.last, 1)(x, train=train)
        return classify(x, self.num_classes, self.dropout, train=train)


class IdleBlock(nn.Module):
    """Half of the channels stay idle, the others take an inverted bottleneck; then channels are shuffled.

    References:
      Xu et al. 2019, "Hybrid composition with IdleBlock: more efficient networks for image recognition". The paper
      concatenates without a shuffle; the shuffle is ShuffleNetV2's.
    """

    expansion: int

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        idle, x = jnp.split(x, 2, axis=-1)
        x = InvertedBottleneck(x.shape[-1], self.expansion)(x, train=train)
        return channel_shuffle(jnp.concatenate([idle, x], axis=-1))


class IdleNet(nn.Module):
    """MobileNetV2 in which all blocks of a stage but the first are idle blocks. The composition is ours.

    Maps images float32[B, H, W, C] to logits float32[B, K].
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    width: float = 1.0  # factor of all channels
    depth: float = 1.0  # factor of the blocks in a stage

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        idle = lambda channels, expansion: IdleBlock(expansion)
        x = body(x, self.width, self.depth, idle, train=train)
        return classify(x, self.num_classes, self.dropout, train=train)
