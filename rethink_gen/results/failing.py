"""Runs that ended without a result, each with its reason in a file beside the results: RUN.failed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from rethink_gen import atomic
from rethink_gen.results import packs
from rethink_gen.runs import AnyRun


class Failure(NamedTuple):
    """A run that ended without a result. The same command tries it again."""

    run: AnyRun
    reason: str


def save(failure: Failure, folder: Path) -> None:
    """Writes the reason of a failure beside the results. `store.save` deletes it."""
    atomic.write(file(folder, failure.run), f"{failure.reason}\n".encode())


def among(runs: Iterable[AnyRun], folder: Path) -> list[Failure]:
    """The failures of the runs whose last attempt failed."""
    found = reasons(folder)
    return [Failure(run, found[run.id]) for run in runs if run.id in found] if found else []


def reasons(folder: Path) -> dict[str, str]:
    """Run id → reason, of all runs in a folder whose last attempt failed."""
    found = [path for path in folder.glob("*.failed") if path.is_file() and not packs.exists(path.with_suffix(".json"))]
    return {path.stem: path.read_text(errors="replace").strip() for path in found}


def file(folder: Path, run: AnyRun) -> Path:
    """The path of the file with the reason why a run failed."""
    return folder / f"{run.id}.failed"
