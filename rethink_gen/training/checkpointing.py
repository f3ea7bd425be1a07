"""Save and load checkpoints: a training state as named arrays in one file.

A run that kept its weights kept the rest of its last state with them, so that a longer run can begin there.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen import digests, registry
from rethink_gen.atomic import write
from rethink_gen.errors import StorageError
from rethink_gen.optimization import schedules
from rethink_gen.results import kept, locks, packs, store
from rethink_gen.results.locks import logger
from rethink_gen.runs import Run

Tree = TypeVar("Tree")
Checkpoint = tuple[dict[str, np.ndarray], dict[str, Any]]  # arrays and notes
_MADE_BY = f"{kept.STATE}made_by"


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
        for each in (folder.parent, folder):  # no more of them: a folder of results that is gone is not made anew
            each.mkdir(exist_ok=True)
    older = sorted(folder.glob("checkpoint-*.npz"))
    number = int(older[-1].stem.split("-")[1]) + 1 if older else 0
    write(folder / f"checkpoint-{number:08d}.npz", content)
    for path in older[:-1]:
        path.unlink(missing_ok=True)


def load_checkpoint(folder: Path) -> Checkpoint | None:
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


def to_continue(run: Run, folder: Path | None, *, prolong: bool) -> Checkpoint | None:
    """Where a run goes on: its newest checkpoint, or the end of a shorter one; None: it starts, or starts again.

    Args:
      folder: where the checkpoints of the run are; None: it has none.
      prolong: whether it may begin where a shorter one ended; see `of_shorter`.
    """
    if folder is None:
        return None
    found = load_checkpoint(folder) or (of_shorter(run, folder.parent.parent) if prolong else None)
    if found and found[1].get("made_by", {}).get("code", {}) != digests.of_run(run):
        return None  # the user's code has changed since
    return found


def weights_of(state: Any) -> dict[str, np.ndarray]:
    """What a run has learned by now, as named arrays of their own: the state goes on."""
    arrays = flatten(state)
    return {name: np.array(each) for name, each in arrays.items() if name.startswith(("params/", "batch_stats/"))}


def last_state(state: Any, made_by: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The weights of a run, and the rest of its last state with what made it, as named arrays."""
    arrays, weights = flatten(state), weights_of(state)
    rest = {kept.STATE + name: array for name, array in arrays.items() if name not in weights}
    return {**weights, **rest, _MADE_BY: np.frombuffer(json.dumps(made_by).encode(), np.uint8)}


def of_shorter(run: Run, folder: Path) -> Checkpoint | None:
    """Where the same run with fewer epochs ended, if its weights were kept in this folder of results: the longest one.

    From there, a run has the numbers that it would have from its start: so no schedule that depends on the number of
    epochs, the same epochs measured, no records of examples and no measures. Its notes have the id of the shorter run,
    as `continues`; what made it is still to be compared.
    """
    schedule = registry.parse(run.schedule)[0]
    dependent = schedule in schedules.OF_THE_WHOLE or not registry.is_built_in("schedule", run.schedule)
    if dependent or run.record or run.measures or locks.is_forced(folder, run.id):
        return None
    found: list[tuple[store.Result, Path]] = []
    for file in folder.glob(f"{run.id.rpartition('-')[0]}-*{kept.suffix('weights')}"):
        path = file.with_name(file.name.removesuffix(kept.suffix("weights")) + ".json")
        with suppress(StorageError):  # the run it is of reports this
            if packs.exists(path) and _begins(run, (result := store.read(path)).run) and result.status == "finished":
                found.append((result, path))
    for result, path in sorted(found, key=lambda each: each[0].curves["epoch"][-1] or 0, reverse=True):
        with suppress(StorageError):
            content = kept.read(path, "weights", result.provenance)
            arrays = kept.unpack(content or b"", kept.file(path, "weights"))
            if _MADE_BY in arrays:
                return _at_the_end(result, arrays, run)
    return None


def _at_the_end(result: store.Result, arrays: dict[str, np.ndarray], run: Run) -> Checkpoint:
    """The end of a shorter run as a checkpoint of a longer one."""
    made_by = {**json.loads(arrays.pop(_MADE_BY).tobytes()), "run": run.id}
    seconds = sum(result.provenance.get(name) or 0.0 for name in ("seconds_train", "seconds_compile"))
    notes = {"curves": result.curves, "seconds": seconds, "made_by": made_by, "continues": result.id}
    return {name.removeprefix(kept.STATE): array for name, array in arrays.items()}, notes


def _begins(run: Run, shorter: Any) -> bool:
    """Whether a run begins as the other one, which has fewer epochs."""
    if not isinstance(shorter, Run) or shorter.epochs >= run.epochs or replace(shorter, epochs=run.epochs) != run:
        return False
    return {epoch for epoch in run.measured_epochs if epoch <= shorter.epochs} == set(shorter.measured_epochs)


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
        place = f"with NPROC={cores[1]}" if cores and then["device"] != now["device"] else "there"
        way_out = f"continue {place}, or delete that folder to start again"
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
