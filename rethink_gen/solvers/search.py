"""Train a network without gradients: a search draws candidates for its weights until one fits all training labels.

All candidates of a generation are evaluated in one compiled call, on all training images; there are no batches. Images
are whole and whitened one by one, the loss is cross-entropy, and the first weights are those of a `Run` with the same
model and seed.
"""

import logging
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rethink_gen import registry
from rethink_gen.data import augmentations, randomness
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import ComponentError, naming
from rethink_gen.models import create
from rethink_gen.models.create import Network
from rethink_gen.optimization import losses
from rethink_gen.results.result import Curves
from rethink_gen.runs import SearchRun
from rethink_gen.solvers.searches import Search

logger = logging.getLogger(__name__)
Tick = Callable[[int, int, dict[str, float | None]], None]  # (step, steps, metrics) of the progress

_IMAGES_AT_ONCE = 20_000  # of all candidates together, so that their activations fit in memory
_SPACING = 1.4  # of the rows of curves: each is at so many times the generations of the one before


class _Data(NamedTuple):
    images: jax.Array  # float32[N, H, W, C], whitened
    labels: jax.Array  # int32[N]


class _Found(NamedTuple):
    """The best weights so far: those of the lowest loss, or the first that fit all labels."""

    weights: jax.Array  # float32[P]
    loss: jax.Array  # float32[]
    fit_at: jax.Array  # int32[]: which candidate of the generation fits, counted from 1; 0: none does
    lost: jax.Array  # bool[]: whether each candidate of the generation has a weight that is not a number


def solve(run: SearchRun, dataset: Dataset, tick: Tick) -> tuple[Curves, dict[str, Any]]:
    """Searches until a candidate fits all training labels, all evaluations are used, or the search has diverged.

    Args:
      run: names the network and the search, and limits the evaluations.
      dataset: images uint8 or float32[n, H, W, C], labels int32[n].
      tick: called after each generation with the progress; it may raise to stop.

    Returns:
      Curves with rows evenly spaced on a logarithmic axis, and facts for provenance:

      * epoch: generations; step: evaluations of the training loss, those of the first weights and of each candidate up
        to the one that fits; a generation is not broken off, so the last row may have a few more than the limit;
      * train_loss, train_accuracy, test_loss, test_accuracy, weight_norm: of the candidate with the lowest training
        loss so far; in the last row of the one that fits all labels, if there is one.

      Where each candidate of a generation has a weight that is not a number, such as those of a distribution whose mean
      is none, the search ends, and the facts have the status "diverged".

    Raises:
      ComponentError: the search fails, or returns something else than it must; or the network has batch norm.
    """
    train, test = _data(dataset.train), _data(dataset.test)
    network = _network(run, train, dataset.num_classes)
    key = randomness.root_key(run.seed)
    of_generation = partial(jax.random.fold_in, randomness.stream(key, "search"))
    score = jax.jit(partial(_evaluate, network))
    first = network.draw(randomness.stream(key, "init"))  # not under jit: its parts are compiled once for all networks
    curves: Curves = {}
    number, used = 0, 1
    row = _add_row(curves, number, used, score, first, train, test)
    loss = row["train_loss"]
    found = _Found(first, jnp.float32(jnp.inf if loss is None else loss), jnp.int32(0), jnp.bool(False))
    with naming("search", run.search):
        search = _create(run, network.draw)
        state = jax.jit(search.init)(of_generation(0), found.weights, found.loss)
        candidates = _check(run, search, key, state, len(found.weights))
        made_by = {"evosax": version("evosax")} if registry.parse(run.search)[0] == "evosax" else {}
    generation = jax.jit(partial(_generation, network, search))
    next_row, fits, lost = 1, row["train_accuracy"] == 1 and loss is not None, False
    while not (fits or lost) and used < run.evaluations:
        number += 1
        state, found = generation(train, of_generation(number), state, found)
        fit_at = int(found.fit_at)
        fits, lost = fit_at > 0, bool(found.lost)
        used += fit_at or candidates
        if fits or lost or used >= run.evaluations or number == next_row:
            row = _add_row(curves, number, used, score, found.weights, train, test)
            next_row = max(number + 1, round(_SPACING * number))
        tick(min(used, run.evaluations), run.evaluations, row)
    facts: dict[str, Any] = {"num_params": len(found.weights), "num_classes": dataset.num_classes}
    facts["candidates"] = candidates
    if lost:
        facts["status"] = "diverged"
        way_out = "set other candidates, or a smaller step"
        logger.warning("%s diverged: in generation %d no candidate consists of numbers; %s", run.id, number, way_out)
    return curves, {**facts, **made_by}


def _data(split: Split) -> _Data:
    return _Data(_whiten(split.images), jnp.asarray(split.labels))


