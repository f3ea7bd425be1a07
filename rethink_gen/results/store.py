"""Read and write results, one file per run. Only this module knows what a result file holds; it imports no jax.

A run is done if and only if there is a valid file results/<experiment>/<scale>/<run id>.json, or a line of a pack that
stands for it, see packs.py. The file appears by one atomic rename. It has a checksum of its content and contains
everything about the run: its fields, curves, summary and provenance. So results can be moved, copied, committed and
compared.

Other files of a run are in the same folder:

* <run id>.weights.npz: the learned weights, if they were to be kept; .records.npz: the records of examples;
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
import math
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen import atomic, digests
from rethink_gen.errors import StorageError, UsageError
from rethink_gen.results import comparing, failing, kept, locks, packs, strict_json, validation
from rethink_gen.results.records import Records, from_arrays, from_text, to_arrays
from rethink_gen.results.validation import Damaged
from rethink_gen.runs import KINDS, AnyRun, Run
from rethink_gen.version import __version__

if TYPE_CHECKING:
    import numpy as np


_SCHEMA = 1
# The training accuracy at fixed weights that counts as fitted. Not stated in the paper. The paper's own MLP reaches
# 99.34 % on random labels (Table 1), so a higher threshold would count this network as unable to fit.
FIT_THRESHOLD = 0.99
# The metrics of a training run at each epoch. Accuracies are fractions in [0, 1], losses are in nats. `train_` and
# `test_`: over the whole split at fixed weights; of a stream, `train_` is over its first 50,000 examples. `running_`:
# over the minibatches of the epoch. `untouched` and `corrupted`: over the training examples with their true label, and
# over the others; of these, `train_recovered` are classified as their true class. `noisy_labels`: against test labels
# that are corrupted as those of the training examples. With more than ten classes, the TOP5 metrics are added; with a
# validation_size, the VALIDATION metrics, against labels as given.
METRICS = (
    "epoch",
    "step",
    "train_loss",
    "train_accuracy",
    "train_accuracy_untouched",
    "train_accuracy_corrupted",
    "train_recovered",
    "running_loss",
    "running_accuracy",
    "test_loss",
    "test_accuracy",
    "test_accuracy_noisy_labels",
    "weight_norm",
    "norm_product",
)
# What became of the training examples whose label was corrupted: classified as given, or as they truly are.
FATES = ("train_accuracy_corrupted", "train_recovered")
TOP5 = ("train_top5_accuracy", "test_top5_accuracy", "best_test_top5_accuracy")  # the last one is per run
VALIDATION = ("validation_loss", "validation_accuracy")
Curves = dict[str, list[float | None]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """The result of a run that ended."""

    run: AnyRun
    status: str  # "finished", or "diverged" at the last epoch of the curves
    curves: Curves  # metric → one value per epoch; training starts at initialization, a closed form has only epoch 0
    provenance: dict[str, Any]
    # Name → array, such as params/Conv_0/kernel, if the weights were to be kept. They are in a file of their own.
    weights: Mapping[str, np.ndarray] | None = field(default=None, compare=False, repr=False)
    # Split → the records of its examples, if the run asks for them. They are in a file of their own, too.
    records: Mapping[str, Records] | None = field(default=None, compare=False, repr=False)
    # Split → which of its examples were classified as their label at the end, if the run asks for it; `is_correct`.
    correct: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def setting(self) -> str:
        """The run id without seeds: equal for results that differ only in their seeds."""
        return self.run.setting

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def data(self) -> tuple[str, str]:
        """The name of the data set, and the checksum of its content before corruption; empty if it is not recorded."""
        return self.run.dataset, self.provenance.get("data_sha256") or ""

    @property
    def fields(self) -> dict[str, Any]:
        """The kind of the run and its fields, as plain Python values."""
        return {"kind": self.run.kind, **dataclasses.asdict(self.run)}

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Metric → float64[E], with NaN in place of None."""
        import numpy as np

        return {name: np.array(values, float) for name, values in self.curves.items()}

    @property
    def summary(self) -> dict[str, float | None]:
        """Values per run for tables. `epochs_to_fit` and `steps_to_fit` are None if the run never fitted (censored)."""
        return _summarize(self.curves)

    def is_correct(self, split: str = "train") -> np.ndarray:
        """bool[N]: which examples of a split the network classified as their label at the end.

        Raises:
          UsageError: the run did not record it, or has no such split.
        """
        if split not in self.correct:
            raise UsageError(f"{self.id} has no record of which {split} examples are correct: Run(record='correct')")
        return from_text(self.correct[split], self.provenance[f"num_{split}"])

    def __repr__(self) -> str:
        return f"Result({self.run.id}: {self.status})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{key}</th><td>{value}</td></tr>" for key, value in self.summary.items())
        return f"<table><caption>{self.run.id} ({self.status})</caption>{rows}</table>"


def _summarize(curves: Curves) -> dict[str, float | None]:
    """Summarizes curves: the last value of each metric, the best epoch, and when the run first fitted."""
    last = {name: values[-1] for name, values in curves.items() if name not in ("epoch", "step")}
    train, test = (curves.get(name, [None]) for name in ("train_accuracy", "test_accuracy"))
    fitted = [i for i, accuracy in enumerate(train) if accuracy is not None and accuracy >= FIT_THRESHOLD]
    best = max(range(len(test)), key=lambda i: test[i] or 0.0)
    held_out = curves.get("validation_accuracy")
    chosen = max(range(len(test)), key=lambda i: held_out[i] or 0.0) if held_out else 0
    top5 = [accuracy for accuracy in curves.get("test_top5_accuracy", []) if accuracy is not None]
    return {
        **last,
        **({"best_test_top5_accuracy": max(top5)} if top5 else {}),
        "generalization_gap": _known(train[-1]) - _known(test[-1]),
        "best_epoch": curves["epoch"][best],
        "best_test_accuracy": test[best],
        **({"validated_epoch": curves["epoch"][chosen], "validated_test_accuracy": test[chosen]} if held_out else {}),
        "epochs_to_fit": curves["epoch"][fitted[0]] if fitted else None,
        "steps_to_fit": curves["step"][fitted[0]] if fitted and "step" in curves else None,
    }


def _known(value: float | None) -> float:
    """Gives a recorded value; NaN where none was recorded, since 0.0 is a value."""
    return math.nan if value is None else value


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
    arrays = {"weights": result.weights, "records": to_arrays(result.records) if result.records else None}
    beside = {kind: kept.pack(each) for kind, each in arrays.items() if each is not None}
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
        if not comparing.same_end(there, result):
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
        found["records"] = from_arrays(found["records"], kept.file(path, "records"))
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
