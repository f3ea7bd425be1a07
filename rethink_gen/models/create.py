"""Name → flax module.

A model takes whitened images float32[B, H, W, C] and returns logits float32[B, K]. It is built with the number of
classes and the dropout rate, and called with `train`, which decides batch norm's statistics and dropout.
"""

import flax.linen as nn

from rethink_gen import registry


def create(name: str, num_classes: int, dropout: float = 0.0) -> nn.Module:
    """The model of that name, with options or without, for so many classes.

    Raises:
      UsageError: there is no such model, or no such option.
    """
    return registry.resolve("model", name)(num_classes=num_classes, dropout=dropout)
