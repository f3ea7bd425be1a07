"""True and random labels side by side, for many families of networks: a row, and a point, for each family."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rethink_gen.analysis.line_drawing import DASHES
from rethink_gen.analysis.style import GREY, dark, look, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUE, RANDOM = "true_labels", "random_labels"
# What a pair of runs shows, in the order of a table.
METRICS = (
    *(f"{TRUE}_epochs_to_fit", f"{RANDOM}_epochs_to_fit", "times_as_long"),
    *(f"{RANDOM}_train_accuracy", f"{TRUE}_test_accuracy", f"{RANDOM}_test_accuracy"),
)
_X, _Y = (f"{name}_epochs_to_fit" for name in (TRUE, RANDOM))
_PLACES = tuple((x, y) for y in (0, 1, -1, 2, -2, 3, -3) for x in (1, -1))  # of a name at its point, nearest first


def pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Joins each run on random labels with that of the same model and seed on true labels, which must be there too.

    Args:
      frame: rows of `frames.frame`.

    Returns:
      The last rows of the runs on random labels, with METRICS and `parameters`, the number of parameters as text.
    """
    ends = frame[frame["last"] & (frame["status"] == "finished")]
    keys, metrics = ["model", "seed"], ["epochs_to_fit", "train_accuracy", "test_accuracy"]
    true, random = (ends[ends["corruption"] == name] for name in (TRUE, RANDOM))
    both = random.merge(true[[*keys, *metrics]], on=keys, suffixes=("", " true"))
    for metric in metrics:
        both[f"{RANDOM}_{metric}"], both[f"{TRUE}_{metric}"] = both[metric], both[f"{metric} true"]
    both["times_as_long"] = both["epochs_to_fit"] / both["epochs_to_fit true"]
    return both.assign(parameters=[f"{n:,.0f}" if n == n else "" for n in both["num_params"]])


@styled
def scatter(both: pd.DataFrame) -> Figure:
    """Epochs to fit random labels against epochs to fit true ones, a point for each family: mean and range over seeds.

    A family of which a run has not fitted is left out, and the small print names it.

    Args:
      both: from `pairs`, with the column `family`.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.6, 5.4), layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel="epochs to fit true labels", ylabel="epochs to fit random labels")
    for side in (axes.xaxis, axes.yaxis):
        side.set_major_formatter("{x:,g}")
        side.set_minor_formatter("{x:,g}")
        side.set_tick_params(which="both", labelsize=8)
    unfitted = list(both["family"][both[[_X, _Y]].isna().any(axis=1)].unique())
    fitted = both[~both["family"].isin(unfitted)].groupby("family", sort=False)[[_X, _Y]]
    points = fitted.agg(["mean", "min", "max"])
    for name, row in points.iterrows():
        _draw_point(axes, str(name), row)
    if len(points):
        _draw_multiples(axes, float(points.min().min()) / 1.2, 1.35 * float(points.max().max()))
        _name_points(figure, axes, [(str(name), row[_X, "mean"], row[_Y, "mean"]) for name, row in points.iterrows()])
    prints = _seeds(both) + (f" Not fitted: {', '.join(unfitted)}." if unfitted else "")
    figure.supxlabel(prints, x=0.99, ha="right", fontsize=7, color=GREY, parse_math=False)
    return figure


def _draw_point(axes: Axes, name: str, row: Any) -> None:
    color, marker = look(name)
    bars = [[[row[each, "mean"] - row[each, "min"]], [row[each, "max"] - row[each, "mean"]]] for each in (_X, _Y)]
    at = (row[_X, "mean"], row[_Y, "mean"])
    axes.errorbar(*at, xerr=bars[0], yerr=bars[1], fmt="none", ecolor=color, elinewidth=0.7, alpha=0.6)
    axes.plot(*at, marker, color=color, label=name, linestyle="none", zorder=3)


def _draw_multiples(axes: Axes, low: float, high: float) -> None:
    """The diagonal, and lines for half, two and four times as long, from the lowest to the highest value of both axes.

    Each is named at its upper end.
    """
    axes.set(xlim=(low, high), ylim=(low, high))
    for times, words in ((0.5, "half"), (1, "as long"), (2, "twice"), (4, "4 times")):
        axes.plot([low, high], [times * low, times * high], color=GREY, linewidth=0.7, zorder=1, linestyle=DASHES)
        x = high / max(times, 1) / 1.02
        if x > 1.1 * low:
            axes.text(x, times * x, words, color=GREY, fontsize=7, ha="right", va="bottom" if times < 1 else "top")


def _seeds(both: pd.DataFrame) -> str:
    counts = sorted(set(both.groupby("family")["seed"].nunique()))
    if not counts:
        return "No runs yet."
    words = "–".join(str(each) for each in dict.fromkeys((counts[0], counts[-1])))
    return "One seed." if words == "1" else f"Mean and range over {words} seeds."


def _name_points(figure: Any, axes: Axes, points: list[tuple[str, float, float]]) -> None:
    """Names stand beside their points, at the nearest place where they cover neither a point nor another name."""
    figure.draw_without_rendering()  # constrained layout decides where points are
    scale = 72 / figure.dpi
    at = [tuple(scale * axes.transData.transform((x, y))) for _, x, y in points]  # in points
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    for (name, across, up), (x, y) in zip(points, at, strict=True):
        width, height = 4.1 * len(name), 8.0
        boxes = []
        for side, row in _PLACES:
            left = x + 6 if side > 0 else x - 6 - width
            bottom = y - height / 2 + row * height
            boxes.append((left, bottom, left + width, bottom + height))
        box = min(boxes, key=lambda box: sum(_overlap(box, other) for other in taken))
        taken.append(box)
        axes.annotate(
            name,
            (across, up),
            xytext=(box[0] - x, (box[1] + box[3]) / 2 - y),
            textcoords="offset points",
            fontsize=7,
            color=dark(look(name).color),
            va="center",
            parse_math=False,
        )


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """The area that two rectangles (left, bottom, right, top) share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
