"""VGG-like networks: stacks of 3×3 convolutions with batch norm, each followed by max pooling."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from rethink_gen.models.families.blocks import ConvNorm, classify, max_pool, norm_relu


class VGG(nn.Module):
    """VGG for small images. The defaults are VGG-11, with 9,228,362 parameters for 10 classes.

    Maps images float32[B, H, W, C] to logits float32[B, K]. Channels double from stack to stack, up to 8 times the
    width. Convolutions have no bias, because batch norm follows. In place of the two layers of 4096 units there is one
    hidden layer, or none.

    References:
      Simonyan and Zisserman 2015, Table 1, configurations A to D;
      Keskar et al. 2017, "On large-batch training for deep learning": network C2 has 2, 2, 3, 3, 3 convolutions and a
      hidden layer of 512 units. Theirs has dropout, which is an option of a run here.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    convolutions: Sequence[int] = (1, 1, 2, 2, 2)  # in each stack
    width: int = 64  # channels of the first stack
    hidden_units: int = 0  # 0: no hidden layer

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        for stack, count in enumerate(self.convolutions):
            for _ in range(count):
                x = ConvNorm(self.width * min(2**stack, 8))(x, train=train)
            x = max_pool(x)
        if self.hidden_units:
            x = nn.Dense(self.hidden_units, use_bias=False)(x.reshape(len(x), -1))
            x = norm_relu(x, train=train)
        return classify(x, self.num_classes, self.dropout, train=train)
