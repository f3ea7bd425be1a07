"""Atomic file writes: a file is there whole, or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from rethink_gen.errors import StorageError, UsageError

_OLD = 86_400.0  # seconds; no write takes as long
_REFUSED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # of fsync where a disk has none; nothing was lost


def write(path: Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Makes `path` hold `content`, or leaves it as it was: a unique temporary file, flushed to disk, then renamed.

    Args:
      content: the bytes, or a function that writes them to an open file.

    Raises:
      StorageError: the place takes no files.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(temporary, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            _to_disk(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            _to_disk(folder)  # the new name, too, outlives a power cut
        finally:
            os.close(folder)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sweep(folder: Path, pattern: str) -> None:
    """Deletes temporary files that processes which were killed have left in a folder, once they are a day old."""
    for path in folder.glob(pattern):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLD:
                path.unlink()


def _to_disk(descriptor: int) -> None:
    """Flushes a file or a folder to disk, where that can be done: some network disks refuse it."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise


def unwritable(path: Path, error: OSError) -> StorageError:
    """The error for a place that takes no files."""
    return StorageError(
        f"{path}: cannot be written ({error.strerror}); free space or choose another place with --results or --output"
    )


def as_path(place: str | Path) -> Path:
    """A place on this machine's disks as a path; `~` is the user's home.

    Raises:
      UsageError: it is an address, such as gs://bucket.
    """
    if address := re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(place)):
        way_out = "name a folder of this machine, and copy or mount what is there"
        raise UsageError(f"{place} is an address ({address[0].rstrip('/')}), not a folder; {way_out}")
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{place}: this user has no home; name the folder in full") from error


def make_folder(folder: Path) -> None:
    """The folder is there. Nothing else makes one: results that vanish under way, with their disk, are not replaced."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
