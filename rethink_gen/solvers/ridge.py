"""Linear models on features, in closed form: least norm, reached along a path of penalties or of components.

One-vs-all least squares with one-hot targets Y: min ‖Zw - Y‖² + λ‖w‖² over the weights w of N features Z of n images.
With at most as many features as images the normal equations have the size N: (ZᵀZ + λI) w = ZᵀY. With more they have
the size n: (ZZᵀ + λI) a = Y and w = Zᵀa. The matrix is computed once for the whole path. Each penalty is a Cholesky
factorization; with six penalties that is several times faster than one eigendecomposition.

All is float64, as the matrix is nearly singular where N = n: with 1,000 images its condition number is 2e10 there, and
test losses equal those of a singular value decomposition to seven digits. If Cholesky finds the matrix singular for
λ = 0, by a pivot below rounding, an eigendecomposition gives the solution of least norm; eigenvalues below rounding are
then left out.

The other path fits the labels without a penalty, by the first k principal components of the features, Z = U√D Vᵀ with
the largest of D first and no mean subtracted. With all of them that is the solution of least norm. Such a model is a
smoother: its output at x is ŝ(x)·Y, a combination of the training labels. Its **effective parameters** on m inputs are
n/m Σ‖ŝ(x)‖² (Curth et al. 2023, Section 5): n times the variance of an output, per variance of the noise of labels.
On the training inputs they are k.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from rethink_gen import memory, registry
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import UsageError
from rethink_gen.results.result import Curves
from rethink_gen.runs import RidgeRun
from rethink_gen.solvers.features import Features

PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0)  # features have a mean square of 1/N, so the diagonal of ZZᵀ is near 1
Tick = Callable[[int, int, dict[str, float | None]], None]  # (step, steps, metrics) of the progress
# Outputs on training and test images, [images, rows, K], the columns of the path, and facts for provenance.
_Path = tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], dict[str, Any]]
_Project = Callable[[np.ndarray], np.ndarray]


def solve(run: RidgeRun, dataset: Dataset, tick: Tick) -> tuple[Curves, dict[str, Any]]:
    """Solves all rows of the path and evaluates them on both splits.

    Args:
      run: names the features and the path.
      dataset: images uint8 or float32[n, H, W, C], labels int32[n].
      tick: called with the progress; it may raise to stop.

    Returns:
      Curves, and facts for provenance. There is one row per penalty λ (`penalty`), the largest first and 0 last; or one
      per number of principal components (`components`): all, a half of n, a quarter and so on, and what lies halfway
      between them on a logarithmic axis. train_loss and test_loss are the mean of ‖f(x) - y‖² with y one-hot, and
      weight_norm is ‖w‖ over all classes. Rows of components have train_effective_parameters and
      test_effective_parameters.

    Raises:
      UsageError: the matrix would not fit into memory.
    """
    train, test = dataset.train, dataset.test
    features: Features = registry.resolve("features", run.features)(run, train.images)
    n, count, blocks = len(train.labels), sum(features.widths), len(features.widths)
    _check_memory(n, count, matrices=3 if run.path == "penalties" else 5)
    steps, done = 2 * blocks + len(PENALTIES), 0
    started = time.monotonic()

    def block(split: Split, i: int) -> np.ndarray:
        return np.asarray(features.block(split.images, i), np.float64)

    def step(number: int = 1) -> None:
        nonlocal done
        done += number
        tick(done, steps, {})

    few = count <= n
    z = np.concatenate([block(train, i) for i in range(blocks)], axis=1) if few else None
    gram = np.zeros((n, n)) if z is None else z.T @ z
    for i in range(blocks):
        if z is None:
            part = block(train, i)
            gram += part @ part.T
        step()

    def on_test(solution: np.ndarray) -> np.ndarray:
        """The outputs on test images of solutions [N or n, …] of the equations."""
        outputs, first = np.zeros((len(test.labels), solution.shape[1])), 0
        for i, width in enumerate(features.widths):
            weights = solution[first : first + width] if few else block(train, i).T @ solution
            outputs += block(test, i) @ weights
            first += width
            step()
        return outputs

    along = _along_penalties if run.path == "penalties" else _along_components
    train_outputs, test_outputs, columns, facts = along(
        gram, z, np.eye(dataset.num_classes)[train.labels], on_test, step
    )
    columns = {
        "epoch": np.zeros(len(columns["weight_norm"])),
        **columns,
        **_scores("train", train_outputs, train.labels),
        **_scores("test", test_outputs, test.labels),
    }
    facts = {"num_features": count, **facts, "seconds_solve": round(time.monotonic() - started, 1)}
    return {name: values.astype(float).tolist() for name, values in columns.items()}, facts


def _along_penalties(
    gram: np.ndarray, z: np.ndarray | None, targets: np.ndarray, on_test: _Project, step: Callable[[], None]
) -> _Path:
    """Ridge regression for each penalty."""
    right = targets if z is None else z.T @ targets
    solutions, how = [], "cholesky"
    for penalty in PENALTIES:
        solution, how = _solve_one(gram, right, penalty)
        solutions.append(solution)
        step()
    solution = np.concatenate(solutions, axis=1)  # [N or n, penalties · classes]
    outputs = gram @ solution if z is None else z @ solution
    squares = (solution * outputs if z is None else solution**2).sum(0)
    shape = (len(PENALTIES), targets.shape[1])
    columns = {"penalty": np.array(PENALTIES), "weight_norm": np.sqrt(squares.clip(0).reshape(shape).sum(1))}
    test_outputs = on_test(solution).reshape(-1, *shape)
    return outputs.reshape(-1, *shape), test_outputs, columns, {"least_norm_by": how}


def _along_components(
    gram: np.ndarray, z: np.ndarray | None, targets: np.ndarray, on_test: _Project, step: Callable[[int], None]
) -> _Path:
    """Least squares on the first principal components. A test output is T Uᵀ Y, a training output U Uᵀ Y."""
    values, vectors = _eigen(gram)
    step(len(PENALTIES))
    u = vectors if z is None else z @ (vectors / np.sqrt(values))
    t = on_test(vectors / (values if z is None else np.sqrt(values)))
    coefficients = u.T @ targets
    n, most = len(targets), len(values)
    halvings = range(2 * int(np.log2(n)) + 1)
    counts = np.array(sorted({most, *(k for i in halvings if (k := round(n * 2 ** (-i / 2))) <= most)}))
    outputs = [np.stack([side[:, :k] @ coefficients[:k] for k in counts], axis=1) for side in (u, t)]
    columns = {
        "components": counts,
        "weight_norm": np.sqrt((coefficients**2 / values[:, None]).sum(1).cumsum())[counts - 1],
        "train_effective_parameters": (u**2).sum(0).cumsum()[counts - 1],
        "test_effective_parameters": (n / len(t) * (t**2).sum(0).cumsum())[counts - 1],
    }
    return outputs[0], outputs[1], columns, {}


def _check_memory(n: int, count: int, matrices: int) -> None:
    """Refuses a problem that does not fit: some matrices of the size of the equations, and all features if few."""
    needed = 8 * (matrices * min(n, count) ** 2 + (n * count if count <= n else 0))
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
    with suppress(np.linalg.LinAlgError):
        factor = cho_factor(regularized, lower=True, overwrite_a=True)
        pivots = np.square(np.diagonal(factor[0]))
        if pivots.min() > len(matrix) * np.finfo(float).eps * pivots.max():  # else a zero that rounding has hidden
            return cho_solve(factor, right), "cholesky"
    values, vectors = _eigen(matrix)
    return vectors @ ((vectors.T @ right) / (values[:, None] + penalty)), "eigenvalues"


def _eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues above rounding, the largest first, and their vectors as columns."""
    values, vectors = np.linalg.eigh(matrix)
    kept = values > len(values) * np.finfo(float).eps * values[-1]
    return values[kept][::-1], vectors[:, kept][:, ::-1]


def _scores(split: str, outputs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Loss and accuracy of each penalty, from outputs float64[images, penalties, classes]."""
    errors = outputs - np.eye(outputs.shape[2])[labels][:, None]
    return {
        f"{split}_loss": np.square(errors).sum(2).mean(0),
        f"{split}_accuracy": (outputs.argmax(2) == labels[:, None]).mean(0),
    }
