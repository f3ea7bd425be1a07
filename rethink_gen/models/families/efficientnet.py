"""EfficientNet: inverted bottlenecks with squeeze-and-excitation, and one rule to scale width and depth."""

import flax.linen as nn
import jax

from rethink_gen.models.families.blocks import ConvNorm, classify
from rethink_gen.models.families.mobilenet import InvertedBottleneck, Stage, rounded

# Table 1 of the paper. Its first convolution has stride 2, which is 1 for small images.
_STAGES = (
    Stage(1, 16, 1, 1, 3),
    Stage(6, 24, 2, 2, 3),
    Stage(6, 40, 2, 2, 5),
    Stage(6, 80, 3, 2, 3),
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),
    Stage(6, 320, 1, 1, 3),
)


class EfficientNet(nn.Module):
    """EfficientNet-B0 for small images: 4,020,358 parameters for 10 classes, and for 1000 the 5.3 million of the paper.

    Maps images float32[B, H, W, C] to logits float32[B, K]. B1 has width 1 and depth 1.1, B2 has 1.1 and 1.2. Without
    the stochastic depth of the paper, which is a regularizer.

    References:
      Tan and Le 2019, "EfficientNet: rethinking model scaling for convolutional neural networks".
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    width: float = 1.0  # factor of all channels
    depth: float = 1.0  # factor of the blocks in a stage

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = ConvNorm(rounded(32 * self.width), activation=nn.silu)(x, train=train)
        for stage in _STAGES:
            expansion, channels, blocks, stride, size = stage.scaled(self.width, self.depth)
            for i in range(blocks):
                block = InvertedBottleneck(channels, expansion, 1 if i else stride, size, nn.silu, squeeze=True)
                x = block(x, train=train)
        x = ConvNorm(4 * x.shape[-1], 1, activation=nn.silu)(x, train=train)
        return classify(x, self.num_classes, self.dropout, train=train)
