"""Kernel machines in closed form: the function of least norm through all labels, or ridge regression (Section 5).

One-vs-all least squares with one-hot targets Y: f(x) = Σ_j α_j k(x, x_j) with (K + λI) α = Y. For λ = 0, f is the
function of least norm, ‖f‖² = tr αᵀKα, among those that equal Y on the training images; with the linear kernel that is
the least w with Xw = Y, w = Xᵀα. Where K is singular, as with duplicates, or a linear kernel of more examples than
features, there is no such function for all labels, and that is an error.

K is made of tiles, see tiles.py. They are computed from features in memory when they are asked for; features in several
blocks are streamed through the inner products of all images, test images too, and these are kept, also for the next run
if it has the same features. All is float32: with the 60,000 examples of MNIST the residual is 1e-4, and the test error
that of the first author's float64.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen import registry
from rethink_gen.data.dataset import Dataset
from rethink_gen.errors import UsageError, unknown
from rethink_gen.results.store import Curves
from rethink_gen.runs import KernelRun
from rethink_gen.solvers.features import Features
from rethink_gen.solvers.linear_algebra import LANDMARKS, SOLVERS, Matrix, Meter, Vectors, multiply, put, singular

_TILE = (
    1024  # rows at most: a product of two tiles takes hundredths of a second on CPU, and a stop signal waits for few
)
_UNSOLVED = 0.1  # a residual that is more than rounding; outputs are then 0.03 off the targets 0 and 1
_ALLOCATED = 1.3  # bytes taken for each of a tile's, by what is left between tiles (60,000 examples on CPU)
Tick = Callable[[int, int, dict[str, float | None]], None]
_Inner = tuple[dict[tuple[int, int], jax.Array], Vectors]  # ⟨x, x'⟩ by tiles, ‖x‖² by parts


def solve(run: KernelRun, dataset: Dataset, tick: Tick) -> tuple[Curves, dict[str, Any]]:
    """The one row of a kernel machine's curves, and how it was solved.

    train_loss, test_loss: mean of ‖f(x) - y‖², y one-hot; l2_norm: ‖f‖; residual: ‖(K + λI)α - Y‖ / ‖Y‖.

    Raises:
      UsageError: it does not fit into memory, or a name is unknown.
      LinAlgError: K is singular.
    """
    for kind, name in (("features", run.features), ("kernel", run.kernel)):
        registry.resolve(kind, name)
    with jax.default_matmul_precision("highest"):  # TF32 and bfloat16 lose the small eigenvalues of K
        return _solve_in_float32(run, dataset, tick)


def _solve_in_float32(run: KernelRun, dataset: Dataset, tick: Tick) -> tuple[Curves, dict[str, Any]]:
    """`solve`, once the precision is set."""
    start = time.monotonic()
    train, test = dataset.train, dataset.test
    n, num_test = len(train.labels), len(test.labels)
    features = registry.resolve("features", run.features)(run, train.images)
    same = (
        replace(run, kernel="linear", gamma=1.0, weight_decay=0.0, solver="auto"),
        *(crc32(images.tobytes()) for images in (train.images, test.images)),
    )
    if same not in _KEPT:
        _KEPT.clear()  # before free memory is measured
    chosen = _plan(run, features, n, num_test, free_memory() + _kept_bytes())
    size = min(_TILE, -(-n // 4))  # at least four parts where there are four images
    count = -(-n // size)
    parts = [images[i : i + size] for images in (train.images, test.images) for i in range(0, len(images), size)]
    meter = Meter(tick, _work(chosen.solver, features, n, num_test, kept=bool(_KEPT)))
    if features.streamed and not _KEPT:
        _KEPT[same] = _streamed(features, parts, count, meter)
    k = _kernel_matrix(run, features, parts, count, _KEPT.get(same), meter)
    targets = np.eye(dataset.num_classes, dtype=np.float32)[train.labels]
    y = [put(i, targets[i * size : (i + 1) * size]) for i in range(len(k.sizes))]
    prepared = time.monotonic()
    alpha, facts = SOLVERS[chosen.solver](k, y, meter)
    solved = time.monotonic()
    alpha_NxK = np.concatenate(alpha)
    fitted_NxK = np.concatenate(multiply(k, alpha, meter))
    test_outputs = np.concatenate([_predict(k, i, alpha, meter) for i in range(len(k.sizes), len(parts))])
    residual = np.linalg.norm(fitted_NxK - targets) / np.linalg.norm(targets)
    if not residual < _UNSOLVED:
        raise singular(k, f"the residual is {residual:.2g}")
    outputs = fitted_NxK - run.weight_decay * alpha_NxK
    row = {
        "epoch": 0.0,
        **_measure("train", outputs, train.labels),
        **_measure("test", test_outputs, test.labels),
        "l2_norm": float(np.sqrt(max(0.0, (alpha_NxK * outputs).sum(dtype=np.float64)))),
        "residual": float(residual),
    }
    seconds = {"features": prepared - start, "solve": solved - prepared, "predict": time.monotonic() - solved}
    return {name: [value] for name, value in row.items()}, {
        "solver": chosen.solver,
        "bytes_planned": chosen.bytes,
        "num_features": sum(features.widths),
        **facts,
        **{f"seconds_{name}": round(value, 1) for name, value in seconds.items()},
    }


class _Plan(NamedTuple):
    """How a run is solved, and the memory that takes."""

    solver: str
    bytes: int


def _plan(run: KernelRun, features: Features, n: int, num_test: int, memory: int) -> _Plan:
    """Cholesky if it fits into memory, else conjugate gradients; or what the run asks for.

    Raises:
      UsageError: nothing fits; the line says what would.
    """
    if run.solver not in (*SOLVERS, "auto"):
        raise unknown("solver", run.solver, [*SOLVERS, "auto"])
    width = sum(features.widths)
    if run.kernel == "linear" and not run.weight_decay and width < n:
        way_out = f"set a weight_decay, train_size={width}, or kernel=gaussian"
        raise UsageError(f"the linear kernel of {n} examples with {width} features is singular: {way_out}")

    def plans(n: int) -> list[_Plan]:
        triangle = int(_ALLOCATED * 2 * n * (n + _TILE))
        columns = 4 * (n + num_test) * max(features.widths)
        kept = triangle + 4 * n * num_test if features.streamed else 0
        own = {"cholesky": triangle, "conjugate_gradients": 8 * n * _TILE * LANDMARKS}
        margin = 100 * _TILE**2
        return [_Plan(name, columns + kept + own[name] + margin) for name in own if run.solver in (name, "auto")]

    def least(n):
        return min(plans(n), key=lambda plan: plan.bytes)

    if least(n).bytes > memory:
        smaller = next((m for m in range(n - n % 100, 0, -100) if least(m).bytes <= memory), 1)
        found = (
            f"{n} examples take {_gigabytes(least(n).bytes)} by {least(n).solver}, and {_gigabytes(memory)} are free"
        )
        raise UsageError(f"{found}; set train_size={smaller}" + " or solver=auto" * (run.solver == "cholesky"))
    return next(plan for plan in plans(n) if plan.bytes <= memory)


def _work(solver: str, features: Features, n: int, num_test: int, *, kept: bool) -> float:
    """Floating point operations, about; conjugate gradients are taken to need a hundred steps."""
    width = sum(features.widths)
    inner = 0.0 if kept else features.flop * (n + num_test) + float(n * (n + 2 * num_test) * width)
    again = 2.0 if features.streamed else float(width)
    products = (n * n * again if solver == "conjugate_gradients" else 0.0) * 100 + n * n * again
    return inner + products + (n**3 / 3 if solver == "cholesky" else 0.0)


def free_memory() -> int:
    """Bytes: of all devices, or on CPU of the host."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return sum(s["bytes_limit"] - s["bytes_in_use"] for s in stats if s)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, IndexError, ValueError):
        memory = 1024 * int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0])
    with suppress(OSError, ValueError):  # a container's limit; "max" where there is none
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def _kernel_matrix(
    run: KernelRun, features: Features, parts: list[Any], count: int, kept: _Inner | None, meter: Meter
) -> Matrix:
    """K + λI of the training images, which are the first `count` parts; further rows of tiles are k of test images."""
    if kept:
        stored, norms = kept

        def inner(i, j):
            return stored[i, j]
    else:
        x = _columns(features, 0, parts, meter)
        norms = [_squared_norms(part) for part in x]

        def inner(i, j):
            return _product(x[i], put(i, x[j]))

    numbers = (run.gamma, run.weight_decay)

    def tile(i, j):
        return _evaluate(run.kernel, i == j, inner(i, j), norms[i], put(i, norms[j]), numbers)

    return Matrix(tile, [len(part) for part in parts[:count]], 2.0 * (1 if features.streamed else features.widths[0]))


