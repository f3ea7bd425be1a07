"""Tidy frame → figure. Pure functions: the same frame gives the same bytes, whatever the user's matplotlib settings.

A name has its color and marker in every figure (`style`) and stands beside the end of its line; small print says how
many seeds stand behind a mean and which runs are not drawn.
"""

from __future__ import annotations

import functools
import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen import atomic, papers
from rethink_gen.analysis.line_drawing import DASHES, DOTS, POINTS, Line, draw_lines, mark_threshold, name_lines
from rethink_gen.analysis.style import GREY, LOOKS, PALETTE, Look, axis, dark, look, styled
from rethink_gen.errors import UsageError, unknown
from rethink_gen.results.verdicts import differing

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MOST_LINES = 200  # of runs in one picture; more are neither drawn in a minute nor told apart


@styled
def curves(
    frame: pd.DataFrame,
    x: str,
    y: str | Sequence[str],
    *,
    hue: str,
    dashed: str | None = None,
    best: bool = False,
    log: str = "",
) -> Figure:
    """Metrics over epochs or steps: a panel per metric, a line per value of `hue`, the mean over seeds in their range.

    A run that stopped before the others of its line is held at its last value; diverged runs are counted, not drawn.

    Args:
      dashed: a second metric for the same panels, dashed: the training accuracy beside the test accuracy.
      best: shades each full line up to its best value so far.
      log: the axes that are logarithmic: "x", "y" or "xy".

    Raises:
      UsageError: the runs of a line differ in more than their seed.
    """
    metrics = [y] if isinstance(y, str) else list(y)
    figure, panels = _panels(len(metrics), log=log)
    lines: list[Line] = []
    for axes, metric in zip(panels, metrics, strict=True):
        lines = []
        shown = {metric: "-"} | ({dashed: DASHES} if dashed else {})
        for value, runs in _groups(frame, hue):
            for column, dashes in shown.items():
                name = _called(hue, value) + (f", {column.partition('_')[0]}" if dashed else "")  # train or test
                points = _over_time(runs, x, column)
                if best and dashes == "-":
                    points["max"] = points["max"].cummax()
                lines.append(Line(name, look(value, frame[hue]), points, dashes))
        axes.set(xlabel=axis(x), ylabel=axis(metric.partition("_")[2] if dashed else metric))
        draw_lines(axes, lines, metric)
    name_lines(panels[-1], lines)
    return _small_print(figure, [*_about(frame, hue), *["shaded: up to the best so far"] * best])


@styled
def against(
    frame: pd.DataFrame,
    x: str,
    y: str | Sequence[str],
    *,
    hue: str,
    relative_to: float | None = None,
    chance: float | None = None,
    threshold: float | None = None,
    theory: str | None = None,
    beside: tuple[str, pd.DataFrame] | None = None,
    about: str = "",
    top: float | None = None,
    log: str = "",
) -> Figure:
    """Metrics of whole runs against one of their fields, a line per value of `hue`: time to fit over corruption level.

    Where a run never fitted, the line is interrupted by an open triangle: a lower bound of the mean, in which that run
    counts with its length.

    Args:
      relative_to: divides each line by its mean at this x; a line without one is left out, and the small print says so.
      chance: where guessing stands, as a dashed line.
      threshold: the x of the interpolation threshold: from there on, the model can fit every label.
      theory: the metric that a theory predicts for the first; it is drawn as a line, and what was measured as points.
      beside: a name and numbers of others, a frame with x as its index and the metrics as columns; a dotted line.
      about: what the small print says of the points; empty: of how many seeds they are the mean.
      top: where the vertical axes end; None: above all, and at 1 for fractions.
      log: the axes that are logarithmic: "x", "y" or "xy".

    Raises:
      UsageError: the runs of a point differ in more than their seed.
    """
    metrics = [y] if isinstance(y, str) else list(y)
    figure, panels = _panels(len(metrics), log=log)
    lines: list[Line] = []
    prints: list[str] = []
    for axes, metric in zip(panels, metrics, strict=True):
        lines = []
        for value, runs in _groups(frame, hue):
            name, points = _called(hue, value), _over_field(runs, x, metric)
            if relative_to is not None:
                if not (points.index == relative_to).any() or points.loc[relative_to, "bound"]:
                    prints.append(f"no line for {name}, which has not fitted at {axis(x)} {relative_to:g}")
                    continue
                points[["mean", "min", "max"]] /= points.loc[relative_to, "mean"]
            style = look(value, frame[hue])
            lines.append(Line(name, style, points, POINTS if theory else "-"))
            if theory:
                lines.append(Line(name, style, _over_field(runs, x, theory), marked=False))
        if beside and metric in beside[1]:
            lines.append(Line(beside[0], Look("#000000", "x"), _of_others(beside[1][metric]), DOTS))
        relation = "" if relative_to is None else f", relative to {axis(x)} {relative_to:g}"
        axes.set(xlabel=axis(x), ylabel=axis(metric) + relation)
        draw_lines(axes, lines, metric)
        if top is not None:
            axes.set_ylim(top=top)
        if threshold is not None:
            mark_threshold(axes, threshold)
        if chance is not None:
            axes.axhline(chance, color=GREY, linewidth=1, linestyle=DASHES, zorder=1)
            axes.text(0.01, chance + 0.01, "chance", color=GREY, va="bottom", transform=axes.get_yaxis_transform())
    name_lines(panels[-1], lines)
    prints += ["points: measured; lines: theory"] * bool(theory)
    prints += ["triangles: not fitted when the run ended"] * any(line.points["bound"].any() for line in lines)
    return _small_print(figure, [*([about] if about else _about(frame, hue)), *prints])


