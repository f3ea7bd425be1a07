"""Find an experiment by its name, a file of experiments or one kept beside its results, and choose of its runs.

A randomization test has no file of its own. Its runs stand in results/<name>/experiment.jsonl, so that `table`, `plot`,
`report`, `status` and `rg.load` find it by its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from rethink_gen import atomic, experiment
from rethink_gen.analysis import randomization
from rethink_gen.coercion import coerce, seeds_of
from rethink_gen.errors import UsageError, unknown
from rethink_gen.experiment import Experiment
from rethink_gen.results import store
from rethink_gen.runs import AnyRun, Run, as_dict, fields, from_dict, kinds

Folder = str | Path
MOST_RUNS = 100_000
_FILE = "experiment.jsonl"  # the notes of the test in the first line, then a run in each


def keep(test: Experiment, results: Folder) -> Experiment:
    """Writes down which runs a randomization test has, beside its results, and returns the test that is kept: with the
    runs of an earlier call that have results.
    """
    before: tuple[AnyRun, ...] = ()
    with suppress(UsageError):  # one that cannot be read is written anew
        before = _runs_of(test.name, results)
    folder = atomic.as_path(results) / test.name / "laptop"
    return _write(test, (*test.runs, *(run for run in before if store.done(folder, run))), results)


def copy(source: Folder, results: Folder) -> None:
    """Writes down in one folder of results which runs the randomization tests of another have, besides those there."""
    for name, path in _kept(source).items():
        test = _read(name, path)
        _write(test, (*_runs_of(name, results), *test.runs), results)


def _runs_of(name: str, results: Folder) -> tuple[AnyRun, ...]:
    path = _kept(results).get(name)
    return _read(name, path).runs if path else ()


def _write(test: Experiment, runs: Iterable[AnyRun], results: Folder) -> Experiment:
    whole = randomization.declare(test.name, [run for run in dict.fromkeys(runs) if isinstance(run, Run)], test.doc)
    folder, lines = atomic.as_path(results) / test.name, ({"doc": test.doc}, *map(as_dict, whole.runs))
    atomic.make_folder(folder)
    atomic.write(folder / _FILE, "".join(json.dumps(line) + "\n" for line in lines).encode())
    return whole


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
    matched = experiment.match(name, known, folder)
    return experiment.find(matched, folder) if matched in files else _read(matched, kept[matched])


def find_each(experiments: Folder | None, results: Folder) -> Iterator[Experiment | UsageError]:
    """Each experiment of both folders, or the error of a file that cannot be read.

    A file is loaded when it is its turn: two files may register components of the same name.
    """
    folder = as_path(experiments)
    yield from experiment.find_each(folder)
    files = experiment.names(folder)
    for name, path in sorted(_kept(results).items()):
        if name not in files:
            try:
                yield _read(name, path)
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
        return randomization.declare(name, [run for run in map(from_dict, runs) if isinstance(run, Run)], notes["doc"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        way_out = "delete it; the same randomization test writes it anew"
        raise UsageError(f"{path}: cannot be read ({type(error).__name__}: {error}); {way_out}") from error


def select(experiment: Experiment, seeds: Iterable[int] | None, only: Mapping[str, Any] | None) -> Experiment:
    """The experiment with these seeds instead of its own, and only the runs that have the wanted values."""
    runs = experiment.runs
    if seeds is not None:
        seeds = seeds_of(seeds)
        settings = {run.setting: run for run in runs}
        if len(settings) * len(seeds) > MOST_RUNS:  # said before they are made
            raise UsageError(f"{experiment.name}: {len(settings) * len(seeds)} runs asked for; at most {MOST_RUNS}")
        runs = tuple(replace(run, seed=seed) for run in settings.values() for seed in seeds)
    for name, values in (only or {}).items():
        if name not in fields():
            raise unknown("field", name, fields())
        values = values if isinstance(values, list) else [values]
        wanted = {coerce(name, value, fields()[name], kinds().get(name, "")) for value in values}
        present = {getattr(run, name) for run in runs if hasattr(run, name)}
        for value in sorted(map(str, wanted - present)):
            raise unknown(f"{name} in {experiment.name} at {experiment.scale} scale", value, map(str, present))
        runs = tuple(run for run in runs if hasattr(run, name) and getattr(run, name) in wanted)
    if not 0 < len(runs) <= MOST_RUNS:
        raise UsageError(f"{experiment.name}: {len(runs)} runs asked for; it can be 1 to {MOST_RUNS}")
    return replace(experiment, runs=runs)
