"""Files of named arrays beside a result, one .npz file each: the learned weights, and what was recorded.

The provenance of the result has the checksum of each, as weights_sha256 and records_sha256.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen import atomic
from rethink_gen.errors import StorageError

if TYPE_CHECKING:
    import numpy as np

KINDS = ("weights", "records")
STATE = "state/"  # before the names of what is in a file of weights so that a longer run can begin where this one ended
CHECKSUMS = tuple(f"{kind}_sha256" for kind in KINDS)
_AGAIN = "delete it and run the command that made it again"


def file(result: Path, kind: str) -> Path:
    """The path of a file of arrays, from that of its result."""
    return result.with_name(result.name.removesuffix(".json") + suffix(kind))


def suffix(kind: str) -> str:
    """What the name of a file of arrays has after the id of its run."""
    return f".{kind}.npz"


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a file; equal arrays have equal bytes."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def checksum(content: bytes) -> str:
    """SHA-256 of a file, hex, as the provenance of its result has it."""
    return hashlib.sha256(content).hexdigest()


def read(result: Path, kind: str, provenance: Mapping[str, Any]) -> bytes | None:
    """The bytes of a file of arrays; None if it is not there.

    Args:
      provenance: of the result. It has no checksum if an older version wrote the result.

    Raises:
      StorageError: the file cannot be read, or has another checksum.
    """
    path = file(result, kind)
    if not path.exists():
        return None
    if not path.is_file():  # reading a device or a pipe might never end
        raise StorageError(f"{path}: not a file; delete it")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    if provenance.get(f"{kind}_sha256") not in (None, checksum(content)):
        raise StorageError(f"{path}: damaged, or the {kind} of another result; {_AGAIN}")
    return content


def unpack(content: bytes, path: Path) -> dict[str, np.ndarray]:
    """The arrays in the bytes of a file.

    Raises:
      StorageError: they are damaged; the line names `path`.
    """
    import numpy as np

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # NumPy and zipfile raise many kinds of errors on damaged bytes
        raise StorageError(f"{path}: damaged; {_AGAIN}") from error


def write(result: Path, contents: Mapping[str, bytes]) -> None:
    """Writes the files of a result, kind → bytes, and deletes those of the other kinds."""
    for kind in KINDS:
        if kind in contents:
            atomic.write(file(result, kind), contents[kind])
        else:
            file(result, kind).unlink(missing_ok=True)


def copy(result: Path, target: Path, provenance: Mapping[str, Any]) -> None:
    """Copies the files of a result that are there beside another path of it."""
    for kind in KINDS:
        content = read(result, kind, provenance)
        if content is not None:
            atomic.write(file(target, kind), content)


def set_aside(result: Path, digest: str) -> None:
    """Renames the files of a stale result to <run id>.<digest>.stale.npz, its records to .stale.records.npz."""
    for kind, suffix in (("weights", "stale.npz"), ("records", "stale.records.npz")):
        if (path := file(result, kind)).exists():
            path.rename(result.with_suffix(f".{digest}.{suffix}"))
