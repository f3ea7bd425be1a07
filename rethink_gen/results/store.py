"""Read and write results, one file per run. Only this module knows what a result file holds; it imports no jax.

A run is done if and only if there is a valid file results/<experiment>/<scale>/<run id>.json, or a line of a pack that
stands for it, see packs.py. The file appears by one atomic rename. It has a checksum of its content and contains
everything about the run: its fields, curves, summary and provenance. So results can be moved, copied, committed and
compared.

Other files of a run are in the same folder:

* <run id>.weights.npz: the learned weights, if they were to be kept; .records.npz: what it recorded;
* <run id>.failed: why the last attempt ended without a result;
* <run id>.<digest>.conflict: a different result of the same run;
* <run id>.<digest>.stale: a result of the user's own code or data, which has changed since; .stale.npz: its weights;
  .stale.records.npz: its records.

See also atomic.py (how files are written), locks.py (runs in progress) and training/checkpointing.py.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen import atomic, digests
from rethink_gen.errors import StorageError, UsageError
from rethink_gen.results import failing, kept, locks, packs, strict_json, validation
from rethink_gen.results.records import from_arrays, to_arrays, weights_from_arrays
from rethink_gen.results.result import Result, same_end
from rethink_gen.results.validation import Damaged
from rethink_gen.runs import KINDS, AnyRun, Run
from rethink_gen.version import __version__

if TYPE_CHECKING:
    pass


_SCHEMA = 1
logger = logging.getLogger(__name__)


def save(result: Result, folder: Path, *, replace: bool = False) -> Path:
    """Publishes a result as folder/<run id>.json, atomically, and deletes the checkpoints of the run.

    If a different result of the same run exists, it stays, and the new one is written as .conflict. Weights and records
    are written before the result, whose provenance has their checksums; old ones are deleted.

    Args:
      result: to publish.
      folder: results/<experiment>/<scale>.
      replace: whether to overwrite an existing result.

    Returns:
      The path of the file that now holds the result.

    Raises:
      StorageError: a file cannot be written.
    """
    arrays = {"weights": result.weights, "records": to_arrays(result.records, result.weights_at)}
    beside = {kind: kept.pack(each) for kind, each in arrays.items() if each}
    provenance = {name: value for name, value in result.provenance.items() if name not in kept.CHECKSUMS}
    provenance |= {f"{kind}_sha256": kept.checksum(content) for kind, content in beside.items()}
    content = {
        "schema": _SCHEMA,
        "kind": result.run.kind,
        "id": result.run.id,
        "status": result.status,
        "run": dataclasses.asdict(result.run),
        "summary": strict_json.finite(result.summary),
        "curves": strict_json.finite(result.curves),
        "provenance": provenance,
        **({"correct": dict(result.correct)} if result.correct else {}),
    }
    path = result_file(folder, result.run)
    digest = _digest(content)
    replace = replace or locks.is_forced(folder, result.run.id)
    there = _read_existing(path, replace)
    if there and is_stale(there):
        _set_aside(there, folder)
        there = None
    text = strict_json.in_a_file({**content, "sha256": digest})
    if there and not replace:
        if not same_end(there, result):
            path = path.with_suffix(f".{digest[:8]}.conflict")
            atomic.write(path, text)
    else:
        atomic.make_folder(folder)
        try:
            kept.write(path, beside)
            atomic.write(path, text)
        except StorageError:
            if not path.exists():  # otherwise another process just published it and deleted our temporary file
                raise
    failing.file(folder, result.run).unlink(missing_ok=True)
    shutil.rmtree(locks.work_folder(folder, result.run), ignore_errors=True)
    return path


def _read_existing(path: Path, replace: bool) -> Result | None:
    """The result that is already there; None if there is none, or a damaged one that is to be replaced."""
    try:
        return read(path) if packs.exists(path) else None
    except Damaged as error:
        if replace and error.replaceable:
            return None
        raise


def read(path: Path) -> Result:
    """Reads and checks a result: its file, or the line of a pack that stands for it.

    Raises:
      Damaged: it cannot be read, is not a result, was altered, is of another run than its name says, or was
        written by another version of this package.
    """
    try:
        text, place = packs.load(path)
    except OSError as error:
        raise packs.unreadable(path, error) from error
    return parse(text, path, place)


def parse(text: bytes, path: Path, place: Path) -> Result:
    """Checks the JSON of a result.

    Args:
      path: what the result is called, folder/<run id>.json.
      place: where it stands: there, or a line of a pack.

    Raises:
      Damaged: see `read`.
    """
    content: Any = None
    try:
        content = json.loads(text)
        recorded = content.pop("sha256")
        if content["schema"] == _SCHEMA and recorded != _digest(content):
            raise Damaged(path, "damaged: its checksum does not match", place=place)
        validation.check_format(content, _SCHEMA)
        run = KINDS[content["kind"]](**content["run"])
        validation.check(content["kind"], content["status"], content["curves"], content["provenance"])
        provenance = validation.readable(content["provenance"])
        correct = validation.check_correct(content.get("correct", {}), provenance)
        result = Result(run, content["status"], content["curves"], provenance, correct=correct)
    except validation.Unknown as error:
        reason = f"has the {error}, which rethink-gen {__version__} does not know"
        raise Damaged(path, reason, f"to read it, install {validation.maker(content)}", place) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise Damaged(path, f"not a result file ({error})", place=place) from error
    if not run.id == content["id"] == path.stem:
        other = "but its name says otherwise" if place == path else "of which an earlier line says otherwise"
        raise Damaged(path, f"holds run {run.id}, {other}", place=place)
    return result


def load(folder: Path) -> list[Result]:
    """Reads all results of a folder, in the order of names; an empty list if the folder does not exist.

    Raises:
      Damaged: see `read`.
    """
    return [read(path) for path in packs.paths(folder)]


def sift(folder: Path) -> tuple[list[Result], list[Damaged]]:
    """Reads all valid results of a folder, in the order of names, and collects the errors of the damaged ones."""
    sound, damaged = [], []
    for path in packs.paths(folder):
        try:
            sound.append(read(path))
        except Damaged as error:
            damaged.append(error)
    return sound, damaged


def whole(path: Path) -> Result:
    """Reads a result file with its weights and its records, if they are there.

    Raises:
      StorageError: see `read`; or a file beside it is damaged, or that of another result.
    """
    result = read(path)
    contents = {kind: kept.read(path, kind, result.provenance) for kind in kept.KINDS}
    found: dict[str, Any] = {
        kind: kept.unpack(content, kept.file(path, kind)) for kind, content in contents.items() if content is not None
    }
    if "weights" in found:
        found["weights"] = {name: each for name, each in found["weights"].items() if not name.startswith(kept.STATE)}
    if "records" in found:
        arrays, file = found["records"], kept.file(path, "records")
        found |= {"records": from_arrays(arrays, file) or None, "weights_at": weights_from_arrays(arrays, file) or None}
    return dataclasses.replace(result, **found)


def is_stale(result: Result) -> bool:
    """Whether the user's own code or data have changed since this result was made."""
    then = result.provenance.get("code", {})
    return any(then.get(name) != digest for name, digest in digests.of_run(result.run).items())


