"""The network of Theorem 1 in closed form: 2n + d weights fit any real labels on any n distinct points in R^d.

The network is c(z) = Σ_j w_j max(⟨a, z⟩ - b_j, 0). The projections x_i = ⟨a, z_i⟩ on a random direction a sort the
points. Choose b_1 < x_1 < b_2 < x_2 < …. Then the system A w = y with A_ij = max(x_i - b_j, 0) is lower triangular with
positive eigenvalues x_i - b_i (Lemma 1). c is piecewise linear in x, and w_j is the change of its slope at b_j. From
one point to the next only one slope is unknown, so forward substitution takes O(n) time and memory.

Our choices, where the proof leaves freedom:

* Projection. a is Gaussian, from the run's seed, rounded to multiples of 2⁻²⁴. So ⟨a, z⟩ of 8-bit pixels is exact in
  float64, in any order of summation. Exact projections tell ties from near ties. They also have no rounding errors that
  the slopes could magnify; the slope between two close points is steep.
* Ties. Identical images with the same label are one point. Identical images with different labels are an error, because
  no function fits them. If different images tie, another direction is drawn. Near ties only cost digits: see
  `cancellation`.
* Offsets. b_i is a quarter of the way from x_{i-1} to x_i. There a change of slope shrinks by a factor of 3 from point
  to point. At half of the way or later it would not shrink, and one near tie would spoil all labels after it.

All arrays are float64. The terms of the sum are larger than the labels, by a factor of up to `cancellation`, and so are
the rounding errors. At best, the residual is machine precision times this factor times the largest label.
"""

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from rethink_gen.data import randomness
from rethink_gen.data.dataset import Dataset
from rethink_gen.errors import DataError
from rethink_gen.results.result import Curves
from rethink_gen.runs import ExpressivityRun

_DIRECTIONS = 10  # most directions to try; for all of CIFAR-10, one in 150 has a tie
_RESOLUTION = 2.0**24
_BLOCK = 2**21  # hidden units × images at a time: 16 MB
_Params = dict[str, Any]
Tick = Callable[[int, int, dict[str, float | None]], None]  # (step, steps, metrics) of the progress


class ReluInterpolator(nn.Module):
    """The network of Theorem 1 for n = `num_points` points. With `depth` over 2 it is the network of the corollary.

    The corollary has depth k (layers of weights) and width O(n/k). Its hidden units are split into k - 1 layers, in the
    order of their offsets. Each layer but the first has three more units, which pass on values from earlier layers:
    max(⟨a, z⟩ - b_1, 0), which every ReLU leaves unchanged, and the positive and the negative part of the sum so far.
    This computes the same function of z with the same 2n + d weights, in layers of at most ⌈n/(k - 1)⌉ + 3 units. As in
    the theorem, a counts once and connections of weight ±1 do not count.

    Maps points float64[B, d] to outputs float64[B].
    """

    num_points: int
    depth: int = 2

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        a = self.param("a", nn.initializers.normal(1.0, z.dtype), z.shape[-1:])
        b = self.param("b", nn.initializers.zeros, (self.num_points,), z.dtype)
        w = self.param("w", nn.initializers.zeros, (self.num_points,), z.dtype)
        first, *deeper = self.layers
        hidden = nn.relu((z @ a)[:, None] - b[first])
        total = hidden @ w[first]
        x = hidden[:, 0]
        for layer in deeper:
            hidden = nn.relu(x[:, None] - (b[layer] - b[0]))
            x, positive, negative = nn.relu(x), nn.relu(total), nn.relu(-total)
            total = positive - negative + hidden @ w[layer]
        return total

    @property
    def layers(self) -> list[np.ndarray]:
        """The indices of the points, and so of the offsets and weights, of each hidden layer."""
        return np.array_split(np.arange(self.num_points), self.depth - 1)

    @property
    def width(self) -> int:
        """Units in the widest hidden layer."""
        return max(len(layer) + 3 * (i > 0) for i, layer in enumerate(self.layers))


class _Points(NamedTuple):
    """The distinct points of a sample, in the order of their projections; all arrays are float64."""

    direction: np.ndarray  # [d]
    projections: np.ndarray  # [n], strictly increasing
    labels: np.ndarray  # [n]


