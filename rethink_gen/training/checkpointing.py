"""Checkpoints: a training state as named arrays in one file."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen.errors import StorageError

if TYPE_CHECKING:
    import numpy as np


import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.atomic import write
from rethink_gen.results.locks import logger
from rethink_gen.training.core import State


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


def check_same(then: dict[str, str], now: dict[str, str], work: Path) -> None:
    """Refuses to go on with what another run, other data, another version of jax or another device began."""
    differ = [f"{name} {then.get(name)}, here {now[name]}" for name in now if then.get(name) != now[name]]
    if differ:
        way_out = "continue it there, or remove that folder to begin again"
        raise StorageError(f"{work}: its checkpoint was made with {'; '.join(differ)}; {way_out}")


def flatten(state: State) -> dict[str, np.ndarray]:
    """A state as named arrays on the host."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def learned(state: State) -> dict[str, np.ndarray]:
    """What a network has learned, as named arrays on the host: params/Conv_0/kernel, batch_stats/BatchNorm_0/mean."""
    leaves, _ = jax.tree_util.tree_flatten_with_path({"params": state.params, "batch_stats": state.batch_stats})
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def restore(like: State, arrays: dict[str, np.ndarray]) -> State:
    """The state in named arrays, in the structure of `like`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.asarray(arrays[jax.tree_util.keystr(path)]), like)
