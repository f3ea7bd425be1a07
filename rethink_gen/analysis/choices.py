"""What the choices that a paper leaves open are worth: a table of their ranges, and a figure of their effects.

Frames have the columns `network`; `cell`, which number of the paper a run is about; and `choice`, what the run does in
another way than ours, or OURS. Effects are differences of means, in percentage points.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rethink_gen import papers
from rethink_gen.analysis.style import GREY, look, styled
from rethink_gen.results.verdicts import Summary, summarize

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS = "ours"
EDGE = 8.0  # percentage points; larger effects are drawn at the edge, with their value


def means(frame: pd.DataFrame, metrics: Mapping[str, str]) -> pd.DataFrame:
    """A row for each network, cell and choice: `metric`, the fields of `Summary` over seeds, and `effect`.

    Args:
      metrics: cell → the metric that is read in it, a fraction.

    Returns:
      `effect` is the mean minus that of OURS, in percentage points; nan where a side has no finished run.
    """
    import pandas as pd

    rows = []
    for (network, cell, choice), runs in frame[frame["last"]].groupby(["network", "cell", "choice"], sort=False):
        summary = summarize(runs, metrics[str(cell)])
        key = {"network": network, "cell": cell, "choice": choice, "metric": metrics[str(cell)]}
        rows.append(key | summary._asdict())
    table = pd.DataFrame(rows, columns=["network", "cell", "choice", "metric", *Summary._fields])
    ours = table[table["choice"] == OURS].set_index(["network", "cell"])["mean"]
    before = pd.Series([ours.get((row.network, row.cell)) for row in table.itertuples()], table.index, dtype=float)
    return table.assign(effect=100 * (table["mean"] - before))


def ranges(table: pd.DataFrame, published: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """A row for each network and cell: our interval over seeds, and the choices with the lowest and the highest mean.

    Args:
      table: of `means`.
      published: (network, cell) → what the paper reports, a fraction; empty: at another scale than the paper's.

    Returns:
      A frame of text and numbers for readers, as it is to be printed.
    """
    import pandas as pd

    rows = []
    for (network, cell), choices in table.groupby(["network", "cell"], sort=False):
        ours = choices[choices["choice"] == OURS]
        others = choices[(choices["choice"] != OURS) & choices["n"].gt(0)].sort_values("mean")
        if not ours["n"].gt(0).any() or not len(others):
            continue
        mean, low, high = (100 * ours[name].iloc[0] for name in ("mean", "low", "high"))
        ends = [f"{100 * row['mean']:.2f}: {row['choice']}" for row in (others.iloc[0], others.iloc[-1])]
        least, most = 100 * choices["mean"].min(), 100 * choices["mean"].max()
        row = {
            "network": papers.label(network),
            "data": cell,
            "number, %": papers.label(ours["metric"].iloc[0]),
            "choices": len(others),
            "ours": f"{mean:.2f} [{low:.2f}, {high:.2f}]" if ours["n"].iloc[0] > 1 else f"{mean:.2f}",
            "lowest": ends[0],
            "highest": ends[1],
            "range, points": f"{most - least:.2f}",
        }
        if published:
            value = 100 * published.get((network, cell), math.nan)
            where = "inside" if least <= value <= most else "outside"
            row["paper"] = "" if math.isnan(value) else f"{value:.2f}, {where}"
        rows.append(row)
    return pd.DataFrame(rows)


@styled
def effects(table: pd.DataFrame, cells: Mapping[str, str]) -> Figure:
    """The effect of each choice, a row for each choice, a panel for each cell, a marker for each network.

    The first row has our interval over seeds. Where no run has finished there is no marker.

    Args:
      table: of `means`.
      cells: the cells to draw → what is measured in it, for the axis.
    """
    from matplotlib.figure import Figure

    shown = table[table["cell"].isin(list(cells)) & table["effect"].notna()]
    choices = [OURS, *(name for name in dict.fromkeys(shown["choice"]) if name != OURS)]
    networks = list(dict.fromkeys(shown["network"]))
    figure = Figure(figsize=(9, 1.6 + 0.3 * len(choices)), layout="constrained")
    panels = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
    for axes, (cell, words) in zip(panels, cells.items(), strict=True):
        axes.axvline(0, color=GREY, linewidth=0.8, zorder=1)
        axes.set(xlim=(-EDGE - 1, EDGE + 1), xlabel=f"{words}\ndifference to our choices, points")
        for row in shown[shown["cell"] == cell].to_dict("records"):
            offset = 0.6 * ((networks.index(row["network"]) + 0.5) / len(networks) - 0.5)
            _draw(axes, row, choices.index(row["choice"]) + offset)
    names = ["our choices: 95 % interval over seeds" if name == OURS else name for name in choices]
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    handles = [panels[0].plot([], [], look(each).marker, color=look(each).color)[0] for each in networks]
    figure.legend(handles, map(papers.label, networks), loc="outside upper center", ncols=len(networks), frameon=False)
    return figure


def _draw(axes: Axes, row: Mapping[str, Any], height: float) -> None:
    """A marker at the effect, or a number at the edge; of our choices the interval."""
    color, marker = look(row["network"])
    if row["choice"] == OURS:
        low, high = (100 * (row[name] - row["mean"]) for name in ("low", "high"))
        axes.plot([low, high], [height] * 2, color=color, linewidth=1.4)
    at = min(EDGE, max(-EDGE, row["effect"]))
    axes.plot(at, height, marker, color=color, zorder=3)
    if at != row["effect"]:
        away = {"xytext": (6 if at < 0 else -6, 0), "textcoords": "offset points", "ha": "left" if at < 0 else "right"}
        axes.annotate(
            f"{row['effect']:+.0f}".replace("-", "−"), (at, height), fontsize=7, va="center", color=color, **away
        )
