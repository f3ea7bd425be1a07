"""Linear models on features, in closed form: least norm, and ridge regression for a path of penalties.

One-vs-all least squares with one-hot targets Y: min ‖Zw - Y‖² + λ‖w‖² over the weights w of N features Z of n images.
With at most as many features as images the normal equations have the size N: (ZᵀZ + λI) w = ZᵀY. With more they have
the size n: (ZZᵀ + λI) a = Y and w = Zᵀa. The matrix is computed once for all penalties; each penalty is a Cholesky
factorization. With six penalties that is several times faster than one eigendecomposition.

All is float64, as the matrix is nearly singular where N = n: with 1,000 images its condition number is 2e10 there, and
test losses equal those of a singular value decomposition to seven digits. If Cholesky finds the matrix singular for
λ = 0, an eigendecomposition gives the solution of least norm; eigenvalues below rounding are then left out.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rethink_gen import memory, registry
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import UsageError
from rethink_gen.results.store import Curves
from rethink_gen.runs import RidgeRun
from rethink_gen.solvers.features import Features

PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0)  # features have a mean square of 1/N, so the diagonal of ZZᵀ is near 1
Tick = Callable[[int, int, dict[str, float | None]], None]  # (step, steps, metrics) of the progress


def solve(run: RidgeRun, dataset: Dataset, tick: Tick) -> tuple[Curves, dict[str, Any]]:
    """Solves all penalties and evaluates them on both splits.

    Args:
      run: names the features.
      dataset: images uint8 or float32[n, H, W, C], labels int32[n].
      tick: called with the progress; it may raise to stop.

    Returns:
      Curves with one row per penalty, the largest first and λ = 0 last, and facts for provenance. `penalty` is λ,
      train_loss and test_loss are the mean of ‖f(x) - y‖² with y one-hot, and weight_norm is ‖w‖ over all classes.

    Raises:
      UsageError: the matrix would not fit into memory.
    """
    train, test = dataset.train, dataset.test
    features: Features = registry.resolve("features", run.features)(run, train.images)
    n, count, blocks = len(train.labels), sum(features.widths), len(features.widths)
    _check_memory(n, count)
    targets = np.eye(dataset.num_classes)[train.labels]
    steps = 2 * blocks + len(PENALTIES)
    started = time.monotonic()

    def block(split: Split, i: int) -> np.ndarray:
        return np.asarray(features.block(split.images, i), np.float64)

    few = count <= n
    z = np.concatenate([block(train, i) for i in range(blocks)], axis=1) if few else np.empty(0)
    gram = z.T @ z if few else np.zeros((n, n))
    for i in range(blocks):
        if not few:
            part = block(train, i)
            gram += part @ part.T
        tick(i + 1, steps, {})
    right = z.T @ targets if few else targets
    solutions, how = [], "cholesky"
    for k, penalty in enumerate(PENALTIES):
        solution, how = _solve_one(gram, right, penalty)
        solutions.append(solution)
        tick(blocks + k + 1, steps, {})
    solution = np.concatenate(solutions, axis=1)  # [N or n, penalties · classes]
    outputs = z @ solution if few else gram @ solution
    squares = (solution**2 if few else solution * outputs).sum(0)
    test_outputs, first = np.zeros((len(test.labels), solution.shape[1])), 0
    for i, width in enumerate(features.widths):
        weights = solution[first : first + width] if few else block(train, i).T @ solution
        test_outputs += block(test, i) @ weights
        first += width
        tick(blocks + len(PENALTIES) + i + 1, steps, {})
    shape = (len(PENALTIES), dataset.num_classes)
    columns = {
        "epoch": np.zeros(len(PENALTIES)),
        "penalty": np.array(PENALTIES),
        **_scores("train", outputs.reshape(n, *shape), train.labels),
        **_scores("test", test_outputs.reshape(-1, *shape), test.labels),
        "weight_norm": np.sqrt(squares.clip(0).reshape(shape).sum(1)),
    }
    facts = {"num_features": count, "least_norm_by": how, "seconds_solve": round(time.monotonic() - started, 1)}
    return {name: values.astype(float).tolist() for name, values in columns.items()}, facts


def _check_memory(n: int, count: int) -> None:
    """Refuses a problem that does not fit: three matrices of the size of the equations, and all features if few."""
    needed = 8 * (3 * min(n, count) ** 2 + (n * count if count <= n else 0))
    if needed > (free := memory.free()):
        raise UsageError(
            f"{n} images with {count} features need {memory.gigabytes(needed)}; {memory.gigabytes(free)} are free: "
            "set a smaller train_size or fewer features"
        )


def _solve_one(matrix: np.ndarray, right: np.ndarray, penalty: float) -> tuple[np.ndarray, str]:
    """The solution of (matrix + λI) x = right, and how it was found; of least norm if the matrix is singular."""
    from scipy.linalg import cho_factor, cho_solve

    regularized = matrix.copy()
    regularized.flat[:: len(matrix) + 1] += penalty
    try:
        return cho_solve(cho_factor(regularized, lower=True, overwrite_a=True), right), "cholesky"
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(matrix)
        kept = values > len(values) * np.finfo(float).eps * values[-1]
        return vectors[:, kept] @ ((vectors[:, kept].T @ right) / (values[kept, None] + penalty)), "eigenvalues"


def _scores(split: str, outputs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Loss and accuracy of each penalty, from outputs float64[images, penalties, classes]."""
    errors = outputs - np.eye(outputs.shape[2])[labels][:, None]
    return {
        f"{split}_loss": np.square(errors).sum(2).mean(0),
        f"{split}_accuracy": (outputs.argmax(2) == labels[:, None]).mean(0),
    }
