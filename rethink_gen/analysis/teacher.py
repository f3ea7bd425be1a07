"""What the experiments with a linear teacher have in common: curves of the error, and whether theory predicts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from rethink_gen.experiment import Study

_ERRORS = 4  # standard errors: what theory may miss


def error_curve(study: Study, x: str, relative_penalty: float, metric: str = "excess_risk") -> pd.Series:
    """A metric of the runs against one of their fields, for one penalty in units of the best one."""
    rows = study.curves[study.curves["relative_penalty"] == relative_penalty]
    return rows.set_index(x)[metric].sort_index()


def finite(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose error is finite in theory. Elsewhere a mean over draws grows with their number."""
    return frame.dropna(subset=["predicted_risk"])


def in_words(error: pd.Series, unit: str) -> str:
    return ", ".join(f"{value:.3g} with {x} {unit}" for x, value in error.items())


def agrees_with_theory(study: Study) -> tuple[bool, str]:
    """Measured and predicted errors agree within 4 standard errors, wherever the prediction is finite."""
    rows = finite(study.curves)
    off = (rows["excess_risk"] - rows["predicted_risk"]).abs() / rows["excess_risk_sem"]
    inside = off <= _ERRORS
    return bool(inside.all()), f"{inside.sum()} of {len(rows)}; they differ by {off.max():.1f} standard errors at most"