def _kept_bytes() -> int:
    """What the inner products of the last run take, and this run need not."""
    return int(_ALLOCATED * sum(tile.nbytes for tiles, _ in _KEPT.values() for tile in tiles.values()))


def _columns(features: Features, block: int, parts: list[Any], meter: Meter) -> Vectors:
    """One block of the features of all parts."""
    flop = features.flop / len(features.widths)
    return [meter(features.block(put(i, part), block), flop * len(part)) for i, part in enumerate(parts)]


def _streamed(features: Features, parts: list[Any], count: int, meter: Meter) -> _Inner:
    """⟨x, x'⟩ by tiles and ‖x‖² by parts, summed over blocks of features, of which one is in memory at a time."""
    below = [(i, j) for i in range(len(parts)) for j in range(min(i + 1, count))]
    inner = {(i, j): put(i, jnp.zeros((len(parts[i]), len(parts[j])))) for i, j in below}
    norms = [put(i, jnp.zeros(len(part))) for i, part in enumerate(parts)]
    for block in range(len(features.widths)):
        x = _columns(features, block, parts, meter)
        norms = [norm + _squared_norms(part) for norm, part in zip(norms, x, strict=True)]
        for i, j in below:
            inner[i, j] = meter(_add_product(inner[i, j], x[i], put(i, x[j])), 2.0 * x[i].size * len(x[j]))
    return inner, norms


