"""Learning-rate schedules by name: `name(step, steps_per_epoch, epochs, *, ...) -> factor` of the base learning rate.

* `step`: int32, steps taken since the start, 0 at the first update; may be traced. The factor has its shape, float32.
* `steps_per_epoch`, `epochs`: Python ints; the run is planned for `epochs` in total.

The epoch is the integer quotient step // steps_per_epoch, not a rounded float. So epochs start at the right step in
runs of any length. Every schedule takes `warmup_epochs`, which may be fractional. Over the W steps of the warm-up the
factor is multiplied by (step + 1) / W, which grows linearly from 1/W to 1. Warm-up does not shift the schedule: its
epochs count from the start of training. Only `cosine` stays at 1 during warm-up and then runs over the remaining
epochs.

References:
  Warm-up: Goyal et al. 2017, "Accurate, large minibatch SGD: Training ImageNet in 1 hour", Section 2.2. Their warm-up
  starts at the learning rate of one worker instead of 0.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

OF_THE_WHOLE = ("cosine",)  # those whose factors depend on the number of epochs


def constant(step: Any, steps_per_epoch: int, epochs: int, *, warmup_epochs: float = 0) -> jax.Array:
    """Constant schedule: 1, after the warm-up."""
    return _warm_up(jnp.ones(jnp.shape(step), jnp.float32), step, steps_per_epoch, warmup_epochs)


def exponential(
    step: Any,
    steps_per_epoch: int,
    epochs: int,
    *,
    learning_rate_decay: Any,
    staircase: bool = True,
    warmup_epochs: float = 0,
) -> jax.Array:
    """Exponential decay: learning_rate_decay ** epoch. Epochs count from the start, warm-up included.

    After w epochs of warm-up the factor is learning_rate_decay ** w, as without warm-up.

    Args:
      learning_rate_decay: factor per epoch; may be traced.
      staircase: whether the factor changes after each epoch (True) or after each step (False).

    References:
      Zhang et al. 2017, Appendix A (0.95 per epoch).
    """
    step = jnp.asarray(step)
    epoch = (step // steps_per_epoch).astype(jnp.float32)
    if not staircase:
        epoch += (step % steps_per_epoch) / steps_per_epoch
    return _warm_up(learning_rate_decay**epoch, step, steps_per_epoch, warmup_epochs)


def step(
    step: Any,
    steps_per_epoch: int,
    epochs: int,
    *,
    at: Sequence[float] = (60, 120),
    factor: float = 0.1,
    warmup_epochs: float = 0,
) -> jax.Array:
    """Step decay: 1 at first, multiplied by `factor` at the start of each epoch in `at`.

    Epochs in `at` count from the start of training, warm-up included, and may be fractional.

    References:
      He et al. 2016, "Deep residual learning for image recognition", Section 4.2 (division by 10 at fixed steps). The
      defaults of `at` are ours.
    """
    value = jnp.ones(jnp.shape(step), jnp.float32)
    for epoch in at:
        value = jnp.where(step >= round(epoch * steps_per_epoch), factor * value, value)
    return _warm_up(value, step, steps_per_epoch, warmup_epochs)


def inverse_sqrt(
    step: Any,
    steps_per_epoch: int,
    epochs: int,
    *,
    period: float = 1.0,
    growth: float = 1.0,
    warmup_epochs: float = 0,
) -> jax.Array:
    """Inverse square root: 1 / √(1 + growth · ⌊epoch / period⌋). Epochs count from the start, warm-up included.

    Args:
      period: epochs between two changes; may be fractional.
      growth: what each period adds under the root.

    References:
      Nakkiran et al. 2019, "Deep double descent", Section 4 (a period of 512 steps). Gu et al. 2024 (see
      papers/gu2024/protocol.py): a period of 100 epochs, growth 2.
    """
    periods = jnp.asarray(step) // max(1, round(period * steps_per_epoch))
    return _warm_up(1 / jnp.sqrt(1 + growth * periods.astype(jnp.float32)), step, steps_per_epoch, warmup_epochs)


def cosine(step: Any, steps_per_epoch: int, epochs: int, *, final: float = 0.0, warmup_epochs: float = 0) -> jax.Array:
    """Cosine decay: half a cosine from 1 to `final`, final + (1 − final) · (1 + cos(π t)) / 2.

    t is the fraction of the steps after the warm-up that are completed: 0 at the first of them, and 1 one step after
    the last step of the run. The factor changes after each step; after `epochs` it stays at `final`.

    References:
      Loshchilov & Hutter 2017, "SGDR: Stochastic gradient descent with warm restarts", Equation 5, without restarts.
    """
    start = round(warmup_epochs * steps_per_epoch)
    steps = max(1, epochs * steps_per_epoch - start)
    progress = jnp.clip((step - start) / steps, 0, 1)
    value = final + (1 - final) * (1 + jnp.cos(jnp.pi * progress)) / 2
    return _warm_up(value, step, steps_per_epoch, warmup_epochs)


def _warm_up(value: jax.Array, step: Any, steps_per_epoch: int, warmup_epochs: float) -> jax.Array:
    steps = round(warmup_epochs * steps_per_epoch)
    return value * jnp.minimum((step + 1) / steps, 1) if steps else value
