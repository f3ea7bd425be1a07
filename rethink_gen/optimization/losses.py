"""Losses by name: `name(logits, targets) -> losses`, one number per example.

* `logits`: float32[B, K], what the network returns, without softmax.
* `targets`: float32[B, K], rows that sum to 1: one-hot, smoothed, or mixed.
* losses: float32[B]. The step takes their mean.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """−Σₖ targetₖ · log softmax(logits)ₖ, in nats.

    Its minimum over the logits is the entropy of the targets: 0 for one-hot rows, more for smoothed and mixed ones.
    """
    return optax.softmax_cross_entropy(logits, targets)


def cross_entropy_of_labels(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """`cross_entropy` of one-hot targets, from labels int32[B]; equal up to rounding, and without the K-wide rows."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def squared_error(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Σₖ (logitₖ − targetₖ)²: summed over classes, without ½, and without softmax.

    Hui & Belkin divide by the number of classes K. So the learning rate η here corresponds to K · η there. For many
    classes they also reweight and rescale the target of the true class; this loss does not.

    References:
      Hui & Belkin 2021, "Evaluation of neural architectures trained with square loss vs cross-entropy in classification
      tasks".
    """
    return jnp.sum(jnp.square(logits - targets), axis=-1)


def smooth(targets: jax.Array, label_smoothing: Any) -> jax.Array:
    """(1 − ε) · targets + ε / K for float32[B, K]: a share ε = label_smoothing of each row is spread over all classes.

    Args:
      label_smoothing: in [0, 1]; may be traced.

    References:
      Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision", Section 7.
    """
    return optax.smooth_labels(targets, label_smoothing)
