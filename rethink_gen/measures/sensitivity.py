"""How much training depends on each of its examples: the loss after some steps, differentiated by them."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.data.randomness import stream
from rethink_gen.measures.network import Function, Network, Weights

_POINTS = 10  # of the steps, at which the loss is differentiated


def sensitivity_gini(network: Network, *, steps: int = 100, batch_size: int = 32, learning_rate: float = 0.05) -> float:
    """The Gini coefficient of loss sensitivity over the training examples: near 1, if few of them shape the training.

    The network is trained once more for this, from its first weights, by plain SGD with these options; see
    `sensitivities`. So it does not depend on how far the run has trained, but for the statistics of batch norm: those
    are the network's. All training images are in memory at once, and so are the weights after each step.

    References:
      Arpit et al. 2017, Section 3.2.
    """
    return gini(sensitivities(network, steps=steps, batch_size=batch_size, learning_rate=learning_rate))


def sensitivities(network: Network, *, steps: int, batch_size: int, learning_rate: float) -> np.ndarray:
    """float64[N]: for each training example x, the mean of ‖∂Lₜ/∂x‖₁ over t, in nats per unit of a pixel.

    Lₜ is the mean training loss after t steps of SGD, differentiated through all of them. Our choices: t is ten evenly
    spaced steps up to the last; and x varies where the network is trained on it, not where Lₜ is evaluated. A batch has
    at most all examples.
    """
    images = jnp.asarray(network.train.images, jnp.float32)
    order = _order(network, steps, min(batch_size, network.size))
    total = np.zeros(network.size)
    at = sorted({round(steps * (i + 1) / _POINTS) for i in range(_POINTS)} - {0})
    for t in at:
        slope = _slope(
            network.function,
            network.initial,
            network.statistics,
            images,
            network.train.labels,
            order,
            np.int32(t),
            np.float32(learning_rate),
        )
        total += np.abs(np.asarray(slope, float)).reshape(network.size, -1).sum(1)
    return total / len(at)


def gini(values: np.ndarray) -> float:
    """The Gini coefficient of values that are not negative: 0 if all are equal, 1 - 1/N if one has everything."""
    values = np.sort(np.asarray(values, float))
    n = len(values)
    return float((2 * np.arange(1, n + 1) - n - 1) @ values / (n * values.sum()))


def _order(network: Network, steps: int, batch_size: int) -> jax.Array:
    """int32[steps, batch_size]: a new permutation in each epoch; what fills no batch is left out."""
    whole = network.size // batch_size
    keys = jax.random.split(stream(network.key, "sensitivity"), -(-steps // whole))
    epochs = [jax.random.permutation(key, network.size)[: whole * batch_size] for key in keys]
    return jnp.concatenate(epochs).reshape(-1, batch_size)[:steps]


@partial(jax.jit, static_argnums=0)
def _slope(
    function: Function,
    initial: Weights,
    statistics: Any,
    images: jax.Array,
    labels: Any,
    order: jax.Array,
    count: Any,
    learning_rate: Any,
) -> jax.Array:
    """float32[N, H, W, C]: the mean loss after `count` steps, by the images of the steps."""

    def mean_loss(weights: Weights, images: jax.Array, labels: Any) -> jax.Array:
        return function.losses(function.logits(weights, statistics, images), labels).mean()

    def trained(x: jax.Array) -> jax.Array:
        @jax.checkpoint  # of each step the weights alone are kept
        def step(weights: Weights, each: tuple[jax.Array, jax.Array]) -> tuple[Weights, None]:
            i, rows = each
            gradient = jax.grad(mean_loss)(weights, x[rows], jnp.asarray(labels)[rows])
            rate = jnp.where(i < count, learning_rate, 0)
            return jax.tree.map(lambda w, slope: w - rate * slope, weights, gradient), None

        weights, _ = jax.lax.scan(step, initial, (jnp.arange(len(order)), order))
        return mean_loss(weights, images, jnp.asarray(labels))

    return jax.grad(trained)(images)
