"""Tiled Cholesky and conjugate gradients: solve A x = y for a large symmetric positive definite A.

A is never in memory as a whole. A function computes each tile on or below the diagonal when a solver needs it. Cholesky
computes each tile once and stores the tile of the factor in its place: 2n² bytes in float32 and n³/3 multiplications.
Conjugate gradients compute all tiles at each step and store none, so memory is linear in n. Several devices share the
work: tile row i is on device i modulo the number of devices.
"""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve, solve_triangular

from rethink_gen.memory import LANDMARKS

_TOLERANCE = 1e-4  # ‖A x - y‖ / ‖y‖ at which conjugate gradients stop
_ITERATIONS = 1000  # most steps of conjugate gradients
# [n, K], of the precision of the run, in parts of rows; part i is on the device of tile row i
Vectors = list[jax.Array]


class Matrix(NamedTuple):
    """A symmetric matrix in tiles, which are computed on demand."""

    tile: Callable[[int, int], jax.Array]  # (i, j), j ≤ i → a new [sizes[i], sizes[j]] on the device of row i
    sizes: list[int]  # rows of each tile row
    flop: float  # floating point operations to compute one entry


class Meter:
    """Reports progress in floating point operations, and gives stop signals a chance.

    Each call registers a result that a device still computes. The call waits until at most one result per device is
    pending, so that all devices stay busy.

    Args:
      tick: called with (step, 1000, {}); it may raise to stop.
      total: floating point operations of the whole computation.
    """

    def __init__(self, tick: Callable[[int, int, dict[str, float | None]], None], total: float) -> None:
        self.tick, self.total, self.done = tick, total, 0.0
        self.pending: deque[jax.Array] = deque()

    def __call__(self, result: jax.Array, flop: float) -> jax.Array:
        self.pending.append(result)
        while len(self.pending) > len(jax.local_devices()):
            self.pending.popleft().block_until_ready()
        self.done += flop
        self.tick(min(int(1000 * self.done / self.total), 1000), 1000, {})
        return result


def put(row: int, x: Any) -> jax.Array:
    """Puts x on the device of a tile row."""
    devices = jax.local_devices()
    return jax.device_put(x, devices[row % len(devices)])


def _by_cholesky(a: Matrix, y: Vectors, meter: Meter) -> tuple[Vectors, dict[str, Any]]:
    """Solves A x = y by Cholesky; also returns a lower bound of the condition number of A."""
    count = len(a.sizes)
    factor = _cholesky(a, count, meter)
    x: Vectors = []
    for i in range(count):
        rest = y[i] - sum(factor[i, k] @ put(i, x[k]) for k in range(i))
        x.append(solve_triangular(factor[i, i], rest, lower=True))
    for i in reversed(range(count)):
        rest = x[i] - sum(put(i, factor[k, i].T @ put(k, x[k])) for k in range(i + 1, count))
        x[i] = meter(solve_triangular(factor[i, i], rest, trans=1, lower=True), 0)
    pivots = np.concatenate([np.diagonal(factor[i, i]) for i in range(count)])
    return x, {"condition_at_least": float((pivots.max() / pivots.min()) ** 2)}


def _cholesky(a: Matrix, columns: int, meter: Meter) -> dict[tuple[int, int], jax.Array]:
    """The tiles of the first `columns` tile columns of the lower triangular L with L Lᵀ = A."""
    factor: dict[tuple[int, int], jax.Array] = {}
    for j in range(columns):
        row = [[put(device, factor[j, k]) for k in range(j)] for device in range(len(jax.local_devices()))]
        for i in range(j, len(a.sizes)):
            x = a.tile(i, j)
            for k in range(j):
                x = _subtract_product(x, factor[i, k], row[i % len(row)][k])
            factor[i, j] = jnp.linalg.cholesky(x) if i == j else _solve_right(put(i, factor[j, j]), x)
            meter(factor[i, j], x.size * (a.flop + (2 * j + 1) * a.sizes[0]))
        if not jnp.isfinite(factor[j, j][-1, -1]):
            raise singular(a, "a pivot is not positive")
    return factor


