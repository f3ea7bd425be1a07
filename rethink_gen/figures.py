"""Tidy frame → figure. Pure functions: the same frame gives the same bytes, whatever the user's matplotlib settings.

One look for all: a name has its color and marker in every figure (`LOOKS`), lines are named where they run, markers
tell them apart in grey, and a line of small print says how many seeds stand behind a mean and which runs are not drawn.
"""

from __future__ import annotations

import functools
import hashlib
import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rethink_gen import paper, results
from rethink_gen.errors import UsageError, unknown
from rethink_gen.labels import Label, label_lines
from rethink_gen.statistics import differing, is_fraction, same_scale, summarize

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Band = Literal["range", "interval"]


class Look(NamedTuple):
    color: str
    marker: str


class Series(NamedTuple):
    """One line of a figure. `low` and `high` bound its band."""

    label: str
    look: Look
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    dash: str = "-"


def styled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, under matplotlib's defaults and our style instead of the user's settings."""

    @functools.wraps(function)
    def under_style(*args: Any, **kwargs: Any) -> Any:
        import matplotlib.style

        with matplotlib.style.context(["default", STYLE]):
            return function(*args, **kwargs)

    return under_style


@styled
def curves(
    frame: pd.DataFrame,
    x: str,
    y: str | Sequence[str],
    *,
    hue: str,
    dashed: str | None = None,
    band: Band = "range",
    xlim: tuple[float, float] | None = None,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """Metrics over epochs or steps: a panel per metric, a line per value of `hue`, the mean over seeds in its band.

    A run that stopped before the others of its line is held at its last value; diverged runs are counted, not drawn.

    Args:
      dashed: a second metric for the same panels, dashed: the training accuracy beside the test accuracy.
      band: `range` from the least to the greatest seed, or the 95 % `interval` of the mean.

    Raises:
      UsageError: the runs of a line differ in more than their seed.
    """
    metrics = [y] if isinstance(y, str) else list(y)
    figure, panels = _panels(len(metrics))
    thousands = x == "step" and len(frame) > 0 and frame["step"].max() >= 2000
    labels = []
    for axes, metric in zip(panels, metrics, strict=True):
        lines = []
        for name, group in _groups(frame, hue):
            for shown, dash in ((metric, "-"), *([(dashed, (0, (3, 1.5)))] if dashed else [])):
                text = name if dashed is None else f"{paper.label(name)}, {shown.partition('_')[0]}"
                line = _over_time(group, x, shown, band, paper.label(text), _look(frame, hue, name), dash)
                lines += [line._replace(x=line.x / 1000) if thousands else line] if len(line.x) else []
        common = metric.partition("_")[2] if dashed else metric
        axes.set(xlabel="thousand steps" if thousands else _axis(x), ylabel=_axis(common))
        labels.append(_draw_lines(axes, lines))
        _limits(axes, metric, xlim, ylim)
    label_lines(figure, panels, labels)
    return _small_print(figure, [*_seeds(frame, hue, band), *_diverged(frame)])


@styled
def against(
    frame: pd.DataFrame,
    x: str,
    y: str,
    *,
    hue: str = "model",
    relative_to: float | None = None,
    chance: float | None = None,
    item: str | None = None,
    band: Band = "range",
) -> Figure:
    """A metric of whole runs against one of their fields, a line per value of `hue`: time to fit over corruption level.

    A run that never fitted is an open triangle at its length, which is a lower bound, and interrupts its line.

    Args:
      relative_to: divides each line by its mean at this x; a line with a run that never fitted there is left out.
      chance: where guessing stands, as a dashed line.
      item: draws the paper's values of this item as rings, if the runs are at its scale.
      band: as in `curves`.
    """
    figure, (axes,) = _panels(1)
    lines, prints, censored = [], [], False
    for name, group in _groups(frame, hue):
        look, label = _look(frame, hue, name), paper.label(name)
        unit = _baseline(group, x, y, relative_to) if relative_to is not None else 1.0
        if unit is None:
            prints.append(f"{label} is not shown: it never fitted at {relative_to:g}")
            continue
        line, alone, bounds = _over_field(group, x, y, band, label, look, unit)
        lines.append(line)
        axes.plot(*alone, look.marker, color=look.color, markersize=3.5)
        axes.plot(*bounds, "^", color=look.color, fillstyle="none", markersize=7, markeredgewidth=1.2, zorder=4)
        censored |= len(bounds[0]) > 0
    relation = "" if relative_to is None else f", relative to {_axis(x)} {relative_to:g}"
    axes.set(xlabel=_axis(x), ylabel=_axis(y) + relation)
    labels = _draw_lines(axes, lines, every_marker=True)
    prints += ["triangles: not fitted when the run ended"] * censored
    if chance is not None:
        axes.axhline(chance, color=GREY, linewidth=1, dashes=(4, 2), zorder=1)
        there = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "va": "bottom"}
        axes.annotate("chance", (0, chance), (4, 2), color=GREY, **there)
    if item is not None and len(frame):
        prints += _rings(axes, frame, x, y, hue, item)
    _limits(axes, y, None, None)
    label_lines(figure, [axes], [labels])
    return _small_print(figure, [*_seeds(frame, hue, band), *prints, *_diverged(frame)])


@styled
def dots(table: pd.DataFrame) -> Figure:
    """A table of `tables.beside_paper`: a row per setting, a panel per metric, ours a dot, the paper's an upright bar.

    Where each setting has one metric of its own, one panel shows all. A panel of high values begins near the lowest.
    """
    keys = list(table.columns[: table.columns.get_loc("metric")])
    metrics = list(dict.fromkeys(table["metric"]))
    panel_of = table["metric"]
    if len(metrics) > 1 and not table.duplicated(keys).any():
        keys, metrics = [*keys, "metric"], [metrics[0].partition("_")[2]]
        panel_of = panel_of.map(lambda _: metrics[0])
    rows = list(zip(panel_of, table[keys].itertuples(index=False, name=None), table.to_dict("records"), strict=True))
    heights, ticks = _rows(keys, rows)
    figure, panels = _panels(len(metrics), height=0.9 + 0.21 * max(6, len(ticks)))
    for axes, metric in zip(panels, metrics, strict=True):
        shown = [(heights[setting], row) for panel, setting, row in rows if panel == metric]
        axes.set(xlabel=f"{_axis(metric)}, %", xlim=_zoom([row for _, row in shown]))
        axes.set(ylim=(max(ticks) + 0.7, min(ticks) - 0.7))
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.tick_params(axis="y", length=0)
        axes.set_yticks(
            list(ticks), [tick.text for tick in ticks.values()] if axes is panels[0] else [], parse_math=False
        )
        for height, row in shown:
            _draw_dot(axes, height, row)
    for text, tick in zip(panels[0].get_yticklabels(), ticks.values(), strict=True):
        text.set(fontweight="bold" if tick.heading else "normal", color="#000000" if tick.run else "#999999")
    kinds = set(table["interval"])
    bars = ["over seeds"] * ("seeds" in kinds) + ["over test images for a single seed"] * ("test images" in kinds)
    prints = ["in color: ours", "black bars: the paper", *([f"95 % intervals {', '.join(bars)}"] if bars else [])]
    diverged = int(table.drop_duplicates(keys)["diverged"].sum())
    return _small_print(figure, prints + [_count(diverged)] * bool(diverged))


def save(figure: Figure, path: Path | str) -> Path:
    """Makes `path` hold the figure as png, svg or pdf, by its suffix; the same figure gives the same bytes."""
    path = Path(path)
    kind = path.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise unknown("kind of figure", path.suffix, [f".{kind}" for kind in KINDS])
    results.write(path, draw(figure, kind))
    return path


@styled
def draw(figure: Figure, kind: str) -> bytes:
    """A figure as the content of a png, svg or pdf file: the same bytes each time."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "rethink-gen"}):
        figure.savefig(buffer, format=kind, metadata=KINDS[kind])
    return buffer.getvalue()