@jax.jit
def _whiten(images: Any) -> jax.Array:
    return augmentations.whiten(images.astype(jnp.float32) / 255)


def _network(run: SearchRun, train: _Data, num_classes: int) -> Network:
    """The network that a run names, as functions of one vector of weights, float32[P]."""
    network = create.network(run.model, num_classes, train.images.shape[1:])
    shapes = jax.eval_shape(network.draw, randomness.root_key(0))
    restore = ravel_pytree(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes))[1]
    return Network(
        draw=lambda key: ravel_pytree(network.draw(key))[0],
        logits=lambda weights, images: network.logits(restore(weights), images),
    )


def _create(run: SearchRun, draw: Callable[[jax.Array], jax.Array]) -> Search:
    """The search that a run names."""
    made = registry.resolve("search", run.search)(draw)
    if not isinstance(made, tuple) or len(made) != len(Search._fields) or not all(map(callable, made)):
        raise ComponentError(f"search {run.search!r} must return three functions: init, ask and tell")
    return Search(*made)


def _check(run: SearchRun, search: Search, key: jax.Array, state: Any, size: int) -> int:
    """How many candidates a generation has.

    Raises:
      ComponentError: `ask` or `tell` returns something else than it must.
    """
    asked = jax.eval_shape(search.ask, key, state)
    if getattr(asked, "ndim", 0) != 2 or asked.shape[1] != size or not asked.shape[0]:
        found = getattr(asked, "shape", type(asked).__name__)
        raise ComponentError(f"search {run.search!r}: ask must return candidates of shape (C, {size}), not {found}")
    told = jax.eval_shape(search.tell, state, asked, jax.ShapeDtypeStruct(asked.shape[:1], jnp.float32))
    if jax.tree.map(jnp.shape, told) != jax.tree.map(jnp.shape, state):
        raise ComponentError(f"search {run.search!r}: tell must return a state like the one it is given")
    return asked.shape[0]


def _evaluate(network: Network, weights: jax.Array, data: _Data) -> tuple[jax.Array, jax.Array]:
    """The mean loss of one vector of weights, and how many labels it has right: a mean of ones may be less than 1."""
    logits = network.logits(weights, data.images)
    return losses.cross_entropy_of_labels(logits, data.labels).mean(), (logits.argmax(-1) == data.labels).sum()


def _finite(loss: jax.Array) -> jax.Array:
    """Losses, infinite where they are no numbers."""
    return jnp.where(jnp.isfinite(loss), loss, jnp.inf)


def _generation(
    network: Network, search: Search, data: _Data, key: jax.Array, state: Any, found: _Found
) -> tuple[Any, _Found]:
    """One generation: candidates are drawn and evaluated, and the search is told their losses."""
    asked = search.ask(key, state)
    size = max(1, _IMAGES_AT_ONCE // len(data.labels))
    evaluate = lambda weights: _evaluate(network, weights, data)
    some = size < len(asked)
    loss, right = jax.lax.map(evaluate, asked, batch_size=size) if some else jax.vmap(evaluate)(asked)
    loss = _finite(loss)
    fits = (right == len(data.labels)) & jnp.isfinite(loss)  # of what is not a number the first class is the largest
    chosen = jnp.where(fits.any(), fits.argmax(), loss.argmin())
    better = fits.any() | (loss[chosen] < found.loss)
    return search.tell(state, asked, loss), _Found(
        weights=jnp.where(better, asked[chosen], found.weights),
        loss=jnp.where(better, loss[chosen], found.loss),
        fit_at=jnp.where(fits.any(), fits.argmax() + 1, 0),
        lost=jnp.isnan(asked).any(axis=1).all(),
    )


def _add_row(
    curves: Curves, number: int, used: int, score: Callable[..., Any], weights: jax.Array, train: _Data, test: _Data
) -> dict[str, float | None]:
    """Measures weights on both splits, adds the row to the curves, and returns it."""
    row: dict[str, float | None] = {"epoch": number, "step": used}
    for name, data in {"train": train, "test": test}.items():
        starts = range(0, len(data.labels), _IMAGES_AT_ONCE)
        parts = [_Data(*(column[start : start + _IMAGES_AT_ONCE] for column in data)) for start in starts]
        sizes = np.array([len(part.labels) for part in parts])
        loss, right = np.array([score(weights, part) for part in parts], float).T
        row[f"{name}_loss"], row[f"{name}_accuracy"] = (
            float(sizes @ loss / sizes.sum()),
            float(right.sum() / sizes.sum()),
        )
    row["weight_norm"] = float(np.linalg.norm(weights))
    row = {name: value if value is not None and np.isfinite(value) else None for name, value in row.items()}
    for name, value in row.items():
        curves.setdefault(name, []).append(value)
    return row
