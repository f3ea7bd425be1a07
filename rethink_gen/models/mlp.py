"""Multilayer perceptrons and softmax regression."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from rethink_gen.models.initializers import initializer


class MLP(nn.Module):
    """Hidden layers of ReLU units (Appendix A): 1,209,866 parameters with one of 512, 1,735,178 with three.

    Images float32[B, H, W, C] → logits float32[B, K].
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    hidden: Sequence[int] = (512,)
    initialization: str = "he"  # see initializers.py

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = x.reshape(len(x), -1)
        init = initializer(self.initialization)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=init)(x))
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=init)(x)


class SoftmaxRegression(MLP):
    """No hidden layer, one linear map: the contrast to networks that fit anything. Not in the paper."""

    hidden: Sequence[int] = ()
