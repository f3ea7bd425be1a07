"""Multilayer perceptrons and softmax regression."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from rethink_gen.models.initializers import initializer


class MLP(nn.Module):
    """Multilayer perceptron: hidden layers of ReLU units, then a linear layer.

    Maps images float32[B, H, W, C] to logits float32[B, K]. On 28×28×3 images and 10 classes it has 1,209,866
    parameters with one hidden layer of 512 units, and 1,735,178 with three.

    References:
      Zhang et al. 2017, Appendix A.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    hidden: Sequence[int] = (512,)
    initialization: str = "he"  # a name in initializers.py

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = x.reshape(len(x), -1)
        init = initializer(self.initialization)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=init)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=init)(x)


class SoftmaxRegression(MLP):
    """Softmax regression: one linear layer. Not in the paper; a contrast to networks that fit any labels."""

    hidden: Sequence[int] = ()
