"""Verify results: recompute checksums and tables, and on request train runs again."""

from __future__ import annotations

import math
import os
import random
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rethink_gen.errors import DataError, StorageError, UsageError
from rethink_gen.execution import machine, processes, publishing, requests
from rethink_gen.experiment import SCALES
from rethink_gen.results import packs, store
from rethink_gen.results.failing import Failure
from rethink_gen.results.result import Result, different_data, same_end
from rethink_gen.results.verdicts import CLOSE
from rethink_gen.runs import AnyRun
from rethink_gen.study import finding, studies
from rethink_gen.words import count

if TYPE_CHECKING:
    from rethink_gen.study.running import Folder, Report


class Finding(NamedTuple):
    """What was checked, and a line for each thing that is wrong with it."""

    what: str
    wrong: list[str]


def verify(name: str | None = None, *, results: Folder = "results", experiments: Folder | None = None) -> list[Finding]:
    """A finding for each folder of results: of one experiment, or of all that are there.

    A folder is right if each result has its checksum and its own weights and records, and was made from the published
    data, or from one and the same data and those that are here; if no run has two different results; and if the table
    beside them is what they give.
    """
    return [inspect(folder, results, experiments) for folder in _folders(name, results, experiments)]


def _folders(name: str | None, results: Folder, experiments_folder: Folder | None) -> list[Path]:
    """The folders in which there are results."""
    root = studies.open_folder(results)
    if name:
        root /= finding.find(name, experiments_folder, results).name
    found = sorted({path.parent for pattern in ("*.json", packs.FILE, "*.conflict") for path in root.rglob(pattern)})
    found = [folder for folder in found if not any(part.startswith(".") for part in folder.relative_to(root).parts)]
    if not found:
        raise UsageError(f"no results in {root}; name another folder with --results DIR")
    return found


def inspect(folder: Path, results: Folder, experiments_folder: Folder | None) -> Finding:
    """What is wrong in one folder."""
    from rethink_gen.data.dataset import PUBLISHED

    sound, damaged = store.sift(folder)  # each file itself, not the cache of results
    wrong = [str(error) for error in damaged]
    way_out = "train it again and delete the wrong file"
    wrong += [f"{path}: conflicting result for one run; {way_out}" for path in sorted(folder.glob("*.conflict"))]
    for result in sound:
        path = store.result_file(folder, result.run)
        if store.is_stale(result):
            again = "run it again: the old result is then set aside"
            wrong.append(f"{packs.place(path)}: made by other code or data of yours than today's; {again}")
        data = result.provenance.get("data_sha256")
        if data != PUBLISHED.get(result.run.dataset, data):
            wrong.append(f"{packs.place(path)}: made from other data than the published {result.run.dataset}")
        try:
            store.whole(path)
        except StorageError as error:
            wrong.append(str(error))
    wrong += [f"{folder}: {line}" for line in _different_data(sound)]
    table = folder / "table.md"
    name = folder.parent.name
    if folder.name in SCALES and name in finding.names(experiments_folder, results) and table.exists():
        found = finding.find(name, experiments_folder, results).at(folder.name)
        study = studies.gather(found, results, lambda _: (sound, damaged))
        again = f"rethink-gen run {name} --scale {folder.name}"
        if not table.is_file():  # reading a pipe would never end
            wrong.append(f"{table}: is not a file; delete it and write it anew: {again}")
        elif table.read_bytes() != study.text().encode():
            wrong.append(f"{table}: is not what the results beside it give; write it anew: {again}")
    return Finding(f"{folder}: {count(sound, 'result')} with the right checksum", wrong)


