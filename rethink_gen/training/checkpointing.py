"""Save and load checkpoints: a training state as named arrays in one file."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.atomic import write
from rethink_gen.errors import StorageError
from rethink_gen.results.locks import logger

Tree = TypeVar("Tree")


def save_checkpoint(folder: Path, arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> None:
    """Writes a checkpoint file; the previous one stays until the new one is safe on disk.

    Args:
      folder: where the checkpoints of the run are.
      arrays: the state, from `flatten`.
      notes: whatever else a resumed run needs, as JSON values.

    Raises:
      StorageError: the file cannot be written.
    """
    content = pack(arrays, notes)
    with suppress(OSError):  # `write` has a better error message
        folder.mkdir(exist_ok=True)
    older = sorted(folder.glob("checkpoint-*.npz"))
    number = int(older[-1].stem.split("-")[1]) + 1 if older else 0
    write(folder / f"checkpoint-{number:08d}.npz", content)
    for path in older[:-1]:
        path.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Reads the newest valid checkpoint: (arrays, notes), or None if there is none.

    A damaged checkpoint is renamed to `.corrupt`, and the one before it is used.

    Raises:
      StorageError: the file cannot be read.
    """
    for path in sorted(filter(Path.is_file, folder.glob("checkpoint-*.npz")), reverse=True):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
        try:
            return unpack(content)
        except Exception:  # NumPy and zipfile raise many kinds of errors on damaged bytes
            logger.warning("%s is damaged: renamed to .corrupt; using the checkpoint before it", path)
            path.rename(path.with_suffix(".corrupt"))
    return None


def pack(arrays: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> bytes:
    """Serializes a checkpoint to bytes: a zip of .npy members. Their CRCs detect flipped bits when it is read."""
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(notes).encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, **{**arrays, "notes": text})  # type: ignore[arg-type]
    return buffer.getvalue()


def unpack(content: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Parses the bytes of a checkpoint into (arrays, notes).

    Raises:
      Exception: errors of NumPy or zipfile, if the bytes are damaged.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads(arrays.pop("notes").tobytes())


def check_same(then: dict[str, str], now: dict[str, str], work: Path) -> None:
    """Checks that a checkpoint belongs to this run and was made by what would continue it.

    Args:
      then: what the checkpoint was made with, by name.
      now: the same facts of this process.
      work: the folder of the checkpoint, for the message.

    Raises:
      StorageError: a fact differs.
    """
    differ = [
        f"{name} {then.get(name) or 'unknown'}, here {now[name] or 'none'}"
        for name in now
        if then.get(name) != now[name]
    ]
    if differ:
        cores = re.fullmatch(r".* \((\d+) cores?\)", then.get("device", ""))
        nproc = f" with NPROC={cores[1]}" if cores and then["device"] != now["device"] else ""
        way_out = f"continue there{nproc}, or delete that folder to start again"
        raise StorageError(f"{work}: its checkpoint was made with {'; '.join(differ)}; {way_out}")


def step_of(arrays: Mapping[str, np.ndarray], work: Path | None) -> int:
    """The step at which a checkpoint was saved.

    Raises:
      StorageError: its arrays have the names of an older version of this package.
    """
    if "step" not in arrays:
        raise StorageError(f"{work}: its checkpoint is of another version of rethink-gen; delete it to start again")
    return int(arrays["step"])


def flatten(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a state, or of a part of it, as named arrays on the host.

    Names are paths, such as params/Conv_0/kernel and batch_stats/BatchNorm_0/mean.
    """
    return {_name(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def restore(like: Tree, arrays: Mapping[str, np.ndarray]) -> Tree:
    """Converts named arrays from `flatten` back to a tree with the structure of `like`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.asarray(arrays[_name(path)]), like)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def check_fits(like: Any, arrays: Mapping[str, np.ndarray], folder: Path) -> None:
    """Refuses named arrays that do not have the names and shapes of `like`, such as those of an older model.

    Raises:
      StorageError: names the folder of the checkpoint, and how to start again.
    """
    here = {_name(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(like)}
    there = {name: array.shape for name, array in arrays.items()}
    if differ := sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name)):
        name = differ[0]
        shapes = f"{there.get(name, 'absent')}, here {here.get(name, 'absent')}"
        way_out = "delete that folder to start again, or give --force"
        raise StorageError(f"{folder}: its checkpoint is of another network ({name}: {shapes}); {way_out}")