@styled
def turning(
    frame: pd.DataFrame, x: Sequence[str], y: str, *, along: str, turn: float, hue: str, top: float, log: str = ""
) -> Figure:
    """One metric against several columns, a panel each: the same points, in the order of `along`, joined by a line that
    may turn back. From `turn` on it is dashed; the panel of `along` marks it.

    Args:
      frame: a row per seed and point; a point is at the means over its seeds.
      top: where the vertical axis ends; lines that go on leave the panel.
      log: the axes that are logarithmic: "x", "y" or "xy".
    """
    figure, panels = _panels(len(x), log=log)
    lines: list[Line] = []
    for axes, column in zip(panels, x, strict=True):
        lines, inside = [], []
        for value, rows in _groups(frame, hue):
            points = rows.groupby(along).agg(
                x=(column, "mean"), mean=(y, "mean"), min=(y, "min"), max=(y, "max"), bound=(y, lambda _: False)
            )
            inside.append(points["x"][points["mean"] <= top])
            for part, dashes in ((points[points.index <= turn], "-"), (points[points.index >= turn], DASHES)):
                lines.append(Line(_called(hue, value), look(value, frame[hue]), part.set_index("x"), dashes))
        axes.set(xlabel=axis(column), ylabel=axis(y))
        draw_lines(axes, lines, y)
        axes.set_ylim(top=top)
        if inside:
            axes.set_xlim(right=1.5 * max(map(max, inside)))
        if column == along:
            mark_threshold(axes, turn, "the second axis begins")
    name_lines(panels[-1], lines)
    return _small_print(figure, [*_about(frame, hue), "full: first axis; dashed: second axis"])


