"""A linear student of a linear teacher: measured and predicted generalization error, the smallest double descent.

Inputs x ~ N(0, I) of D values; labels y = w·x + noise, with a teacher w of norm 1 in a random direction. The student
sees the first p values of n examples and solves min ‖Xv - y‖² + λ‖v‖². Its error is the mean of (w·x - v·x)² over new
inputs without noise, which is ‖w - v‖² exactly, so there is no test set. Guessing zero has error 1.

What the student does not see, a share 1 - p/D of the teacher, adds to the noise: together they have the variance
s² = noise² + 1 - p/D. The best penalty is λ* = D s², whatever n. The path of a run is λ = λ*, 0.1 λ*, 0.01 λ* and 0,
which is the solution of least norm.

Theory, with γ = p/n and q = p/D, to which 1 - p/D is added for what is not seen:

* least norm, p ≤ n - 2: s² p / (n - p - 1); p ≥ n + 2: q (1 - n/p) + s² n / (p - n - 1). These are exact means over
  Gaussian inputs. At p = n - 1, n and n + 1 the mean is infinite: the peak.
* ridge, in the limit of large n and p: q l² m' + s² γ (m - l m') with l = λ/n, where m and m' are the Stieltjes
  transform of the Marchenko-Pastur law at -l and its derivative.

References:
  Advani and Saxe 2017 (published in 2020), "High-dimensional dynamics of generalization error in neural networks":
  teacher, student and the peak at p = n. Belkin, Hsu and Xu 2020, "Two models of double descent for weak features":
  the exact means. Dobriban and Wager 2018; Hastie et al. 2022: ridge.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from rethink_gen.results.result import Curves
from rethink_gen.runs import TeacherRun

PENALTIES = (1.0, 0.1, 0.01, 0.0)  # in units of the best one
_SMALLEST = 1e-10  # singular values below this, relative to the largest, are zero
Tick = Callable[[int, int, dict[str, float | None]], None]  # (step, steps, metrics) of the progress


def solve(run: TeacherRun, dataset: None, tick: Tick) -> tuple[Curves, dict[str, Any]]:
    """Solves all penalties on every draw, each draw by one singular value decomposition.

    Args:
      run: sizes, noise and the number of draws.
      dataset: None; the data are drawn from the seed.
      tick: called with the progress; it may raise to stop.

    Returns:
      Curves with one row per penalty, and facts for provenance:

      * relative_penalty: λ / λ*;
      * excess_risk: mean error over the draws; excess_risk_sem: its standard error;
      * predicted_risk: the error in theory; NaN where it is infinite;
      * train_loss: mean of (v·x - y)² over the examples; weight_norm: mean of ‖v‖.
    """
    n, d = run.train_size or 0, run.dimension
    p = min(run.num_features or d, d)
    best = _best_penalty(p, d, run.noise)
    found = []
    for draw in range(run.draws):
        rng = np.random.default_rng([run.seed, draw])
        teacher = rng.standard_normal(d)
        teacher /= np.linalg.norm(teacher)
        x = rng.standard_normal((n, d))
        y = x @ teacher + run.noise * rng.standard_normal(n)
        students = _ridge_path(x[:, :p], y, [best * penalty for penalty in PENALTIES])
        errors = np.square(students - teacher[:p]).sum(1) + np.square(teacher[p:]).sum()
        residuals = np.square(students @ x[:, :p].T - y).mean(1)
        found.append((errors, residuals, np.linalg.norm(students, axis=1)))
        tick(draw + 1, run.draws, {"excess_risk": float(errors[-1])})
    errors, residuals, norms = np.array(found).transpose(1, 0, 2)  # each [draws, penalties]
    columns = {
        "epoch": np.zeros(len(PENALTIES)),
        "relative_penalty": np.array(PENALTIES),
        "train_loss": residuals.mean(0),
        "excess_risk": errors.mean(0),
        "excess_risk_sem": errors.std(0, ddof=1) / math.sqrt(run.draws),
        "predicted_risk": np.array([predicted_risk(n, p, d, run.noise, penalty) for penalty in PENALTIES]),
        "weight_norm": norms.mean(0),
    }
    return {name: [_known(value) for value in values] for name, values in columns.items()}, {"best_penalty": best}


def _best_penalty(p: int, d: int, noise: float) -> float:
    """λ*: the variance of noise and unseen values, divided by that of a weight of the teacher, 1/D."""
    return d * (noise**2 + 1 - p / d)


def predicted_risk(n: int, p: int, d: int, noise: float, penalty: float) -> float:
    """The error in theory for a penalty in units of the best one; infinite at the peak of least norm."""
    seen, unseen = p / d, 1 - p / d
    variance = noise**2 + unseen
    level = penalty * _best_penalty(p, d, noise) / n
    if level > 0:
        m, slope = _marchenko_pastur(p / n, level)
        return seen * level**2 * slope + variance * p / n * (m - level * slope) + unseen
    if p <= n - 2:
        return variance * p / (n - p - 1) + unseen
    if p >= n + 2:
        return seen * (1 - n / p) + variance * n / (p - n - 1) + unseen
    return math.inf


def _marchenko_pastur(gamma: float, level: float) -> tuple[float, float]:
    """Means of 1/(s + level) and 1/(s + level)² over the eigenvalues s of XᵀX/n in the limit p/n → gamma."""
    b = 1 - gamma + level
    root = math.sqrt(b * b + 4 * gamma * level)
    m = 2 / (root + b) if b > 0 else (root - b) / (2 * gamma * level)  # solves γ l m² + b m = 1, without cancellation
    return m, (gamma * m * m + m) / root


def _ridge_path(x: np.ndarray, y: np.ndarray, penalties: list[float]) -> np.ndarray:
    """float64[penalties, p]: min ‖Xv - y‖² + λ‖v‖² for each λ; for 0 the solution of least norm."""
    left, singular, right = np.linalg.svd(x, full_matrices=False)
    kept = singular > _SMALLEST * singular[0]
    left, singular, right = left[:, kept], singular[kept], right[kept]
    shrunk = [singular / (singular**2 + penalty) * (left.T @ y) for penalty in penalties]
    return np.array(shrunk) @ right


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
