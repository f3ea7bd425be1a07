"""What the corruptions do, as everyone who explains the paper draws it: the same images under each of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rethink_gen import paper
from rethink_gen.style import GREY, LOOKS, dark, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rethink_gen.datasets import Split

SIGNS = ("−1", "+1")  # of the classes 0 and 1, as `random_signs` has them


def corrupted_images(name: str, count: int = 8) -> Figure:
    """The first image of each of `count` classes of a data set, whole, under every corruption at level 1."""
    import jax

    from rethink_gen import corruptions, datasets

    whole = datasets.load(name)
    first = lambda split, n: split._replace(images=split.images[:n], labels=split.labels[:n])
    some = replace(whole, train=first(whole.train, 1000), test=first(whole.test, 1))  # enough for a mean and a variance
    labels = some.train.labels.tolist()
    chosen = [labels.index(label) for label in sorted(set(labels))[:count]]
    versions = {}
    for corruption, function in corruptions.CORRUPTIONS.items():
        train = function(jax.random.key(0), some, 1.0).train
        versions[corruption] = train._replace(images=train.images[chosen], labels=train.labels[chosen])
    return grid(versions, class_names(name, whole.num_classes))


def class_names(name: str, count: int) -> list[str]:
    """What the classes of a data set are called, where tensorflow-datasets has written it down; else their numbers."""
    from rethink_gen import datasets

    source = None if name in datasets.BUNDLED else datasets.find(name)
    file = source and source.folder and source.folder / f"{source.features[1]}.labels.txt"
    known = file.read_text(encoding="utf-8").split("\n") if file and file.is_file() else []
    return known if len(known) >= count else [str(label) for label in range(count)]


@styled
def grid(versions: Mapping[str, Split], class_names: Sequence[str]) -> Figure:
    """The same images under every corruption, a row each, those of the paper first; labels stand above their images.

    Args:
      versions: corruption → the images and their labels; of `true_labels` first of all.
    """
    import numpy as np
    from matplotlib.figure import Figure

    true = versions["true_labels"]
    names = sorted(versions, key=lambda name: name not in LOOKS)
    changed = {name: name == "true_labels" or not np.array_equal(versions[name].labels, true.labels) for name in names}
    ours = next((i for i, name in enumerate(names) if name not in LOOKS), len(names))
    room = [1.08 + 0.3 * changed[name] + 0.25 * (i == ours) for i, name in enumerate(names)]  # in images
    bottoms = np.cumsum(room)
    width, height = len(true.labels) * 1.08 + 2, float(bottoms[-1])
    figure = Figure(figsize=(0.7 * width, 0.7 * height + 0.1))
    axes = figure.add_axes((0, 0, 1, 1))
    for name, bottom in zip(names, bottoms, strict=True):
        color = dark(LOOKS[name].color) if name in LOOKS else GREY
        words = "\n".join(textwrap.wrap(paper.label(name).replace("gaussian", "Gaussian"), 16))
        axes.text(-0.15, bottom - 0.5, words, color=color, ha="right", va="center", parse_math=False)
        for i, (pixels, label) in enumerate(zip(*versions[name], strict=True)):
            left = 1.08 * i
            shown = np.clip(pixels, 0, 255) / 255
            gray = {"cmap": "gray", "vmin": 0, "vmax": 1} if shown.shape[-1] == 1 else {}
            axes.imshow(shown.squeeze(), extent=(left, left + 1, bottom, bottom - 1), interpolation="nearest", **gray)
            if changed[name]:
                text = (SIGNS if name == "random_signs" else class_names)[int(label)]
                right = label == true.labels[i] and name != "random_signs"
                style: Any = {"color": "#222222" if right else dark(LOOKS["random_labels"].color)}
                style["fontweight"] = "normal" if right else "bold"
                axes.text(
                    left + 0.5, bottom - 1.06, text, ha="center", va="bottom", fontsize=7, parse_math=False, **style
                )
    axes.set(xlim=(-1.95, width - 1.95), ylim=(height + 0.07, -0.07), aspect="equal")
    axes.set_axis_off()
    return figure
