"""DenseNet: each layer sees the outputs of all layers before it."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.errors import UsageError
from rethink_gen.models.families.blocks import Conv, classify, mean_pool, norm_relu


class DenseNet(nn.Module):
    """DenseNet for CIFAR: three dense blocks with transitions between them. DenseNet-40 has 1.0 million parameters.

    Maps images float32[B, H, W, C] to logits float32[B, K].

    Raises:
      UsageError: no number of layers per block gives this depth.

    References:
      Huang et al. 2017, "Densely connected convolutional networks", Section 3 and Table 2.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    depth: int = 40  # layers with weights: 3 n + 4 with n layers in each block; with bottlenecks 6 n + 4
    growth: int = 12  # channels that each layer adds
    bottleneck: bool = False  # DenseNet-BC: a 1×1 convolution before each, and transitions that halve the channels

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        per_layer = 6 if self.bottleneck else 3
        layers, left = divmod(self.depth - 4, per_layer)
        if left or layers < 1:
            raise UsageError(f"DenseNet: depth must be {per_layer} n + 4, such as 40, got {self.depth}")
        x = Conv(2 * self.growth if self.bottleneck else 16)(x)
        for block in range(3):
            if block:
                channels = x.shape[-1] // 2 if self.bottleneck else x.shape[-1]
                x = mean_pool(Conv(channels, 1)(norm_relu(x, train=train)))
            for _ in range(layers):
                y = norm_relu(x, train=train)
                if self.bottleneck:
                    y = norm_relu(Conv(4 * self.growth, 1)(y), train=train)
                x = jnp.concatenate([x, Conv(self.growth)(y)], axis=-1)
        return classify(norm_relu(x, train=train), self.num_classes, self.dropout, train=train)
