"""ConvNeXt: convolutions in the form of a transformer."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from rethink_gen.models.families.blocks import Conv, MLPBlock, classify, layer_norm, patches


class Block(nn.Module):
    """A 7×7 depthwise convolution, layer norm and a perceptron on each pixel, times a learned scale, beside a shortcut.

    References:
      Liu et al. 2022, "A ConvNet for the 2020s", Figure 4.
    """

    scale: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = MLPBlock(4 * x.shape[-1])(layer_norm()(Conv(0, 7, use_bias=True)(x)))
        return x + y * self.param("scale", nn.initializers.constant(self.scale), x.shape[-1:])


class ConvNeXt(nn.Module):
    """ConvNeXt for small images, of the size of ConvNeXt-Atto: 3.4 million parameters for 10 classes.

    Maps images float32[B, H, W, C] to logits float32[B, K]. With 3, 3, 9, 3 blocks, a width of 96, patches of 4 and
    1000 classes it is ConvNeXt-T, with 28,589,128 parameters. Without the stochastic depth of the paper, which is a
    regularizer.

    References:
      Liu et al. 2022, "A ConvNet for the 2020s".
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    patch: int = 2  # pixels of its side; 4 in the paper, whose images are larger
    blocks: Sequence[int] = (2, 2, 6, 2)  # in each stage
    width: int = 40  # channels of the first stage; they double from stage to stage
    scale: float = 1e-6  # of each block at the start

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        for stage, count in enumerate(self.blocks):
            size = 2 if stage else self.patch
            x = layer_norm()(x) if stage else x
            x = _downsample(x, size, self.width * 2**stage)
            x = x if stage else layer_norm()(x)
            for _ in range(count):
                x = Block(self.scale)(x)
        x = layer_norm()(x.mean((1, 2)))
        return classify(x, self.num_classes, self.dropout, train=train)


def _downsample(x: jax.Array, size: int, channels: int) -> jax.Array:
    """A convolution whose kernels do not overlap: a linear layer on patches; a submodule of the calling module."""
    batch, height, width, _ = x.shape
    return nn.Dense(channels)(patches(x, size)).reshape(batch, -(-height // size), -(-width // size), channels)