@styled
def runs(frame: pd.DataFrame) -> Figure:
    """The accuracies of every run over its epochs, on training and on test images: a line a run, a color a setting.

    Nothing names the lines in the picture: their labels are their settings, and their gids the ids of their runs. Of
    more runs than MOST_LINES the first of each setting are drawn, as the small print then says.
    """
    keys = _telling(frame) or ["model"]  # where nothing but the seed tells runs apart
    figure, panels = _panels(2, height=3)
    few = frame["run"].nunique() <= MOST_LINES
    most = None if few else max(1, MOST_LINES // len(frame[keys].drop_duplicates()))
    for axes, metric in zip(panels, ("train_accuracy", "test_accuracy"), strict=True):
        for i, (values, of_setting) in enumerate(frame.groupby(keys, dropna=False, sort=False)):
            words = [_called(*pair) for pair in zip(keys, values, strict=True)]
            color = look(values[0], frame[keys[0]]).color if len(keys) == 1 else PALETTE[i % len(PALETTE)]
            first = sorted(of_setting["run"].unique())[:most]
            for run, curve in of_setting[of_setting["run"].isin(first)].groupby("run"):
                told = ", ".join(filter(None, words))
                axes.plot(curve["epoch"], curve[metric], color=color, linewidth=1.3, label=told, gid=run)
        axes.set(xlabel=axis("epoch"), ylabel=axis(metric), ylim=(0, 1.03))
    return figure if few else _small_print(figure, [f"the first {most} runs of each setting"])


@styled
def dots(table: pd.DataFrame) -> Figure:
    """A table of `tables.beside_paper`: a row per setting, a panel per metric, ours a dot, the paper's an upright bar.

    Where each setting has one metric of its own, one panel shows all.
    """
    keys = list(table.columns[: table.columns.get_loc("metric")])
    metrics = list(dict.fromkeys(table["metric"]))
    together = len(metrics) > 1 and not table.duplicated(keys).any()
    told = [*keys[1:], *["metric"] * together]
    table = table.assign(setting=[_describe(row, told) for row in table.to_dict("records")])
    heads: dict[str, float] = {}  # model, or data set → height of its name, which is above its settings
    heights: dict[tuple[str, str], float] = {}
    for head, rows in table.groupby(keys[0], sort=False):
        heads[head] = len(heights) + 1.4 * len(heads)
        for setting in rows["setting"].unique():
            heights[head, setting] = len(heights) + 1.4 * len(heads) - 0.4
    bottom = max(heights.values())
    figure, panels = _panels(1 if together else len(metrics), height=1 + 0.2 * max(6, bottom), sharey=True)
    for axes, metric in zip(panels, [metrics[0].partition("_")[2]] if together else metrics, strict=True):
        axes.set(xlabel=f"{axis(metric)}, %", xlim=(-3, 103), ylim=(bottom + 0.7, -0.7))
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.tick_params(axis="y", length=0)
        for row in (table if together else table[table["metric"] == metric]).to_dict("records"):
            _draw_dot(axes, heights[row[keys[0]], row["setting"]], row)
    names = [*map(papers.label, heads), *(setting for _, setting in heights)]
    panels[0].set_yticks([*heads.values(), *heights.values()], names, parse_math=False)
    for text in panels[0].get_yticklabels()[: len(heads)]:
        text.set_fontweight("bold")
    smaller = bool({"other scale", "smoke scale"} & set(table["verdict"]))
    theirs = "upright bars: the paper" + ", at its own scale" * smaller
    intervals = "lines: 95 % intervals over seeds, for a single seed over test images"
    diverged = int(table.drop_duplicates(keys)["diverged"].sum())
    memory = ["gray bars: from memory, not checked against a source"] * bool(table["confidence"].eq("memory").any())
    shown = [intervals] * bool((table["low"] < table["high"]).any())
    prints = ["in color: ours", theirs, *memory, *shown, *_count(diverged)]
    return _small_print(figure, prints)


def save(figure: Figure, path: Path | str) -> Path:
    """Makes `path` hold the figure as png, svg or pdf, by its suffix; the same figure gives the same bytes."""
    path = atomic.as_path(path)
    kind = path.suffix.removeprefix(".").lower()
    if kind not in KINDS:
        raise unknown("kind of figure", path.suffix, [f".{kind}" for kind in KINDS])
    atomic.make_folder(path.parent)
    atomic.write(path, draw(figure, kind))
    return path


@styled
def draw(figure: Figure, kind: str, *, inline: bool = False) -> bytes:
    """A figure as the content of a png, svg or pdf file: the same bytes each time.

    Args:
      inline: an svg to stand in a page, whose background and letters it has.
    """
    import matplotlib

    buffer = io.BytesIO()
    letters: Any = {"svg.fonttype": "none"} if inline else {}
    with matplotlib.rc_context({"svg.hashsalt": "rethink-gen", **letters}):
        figure.savefig(buffer, format=kind, metadata=KINDS[kind], transparent=inline)
    return buffer.getvalue()


def shown_in_notebooks(figure: Figure) -> Figure:
    """The same figure, of which a notebook shows the picture: it would only for figures of pyplot."""
    vars(figure)["_repr_png_"] = functools.partial(draw, figure, "png")
    return figure


def _panels(count: int, *, height: float = 3.6, sharey: bool = False, log: str = "") -> tuple[Figure, list[Axes]]:
    """An empty figure; not through pyplot, which takes seconds to import and keeps every figure alive."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, NullFormatter

    if log not in ("", "x", "y", "xy", "yx"):
        raise UsageError(f"log must be 'x', 'y' or 'xy', got {log!r}")
    figure = Figure(figsize=(6.6 if count == 1 else 9, height), layout="constrained")
    panels = list(figure.subplots(1, count, squeeze=False, sharey=sharey)[0])
    for name, side in ((name, getattr(axes, f"{name}axis")) for axes in panels for name in "xy"):
        if name in log:
            side.axes.set(**{f"{name}scale": "log"})
            side.set_minor_formatter(NullFormatter())
        else:
            side.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        side.set_major_formatter("{x:,g}")
    return figure, panels


def _groups(frame: pd.DataFrame, hue: str) -> list[tuple[Any, pd.DataFrame]]:
    """The lines of a figure, in the order of `LOOKS`, then by name."""
    if not len(frame):
        return []
    if hue not in frame:
        raise unknown("column", hue, frame.columns)
    known = {name: i for i, name in enumerate(LOOKS)}
    return sorted(frame.groupby(hue, dropna=False), key=lambda pair: known.get(pair[0], len(known)))


def _called(hue: str, value: Any) -> str:
    """A value of `hue` for a reader; a number says of what it is one."""
    return papers.label(value) if isinstance(value, str) else f"{axis(hue)} {value:g}"


def _telling(frame: pd.DataFrame) -> list[str]:
    """The fewest fields, besides the seed, that tell the runs of a frame apart; the model first."""
    ends = frame[frame["last"]]
    names = differing(ends)
    for name in reversed(names):
        rest = [other for other in names if other != name]
        if rest and len(ends.drop_duplicates(rest)) == len(ends.drop_duplicates(names)):
            names = rest
    return sorted(names, key=lambda name: name != "model")


def _over_time(runs: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The points of a line, at each x that all its seeds have reached or passed."""
    import pandas as pd

    _check_replicates(runs)
    by_run = runs[runs["status"] == "finished"].pivot_table(index=x, columns="run", values=y).ffill().dropna()
    points = {"mean": by_run.mean(axis=1), "min": by_run.min(axis=1), "max": by_run.max(axis=1)}
    return pd.DataFrame(points).assign(bound=False)


def _over_field(runs: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """The points of a line from the last epoch of each run."""
    ends = runs[runs["last"] & (runs["status"] == "finished")]
    for _, replicates in ends.groupby(x):
        _check_replicates(replicates)
    length = {"steps_to_fit": "step", "epochs_to_fit": "epoch"}.get(y, y)
    censored = ends[y].isna() & ends[length].notna()
    return (
        ends.assign(value=ends[y].fillna(ends[length]), bound=censored)
        .groupby(x)
        .agg(mean=("value", "mean"), min=("value", "min"), max=("value", "max"), bound=("bound", "any"))
    )


def _of_others(values: pd.Series) -> pd.DataFrame:
    """The points of a line of single numbers."""
    return values.dropna().to_frame("mean").assign(min=values, max=values, bound=False)


def _check_replicates(runs: pd.DataFrame) -> None:
    if fields := differing(runs):
        raise UsageError(f"runs that differ in {', '.join(fields)} have no common mean; give one as `hue`, or select")


def _small_print(figure: Figure, sentences: Sequence[str]) -> Figure:
    """A last line below the panels: what the figure leaves unsaid."""
    text = " ".join(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences)
    lines = textwrap.fill(text, width=int(19 * figure.get_figwidth()))
    figure.supxlabel(lines, x=0.99, ha="right", fontsize=7, color=GREY, parse_math=False)
    return figure


def _about(frame: pd.DataFrame, hue: str) -> list[str]:
    """How many seeds stand behind a line, and how many runs are not drawn."""
    if not len(frame):
        return ["no runs yet"]
    counts = frame.groupby(hue)["seed"].nunique()
    low, high = counts.min(), counts.max()
    seeds = "one seed" if high == 1 else f"mean and range over {low if low == high else f'{low}–{high}'} seeds"
    return [seeds, *_count(int((frame["last"] & (frame["status"] == "diverged")).sum()))]


def _count(diverged: int) -> list[str]:
    return [f"{diverged} diverged run{'s are' if diverged > 1 else ' is'} not drawn"] * bool(diverged)


def _describe(row: dict[str, Any], keys: Sequence[str]) -> str:
    """A setting in words; what is off or implied goes without saying."""
    what = ("features", "augmentations") if "features" in keys else ("corruption", "augmentations")
    words = [papers.label(row[key]) for key in keys if key in what]
    words += [f"level {row[key]:g}" for key in keys if key == "corruption_level" and row[key] not in (0, 1)]
    words += [papers.label(key) for key in keys if key in ("weight_decay", "dropout") and row[key] == "on"]
    words += [papers.label(row[key]) for key in keys if key == "metric"]
    return ", ".join(filter(None, words))


def _draw_dot(axes: Axes, height: float, row: dict[str, Any]) -> None:
    """Ours as a dot on its interval, the paper's value as a bar behind it; words where there is no number."""
    color, marker = look(row["corruption"])
    small = {"fontsize": 7, "va": "center_baseline"}
    if isinstance(row["paper"], str):
        axes.text(50, height, f"paper: {row['paper']}", color=GREY, ha="center", **small)
    else:
        ends = [height - 0.42, height + 0.42]
        black = GREY if row.get("confidence") == "memory" else "#000000"
        axes.plot([100 * row["paper"]] * 2, ends, color=black, linewidth=1.6, solid_capstyle="butt")
    if row["n"]:
        axes.plot([100 * row["low"], 100 * row["high"]], [height] * 2, color=color, linewidth=1.4)
        axes.plot(100 * row["mean"], height, marker, color=color, zorder=4)
    elif row["diverged"]:
        axes.text(2, height, "diverged", color=dark(color), **small)


KINDS: dict[str, dict[str, Any] | None] = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
