"""The small AlexNet."""

import flax.linen as nn
import jax

from rethink_gen.models.initializers import initializer
from rethink_gen.models.layers import local_response_normalization, max_pool


class SmallAlexNet(nn.Module):
    """Two (5×5 convolution, 3×3 max-pool, response normalization) modules, then 384, 192 and K units (Appendix A).

    Images float32[B, H, W, C] → logits float32[B, K]; 1,387,786 parameters. The text gives neither channels nor
    strides: 64 channels and stride-2 pooling with "same" padding are the choice that gives the count, and TensorFlow's
    CIFAR-10 tutorial network.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    initialization: str = "he"  # see initializers.py
    last_layer: str = "small"  # its own initialization: decides whether random labels are fitted

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        init = initializer(self.initialization)
        for _ in range(2):
            x = nn.relu(nn.Conv(64, (5, 5), kernel_init=init)(x))
            x = max_pool(x)
            x = local_response_normalization(x)
        x = x.reshape(len(x), -1)
        for width in (384, 192):
            x = nn.relu(nn.Dense(width, kernel_init=init)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=initializer(self.last_layer))(x)