def _panels(count: int, height: float = 3.7) -> tuple[Figure, list[Axes]]:
    """An empty figure; not through pyplot, which takes seconds to import and keeps every figure alive."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.2 if count == 1 else 8.6, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, count, squeeze=False)[0])
    for axis in (axis for axes in panels for axis in (axes.xaxis, axes.yaxis)):
        axis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    return figure, panels


def _groups(frame: pd.DataFrame, hue: str) -> list[tuple[Any, pd.DataFrame]]:
    """The lines of a figure, in the order of `LOOKS`, then by name."""
    if not len(frame):
        return []
    if hue not in frame:
        raise unknown("column", hue, frame.columns)
    known = {name: i for i, name in enumerate(LOOKS)}
    groups = list(frame.groupby(hue, dropna=False))
    return sorted(groups, key=lambda pair: known.get(pair[0], len(known)))


def _over_time(group: pd.DataFrame, x: str, y: str, band: Band, label: str, look: Look, dash: Any) -> Series:
    """The mean over seeds at each x that all of them have reached or passed."""
    _check_replicates(group)
    finished = group[group["status"] == "finished"]
    by_run = finished.pivot_table(index=x, columns="run", values=y, observed=True).ffill().dropna().T
    means = by_run.mean()
    low, high = _bounds(by_run, band)
    return Series(label, look, means.index.to_numpy(float), means.to_numpy(float), low, high, dash)


def _bounds(by_run: pd.DataFrame, band: Band) -> tuple[np.ndarray, np.ndarray]:
    """The band around the mean of the rows, one row per seed."""
    import numpy as np
    from scipy.special import stdtrit

    n, mean = len(by_run), by_run.mean().to_numpy(float)
    if n < 2:
        return mean, mean
    if band == "range":
        return by_run.min().to_numpy(float), by_run.max().to_numpy(float)
    half = stdtrit(n - 1, 0.975) * by_run.std().to_numpy(float) / np.sqrt(n)
    return mean - half, mean + half


def _check_replicates(group: pd.DataFrame) -> None:
    if fields := differing(group):
        raise UsageError(f"runs that differ in {', '.join(fields)} have no common mean; give one as `hue`, or select")


def _over_field(
    group: pd.DataFrame, x: str, y: str, band: Band, label: str, look: Look, unit: float
) -> tuple[Series, list[Any], list[Any]]:
    """(the mean over seeds, NaN at an x where a run has no value; the runs there that have one; bounds of others)."""
    import numpy as np

    bound = {"steps_to_fit": "step", "epochs_to_fit": "epoch"}.get(y)
    points: list[tuple[float, ...]] = []
    alone: list[list[float]] = [[], []]
    bounds: list[list[float]] = [[], []]
    for at, runs in group[group["last"] & group["status"].eq("finished")].groupby(x):
        _check_replicates(runs)
        values = runs[["run", y]].rename(columns={y: at}).set_index("run")
        low, high = _bounds(values, band)
        whole = values[at].notna().all()
        points.append((at, values[at].mean(), low[0], high[0]) if whole else (at, np.nan, np.nan, np.nan))
        for value, end in zip(runs[y], runs[bound] if bound else runs[y], strict=True):
            here = alone if value == value else bounds
            if not whole and (bound or here is alone):
                here[0].append(at)
                here[1].append((value if here is alone else end) / unit)
    at, mean, low, high = np.array(points, float).reshape(-1, 4).T
    return Series(label, look, at, mean / unit, low / unit, high / unit), alone, bounds


def _baseline(group: pd.DataFrame, x: str, y: str, at: float) -> float | None:
    """The mean of a metric at one x, or None where it has none, or a run never reached it."""
    there = group[group[x].eq(at)]
    ours = summarize(there, y)
    return ours.mean if ours.n and not ours.censored else None


def _draw_lines(axes: Axes, lines: list[Series], every_marker: bool = False) -> list[Label]:
    """Draws lines and bands; what each line is to be called."""
    labels = []
    for i, line in enumerate(lines):
        n = len(line.x)
        step = 1 if every_marker or n <= 12 else max(1, n // 8)
        first = i * step // max(1, len(lines))  # staggered, so that lines on top of each other both show
        color, face = line.look.color, line.look.color if line.dash == "-" else "white"
        (handle,) = axes.plot(line.x, line.y, color=color, linestyle=line.dash, markerfacecolor=face, zorder=3)
        handle.set(marker=line.look.marker, markevery=(first, step))
        labels.append(Label(line.label, _dark(color), handle))
        if (line.low < line.high).any():
            axes.fill_between(line.x, line.low, line.high, color=line.look.color, alpha=0.18, linewidth=0, zorder=2)
    return labels


def _limits(axes: Axes, metric: str, xlim: tuple[float, float] | None, ylim: tuple[float, float] | None) -> None:
    """Zero is on every vertical axis; accuracies and errors run to one."""
    if xlim:
        axes.set_xlim(xlim)
    if ylim:
        axes.set_ylim(ylim)
    elif is_fraction(metric):
        axes.set_ylim(0, 1.03)
    else:
        axes.set_ylim(bottom=0)


def _small_print(figure: Figure, sentences: Sequence[str]) -> Figure:
    """A last line below the panels: what the figure leaves unsaid."""
    text = " ".join(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences)
    lines = textwrap.fill(text, width=int(15 * figure.get_figwidth()))
    figure.supxlabel(lines, x=0.99, ha="right", fontsize=7, color=GREY, parse_math=False)
    return figure


def _rings(axes: Axes, frame: pd.DataFrame, x: str, y: str, hue: str, item: str) -> list[str]:
    """Draws the paper's values around where ours should be; says so, or why not."""
    values = paper.values(item)
    values = values[values["metric"].eq(y) & values[x].notna() & values[hue].isin(frame[hue].unique())]
    if not all(same_scale(frame, dataset) for dataset in values["dataset"].unique()):
        return ["the paper's values are at another scale, and not drawn"]
    for row in values.to_dict("records"):
        axes.plot(row[x], row["value"], "o", color=_look(frame, hue, row[hue]).color, fillstyle="none", markersize=11)
    return [f"rings: the paper, {', '.join(values['locator'].unique())}"] if len(values) else []