def _different_data(results: Iterable[Result]) -> Iterator[str]:
    """A line for each data set whose results in one folder, or the data that are there, are different data."""
    from rethink_gen.data import datasets
    from rethink_gen.data.dataset import PUBLISHED

    results = [result for result in results if not store.is_stale(result)]
    for name, parts in different_data(results).items():
        files = " and ".join(f"{part[0].id} ({checksum[:8]}…)" for checksum, part in parts.items())
        yield f"made from different data named {name}: {files}; delete the wrong ones, and train them again"
    made_from = {result.data for result in results}
    for name in sorted({name for name, _ in made_from} - {*PUBLISHED, datasets.GENERATED}):
        with suppress(DataError, UsageError):  # it is not here
            source = datasets.find(name)
            there = source.fingerprint if source.streamed else datasets.load(name).checksum
            if any(checksum not in ("", there) for each, checksum in made_from if each == name):
                yield f"made from other data than the {name} that is here ({there[:8]}…)"


def retrain(
    count: int,
    name: str | None = None,
    *,
    results: Folder = "results",
    experiments: Folder | None = None,
    report: Report | None = None,
) -> Iterator[Finding]:
    """A finding for each of `count` random runs, trained anew: on the same device with the same versions its curves
    must be the same to the last bit, elsewhere its last accuracies within CLOSE.
    """
    known = [result for folder in _folders(name, results, experiments) for result in store.sift(folder)[0]]
    chosen = {result.run: result for result in random.sample(known, min(count, len(known)))}
    requests.check_data(chosen)
    show = report or (lambda progress: None)
    for cores, runs in _by_cores(chosen.values()).items():
        if cores is None:
            outcomes = publishing.import_scheduler().execute(runs, report=show)
        else:
            outcomes = _with_cores(cores, runs, show)
        for outcome in outcomes:
            yield _compare(chosen[outcome.run], outcome)


def _by_cores(results: Iterable[Result]) -> dict[int | None, list[AnyRun]]:
    """Runs by the number of CPU cores that made their results, which decides bits; None: as many as here, or unknown.

    More cores than this machine has cannot be had: then the numbers agree within a tolerance.
    """
    here = int(os.environ.get("NPROC", machine.count_cores()))
    found: dict[int | None, list[AnyRun]] = {}
    for result in results:
        recorded = re.search(r"\((\d+) cores?\)", result.provenance.get("device", ""))
        cores = int(recorded[1]) if recorded and not machine.accelerated() else here
        found.setdefault(cores if cores < here else None, []).append(result.run)
    return found


def _with_cores(cores: int, runs: list[AnyRun], report: Report) -> Iterator[Result | Failure]:
    """Trains runs in a process that has so many cores."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from processes.finish(runs, folder, report, processes=1, cores_each=cores)
        yield from store.load(folder)


def _compare(then: Result, now: Result | Failure) -> Finding:
    """What a run gave when it was recorded, held against what it gave now."""
    what = f"{then.run.id}: trained anew"
    if isinstance(now, Failure):
        return Finding(what, [f"{then.run.id}: {now.reason}"])
    if _fingerprint(then) == _fingerprint(now):
        differ = not same_end(then, now)
        wrong = f"{then.run.id}: its curves{' or its bits of examples' * bool(then.correct)} are not those recorded"
        return Finding(f"{what}, to the last bit", [wrong] * differ)
    pairs = {key: (then.summary.get(key), now.summary.get(key)) for key in ("train_accuracy", "test_accuracy")}
    apart = [f"{key} {a}, recorded {b}" for key, (b, a) in pairs.items() if not _near(a, b)]
    return Finding(f"{what} on another device or version, within {CLOSE:g}", [f"{then.run.id}: {x}" for x in apart])


def _fingerprint(result: Result) -> tuple[str, ...]:
    """What the bits of a result depend on, apart from the run and the code."""
    about = result.provenance
    versions = about.get("versions", {})
    return (
        about.get("device", ""),
        about.get("scikit_learn", ""),
        *(versions.get(name, "") for name in ("jax", "jaxlib", "numpy")),
    )


def _near(a: float | None, b: float | None) -> bool:
    """Whether two accuracies differ by no more than CLOSE, or neither is there."""
    return a is b or (a is not None and b is not None and math.isclose(a, b, rel_tol=0, abs_tol=CLOSE))
