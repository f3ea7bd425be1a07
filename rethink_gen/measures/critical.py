"""How near examples are to the borders between classes that a network has drawn."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.data.randomness import Key, stream
from rethink_gen.errors import unknown
from rethink_gen.measures.network import SPLITS, Function, Network, Weights


def critical_sample_ratio(
    network: Network,
    *,
    radius: float = 0.3,
    step: float = 0.25,
    noise: float = 0.2,
    iterations: int = 10,
    split: str = "test",
) -> float:
    """The share of examples near which the network answers another class: with pixels changed by `radius` at most.

    Found by Langevin adversarial sample search: from an example x, each step adds step · sign(∂ℓ/∂x) + noise · η, with
    ℓ the cross-entropy of the class of x and η ~ N(0, 1), and returns to the box around x. An example counts once any
    step has left its class. So the value is a lower bound of the share. Labels play no role.

    Our choice: a fixed number of steps. In the authors' code, as others have adapted it, the search ends after 100
    steps, or after the first that finds fewer than 20 more examples. Steps go up the loss, as there; Algorithm 1 has
    the slope of an output, and does not say of which.

    Args:
      radius, step, noise: in units of pixels as they are stored, 0 to 255.
      iterations: steps; it takes radius / step of them to reach the border of the box.

    References:
      Arpit et al. 2017, Section 4.1, Algorithm 1 and footnotes 4 and 6; their code in lass_tf.py of
      xingjunm/dimensionality-driven-learning.
    """
    if split not in SPLITS:
        raise unknown("split of measure critical_sample_ratio", split, SPLITS)
    search = _Search(np.float32(radius), np.float32(step), np.float32(noise), np.int32(iterations))
    key, found = stream(network.key, "critical_sample_ratio"), 0.0
    for i, (images, _, weight) in enumerate(network.windows(split)):
        critical = _is_critical(
            network.function, network.weights, network.statistics, images, jax.random.fold_in(key, i), search
        )
        found += float((weight * np.asarray(critical)).sum())
    return found / len(network.split(split).labels)


class _Search(NamedTuple):
    """The options of a search, as numbers of one compiled program."""

    radius: Any
    step: Any
    noise: Any
    iterations: Any


@partial(jax.jit, static_argnums=0)
def _is_critical(
    function: Function, weights: Weights, statistics: Any, images: Any, key: Key, search: _Search
) -> jax.Array:
    """bool[B]: whether the search finds another class near an image."""
    images = images.astype(jnp.float32)
    classes = function.logits(weights, statistics, images).argmax(-1)

    def odds(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The log odds against the class, which rise as the cross-entropy does, and stay exact where it is almost 0."""
        logits = function.logits(weights, statistics, x)
        mine = jax.nn.one_hot(classes, logits.shape[-1], dtype=bool)
        others = jax.nn.logsumexp(jnp.where(mine, -jnp.inf, logits), axis=-1)
        return (others - jnp.where(mine, logits, 0).sum(-1)).sum(), logits.argmax(-1) != classes

    def once(i: jax.Array, state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, critical = state
        slope, here = jax.grad(odds, has_aux=True)(x)
        x += search.step * jnp.sign(slope) + search.noise * jax.random.normal(jax.random.fold_in(key, i), x.shape)
        return jnp.clip(x, images - search.radius, images + search.radius), critical | here

    last, critical = jax.lax.fori_loop(0, search.iterations, once, (images, jnp.zeros(len(images), bool)))
    return critical | odds(last)[1]
