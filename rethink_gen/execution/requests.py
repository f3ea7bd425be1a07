"""Refuses requests that cannot be carried out, before jax is imported."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rethink_gen import atomic, registry
from rethink_gen.errors import DataError, UsageError
from rethink_gen.results.store import Failure, Result
from rethink_gen.runs import AnyRun, Run, components

if TYPE_CHECKING:
    from rethink_gen.training.progress import Progress

    Report = Callable[[Progress], None]
    Execute = Callable[..., Iterable[Result | Failure]]
    Folder = str | Path


def check_names(runs: Iterable[AnyRun]) -> None:
    """Refuses a component that is not registered, options that it cannot have, and a level that has no effect."""
    runs = list(runs)
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

    for name in sorted(
        {run.dataset for run in runs if not run.draws_data} - {*datasets.BUNDLED, datasets.generated.NAME}
    ):
        datasets.find(name)


def check_writable(folder: Path) -> None:
    """Makes the folder if need be."""
    atomic.make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise atomic.unwritable(folder, error) from error