class Tick(NamedTuple):
    text: str
    heading: bool
    run: bool


def _rows(keys: list[str], rows: list[tuple[Any, tuple[Any, ...], Any]]) -> tuple[dict[Any, float], dict[float, Tick]]:
    """(setting → height, height → its tick): the settings of one model stand together, under its name."""
    runs = {setting: any(row["n"] or row["diverged"] for _, s, row in rows if s == setting) for _, setting, _ in rows}
    heads = list(dict.fromkeys(setting[0] for setting in runs))
    heights: dict[Any, float] = {}
    ticks: dict[float, Tick] = {}
    height = 0.0
    for head in heads:
        settings = [setting for setting in runs if setting[0] == head]
        if len(keys) > 1:
            ticks[height] = Tick(paper.label(head), True, any(runs[setting] for setting in settings))
            height += 1
        for setting in settings:
            words = _describe(dict(zip(keys[1:], setting[1:], strict=True))) if len(keys) > 1 else paper.label(head)
            heights[setting] = height
            ticks[height] = Tick(words, False, runs[setting])
            height += 1
        height += 0.4 * (len(keys) > 1)
    return heights, ticks


def _describe(setting: dict[str, Any]) -> str:
    """A setting in words; what is off or implied goes without saying."""
    words = []
    for key, value in setting.items():
        if key in ("corruption", "augmentations", "settings", "metric"):
            words.append(paper.label(value))
        elif value in ("on", "off", "not stated"):
            words.append(paper.label(key) if value == "on" and f"{key}=" not in setting.get("settings", "") else "")
        elif key != "corruption_level" or value not in (0.0, 1.0):
            words.append(f"{paper.label(key)} {value:g}" if isinstance(value, float) else f"{paper.label(key)} {value}")
    return ", ".join(filter(None, words))


