"""Pack and read the file of learned weights that lies beside a result: named arrays in one .npz file."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rethink_gen.errors import StorageError

if TYPE_CHECKING:
    import numpy as np

_AGAIN = "delete it and run the command that made it again"


def pack(weights: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a weights file; equal weights have equal bytes."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **weights)  # type: ignore[arg-type]
    return buffer.getvalue()


def checksum(content: bytes) -> str:
    """SHA-256 of a weights file, hex, as the provenance of its result has it."""
    return hashlib.sha256(content).hexdigest()


def read(path: Path, expected: str | None) -> bytes | None:
    """The bytes of a weights file; None if it is not there.

    Args:
      expected: their checksum; None: not known, because an older version wrote the result.

    Raises:
      StorageError: the file cannot be read, or has another checksum.
    """
    if not path.exists():
        return None
    if not path.is_file():  # reading a device or a pipe might never end
        raise StorageError(f"{path}: not a file; delete it")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    if expected not in (None, checksum(content)):
        raise StorageError(f"{path}: damaged, or the weights of another result; {_AGAIN}")
    return content


def unpack(content: bytes, path: Path) -> dict[str, np.ndarray]:
    """The weights in the bytes of a file.

    Raises:
      StorageError: they are damaged; the line names `path`.
    """
    import numpy as np

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # NumPy and zipfile raise many kinds of errors on damaged bytes
        raise StorageError(f"{path}: damaged; {_AGAIN}") from error
