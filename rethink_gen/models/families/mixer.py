"""MLP-Mixer: perceptrons over patches and over channels, in turn."""

import flax.linen as nn
import jax

from rethink_gen.models.families.blocks import MLPBlock, classify, layer_norm, patches


class Mixer(nn.Module):
    """MLP-Mixer. Its hidden layers have half the width over patches and four times the width over channels.

    Maps images float32[B, H, W, C] to logits float32[B, K]. Mixer-S/16 of the paper has width 512 and patches of 16;
    on images of 224×224 and with 1000 classes it has 18,528,264 parameters.

    References:
      Tolstikhin et al. 2021, "MLP-Mixer: an all-MLP architecture for vision", Table 1.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    patch: int = 4  # pixels of its side
    width: int = 128
    depth: int = 8

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = nn.Dense(self.width)(patches(x, self.patch))
        for _ in range(self.depth):
            over_patches = MLPBlock(self.width // 2)(layer_norm()(x).swapaxes(1, 2))
            x = x + over_patches.swapaxes(1, 2)
            x = x + MLPBlock(4 * self.width)(layer_norm()(x))
        return classify(layer_norm()(x).mean(1), self.num_classes, self.dropout, train=train)
