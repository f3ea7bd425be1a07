"""Run locks: which process works on which run.

A process locks .work/<run id>.lock while it works on a run. The checkpoints of the run are under .work/<run id>/: one
file, or two while a new one is written. They are deleted when the result of the run is published.

Locks only keep processes from doing the same work twice. Without locks no file is torn, because each file appears by
one atomic rename (see atomic.py); and no result is overwritten by a different one (see store.py).
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rethink_gen.atomic import make_folder, unwritable
from rethink_gen.errors import StorageError
from rethink_gen.results import packs

if TYPE_CHECKING:
    from rethink_gen.runs import AnyRun

logger = logging.getLogger(__name__)

_FORCED = "forced"  # the name of the mark
PATIENCE = 10.0  # seconds of waiting, after which it is said for whom
_SECONDS_BETWEEN_TRIES = 0.1


def work_folder(folder: Path, run: AnyRun) -> Path:
    """The folder for the checkpoints of a run."""
    return folder / ".work" / run.id


def lock_file(folder: Path, name: str) -> Path:
    """The lock file of `name`. It contains one dot for each process that started the work and did not finish it."""
    return folder / ".work" / f"{name}.lock"


@contextmanager
def claim(folder: Path, name: str, *, wait: bool = False) -> Iterator[bool]:
    """Locks `name` and yields whether this process holds the lock.

    The lock ends with the block, or when this process dies for any reason. If the file system has no locks, it yields
    True, and several processes may do the same work. Temporary files of processes that died are deleted.

    Args:
      folder: of the results.
      name: a run id, or another name of work in this folder.
      wait: whether to wait for the lock if another process holds it.

    Raises:
      StorageError: the lock file cannot be written, or one of the paths is a symbolic link.
    """
    lock = lock_file(folder, name)
    for path in (lock.parent, lock.parent / name, lock):
        if path.is_symlink():
            raise StorageError(f"{path}: is a symbolic link, which may point anywhere; delete it")
    descriptor = _open(lock)
    try:
        if not _lock(descriptor, lock, wait):
            yield False
            return
        with suppress(OSError):
            os.write(descriptor, b".")
        try:
            yield True
        finally:
            with suppress(OSError, StorageError):
                for leftover in folder.glob(f".{name}.*-*"):
                    leftover.unlink()
                os.ftruncate(descriptor, 0)
                if packs.exists(folder / f"{name}.json") and not (lock.parent / name).exists():
                    lock.unlink()
    finally:
        os.close(descriptor)


def _open(lock: Path) -> int:
    """Opens a lock file, for all who may write in the folder of results: the users of a shared folder have one.

    A lock file that another user's umask protects is opened for reading, which is enough to lock it.
    """
    try:
        if not lock.parent.exists():
            lock.parent.mkdir(exist_ok=True)
            with suppress(OSError):
                lock.parent.chmod(stat.S_IMODE(lock.parent.parent.stat().st_mode))
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except PermissionError:
            return os.open(lock, os.O_RDONLY)
        with suppress(OSError):  # it is another user's
            os.fchmod(descriptor, stat.S_IMODE(lock.parent.stat().st_mode) & 0o666 | 0o600)
        return descriptor
    except OSError as error:
        raise unwritable(lock, error) from error


def _lock(descriptor: int, path: Path, wait: bool) -> bool:
    """Locks an open file, and returns whether this process has it now. Says for whom it waits, if that takes long."""
    started = said = time.monotonic()
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if not wait:
                return False
        except OSError:  # no locks here: work may be done twice, with the same result
            return True
        if said == started and time.monotonic() - started > PATIENCE:
            said = time.monotonic()
            logger.warning("waiting for %s: %s", path, holder(path))
        time.sleep(_SECONDS_BETWEEN_TRIES)


def holder(lock: Path) -> str:
    """Who holds a lock, and how to go on, in words. Linux names the process; other systems do not."""
    with suppress(OSError, ValueError, IndexError):
        about = lock.stat()
        place = f"{os.major(about.st_dev):02x}:{os.minor(about.st_dev):02x}:{about.st_ino}"
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines() if f" {place} " in line]
        process = next(int(line[4]) for line in lines if line[1] == "FLOCK")
        if is_stopped(process):
            ways = f"kill -CONT {process} continues it, kill -9 {process} ends it"
            return f"process {process} holds it and is stopped; {ways}"
        return f"process {process} holds it; it goes on when that process ends"
    return "another process holds it; it goes on when that process ends"


def is_stopped(process: int) -> bool:
    """Whether a process was stopped by a signal, such as Ctrl-Z; False if it is not known."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith(("T", "t"))
    return False


def begin_anew(folder: Path, run: AnyRun) -> None:
    """Deletes the checkpoints of a run and marks it as not done, until its next result is published.

    So a forced command that was stopped is continued by the same command without force. A run that another process
    works on now stays as it is.
    """
    make_folder(folder)
    with claim(folder, run.id) as ours:
        if ours:
            shutil.rmtree(work_folder(folder, run), ignore_errors=True)
            try:
                work_folder(folder, run).mkdir(exist_ok=True)
                (work_folder(folder, run) / _FORCED).touch()
            except OSError as error:
                raise unwritable(work_folder(folder, run), error) from error


def is_forced(folder: Path, run_id: str) -> bool:
    """Whether a run is to be trained although it has a result; see `begin_anew`."""
    return (folder / ".work" / run_id / _FORCED).exists()


def tidy(folder: Path) -> None:
    """Deletes locks and checkpoints of processes that died after they published a result."""
    for lock in (folder / ".work").glob("*.lock"):
        if packs.exists(folder / f"{lock.stem}.json") and not is_forced(folder, lock.stem):
            with claim(folder, lock.stem) as ours:
                if ours:
                    shutil.rmtree(folder / ".work" / lock.stem, ignore_errors=True)


def deaths(folder: Path, run: AnyRun) -> int:
    """The number of processes that died while they worked on a run."""
    try:
        return lock_file(folder, run.id).stat().st_size
    except OSError:
        return 0


def running(folder: Path) -> list[str]:
    """The ids of the runs that processes work on now, from their locks; writes nothing."""
    found = []
    for lock in filter(Path.is_file, sorted((folder / ".work").glob("*.lock"))):
        with suppress(OSError), lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(lock.stem)
    return found
