"""Create a flax module from a model's name.

A model maps whitened images float32[B, H, W, C] to logits float32[B, K]. It is built with `num_classes` and `dropout`.
It is called with `train`, which switches dropout and the statistics of batch norm.
"""

import flax.linen as nn

from rethink_gen import registry


def create(name: str, num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Creates the model with this name.

    Args:
      name: a registered model, with or without options: `mlp` or `mlp(hidden=64)`.
      num_classes: number of logits.
      dropout: dropout rate before the last layer, in [0, 1).

    Raises:
      UsageError: the model or one of its options is unknown.
    """
    return registry.resolve("model", name)(num_classes=num_classes, dropout=dropout)
