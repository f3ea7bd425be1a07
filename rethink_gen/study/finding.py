"""Find an experiment by its name: a file of experiments, or one that is kept beside its results.

A randomization test has no file of its own. Its runs stand in results/<name>/experiment.jsonl, so that `table`, `plot`,
`report`, `status` and `rg.load` find it by its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rethink_gen import atomic, experiment
from rethink_gen.analysis import randomization
from rethink_gen.errors import UnknownName, UsageError, unknown
from rethink_gen.experiment import Experiment
from rethink_gen.runs import Run

Folder = str | Path
_FILE = "experiment.jsonl"  # the notes of the test in the first line, then a run in each


def keep(test: Experiment, results: Folder) -> None:
    """Writes down which runs a randomization test has, beside its results."""
    folder = atomic.as_path(results) / test.name
    content = "".join(json.dumps(each) + "\n" for each in ({"doc": test.doc}, *map(asdict, test.runs)))
    atomic.make_folder(folder)
    atomic.write(folder / _FILE, content.encode())


def copy(source: Folder, results: Folder) -> None:
    """Writes down in one folder of results which randomization tests another has; those that are there stay."""
    for name, path in _kept(source).items():
        if name not in _kept(results):
            atomic.make_folder(folder := atomic.as_path(results) / name)
            atomic.write(folder / _FILE, path.read_bytes())


def names(experiments: Folder | None, results: Folder) -> list[str]:
    """The names of the experiments in a folder of experiments, then of those kept in a folder of results."""
    files = experiment.names(as_path(experiments))
    return [*files, *sorted(_kept(results).keys() - {*files})]


def find(name: str, experiments: Folder | None, results: Folder) -> Experiment:
    """The experiment of that name, or the only one whose name begins so.

    Raises:
      UsageError: there is none or more than one, or its file cannot be read.
    """
    folder, kept = as_path(experiments), _kept(results)
    files = experiment.names(folder)
    known = [*files, *sorted(kept.keys() - {*files})]
    matches = [name] if name in known else [each for each in known if name and each.startswith(name)]
    if len(matches) > 1:
        raise UsageError(f"{name!r} could be {', '.join(matches)}; give more letters")
    if matches and matches[0] not in files:
        return _read(matches[0], kept[matches[0]])
    try:
        return experiment.find(name, folder)
    except UnknownName:
        raise unknown("experiment", name, known) from None


def find_each(experiments: Folder | None, results: Folder) -> Iterator[Experiment | UsageError]:
    """Each experiment of both folders, or the error of a file that cannot be read.

    A file is loaded when it is its turn: two files may register components of the same name.
    """
    for name in names(experiments, results):
        try:
            yield find(name, experiments, results)
        except UsageError as error:
            yield error


def as_path(folder: Folder | None) -> Path | None:
    """The folder as a path; None is the folder of experiments that comes with the package."""
    return None if folder is None else atomic.as_path(folder)


def _kept(results: Folder) -> dict[str, Path]:
    """Name → file, of what is kept in a folder of results."""
    return {path.parent.name: path for path in atomic.as_path(results).glob(f"*/{_FILE}") if path.is_file()}


def _read(name: str, path: Path) -> Experiment:
    try:
        notes, *runs = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return randomization.declare(name, [Run(**run) for run in runs], notes["doc"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        way_out = "delete it; the same randomization test writes it anew"
        raise UsageError(f"{path}: cannot be read ({type(error).__name__}: {error}); {way_out}") from error