def _predict(k: Matrix, row: int, alpha: Vectors, meter: Meter) -> jax.Array:
    """f(x) for a part of the test images."""
    out = jnp.asarray(sum(k.tile(row, j) @ put(row, part) for j, part in enumerate(alpha)))
    return meter(out, k.flop * len(out) * sum(k.sizes))


def _measure(split: str, outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Loss and accuracy."""
    errors = outputs - np.eye(outputs.shape[1], dtype=np.float32)[labels]
    return {
        f"{split}_loss": float((errors**2).sum(1).mean()),
        f"{split}_accuracy": float((outputs.argmax(1) == labels).mean()),
    }


@partial(jax.jit, static_argnums=(0, 1))
def _evaluate(kernel: str, diagonal: bool, inner: jax.Array, a: jax.Array, b: jax.Array, numbers: Any) -> jax.Array:
    """k(x, x') from ⟨x, x'⟩, ‖x‖² and ‖x'‖²; on the diagonal of K, where x' is x, without rounding, and plus λ."""
    gamma, weight_decay = numbers
    function = registry.resolve("kernel", kernel)
    tile = function(inner, a[:, None], b, gamma)
    if diagonal:
        tile = jnp.fill_diagonal(tile, function(a, a, a, gamma) + weight_decay, inplace=False)
    return tile


def gaussian(inner: jax.Array, a: jax.Array, b: jax.Array, gamma: jax.Array) -> jax.Array:
    """exp(-γ‖x - x'‖²)."""
    return jnp.exp(-gamma * jnp.maximum(a + b - 2 * inner, 0))


def laplacian(inner: jax.Array, a: jax.Array, b: jax.Array, gamma: jax.Array) -> jax.Array:
    """exp(-γ‖x - x'‖), with the Euclidean norm."""
    return jnp.exp(-gamma * jnp.sqrt(jnp.maximum(a + b - 2 * inner, 0)))


def linear(inner: jax.Array, a: jax.Array, b: jax.Array, gamma: jax.Array) -> jax.Array:
    """⟨x, x'⟩, without γ."""
    return jnp.copy(inner)  # jit would return the very same array, which the solver may overwrite


_product = jax.jit(lambda a, b: a @ b.T)


_add_product = jax.jit(lambda tile, a, b: tile + a @ b.T, donate_argnums=0)


_squared_norms = jax.jit(lambda x: (x * x).sum(1))


_KEPT: dict[Any, _Inner] = {}  # by what they depend on, of the last run alone and only if its features are streamed
