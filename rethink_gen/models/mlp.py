"""Multilayer perceptrons and softmax regression."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.errors import UsageError, unknown
from rethink_gen.models.families.blocks import batch_norm
from rethink_gen.models.initializers import initializer

ACTIVATIONS = {"relu": nn.relu, "square": jnp.square, "tanh": nn.tanh}


class MLP(nn.Module):
    """Multilayer perceptron: hidden layers of ReLU units, or of another activation, then a linear layer.

    Maps images float32[B, H, W, C] to logits float32[B, K]. On 28×28×3 images and 10 classes it has 1,209,866
    parameters with one hidden layer of 512 units, and 1,735,178 with three. Keskar's F1 has five with batch norm, and
    1,462,794 parameters on 28×28 images.

    References:
      Zhang et al. 2017, Appendix A. F1: Keskar et al. 2017, Appendix B.1.
    """

    num_classes: int
    dropout: float = 0.0  # rate before the last layer
    hidden: Sequence[int] = (512,)
    initialization: str = "he"  # a name in initializers.py
    activation: str = "relu"  # a name in ACTIVATIONS
    batch_norm: bool = False  # before each activation
    ghost_batch: int = 0  # examples that share statistics of batch norm; 0: the whole batch

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        x = x.reshape(len(x), -1)
        init = initializer(self.initialization)
        if self.activation not in ACTIVATIONS:
            raise unknown("activation", self.activation, ACTIVATIONS)
        if self.ghost_batch and not self.batch_norm:
            raise UsageError("ghost_batch of an mlp needs batch_norm=true")
        for width in self.hidden:
            x = nn.Dense(width, kernel_init=init)(x)
            if self.batch_norm:
                x = batch_norm(x, train=train, ghost_batch=self.ghost_batch)
            x = ACTIVATIONS[self.activation](x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, kernel_init=init)(x)


class SoftmaxRegression(MLP):
    """Softmax regression: one linear layer. Not in the paper; a contrast to networks that fit any labels."""

    hidden: Sequence[int] = ()