def _set_aside(result: Result, folder: Path) -> Path:
    """Renames a stale result to <run id>.<digest>.stale, and what is beside it, so that tables leave it out."""
    path = result_file(folder, result.run)
    content, place = as_file(path)
    digest = hashlib.sha256(content).hexdigest()[:8]
    aside = path.with_suffix(f".{digest}.stale")
    logger.warning("%s was made with other code or data: set aside as %s", place, aside.name)
    kept.set_aside(path, digest)
    if place == path:
        return path.rename(aside)
    atomic.write(aside, content)  # the line stays; the file that is about to be written takes its place
    return aside


def adopt(run: AnyRun, folder: Path) -> Path | None:
    """Copies the result of the same run from another experiment of the same scale, if there is one.

    Returns:
      The path of the copy, or None.
    """
    if locks.is_forced(folder, run.id):
        return None
    for other in sorted(folder.parent.parent.glob(f"*/{folder.name}")):
        path = result_file(other, run)
        with suppress(Damaged):  # its own experiment reports this
            if other != folder and packs.exists(path) and not is_stale(read(path)):
                if packs.exists(result_file(folder, run)):
                    _set_aside(read(result_file(folder, run)), folder)
                return copy(path, folder)
    return None


def copy(path: Path, folder: Path) -> Path:
    """Copies a result and what is beside it to another folder, as a file of its own, atomically; the new path."""
    atomic.make_folder(folder)
    kept.copy(path, folder / path.name, read(path).provenance)
    atomic.write(folder / path.name, as_file(path)[0])
    (folder / path.name).with_suffix(".failed").unlink(missing_ok=True)
    return folder / path.name


def as_file(path: Path) -> tuple[bytes, Path]:
    """What a file of its own holds of a result, and where the result stands."""
    content, place = packs.load(path)
    return content if place == path else strict_json.in_a_file(json.loads(content)), place


def result_file(folder: Path, run: AnyRun) -> Path:
    """What the result of a run is called: the path of its file, if it has one of its own."""
    return folder / f"{run.id}.json"


def weights_file(folder: Path, run: AnyRun) -> Path:
    """The path of the learned weights of a run, if they were kept."""
    return kept.file(result_file(folder, run), "weights")


def done(folder: Path, run: AnyRun, *, weights: bool = False) -> bool:
    """Whether a run has a result.

    A result of the user's own code counts only if the code is unchanged, and none counts while the run is forced.

    Args:
      weights: whether a training run must also have its weights.
    """
    has_all = not weights or not isinstance(run, Run) or weights_file(folder, run).is_file()
    path = result_file(folder, run)
    if not has_all or not packs.exists(path) or locks.is_forced(folder, run.id):
        return False
    return not digests.of_run(run) or not is_stale(read(path))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()
