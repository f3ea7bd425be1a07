"""Files that are whole or not there at all, who works on what, and checkpoints. What results say, `results` knows.

A file appears by one atomic rename, after its content is on disk. Work in progress is one checkpoint file (two while a
new one is written) under .work/<run id>/, gone once the run's result is published. Locks keep processes from doing the
same work twice; that no file is ever torn, and none overwritten by a different one, does not depend on them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rethink_gen.errors import StorageError

if TYPE_CHECKING:
    from rethink_gen.runs import AnyRun

from rethink_gen.atomic import unwritable

logger = logging.getLogger(__name__)


def work_folder(folder: Path, run: AnyRun) -> Path:
    """Where a run under way keeps its checkpoint."""
    return folder / ".work" / run.id


def _lock_file(folder: Path, name: str) -> Path:
    """Locked by the process that works on `name`; holds a dot for each that began and did not come to an end."""
    return folder / ".work" / f"{name}.lock"


@contextmanager
def claim(folder: Path, name: str, *, wait: bool = False) -> Iterator[bool]:
    """Yields whether `name` in this folder is now ours, until the block ends or this process dies, however it dies.

    Ours alone where the file system has locks. What processes left that died while it was theirs is swept away.
    """
    lock = _lock_file(folder, name)
    for path in (lock.parent, lock.parent / name, lock):
        if path.is_symlink():
            raise StorageError(f"{path}: is a link, and may lead anywhere; remove it")
    try:
        lock.parent.mkdir(exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise unwritable(lock, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError:  # no locks here: work may be done twice, and comes out the same
            pass
        with suppress(OSError):
            os.write(descriptor, b".")
        try:
            yield True
        finally:
            with suppress(OSError):
                for leftover in folder.glob(f".{name}.*-*"):
                    leftover.unlink()
                os.ftruncate(descriptor, 0)
                if (folder / f"{name}.json").exists() and not (lock.parent / name).exists():
                    lock.unlink()
    finally:
        os.close(descriptor)


def tidy(folder: Path) -> None:
    """Removes what processes that died after they had published a result left behind."""
    for lock in (folder / ".work").glob("*.lock"):
        if (folder / f"{lock.stem}.json").exists():
            with claim(folder, lock.stem) as ours:
                if ours:
                    shutil.rmtree(folder / ".work" / lock.stem, ignore_errors=True)


def deaths(folder: Path, run: AnyRun) -> int:
    """How many processes died while they worked on a run, without a word."""
    try:
        return _lock_file(folder, run.id).stat().st_size
    except OSError:
        return 0


def running(folder: Path) -> list[str]:
    """The runs that processes are at now, by id; read from their locks, without a write."""
    found = []
    for lock in filter(Path.is_file, sorted((folder / ".work").glob("*.lock"))):
        with suppress(OSError), lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(lock.stem)
    return found
