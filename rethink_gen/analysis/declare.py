"""Tables and figures as declarations: each function returns a function of a study, for `Experiment(table, figure)`.

    table=by("model", "corruption_level", metrics=["steps_to_fit", "test_error"]),
    figure=lines(x="corruption_level", y="test_error", hue="model", chance=0.9),

`derive` adds columns: a function that takes a frame, one row per run or per epoch, and returns it with more columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rethink_gen.analysis import figures, tables
from rethink_gen.errors import UsageError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rethink_gen.experiment import Study

Derive = Callable[["pd.DataFrame"], "pd.DataFrame"]


def by(
    *keys: str, metrics: Sequence[str], derive: Derive | None = None, path: bool = False
) -> Callable[[Study], pd.DataFrame]:
    """A table with a row for each setting: mean and interval of the metrics over seeds.

    Args:
      keys: the columns that tell the settings apart, such as "model", "corruption_level".
      path: of runs that solve a path of penalties, each row is a setting, and not the last row alone.
    """

    def table(study: Study) -> pd.DataFrame:
        frame = study.curves.assign(last=True) if path else study.runs
        return tables.mean_and_interval(_derived(frame, derive), keys, metrics)

    return table


def beside(item: str, *, metrics: Sequence[str] | None = None, paper: str = "") -> Callable[[Study], pd.DataFrame]:
    """A table of our numbers beside those of the paper, with verdicts.

    Args:
      item: what the paper calls it, such as "table1"; see `rethink_gen.papers`.
      metrics: the metrics to show; None: all that the item has.
      paper: the folder name of the paper; empty: the paper of the experiment.
    """

    def table(study: Study) -> pd.DataFrame:
        name = paper or study.experiment.paper
        if not name:
            raise UsageError(f"beside({item!r}) needs a paper, such as paper='zhang2017': the experiment has none")
        return tables.beside_paper(study.runs, item, metrics=metrics, paper=name)

    return table


def lines(
    *,
    x: str,
    y: str | Sequence[str],
    hue: str,
    where: Mapping[str, Any] | None = None,
    derive: Derive | None = None,
    path: bool = False,
    **options: Any,
) -> Callable[[Study], Figure]:
    """A figure of metrics over epochs or steps, or of whole runs against one of their fields.

    Args:
      x: "epoch", "step", or a field of the runs, such as "corruption_level".
      y: one metric or several, a panel each.
      hue: the column that has a line for each of its values.
      where: column → value, or list of values; other rows are not drawn.
      path: of runs that solve a path of penalties, each row is drawn, and not the last row alone.
      options: of `figures.curves` (dashed, best, log) or `figures.against` (relative_to, chance, threshold, theory,
        beside, top, log).
    """
    draw = figures.curves if x in ("epoch", "step") else figures.against

    def figure(study: Study) -> Figure:
        frame = _derived(study.curves.assign(last=True) if path else study.curves, derive)
        for column, values in (where or {}).items():
            frame = frame[frame[column].isin(values if isinstance(values, list) else [values])]
        return draw(frame, x, y, hue=hue, **options)

    return figure


def dots(table: Callable[[Study], pd.DataFrame]) -> Callable[[Study], Figure]:
    """A figure of a table of `beside`: ours a dot, the paper's an upright bar."""

    def figure(study: Study) -> Figure:
        return figures.dots(table(study))

    return figure


def _derived(frame: pd.DataFrame, derive: Derive | None) -> pd.DataFrame:
    return derive(frame) if derive and len(frame) else frame
