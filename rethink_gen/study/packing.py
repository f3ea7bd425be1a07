"""Pack folders of results: many files become one, which all that read results read as they read the files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rethink_gen import atomic
from rethink_gen.errors import StorageError, UsageError
from rethink_gen.experiment import SCALES
from rethink_gen.results import locks, packs, store, strict_json
from rethink_gen.results.validation import LONGEST_FILE
from rethink_gen.study import finding, studies

if TYPE_CHECKING:
    from rethink_gen.study.running import Folder

MANY = 30  # results in a folder that is packed unless folders are named; fewer files are easier to look at


class Packed(NamedTuple):
    """What was packed in one folder."""

    folder: Path
    results: int  # in the pack
    moved: int  # of these, those that had files of their own until now
    left: tuple[str, ...]  # runs that keep their files, because another process works on them


def pack(
    names: Iterable[str] = (),
    *,
    scale: str | None = None,
    results: Folder = "results",
    experiments: Folder | None = None,
) -> Iterator[Packed]:
    """Moves the results of each folder into its pack, folder/runs.jsonl. Weights and records stay files of their own.

    Files are removed once the pack was written and read back. So the same command continues one that was stopped, and
    nothing is lost at any time. Results that are published later are files again, which the next call packs, too.

    Args:
      names: of experiments, or "train" for runs of one's own; none: every folder with MANY results or more.
      scale: smoke, laptop or paper; None: each that has results.

    Raises:
      UsageError: no such experiment, or there are no results.
      StorageError: a result is damaged, or the pack cannot be written; then the folder is as it was.
    """
    chosen = tuple(names)
    found = [folder for folder in _folders(chosen, scale, results, experiments) if packs.paths(folder)]
    if not found:
        raise UsageError(f"no results to pack in {results}; name another folder with --results DIR")
    large = [folder for folder in found if chosen or len(packs.paths(folder)) >= MANY]
    if not large:
        raise UsageError(f"no folder in {results} has {MANY} results; to pack fewer, name their experiment")
    yield from map(pack_folder, large)


def _folders(names: tuple[str, ...], scale: str | None, results: Folder, experiments: Folder | None) -> list[Path]:
    """The folders that are asked for, whether there are results in them or not."""
    root = studies.open_folder(results)
    if scale not in (None, *SCALES):
        raise UsageError(f"scale must be one of {', '.join(SCALES)}, got {scale!r}")
    scales = SCALES if scale is None else (scale,)
    if not names:
        own = [root / studies.TRAIN] if scale is None else []
        return sorted([*(path for each in scales for path in root.glob(f"*/{each}")), *own])
    found = [name if name == studies.TRAIN else finding.find(name, experiments, results).name for name in names]
    return [root / name / each for name in found for each in ([""] if name == studies.TRAIN else scales)]


def pack_folder(folder: Path) -> Packed:
    """Packs one folder; see `pack`."""
    with locks.claim(folder, packs.LOCK, wait=True):
        paths = packs.paths(folder)
        single = [path for path in paths if path.exists()]
        lines = {path.name: _line(path) for path in paths}
        content = b"".join(lines.values())
        if len(content) > LONGEST_FILE:
            raise StorageError(
                f"{folder}: its results would be a pack of more than {LONGEST_FILE >> 20} MB; left as it is"
            )
        pack = folder / packs.FILE
        if _written(folder) != lines:
            atomic.write(pack, content)
        if _written(folder) != lines:
            raise StorageError(
                f"{pack}: is not what was written to it; every file was left, run the same command again"
            )
        left = tuple(path.stem for path in single if not _remove(path, lines[path.name]))
    return Packed(folder, len(lines), len(single) - len(left), left)


def _written(folder: Path) -> dict[str, bytes]:
    """Name → line, of the pack on disk."""
    return {name: line.content + b"\n" for name, line in packs.lines(folder).items()}


def _line(path: Path) -> bytes:
    """A result as its line; it is checked.

    Raises:
      Damaged: see `store.read`.
    """
    try:
        content, place = packs.load(path)
    except OSError as error:
        raise packs.unreadable(path, error) from error
    store.parse(content, path, place)
    return strict_json.in_a_line(json.loads(content))


def _remove(path: Path, line: bytes) -> bool:
    """Removes the file of a result that is in the pack, unless another process works on the run or has just done so."""
    with locks.claim(path.parent, path.stem) as ours:
        if not ours or _line(path) != line:
            return False
        path.unlink(missing_ok=True)
        return True
