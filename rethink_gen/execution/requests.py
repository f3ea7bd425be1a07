"""Refuses requests that cannot be carried out, before jax is imported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rethink_gen import atomic, registry
from rethink_gen.errors import DataError, UsageError
from rethink_gen.results.failing import Failure
from rethink_gen.results.result import Result
from rethink_gen.runs import AnyRun, Run, components

if TYPE_CHECKING:
    from rethink_gen.training.progress import Progress

    Report = Callable[[Progress], None]
    Execute = Callable[..., Iterable[Result | Failure]]
    Folder = str | Path


COLOR_CHANNELS = 3
CROPS = ("crop", "random_crop")  # augmentations
LARGEST_CROP = 8 / 7  # of a side, as the paper crops CIFAR-10; more that is cut away is told


def check_names(runs: Iterable[AnyRun]) -> None:
    """Refuses a component that is not registered, options that it cannot have, and settings that have no effect."""
    runs = list(runs)
    runs += [before for run in runs if isinstance(run, Run) and (before := run.pretraining)]
    for run in runs:
        if isinstance(run, Run) and run.corruption == "true_labels" and run.corruption_level != 1.0:
            raise UsageError(
                f"corruption_level={run.corruption_level:g} has no effect on true_labels; "
                "name a corruption, such as corruption='random_labels', whose level 0 is the true labels"
            )
    for kind, text in sorted({pair for run in runs for pair in components(run)}):
        registry.find(kind, registry.parse(text)[0])
        registry.check_options(kind, text)
    with suppress(DataError):  # not here, but there is such a data set
        check_data(runs)


def check_data(runs: Iterable[AnyRun]) -> None:
    """Refuses a data set that is not there; it is not read yet."""
    from rethink_gen.data import datasets

    runs = list(runs)
    for name in sorted(
        {run.dataset for run in runs if not run.draws_data} - {*datasets.bundled.DATASETS, datasets.GENERATED}
    ):
        datasets.find(name)
    for name in sorted({run.dataset for run in runs if isinstance(run, Run) and _needs_color(run)}):
        channels = datasets.find(name).shape[2]
        if channels != COLOR_CHANNELS:
            raise UsageError(
                f"augmentation color changes the hue of RGB images; those of {name} have {channels} channel"
                f"{'s' * (channels != 1)}: leave color out"
            )


def _needs_color(run: Run) -> bool:
    return any(registry.parse(each)[0] == "color" for each in run.augmentations)


def cut_images(runs: Iterable[AnyRun]) -> list[str]:
    """A line for each data set of which runs see only the middle, and less of it than of CIFAR-10: 28 pixels of 32."""
    from rethink_gen.data import datasets

    lines = []
    crops = {(run.dataset, run.crop_size) for run in runs if isinstance(run, Run) and _sees_the_middle(run)}
    for name, size in sorted(crops):
        with suppress(DataError, UsageError):  # a run of it says what is wrong
            height, width, _ = datasets.find(name).shape
            if max(height, width) > size * LARGEST_CROP:
                shape = f"{min(size, height)}×{min(size, width)} pixels"
                ways = f"--crop-size {max(height, width)} keeps them whole, rg.Dataset.resized makes them smaller"
                lines.append(f"{name}: of images of {height}×{width}, runs see the central {shape}; {ways}")
    return lines


def _sees_the_middle(run: Run) -> bool:
    """Whether none of its augmentations crops; a user's own may."""
    named = ((each, registry.parse(each)[0]) for each in run.augmentations)
    return all(registry.is_built_in("augmentation", each) and name not in CROPS for each, name in named)


def check_writable(folder: Path) -> None:
    """Makes the folder if need be."""
    atomic.make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise atomic.unwritable(folder, error) from error