def _zoom(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """The range of per cents to show: all, or the upper end where every value lies there."""
    values = [row[key] for row in rows for key in ("mean", "low", "paper") if isinstance(row.get(key), float)]
    least = min((100 * value for value in values if value == value), default=0.0)
    span = max(100 - least, 1.0) * 1.3 if least > 60 else 100.0
    words = any(isinstance(row.get("paper"), str) or (row["diverged"] and not row["n"]) for row in rows)
    span = 100.0 if words else span
    return 100 - 1.03 * span, 100 + 0.03 * span


def _draw_dot(axes: Axes, height: float, row: dict[str, Any]) -> None:
    """Ours as a dot on its interval, the paper's value as a bar behind it; words where there is no number."""
    look = LOOKS.get(row.get("corruption", ""), Look("#000000", "o"))
    small = {"fontsize": 7, "va": "center", "parse_math": False}
    theirs = row.get("paper")
    if isinstance(theirs, str):
        axes.text(50, height, f"paper: {theirs}", color=GREY, ha="center", **small)
    elif theirs is not None:
        ends = [height - 0.42, height + 0.42]
        axes.plot([100 * theirs] * 2, ends, color="#000000", linewidth=1.6, solid_capstyle="butt")
    if row["n"]:
        if row["low"] < row["high"]:
            axes.plot([100 * row["low"], 100 * row["high"]], [height] * 2, color=look.color, linewidth=1.4)
        axes.plot(100 * row["mean"], height, look.marker, color=look.color, markersize=5, zorder=4, clip_on=False)
    elif row["diverged"]:
        axes.text(2, height, "diverged", color=_dark(look.color), **small)


def _seeds(frame: pd.DataFrame, hue: str, band: Band) -> list[str]:
    """How many seeds stand behind a line."""
    if not len(frame):
        return ["no runs yet"]
    counts = frame.groupby(hue)["seed"].nunique()
    low, high = counts.min(), counts.max()
    what = {"range": "mean and range", "interval": "mean and 95 % interval"}[band]
    return ["one seed"] if high == 1 else [f"{what} over {low if low == high else f'{low}–{high}'} seeds"]


def _diverged(frame: pd.DataFrame) -> list[str]:
    runs = int((frame["last"] & frame["status"].eq("diverged")).sum()) if len(frame) else 0
    return [_count(runs)] * bool(runs)


def _count(diverged: int) -> str:
    return f"{diverged} diverged run{'s are' if diverged > 1 else ' is'} not drawn"


def _axis(column: str) -> str:
    return AXES.get(column, paper.label(column))


def _look(frame: pd.DataFrame, hue: str, name: Any) -> Look:
    """The look of a name: its own; for numbers from dark to light; else one that follows from the name's letters."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if name in LOOKS:
        return LOOKS[name]
    if not isinstance(name, str):
        order = sorted(frame[hue].unique())
        rank = order.index(name)
        return Look(to_hex(colormaps["viridis"](0.85 * rank / max(1, len(order) - 1))), MARKERS[rank % len(MARKERS)])
    digest = hashlib.sha256(name.encode()).digest()
    return Look(OTHER_COLORS[digest[0] % len(OTHER_COLORS)], MARKERS[digest[1] % len(MARKERS)])


def _dark(color: str) -> str:
    """The same hue, dark enough for text on white."""
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = to_rgb(color)
    return to_hex((0.75 * red, 0.75 * green, 0.75 * blue))


GREY, LIGHT = "#666666", "#e3e3e3"
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.xmargin": 0.02,
    "figure.dpi": 200,
    "font.size": 9,
    "grid.color": LIGHT,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markeredgewidth": 0.9,
    "lines.markersize": 5,
    "savefig.dpi": 200,
    "svg.fonttype": "path",  # the same letters on every machine
    "xtick.color": "#444444",
    "xtick.labelsize": 8,
    "ytick.color": "#444444",
    "ytick.labelsize": 8,
}

AXES = {
    "corruption_level": "label corruption",
    "epoch": "epoch",
    "epochs_to_fit": "epochs to fit",
    "running_loss": "training loss, mean over the epoch (nats)",
    "step": "steps",
    "steps_to_fit": "steps to fit",
    "test_loss": "test loss (nats)",
    "train_accuracy": "training accuracy",
    "train_loss": "training loss (nats)",
}

# Okabe and Ito's colors, which readers with any color vision tell apart; without yellow, too light for a line on white.
LOOKS: dict[Any, Look] = {
    "true_labels": Look("#0072B2", "o"),
    "shuffled_pixels": Look("#009E73", "^"),
    "gaussian": Look("#E69F00", "v"),
    "random_pixels": Look("#CC79A7", "D"),
    "random_labels": Look("#D55E00", "s"),
    "small_inception": Look("#0072B2", "o"),
    "small_inception_without_batch_norm": Look("#E69F00", "s"),
    "small_alexnet": Look("#D55E00", "^"),
    "mlp_3x512": Look("#CC79A7", "v"),
    "mlp_1x512": Look("#009E73", "D"),
}
# For names that are not above: Paul Tol's muted colors, which those above do not contain.
OTHER_COLORS = ("#332288", "#117733", "#882255", "#999933", "#AA4499", "#44AA99", "#661100")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
KINDS: dict[str, dict[str, Any] | None] = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