def solve(run: ExpressivityRun, dataset: Dataset, tick: Tick) -> tuple[Curves, dict[str, Any]]:
    """Constructs the network of Theorem 1 for the training set and evaluates it on both splits.

    The labels are the class indices as real numbers. For accuracies, outputs are rounded.

    Args:
      run: depth of the network and the seed of the projection.
      dataset: images uint8 or float32[N, H, W, C], labels int32[N].
      tick: called with the progress; it may raise to stop.

    Returns:
      Curves of one row, and facts for provenance. In the curves:

      * max_residual: the largest |c(z_i) - y_i| of a forward pass over all training images;
      * cancellation: the largest Σ_j |w_j| A_ij, divided by the largest |y_i|;
      * scaled_residual: max_residual divided by (machine precision × the largest Σ_j |w_j| A_ij);
      * smallest_eigenvalue: the smallest eigenvalue of A, by Lemma 1.

    Raises:
      DataError: identical images have different labels, or no direction separates all images.
    """
    started = time.monotonic()
    key = randomness.stream(randomness.root_key(run.seed), "projection")
    images, labels = dataset.train.images, dataset.train.labels.astype(np.float64)
    points = _project_apart(key, images, labels, lambda: tick(0, 1, {}))
    projected = time.monotonic()
    offsets, weights = interpolate(points.projections, points.labels)
    solved = time.monotonic()

    network = ReluInterpolator(len(weights), run.depth)
    params = {"a": points.direction, "b": offsets, "w": weights}
    size = min(len(images), max(1, _BLOCK // len(weights)))
    _forward(network, params, images[:size], size, lambda *_: tick(0, 1, {}))  # compiles
    compiled = time.monotonic()
    train_outputs = _forward(network, params, images, size, tick)
    evaluated = time.monotonic()
    test_outputs = _forward(network, params, dataset.test.images, size, lambda *_: tick(1, 1, {}))
    terms = float(np.abs(weights) @ (points.projections[-1] - offsets))  # the sum grows with x: the last is the largest
    max_residual = float(np.abs(train_outputs - labels).max())
    row = {
        "epoch": 0,
        "train_accuracy": _accuracy(train_outputs, dataset.train.labels),
        "test_accuracy": _accuracy(test_outputs, dataset.test.labels),
        "num_weights": sum(param.size for param in params.values()),
        "width": network.width,
        "max_residual": max_residual,
        "scaled_residual": max_residual / (np.finfo(np.float64).eps * terms) if terms else 0.0,
        "cancellation": terms / float(np.abs(labels).max()) if labels.any() else 1.0,
        "smallest_eigenvalue": float((points.projections - offsets).min()),
        "seconds_project": projected - started,
        "seconds_solve": solved - projected,
        "seconds_forward": evaluated - compiled,
    }
    facts = {"precision": "float64", "num_points": len(weights), "num_features": len(points.direction)}
    return {name: [value] for name, value in row.items()}, facts


def _project_apart(key: jax.Array, images: np.ndarray, labels: np.ndarray, tick: Callable[[], None]) -> _Points:
    """Sorts the distinct images by their projections on a random direction that separates them.

    Args:
      images: [N, ...]; labels: float64[N].

    Raises:
      DataError: identical images have different labels, or no direction separates the others.
    """
    flat = images.reshape(len(images), -1)
    for attempt in range(_DIRECTIONS):
        direction = np.asarray(jax.random.normal(jax.random.fold_in(key, attempt), flat.shape[1:]), np.float64)
        direction = np.round(direction * _RESOLUTION) / _RESOLUTION
        x = np.empty(len(flat))
        for start in range(0, len(flat), 1000):
            # Not `@`: BLAS sums the rows at the end of a block in another order, so equal images would not tie.
            x[start : start + 1000] = (flat[start : start + 1000] * direction).sum(axis=1)
            tick()
        order = np.argsort(x, kind="stable")
        tied = np.flatnonzero(np.diff(x[order]) == 0)
        for i, j in zip(order[tied], order[tied + 1], strict=True):
            if (flat[i] != flat[j]).any():
                break
            if labels[i] != labels[j]:
                raise DataError(
                    f"training images {i} and {j} are identical, but have labels {labels[i]:g} and {labels[j]:g}: no "
                    "function fits both; leave one out with a smaller train_size, or keep the true labels"
                )
        else:
            order = np.delete(order, tied)
            return _Points(direction, x[order], labels[order])
    raise DataError(
        f"none of {_DIRECTIONS} random directions separates the {len(flat)} training images; try another seed"
    )


def interpolate(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Solves Theorem 1: offsets b and weights w, float64[n], with Σ_j w_j max(x_i - b_j, 0) = y_i.

    Args:
      x: float64[n], strictly increasing.
      y: float64[n].
    """
    offsets = np.append(x[:1] - 1, x[:-1] + (x[1:] - x[:-1]) / 4)
    rises = np.diff(y, prepend=0.0)
    before = offsets - np.append(offsets[:1], x[:-1])  # distance from x_{i-1} to b_i, on the old slope; 0 for b_1
    after = x - offsets  # distance from b_i to x_i, on the new slope
    parts = zip(rises.tolist(), before.tolist(), after.tolist(), strict=True)
    slopes = itertools.accumulate(parts, lambda slope, part: (part[0] - slope * part[1]) / part[2], initial=0.0)
    return offsets, np.diff(list(slopes))


def _forward(network: ReluInterpolator, params: _Params, images: np.ndarray, size: int, tick: Tick) -> np.ndarray:
    """The outputs of the network, float64[N], computed in blocks of `size` images."""
    outputs = np.empty(len(images))
    with jax.enable_x64(True):  # only here: training in the same process stays float32
        for start in range(0, len(images), size):
            block = images[start : start + size].reshape(-1, len(params["a"]))
            whole = np.resize(block, (size, len(params["a"])))  # pads the last block: one shape, one compilation
            outputs[start : start + size] = _apply(network, params, whole.astype(np.float64))[: len(block)]
            tick(start + len(block), len(images), {})
    return outputs


@partial(jax.jit, static_argnums=0)
def _apply(network: ReluInterpolator, params: _Params, images: jax.Array) -> Any:
    """The outputs of the network for images float64[B, d]."""
    return network.apply({"params": params}, images)


def _accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of outputs that round to their label."""
    return float((np.round(outputs) == labels).mean())
