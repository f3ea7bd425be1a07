"""Merge folders of results that machines without a common disk have made, and renew their tables."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rethink_gen import atomic
from rethink_gen.errors import StorageError, UsageError
from rethink_gen.experiment import SCALES
from rethink_gen.results import kept, packs, store
from rethink_gen.results.result import different_data, same_end
from rethink_gen.study import finding, studies

if TYPE_CHECKING:
    from rethink_gen.study.running import Folder


class Merged(NamedTuple):
    """What was merged of one experiment at one scale."""

    folder: Path
    copied: int
    there: int  # before, or in two of the sources, with the same curves
    renewed: bool  # its table and figure; not where no experiment has the name of the folder


def merge(
    sources: Iterable[Folder], *, results: Folder = "results", experiments: Folder | None = None
) -> Iterator[Merged]:
    """Copies the results of other folders into one, and renews the tables and figures of their experiments.

    All files are read and compared before the first is copied. Existing results stay, so the same command can be
    repeated, and continues one that was stopped. A result travels with its weights and records; it takes
    the place of the same result without.

    Raises:
      UsageError: a source has no results.
      StorageError: a source holds a damaged file, or another result of a run than `results` or an earlier source.
    """
    target, sources = studies.open_folder(results), tuple(sources)
    chosen: dict[Path, dict[str, Path]] = {}  # folder of `results` → name of a file there → what it is to hold
    facts = functools.cache(_facts)
    for source in map(atomic.as_path, sources):
        for path in find(source):
            place = target / path.parent.relative_to(source)
            there = place / path.name
            known = chosen.setdefault(place, {}).setdefault(path.name, there if packs.exists(there) else path)
            facts(path)  # what is beside it is checked, too
            if known != path and not same_end(store.read(known), store.read(path)):
                here, other = packs.place(path), packs.place(known)
                raise StorageError(f"{here}: conflicting results for one run: {other} and this; delete the wrong one")
            if _beside(path) > _beside(known):
                chosen[place][path.name] = path
    for place, origins in chosen.items():
        files = {**{path.name: path for path in packs.paths(place)}, **origins}
        _check_data(map(facts, files.values()))
    for source in sources:
        finding.copy(source, results)
    for place, origins in sorted(chosen.items()):
        new = [origin for origin in origins.values() if origin.parent != place]
        atomic.make_folder(place)
        for origin in new:
            store.copy(origin, place)
        yield Merged(place, len(new), len(origins) - len(new), renew(place, results, experiments))


def find(source: Path) -> list[Path]:
    """The files of results where `run` and `train` leave them in a folder."""
    folders = sorted([*(path for scale in SCALES for path in source.glob(f"*/{scale}")), source / "train"])
    for conflict in (path for folder in folders for path in sorted(folder.glob("*.conflict"))):
        raise StorageError(f"{conflict}: conflicting result for one run; train it again and delete the wrong file")
    found = [path for folder in folders for path in packs.paths(folder)]
    if not found:
        raise UsageError(f"no results in {source}; merge takes folders such as `run --results DIR` leaves")
    return found


def _beside(path: Path) -> int:
    """How many files of arrays are beside a result."""
    return sum(kept.file(path, kind).exists() for kind in kept.KINDS)


class _Facts(NamedTuple):
    """What is compared of a result."""

    path: Path
    data: tuple[str, str]
    stale: bool


def _facts(path: Path) -> _Facts:
    """Reads a result, and what is beside it, which is checked."""
    result = store.whole(path)
    return _Facts(path, result.data, store.is_stale(result))


def _check_data(facts: Iterable[_Facts]) -> None:
    """Refuses results of one folder that were made from different data of one name.

    Raises:
      StorageError: names the data set and a file of each kind.
    """
    for name, parts in different_data(each for each in facts if not each.stale).items():
        first, second, *_ = (packs.place(made[0].path) for made in parts.values())
        raise StorageError(
            f"{second}: made from other data named {name} than {first}; delete the wrong one, and train it again"
        )


def renew(folder: Path, results: Folder, experiments_folder: Folder | None) -> bool:
    """Whether the results in a folder are of an experiment there is; if so, its table and figure are written anew."""
    name, scale = folder.parent.name, folder.name
    if scale not in SCALES or name not in finding.names(experiments_folder, results):
        return False
    studies.renew(finding.find(name, experiments_folder, results).at(scale), results)
    return True
