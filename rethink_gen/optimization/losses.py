"""Losses by name: `name(logits, targets) -> losses`, one number per example.

* `logits`: float32[B, K], what the network returns, without softmax.
* `targets`: float32[B, K], rows that sum to 1: one-hot, smoothed, or mixed.
* losses: float32[B]. The step takes their mean.

A loss with a parameter `memory` is `name(logits, targets, memory) -> (losses, memory)`: float32[B, K] of what it keeps
of each example from one step to the next, zeros at the start. Evaluation has no memory: it reports cross-entropy.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

Loss = Callable[[jax.Array, jax.Array], jax.Array]
# What an example gets depends on the others of its batch: evaluation reports cross-entropy for these, too.
OF_A_BATCH = ("small_loss",)


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


def generalized_cross_entropy(logits: jax.Array, targets: jax.Array, *, q: float = 0.7) -> jax.Array:
    """Σₖ targetₖ · (1 − pₖ^q) / q with p = softmax(logits): cross-entropy as q → 0, mean absolute error at q = 1.

    Args:
      q: in (0, 1]; the larger, the less an example counts whose label the network finds unlikely.

    References:
      Zhang & Sabuncu 2018, "Generalized cross entropy loss for training deep neural networks with noisy labels",
      equation (6).
    """
    log_p = jax.nn.log_softmax(logits)
    return jnp.sum(targets * -jnp.expm1(q * log_p) / q, axis=-1)


def bootstrapping(logits: jax.Array, targets: jax.Array, *, beta: float = 0.95, hard: bool = False) -> jax.Array:
    """Cross-entropy of the targets β · target + (1 − β) · what the network says: p, or its most likely class.

    Args:
      beta: in [0, 1]; the authors use 0.95 for p, and 0.8 for the class.
      hard: the class. No gradient flows through it; through p one does, as in the authors' formula.

    References:
      Reed et al. 2015, "Training deep neural networks on noisy labels with bootstrapping", equations (6) and (7).
    """
    p = jax.nn.softmax(logits)
    says = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1]) if hard else p
    return -jnp.sum((beta * targets + (1 - beta) * says) * jax.nn.log_softmax(logits), axis=-1)


def small_loss(logits: jax.Array, targets: jax.Array, *, keep: float = 0.8) -> jax.Array:
    """Cross-entropy of the share `keep` of the batch that has the smallest; the others count as 0.

    Our simplest form of small-loss selection: one network, the same share from the first step on. Co-teaching has two
    networks that select for each other, and begins with the whole batch.

    Args:
      keep: in (0, 1]; of a batch of B, the ⌈keep · B⌉ smallest are kept and divided by their share.

    References:
      Han et al. 2018, "Co-teaching: robust training of deep neural networks with extremely noisy labels".
    """
    losses = cross_entropy(logits, targets)
    count = math.ceil(round(keep * len(losses), 9))  # 0.55 · 100 is a little more than 55
    kept = jax.lax.stop_gradient(losses.argsort().argsort() < count)
    return jnp.where(kept, losses, 0) * (len(losses) / count)


def early_learning(
    logits: jax.Array, targets: jax.Array, memory: jax.Array, *, weight: float = 3.0, decay: float = 0.7
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy + weight · log(1 − ⟨t, p⟩), where t is a moving average of p over the steps that saw the example.

    The second term keeps the network near what it said early, before it fits wrong labels. As in the authors' code, p
    is clipped to [1e-4, 1 − 1e-4], t is renewed before it is used, and no gradient flows through it.

    Args:
      memory: t, float32[B, K].
      weight: λ; the authors use 3 on CIFAR-10.
      decay: β of t ← β t + (1 − β) p.

    References:
      Liu et al. 2020, "Early-learning regularization prevents memorization of noisy labels", equation (6).
    """
    p = jax.nn.softmax(logits).clip(1e-4, 1 - 1e-4)
    now = jax.lax.stop_gradient(p / p.sum(-1, keepdims=True))
    memory = decay * memory + (1 - decay) * now
    return cross_entropy(logits, targets) + weight * jnp.log1p(-jnp.sum(memory * p, axis=-1)), memory


def smooth(targets: jax.Array, label_smoothing: Any) -> jax.Array:
    """(1 − ε) · targets + ε / K for float32[B, K]: a share ε = label_smoothing of each row is spread over all classes.

    Args:
      label_smoothing: in [0, 1]; may be traced.

    References:
      Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision", Section 7.
    """
    return optax.smooth_labels(targets, label_smoothing)
