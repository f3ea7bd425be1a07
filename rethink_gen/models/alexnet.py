"""The small AlexNet."""

import flax.linen as nn
import jax

from rethink_gen.models.initializers import initializer
from rethink_gen.models.layers import local_response_normalization, max_pool


class SmallAlexNet(nn.Module):
    """Small AlexNet: two (5×5 convolution, 3×3 max-pool, LRN) modules, then layers of 384, 192 and K units.

    Maps images float32[B, H, W, C] to logits float32[B, K]. On 28×28×3 images and 10 classes it has 1,387,786
    parameters.

    The paper states neither channels nor strides. 64 channels and stride-2 pooling with "same" padding give the
    paper's parameter count. TensorFlow's CIFAR-10 tutorial network uses the same values.

    References:
      Zhang et al. 2017, Appendix A.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    initialization: str = "he"  # a name in initializers.py
    last_layer: str = "small"  # initialization of the last layer; it decides whether random labels are fitted

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