def _by_conjugate_gradients(a: Matrix, y: Vectors, meter: Meter) -> tuple[Vectors, dict[str, Any]]:
    """Solves A x = y by preconditioned conjugate gradients, to _TOLERANCE; also returns the number of steps.

    All columns of y are solved at the same time. The preconditioner is F Fᵀ + μI. F are the first columns of the
    Cholesky factor, so F Fᵀ is the Nyström approximation with the first rows as landmarks. μ is the mean of the
    diagonal of A - F Fᵀ.
    """
    ends = np.cumsum(a.sizes)

    def split(v: jax.Array) -> Vectors:
        return [put(i, part) for i, part in enumerate(jnp.split(v, ends[:-1]))]

    def join(parts: Vectors) -> jax.Array:
        return jnp.concatenate([put(0, part) for part in parts])

    columns = min(LANDMARKS, len(a.sizes))
    factor = _cholesky(a, columns, meter)

    def nothing(i: int, k: int) -> jax.Array:
        return put(i, jnp.zeros((a.sizes[i], a.sizes[k])))

    rows = ([factor.get((i, k), nothing(i, k)) for k in range(columns)] for i in range(len(a.sizes)))
    f = join([jnp.concatenate(row, 1) for row in rows])
    trace = sum(float(jnp.trace(a.tile(i, i))) for i in range(len(a.sizes)))
    mu = max(trace - float((f * f).sum()), 1e-6 * trace) / len(f)
    inner = jnp.linalg.cholesky(f.T @ f + mu * jnp.eye(f.shape[1]))

    def precondition(r: jax.Array) -> jax.Array:
        return (r - f @ cho_solve((inner, True), f.T @ r)) / mu

    start = join(y)
    goal = _TOLERANCE * float(jnp.linalg.norm(start))
    steps = _conjugate_gradients(lambda p: join(multiply(a, split(p), meter)), precondition, start)
    for iteration, (x, r) in zip(range(1, _ITERATIONS + 1), steps, strict=False):
        if float(jnp.linalg.norm(r)) <= goal:
            return split(x), {"iterations": iteration}
    raise singular(a, f"conjugate gradients have not converged after {_ITERATIONS} steps")


def conjugate_gradients(a: jax.Array, y: jax.Array) -> Iterator[tuple[jax.Array, jax.Array]]:
    """The iterates of plain conjugate gradients for A x = y from zero, without end.

    Args:
      a: [n, n], in memory as a whole.
      y: [n, K]; each column has steps of its own.

    Yields:
      x and the residual y - A x, [n, K], after each step.
    """
    return _conjugate_gradients(lambda p: a @ p, lambda r: r, y)


def _conjugate_gradients(
    times: Callable[[jax.Array], jax.Array], precondition: Callable[[jax.Array], jax.Array], y: jax.Array
) -> Iterator[tuple[jax.Array, jax.Array]]:
    """`conjugate_gradients` of a matrix that is known by its products, and with a preconditioner."""

    def ratio(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)  # b is 0 for a column of zeros, which needs no step

    x, r = jnp.zeros_like(y), y
    p = z = precondition(r)
    rz = (r * z).sum(0)
    while True:
        q = times(p)
        step = ratio(rz, (p * q).sum(0))
        x, r = x + step * p, r - step * q
        yield x, r
        z = precondition(r)
        rz, before = (r * z).sum(0), rz
        p = z + ratio(rz, before) * p


def multiply(a: Matrix, v: Vectors, meter: Meter) -> Vectors:
    """The product A v. Each tile is used twice: below the diagonal and, transposed, above it."""
    out = [jnp.zeros_like(part) for part in v]
    for i in range(len(v)):
        for j in range(i + 1):
            here, there = _both_products(a.tile(i, j), put(i, v[j]), v[i])
            out[i] = out[i] + here
            if j < i:
                out[j] = out[j] + put(j, there)
        meter(out[i], a.flop * a.sizes[i] * sum(a.sizes[: i + 1]))
    return out


def singular(a: Matrix, reason: str) -> np.linalg.LinAlgError:
    """The error for a matrix that is singular in the precision of the run. It fails one run; other runs continue."""
    precision = jnp.result_type(float).name
    wider = "precision=float64, " if precision == "float32" else ""
    way_out = f"set {wider}a weight_decay, a smaller train_size, or another kernel or gamma"
    return np.linalg.LinAlgError(
        f"the kernel matrix of {sum(a.sizes)} examples is singular in {precision}: {reason}; {way_out}"
    )


@partial(jax.jit, donate_argnums=0)
def _subtract_product(tile: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
    return tile - a @ b.T


@jax.jit
def _both_products(tile: jax.Array, right: jax.Array, left: jax.Array) -> tuple[jax.Array, jax.Array]:
    return tile @ right, tile.T @ left


@jax.jit
def _solve_right(factor: jax.Array, tile: jax.Array) -> jax.Array:
    return solve_triangular(factor, tile.T, lower=True).T


SOLVERS: dict[str, Callable[[Matrix, Vectors, Meter], tuple[Vectors, dict[str, Any]]]] = {
    "cholesky": _by_cholesky,
    "conjugate_gradients": _by_conjugate_gradients,
}
