"""Files that are whole or not there at all, who works on what, and checkpoints. What results say, `results` knows.

A file appears by one atomic rename, after its content is on disk. Work in progress is one checkpoint file (two while a
new one is written) under .work/<run id>/, gone once the run's result is published. Locks keep processes from doing the
same work twice; that no file is ever torn, and none overwritten by a different one, does not depend on them.
"""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen.errors import StorageError

if TYPE_CHECKING:
    import numpy as np

    from rethink_gen.experiment import AnyRun

logger = logging.getLogger(__name__)


def write(path: Path, content: bytes) -> None:
    """Makes `path` hold `content`, or leaves it as it was: a unique temporary file, flushed to disk, then renamed."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # the new name, too, outlives a power cut
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> StorageError:
    """The error for a place that takes no files."""
    return StorageError(f"{path}: cannot be written ({error.strerror}); free space or name another --results")


def make_folder(folder: Path) -> None:
    """The folder is there. Nothing else makes one: results that vanish under way, with their disk, are not replaced."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def work_folder(folder: Path, run: AnyRun) -> Path:
    """Where a run under way keeps its checkpoint."""
    return folder / ".work" / run.id


def lock_file(folder: Path, name: str) -> Path:
    """Locked by the process that works on `name`; holds a dot for each that began and did not come to an end."""
    return folder / ".work" / f"{name}.lock"


@contextmanager
def claim(folder: Path, name: str, *, wait: bool = False) -> Iterator[bool]:
    """Yields whether `name` in this folder is now ours, until the block ends or this process dies, however it dies.

    Ours alone where the file system has locks. What processes left that died while it was theirs is swept away.
    """
    lock = lock_file(folder, name)
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
        return lock_file(folder, run.id).stat().st_size
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


def save_checkpoint(folder: Path, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> None:
    """Keeps a state and what goes with it as one file; the one before stays until this one is safe on disk."""
    content = pack(arrays, notes)
    with suppress(OSError):  # `write` says it better
        folder.mkdir(exist_ok=True)
    older = sorted(folder.glob("checkpoint-*.npz"))
    number = int(older[-1].stem.split("-")[1]) + 1 if older else 0
    write(folder / f"checkpoint-{number:08d}.npz", content)
    for path in older[:-1]:
        path.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The newest checkpoint that is whole, or None. A damaged one is set aside as `.corrupt`, the one before used."""
    for path in sorted(filter(Path.is_file, folder.glob("checkpoint-*.npz")), reverse=True):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
        try:
            return unpack(content)
        except Exception:  # NumPy and zipfile raise whatever they like on damaged bytes
            logger.warning("%s is damaged: set aside as .corrupt, the one before it is used", path)
            path.rename(path.with_suffix(".corrupt"))
    return None


def pack(arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> bytes:
    """A checkpoint as bytes: a zip of .npy members, whose CRCs make a flipped bit an error when it is read."""
    import numpy as np

    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(notes).encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, **{**arrays, "notes": text})  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and notes of a checkpoint; an error of NumPy's or zipfile's if it is damaged."""
    import numpy as np

    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(arrays.pop("notes").tobytes())
