"""Draw lines and bands into a panel, and name them beside it. `figures` decides what is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rethink_gen.analysis.style import GREY, Look, dark
from rethink_gen.results.verdicts import is_fraction

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


DASHES, DOTS, POINTS = (0, (3, 1.5)), (0, (1, 1)), "none"  # how a line is drawn, if not in full
NAME_HEIGHT = 0.065  # between the names beside a panel, as a fraction of its height


class Line(NamedTuple):
    """One line of a figure: at each x the `mean`, `min` and `max` of its seeds, and whether the mean is a `bound`."""

    name: str
    look: Look
    points: pd.DataFrame
    dashes: Any = "-"
    marked: bool = True


def draw_lines(axes: Axes, lines: list[Line], metric: str) -> None:
    """Draws lines and bands; on a linear axis from zero on, accuracies and errors to one."""
    for i, (name, (color, marker), points, dashes, marked) in enumerate(lines):
        step = 1 if dashes == POINTS else max(1, len(points) // 8)
        first = i * step // len(lines)  # staggered, so that lines on top of each other both show
        sure, bounds = points[["mean", "min", "max"]].mask(points["bound"]), points["mean"][points["bound"]]
        style: Any = {
            "label": name,
            "color": color,
            "marker": marker if marked else "none",
            "markerfacecolor": _face(color, dashes),
        }
        axes.plot(sure.index, sure["mean"], linestyle=dashes, markevery=(first, step), zorder=3, **style)
        axes.fill_between(
            sure.index, sure["min"], sure["max"], color=color, alpha=0.18, linewidth=0, zorder=2, label=name
        )
        axes.plot(bounds.index, bounds, "^", color=color, fillstyle="none", markersize=7, zorder=4, label=name)
    if axes.get_yscale() == "linear":
        axes.set_ylim(0, 1.03 if is_fraction(metric) else None)


def name_lines(axes: Axes, lines: list[Line]) -> None:
    """Names stand right of a panel, in the order of the lines, as near to their ends as other names allow.

    Lines that end within a name's height of each other are in the order of their means over x.
    """
    import numpy as np

    in_panel = axes.transScale + axes.transLimits  # data → fractions of the panel
    ends = []  # all in such fractions
    first = {line.name: line for line in reversed(lines)}  # a theory has the name of what it predicts
    for line in (line for line in lines if first[line.name] is line):
        points = line.points["mean"].dropna()
        if len(points):
            x, y = in_panel.transform(np.column_stack([points.index, points])).clip(0, 1).T
            mean = np.interp(np.linspace(0, 1, 200), x, y).mean()
            ends.append((round(y[-1] / NAME_HEIGHT), mean, x[-1], y[-1], line))
    ends.sort(key=lambda end: end[:2])
    steps = NAME_HEIGHT * np.arange(len(ends))
    places = np.maximum.accumulate([end[3] - step for end, step in zip(ends, steps, strict=True)]) + steps  # apart
    places = np.minimum(places, 1 - steps[::-1])  # none above the panel
    for (_, _, x, y, line), place in zip(ends, places, strict=True):
        free = {"transform": axes.transAxes, "clip_on": False, "label": line.name}
        face = _face(line.look.color, line.dashes)
        axes.plot([x, 1, 1.02, 1.03], [y, y, place, place], color=line.look.color, linewidth=0.6, zorder=1, **free)
        axes.plot(1.035, place, line.look.marker, color=line.look.color, markerfacecolor=face, **free)
        axes.text(1.055, place, line.name, color=dark(line.look.color), va="center_baseline", parse_math=False, **free)


def mark_threshold(axes: Axes, x: float, name: str = "interpolation threshold") -> None:
    """Marks a threshold by an upright line, named above the panel."""
    axes.axvline(x, color=GREY, linewidth=1, linestyle=DASHES, zorder=1)
    place: dict[str, Any] = {"va": "bottom", "ha": "center", "fontsize": 7, "color": GREY}
    axes.text(x, 1.01, name, transform=axes.get_xaxis_transform(), **place)


def _face(color: str, dashes: Any) -> str:
    """The inside of a marker: white on dashed and dotted lines."""
    return color if dashes in ("-", POINTS) else "white"
