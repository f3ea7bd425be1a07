"""Figures of images and weights: corrupted images, first-layer filters and confusion matrices."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rethink_gen import papers, registry
from rethink_gen.analysis.style import GREY, LOOKS, dark, styled
from rethink_gen.errors import RethinkError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from rethink_gen.data.dataset import Split
    from rethink_gen.results.result import Result


_SIDE = 8  # filters per row, and rows
_PAIRS = 5  # of images in a row
_MOST_NAMED = 20  # a confusion matrix with more classes has neither names nor numbers
_SIGNS = ("−1", "+1")  # the labels of classes 0 and 1 under `random_signs`


def corrupted_images(name: str, count: int = 8) -> Figure:
    """Draws the first image of each of `count` classes of a data set, under every corruption that applies to it.

    Args:
      name: of the data set.
      count: number of classes, in the order of their numbers.
    """
    from rethink_gen.data import datasets, randomness

    whole = datasets.load(name)

    def first(split: Split, n: int) -> Split:
        return split._replace(images=split.images[:n], labels=split.labels[:n])

    train, test = first(whole.train, 1000), first(whole.test, 1)  # enough images for mean and variance
    some = replace(whole, train=train, test=test, true_labels=train.labels)  # as runs hand it to a corruption
    labels = some.train.labels.tolist()
    chosen = [labels.index(label) for label in sorted(set(labels))[:count]]
    versions = {}
    for corruption in registry.known("corruption"):
        try:
            with randomness.pinned():
                train = registry.resolve("corruption", corruption)(randomness.root_key(0), some, 1.0).train
        except RethinkError:  # it needs an option, a file, or other classes
            continue
        if len(train.labels) != len(some.train.labels):  # extra copies come after these images
            continue
        versions[corruption] = train._replace(images=train.images[chosen], labels=train.labels[chosen])
    return _grid(versions, _class_names(name, whole.num_classes))


def _class_names(name: str, count: int) -> list[str]:
    """The names of the first `count` classes of a data set, from tensorflow-datasets; else their numbers."""
    from rethink_gen.data import datasets

    source = datasets.find(name)
    file = source.folder and source.folder / f"{source.features[1]}.labels.txt"
    known = file.read_text(encoding="utf-8").split("\n") if file and file.is_file() else []
    return known[:count] if len(known) >= count else [str(label) for label in range(count)]


@styled
def _grid(versions: Mapping[str, Split], class_names: Sequence[str]) -> Figure:
    """Draws the same images under every corruption, one row per corruption, those of the paper first.

    The labels are above the images, in rows where the labels differ from the true labels.

    Args:
      versions: corruption → the images and their labels; `true_labels` must be among them.
      class_names: the name of each class.
    """
    import numpy as np
    from matplotlib.figure import Figure

    true = versions["true_labels"]
    names = sorted(versions, key=lambda name: name not in LOOKS)
    changed = {name: name == "true_labels" or not np.array_equal(versions[name].labels, true.labels) for name in names}
    ours = next((i for i, name in enumerate(names) if name not in LOOKS), len(names))
    room = [
        1.08 + 0.3 * changed[name] + 0.25 * (i == ours) for i, name in enumerate(names)
    ]  # height of each row, in images
    bottoms = np.cumsum(room)
    width, height = len(true.labels) * 1.08 + 2, float(bottoms[-1])
    figure = Figure(figsize=(0.7 * width, 0.7 * height + 0.1))
    axes = figure.add_axes((0, 0, 1, 1))
    for name, bottom in zip(names, bottoms, strict=True):
        color = dark(LOOKS[name].color) if name in LOOKS else GREY
        words = "\n".join(textwrap.wrap(papers.label(name).replace("gaussian", "Gaussian"), 16))
        axes.text(-0.15, bottom - 0.5, words, color=color, ha="right", va="center", parse_math=False)
        for i, (pixels, label) in enumerate(zip(*versions[name], strict=True)):
            left = 1.08 * i
            shown = np.clip(pixels, 0, 255) / 255
            gray = {"cmap": "gray", "vmin": 0, "vmax": 1} if shown.shape[-1] == 1 else {}
            axes.imshow(shown.squeeze(), extent=(left, left + 1, bottom, bottom - 1), interpolation="nearest", **gray)
            if changed[name]:
                text = (_SIGNS if name == "random_signs" else class_names)[int(label)]
                right = label == true.labels[i] and name != "random_signs"
                style: Any = {"color": "#222222" if right else dark(LOOKS["random_labels"].color)}
                style["fontweight"] = "normal" if right else "bold"
                axes.text(
                    left + 0.5, bottom - 1.06, text, ha="center", va="bottom", fontsize=7, parse_math=False, **style
                )
    axes.set(xlim=(-1.95, width - 1.95), ylim=(height + 0.07, -0.07), aspect="equal")
    axes.set_axis_off()
    return figure


@styled
def suspicious(images: np.ndarray, examples: pd.DataFrame, dataset: str) -> Figure:
    """Draws images in the order of a table of examples, each with its index, its label, and the suggested one.

    Labels that are known to be right are written in black, those known to be wrong in the color of random labels.

    Args:
      images: [N, H, W, C] in [0, 255].
      examples: N rows with index, label, suggested_label, and true_label where it is known.
      dataset: for the names of its classes.
    """
    import numpy as np
    from matplotlib.figure import Figure

    rows = -(-len(images) // _SIDE)
    figure = Figure(figsize=(0.2 + 1.1 * _SIDE, 0.1 + 1.55 * rows))
    axes = figure.add_axes((0, 0, 1, 1))
    labels = examples[["label", "suggested_label"]]
    names = _class_names(dataset, int(labels.to_numpy().max()) + 1)
    for i, (pixels, row) in enumerate(zip(images, examples.to_dict("records"), strict=True)):
        left, top = 1.1 * (i % _SIDE), 1.55 * (i // _SIDE)
        shown = np.clip(pixels, 0, 255) / 255
        gray = {"cmap": "gray", "vmin": 0, "vmax": 1} if shown.shape[-1] == 1 else {}
        axes.imshow(
            shown.squeeze(-1) if gray else shown,
            extent=(left, left + 1, top + 1, top),
            interpolation="nearest",
            **gray,
        )
        given, other = (names[row[name]] for name in ("label", "suggested_label"))
        wrong = row.get("true_label", row["label"]) != row["label"]
        style: Any = {"ha": "center", "va": "top", "fontsize": 7, "parse_math": False}
        color = dark(LOOKS["random_labels"].color) if wrong else "#222222"
        told = given if given == other else f"{given} → {other}"
        axes.text(left + 0.5, top + 1.05, told, color=color, fontweight="bold" if wrong else "normal", **style)
        axes.text(left + 0.5, top + 1.24, f"#{row['index']}", color=GREY, **style)
    axes.set(xlim=(-0.1, 1.1 * _SIDE), ylim=(1.55 * rows, -0.1), aspect="equal")
    axes.set_axis_off()
    return figure


@styled
def pairs(images: np.ndarray, tests: np.ndarray, examples: pd.DataFrame, dataset: str) -> Figure:
    """Draws pairs of a training image and a test image side by side, with their labels and what joins them.

    Args:
      images, tests: [N, H, W, C] in [0, 255].
      examples: N rows with label, test_label, memorization (of the training image) and influence (on the test image).
      dataset: for the names of its classes.
    """
    import numpy as np
    from matplotlib.figure import Figure

    rows = -(-len(images) // _PAIRS)
    figure = Figure(figsize=(0.8 * (0.1 + 2.3 * _PAIRS), 0.8 * (0.1 + 1.35 * rows)))
    axes = figure.add_axes((0, 0, 1, 1))
    names = _class_names(dataset, int(examples[["label", "test_label"]].to_numpy().max()) + 1)
    for i, row in enumerate(examples.to_dict("records")):
        top = 1.35 * (i // _PAIRS)
        told = (f"memorized {row['memorization']:.2f}", f"influence {row['influence']:.2f}")
        for side, pixels in enumerate((images[i], tests[i])):
            left = 2.3 * (i % _PAIRS) + 1.04 * side
            shown = np.clip(pixels, 0, 255) / 255
            gray = {"cmap": "gray", "vmin": 0, "vmax": 1} if shown.shape[-1] == 1 else {}
            extent = (left, left + 1, top + 1, top)
            axes.imshow(shown.squeeze(-1) if gray else shown, extent=extent, interpolation="nearest", **gray)
            words = f"{names[row['test_label' if side else 'label']]}, {told[side]}"
            axes.text(left + 0.5, top + 1.05, words, ha="center", va="top", fontsize=5.5, parse_math=False)
    axes.set(xlim=(-0.1, 2.3 * _PAIRS), ylim=(1.35 * rows, -0.1), aspect="equal")
    axes.set_axis_off()
    return figure


@styled
def filters(results: Sequence[Result]) -> Figure:
    """Draws the first-layer filters of each network: the 64 with the largest norm, each with its own color scale.

    Raises:
      UsageError: a network has no layer on pixels, or its run diverged.
    """
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.4 + 3.3 * len(results), 3.9))
    for column, result in enumerate(results):
        every = _first_filters(result)
        norms = np.linalg.norm(every.reshape(len(every), -1), axis=1)
        chosen = every[np.argsort(-norms, kind="stable")[: _SIDE**2]]
        axes = figure.add_axes(((0.2 + 3.3 * column) / figure.get_figwidth(), 0.06, 3.1 / figure.get_figwidth(), 0.8))
        for i, weights in enumerate(chosen):
            left, top = 1.08 * (i % _SIDE), 1.08 * (i // _SIDE)
            shown = 0.5 + weights / (2 * np.abs(weights).max() or 1)
            gray = {"cmap": "gray", "vmin": 0, "vmax": 1} if shown.shape[-1] == 1 else {}
            style: Any = {"extent": (left, left + 1, top + 1, top), "interpolation": "nearest"}
            axes.imshow(shown.squeeze(-1) if gray else shown, **style, **gray)
        axes.set(xlim=(-0.04, 1.08 * _SIDE), ylim=(1.08 * _SIDE, -0.04), aspect="equal")
        axes.set_axis_off()
        size = "×".join(map(str, every.shape[1:3]))
        axes.set_title(_told(result), fontsize=9, parse_math=False)
        axes.text(
            0, 1.08 * _SIDE, f"{len(chosen)} of {len(every)} filters of {size} pixels", va="top", fontsize=7, color=GREY
        )
    return figure


def _first_filters(result: Result) -> np.ndarray:
    """The filters of the first layer on pixels: float32[filters, H, W, C], with 1 or 3 channels."""
    import numpy as np

    for name, weights in (result.weights or {}).items():
        if not name.startswith("params/") or weights.ndim not in (2, 4):
            continue
        *window, inputs, _ = weights.shape
        squares = [] if window else [(math.isqrt(inputs // c), c) for c in (3, 1) if inputs % c == 0]
        whole = [(side, side, c) for side, c in squares if side * side * c == inputs]  # a dense layer on square images
        if (window and inputs in (1, 3)) or whole:
            if not np.isfinite(weights).all():
                raise UsageError(f"{result.run.id} diverged: its weights are not finite")
            return np.moveaxis(weights, -1, 0).reshape(-1, *(whole[0] if whole else (*window, inputs)))
    raise UsageError(f"{result.run.id} has no layer on pixels of square images with 1 or 3 channels")


@styled
def confusion(results: Sequence[Result], answers: Sequence[tuple[np.ndarray, ...]]) -> Figure:
    """Draws confusion matrices: true classes against the training labels and against the predictions on both splits.

    Each run is one row.

    Args:
      results: the runs.
      answers: for each run, the true, given and predicted labels of the training images, int[N] each; then the true and
        predicted labels of the test images, int[M] each.
    """
    import numpy as np
    from matplotlib.figure import Figure

    rows = list(answers)
    figure = Figure(figsize=(9, 3.4 * len(rows)), layout="constrained")
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, result, (true, given, train, test_true, test) in zip(parts, results, rows, strict=True):
        names = _class_names(result.run.dataset, max(map(np.max, (true, given, train, test_true, test))) + 1)

        def same(a: np.ndarray, b: np.ndarray) -> str:
            return f"{100 * np.mean(a == b):.1f} %"

        panels = part.subplots(1, 3, sharey=True)
        part.suptitle(_told(result), fontsize=9, parse_math=False)
        _draw_confusion(panels[0], true, given, names, f"labels it was given: {same(true, given)} true")
        _draw_confusion(panels[1], true, train, names, f"answers, training images: {same(given, train)} as given")
        _draw_confusion(panels[2], test_true, test, names, f"answers, test images: {same(test_true, test)} true")
        panels[0].set_ylabel("true class")
    return figure


def _draw_confusion(axes: Axes, true: np.ndarray, other: np.ndarray, names: Sequence[str], title: str) -> None:
    """Draws one confusion matrix: the fraction of each class in `other` per true class, one row per true class.

    Up to _MOST_NAMED classes, each cell has its per cent.
    """
    import numpy as np

    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (true, other), 1)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=8)
    if len(names) > _MOST_NAMED:
        axes.set(xticks=[], yticks=[])
        return
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=7, parse_math=False)
    axes.set_yticks(ticks, names, fontsize=7, parse_math=False)
    for (row, column), share in np.ndenumerate(shares):
        color = "#ffffff" if share > 0.5 else "#222222"
        if share >= 0.005:
            axes.text(column, row, f"{100 * share:.0f}", color=color, fontsize=6, ha="center", va="center_baseline")


def _told(result: Result) -> str:
    """The title of a run: network, data set, corruption and accuracies."""
    level = f" at {result.run.corruption_level:g}" if result.run.corruption_level not in (0, 1) else ""
    words = [result.run.subject, result.run.dataset, result.run.corruption]
    accuracies = ", ".join(
        f"{name} {100 * value:.1f} %"
        for name in ("train", "test")
        if (value := result.summary[f"{name}_accuracy"]) is not None
    )
    return ", ".join(map(papers.label, words)) + level + (f"\naccuracy: {accuracies}" if accuracies else "")
