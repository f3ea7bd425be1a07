"""SGD on underdetermined least squares: which of the many solutions it finds (Section 5).

The model is linear without biases, f(x) = W x, on whitened images x in R^d. Labels y are one-hot. The loss is the mean
of ½‖W x - y‖². Every gradient lies in the span of the examples. So from W₀ = 0, SGD can only converge to W†, the
solution of least norm, which the pseudo-inverse gives. From any other start it converges to W† + W₀P. P projects onto
the orthogonal complement of the span, which no step changes.

Our choices: the features are pixels. The unit of the step size is 1/‖x‖², which is the same for all whitened images.
So without momentum a learning rate below 2 is stable for every batch size. Every label can be fitted, so a constant
step size converges, at a linear rate. Steps are float32, as in training. W†, P and distances are float64 and come from
a singular value decomposition.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.data import augmentations, randomness
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import UsageError
from rethink_gen.results.result import Curves
from rethink_gen.runs import LeastSquaresRun

_STEPS_PER_CALL = 20_000  # in one compiled loop: a fraction of a second on two cores
_ROWS_PER_DECADE = 12  # of epochs; the curves are for a logarithmic axis
_SMALLEST = 1e-6  # smallest singular value relative to the largest; below it, float32 sees dependent examples
Tick = Callable[[int, int, dict[str, float | None]], None]  # (step, steps, metrics) of the progress


class _Problem(NamedTuple):
    """Data and hyperparameters of the steps; an argument of the compiled function."""

    x: jax.Array  # float32[n, d]
    y: jax.Array  # float32[n, K]
    key: jax.Array  # for the order of the examples
    step_size: Any
    momentum: Any


class _State(NamedTuple):
    epoch: jax.Array
    w: jax.Array  # float32[K, d]; on CPU, steps of one example are six times faster than with [d, K]
    velocity: jax.Array


class _Solutions(NamedTuple):
    """All W with W x = y for every example: the least one, plus any matrix that is zero on the span of the examples."""

    least: np.ndarray  # float64[K, d]: W†
    span: np.ndarray  # float64[n, d]: orthonormal rows, a basis of the examples
    condition: float  # condition number of X Xᵀ

    def outside(self, w: np.ndarray) -> np.ndarray:
        """W P: the part of W on the orthogonal complement of the span."""
        return w - (w @ self.span.T) @ self.span


def solve(run: LeastSquaresRun, dataset: Dataset, tick: Tick) -> tuple[Curves, dict[str, Any]]:
    """Runs SGD and measures its distance to the least-norm solution at logarithmically spaced epochs.

    Args:
      run: learning rate, batch size, epochs and the scale of the random start.
      dataset: images uint8 or float32[N, H, W, C], labels int32[N].
      tick: called with the progress; it may raise to stop.

    Returns:
      The curves, and facts for provenance. These columns are in units of ‖W†‖, which is `minimum_norm`:

      * distance: ‖W - W†‖; converges to `predicted_distance`, which is ‖W₀P‖;
      * distance_to_limit: ‖W - (W† + W₀P)‖; converges to zero;
      * null_space_norm: ‖W P‖; stays constant.

    Raises:
      UsageError: SGD diverged, or the training images are linearly dependent.
    """
    x, y = _features(dataset.train), _one_hot(dataset.train, dataset.num_classes)
    test_x, test_y = _features(dataset.test), _one_hot(dataset.test, dataset.num_classes)
    solutions = _all_solutions(x, y)
    key = randomness.root_key(run.seed)
    step_size = run.learning_rate / np.square(x).sum(1).max()
    order_key = randomness.stream(key, "order")
    problem = _Problem(jnp.float32(x), jnp.float32(y), order_key, jnp.float32(step_size), jnp.float32(run.momentum))
    start = run.initial_scale * jax.random.normal(randomness.stream(key, "init"), solutions.least.shape)
    limit = solutions.least + solutions.outside(np.asarray(start, np.float64))

    state = _State(jnp.int32(0), start, jnp.zeros_like(start))
    batch_size = min(run.batch_size, len(x))
    steps_per_epoch = len(x) // batch_size
    norm, minimum_norm = np.linalg.norm, float(np.linalg.norm(solutions.least))
    curves: Curves = {}
    for epoch in _shown_epochs(run.epochs):
        while (reached := int(state.epoch)) < epoch:
            count = min(epoch - reached, max(1, _STEPS_PER_CALL // steps_per_epoch))
            state = _train_epochs(batch_size, problem, state, count)
            tick(int(state.epoch), run.epochs, {name: values[-1] for name, values in curves.items()})
        w = np.asarray(state.w, np.float64)
        if not np.isfinite(w).all():
            raise UsageError(
                f"SGD diverged: lower the learning_rate, {run.learning_rate:g}; below 2 without momentum is safe"
            )
        row = {
            "epoch": epoch,
            "step": epoch * steps_per_epoch,
            **_scores("train", x @ w.T, y),
            **_scores("test", test_x @ w.T, test_y),
            "distance": norm(w - solutions.least) / minimum_norm,
            "predicted_distance": norm(limit - solutions.least) / minimum_norm,
            "distance_to_limit": norm(w - limit) / minimum_norm,
            "null_space_norm": norm(solutions.outside(w)) / minimum_norm,
            "weight_norm": norm(w),
            "minimum_norm": minimum_norm,
        }
        for name, value in row.items():
            curves.setdefault(name, []).append(float(value))
    return curves, {"condition": solutions.condition, "step_size": float(step_size), "num_features": x.shape[1]}


def _features(split: Split) -> np.ndarray:
    """float64[n, d]: pixels of each image, whitened in float32 as for the networks."""
    whitened = augmentations.whiten(jnp.asarray(split.images, jnp.float32) / 255)
    return np.asarray(whitened, np.float64).reshape(len(split.images), -1)


def _one_hot(split: Split, num_classes: int) -> np.ndarray:
    """One-hot labels float64[n, K]."""
    return np.eye(num_classes)[split.labels]


def _all_solutions(x: np.ndarray, y: np.ndarray) -> _Solutions:
    """All solutions for linearly independent examples float64[n, d] and targets float64[n, K].

    Raises:
      UsageError: the examples are linearly dependent, so there may be no solution.
    """
    n, d = x.shape
    dependent = f"{n} training images of {d} values are linearly dependent, so not every label can be fitted"
    if n > d:  # checked first, because the decomposition could take minutes
        raise UsageError(f"{dependent}; set a train_size below {d}")
    left, singular, span = np.linalg.svd(x, full_matrices=False)
    if singular[-1] < _SMALLEST * singular[0]:
        raise UsageError(f"{dependent}; set a smaller train_size")
    return _Solutions((y.T @ left / singular) @ span, span, float((singular[0] / singular[-1]) ** 2))


@partial(jax.jit, static_argnums=0)
def _train_epochs(batch_size: int, problem: _Problem, state: _State, count: jax.Array) -> _State:
    """Runs `count` epochs of SGD: v ← momentum · v + gradient, W ← W - step_size · v.

    Each epoch has a new order. The last partial batch is dropped.
    """

    def epoch(_: Any, state: _State) -> _State:
        order = jax.random.permutation(jax.random.fold_in(problem.key, state.epoch), len(problem.x))
        order = order[: len(order) - len(order) % batch_size].reshape(-1, batch_size)

        def step(i: jax.Array, state: _State) -> _State:
            x, y = problem.x[order[i]], problem.y[order[i]]
            velocity = problem.momentum * state.velocity + (x @ state.w.T - y).T @ x / batch_size
            return _State(state.epoch, state.w - problem.step_size * velocity, velocity)

        return jax.lax.fori_loop(0, len(order), step, state)._replace(epoch=state.epoch + 1)

    return jax.lax.fori_loop(0, count, epoch, state)


def _scores(split: str, outputs: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Loss (the mean of ½‖f(x) - y‖²) and accuracy of a split."""
    loss = 0.5 * np.square(outputs - y).sum(1).mean()
    return {f"{split}_loss": loss, f"{split}_accuracy": (outputs.argmax(1) == y.argmax(1)).mean()}


def _shown_epochs(epochs: int) -> list[int]:
    """0, and integers from 1 to `epochs` that are about evenly spaced on a logarithmic axis."""
    count = max(2, round(_ROWS_PER_DECADE * np.log10(epochs)) + 1)
    return [0, *np.unique(np.geomspace(1, epochs, count).round().astype(int)).tolist()]
