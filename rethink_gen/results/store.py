"""Result ↔ one file, folder ↔ one tidy frame. The only module that knows what is in a result's file, and no jax.

A run is done when a valid file results/<experiment>/<scale>/<run id>.json exists, and nothing else means done. The file
appears by one atomic rename, carries a checksum of its own content, and says all there is to say about the run: its
fields, curves, summary and provenance. So results can be moved, copied, committed and compared.

Beside it may stand <run id>.weights.npz, what the run has learned, where one asked to keep it; <run id>.failed, why the
last attempt ended without a result; <run id>.<digest>.conflict, another result of the same run; and
<run id>.<digest>.stale, a result of code or data of the user's own that have changed since. How files are
written, and what there is of runs under way, is `storage`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import math
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rethink_gen import atomic, digests
from rethink_gen.errors import StorageError, UsageError
from rethink_gen.results import locks
from rethink_gen.runs import KINDS, AnyRun, Run

if TYPE_CHECKING:
    import numpy as np


_SCHEMA = 1
WEIGHTS = ".weights.npz"
# Training accuracy at fixed weights that counts as fitted. Not stated in the paper; 0.99 is what its own MLP reaches on
# random labels (99.34 %, Table 1), so a higher threshold would call that network unable to fit.
FIT_THRESHOLD = 0.99
# What is measured at each epoch of a training. Accuracies are fractions, losses nats; `train_` and `test_` are of a
# whole split at fixed weights, `running_` over the minibatches of the epoch; `untouched` and `corrupted`: of the
# training examples whose labels are the true ones, and of the rest. With more than ten classes TOP5 come with them.
# Of a stream, `train_` are of its first 50,000 examples.
METRICS = (
    "epoch",
    "step",
    "train_loss",
    "train_accuracy",
    "train_accuracy_untouched",
    "train_accuracy_corrupted",
    "running_loss",
    "running_accuracy",
    "test_loss",
    "test_accuracy",
    "weight_norm",
    "norm_product",
)
TOP5 = ("train_top5_accuracy", "test_top5_accuracy", "best_test_top5_accuracy")  # the last of a whole run
Curves = dict[str, list[float | None]]
logger = logging.getLogger(__name__)


class Damaged(StorageError):
    """A file that is not the result it was."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}; remove it and run again")
        self.path = path


@dataclass(frozen=True)
class Result:
    """A run that ended: `finished`, or `diverged` at the last epoch of its curves.

    curves: metric → one value per epoch; of a training the first is at initialization, a closed form has one, epoch 0.
    weights: name → array, such as params/Conv_0/kernel, where they were to be kept; in a file of their own.
    """

    run: AnyRun
    status: str
    curves: Curves
    provenance: dict[str, Any]
    weights: Mapping[str, np.ndarray] | None = field(default=None, compare=False, repr=False)

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def setting(self) -> str:
        """What results of the same setting under different seeds have in common."""
        return self.run.setting

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def fields(self) -> dict[str, Any]:
        """The kind of the run and its fields, with values such as JSON has them."""
        return {"kind": self.run.kind, **dataclasses.asdict(self.run)}

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The curves as float64[E]; NaN stands for None."""
        import numpy as np

        return {name: np.array(values, float) for name, values in self.curves.items()}

    @property
    def summary(self) -> dict[str, float | None]:
        """What tables ask of a whole run; `epochs_to_fit` and `steps_to_fit` are None if it never fitted (censored)."""
        return _summarize(self.curves)

    def __repr__(self) -> str:
        return f"Result({self.run.id}: {self.status})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{key}</th><td>{value}</td></tr>" for key, value in self.summary.items())
        return f"<table><caption>{self.run.id} ({self.status})</caption>{rows}</table>"


def _summarize(curves: Curves) -> dict[str, float | None]:
    """Last value of each metric, best epoch, and when the run first fitted its training set, from its curves."""
    last = {name: values[-1] for name, values in curves.items() if name not in ("epoch", "step")}
    train, test = (curves.get(name, [None]) for name in ("train_accuracy", "test_accuracy"))
    fitted = [i for i, accuracy in enumerate(train) if accuracy is not None and accuracy >= FIT_THRESHOLD]
    best = max(range(len(test)), key=lambda i: test[i] or 0.0)
    top5 = [accuracy for accuracy in curves.get("test_top5_accuracy", []) if accuracy is not None]
    return {
        **last,
        **({"best_test_top5_accuracy": max(top5)} if top5 else {}),
        "generalization_gap": (train[-1] or math.nan) - (test[-1] or math.nan),
        "best_epoch": curves["epoch"][best],
        "best_test_accuracy": test[best],
        "epochs_to_fit": curves["epoch"][fitted[0]] if fitted else None,
        "steps_to_fit": curves["step"][fitted[0]] if fitted and "step" in curves else None,
    }


def save(result: Result, folder: Path, *, replace: bool = False) -> Path:
    """Publishes a result as folder/<run id>.json, complete or not at all, and removes its work in progress.

    Weights that were kept are there before it; those of a result that it replaces are gone.

    What is published stays, unless `replace`: another result of the same run is kept beside it, as a .conflict. Returns
    the path of what now holds the result.
    """
    content = {
        "schema": _SCHEMA,
        "kind": result.run.kind,
        "id": result.run.id,
        "status": result.status,
        "run": dataclasses.asdict(result.run),
        "summary": _finite(result.summary),
        "curves": _finite(result.curves),
        "provenance": result.provenance,
    }
    path = result_file(folder, result.run)
    digest = _digest(content)
    if path.exists() and is_stale(there := read(path)):
        _set_aside(there, folder)
    text = _one_line_lists(json.dumps({**content, "sha256": digest}, indent=1, allow_nan=False))
    if path.exists() and not replace:
        there = read(path)
        if (there.status, there.curves) != (result.status, _finite(result.curves)):
            path = path.with_suffix(f".{digest[:8]}.conflict")
            atomic.write(path, text.encode())
    else:
        atomic.make_folder(folder)
        try:
            _save_weights(result, folder)
            atomic.write(path, text.encode())
        except StorageError:
            if not path.exists():  # else another process has just published it, and swept away our half
                raise
    failure_file(folder, result.run).unlink(missing_ok=True)
    shutil.rmtree(locks.work_folder(folder, result.run), ignore_errors=True)
    return path


def read(path: Path) -> Result:
    """The result in a file. StorageError if it is unreadable, altered, or not the run that its name says."""
    if not path.is_file():  # a device has no end, and a pipe lets its reader wait for ever
        raise Damaged(path, "not a file")
    try:
        content = json.loads(path.read_bytes())
        recorded = content.pop("sha256")
        if content["schema"] != _SCHEMA:
            raise StorageError(
                f"{path}: schema {content['schema']} was written by another version; this one reads {_SCHEMA}"
            )
        if recorded != _digest(content):
            raise Damaged(path, "damaged, its checksum does not match")
        run = KINDS[content["kind"]](**content["run"])
        result = Result(run, content["status"], content["curves"], content["provenance"])
        shapes = {(type(values), len(values)) for values in (result.curves["epoch"], *result.curves.values())}
        if len(shapes) != 1 or not isinstance(result.provenance, dict):
            raise ValueError("it has not the shape of one")
    except OSError as error:
        raise StorageError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, UsageError) as error:
        raise Damaged(path, f"not a result file ({error})") from error
    if not run.id == content["id"] == path.stem:
        raise Damaged(path, f"holds run {run.id}, which its name does not say")
    return result


def load(folder: Path) -> list[Result]:
    """Every result in a folder, in the order of their names; none if the folder is not there."""
    return [read(path) for path in sorted(folder.glob("*.json"))]


def sift(folder: Path) -> tuple[list[Result], list[Damaged]]:
    """Every result in a folder that can be trusted, in the order of their names, and what is wrong with the others."""
    sound, damaged = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            sound.append(read(path))
        except Damaged as error:
            damaged.append(error)
    return sound, damaged


def _save_weights(result: Result, folder: Path) -> None:
    """Leaves a result's weights where its file will be; where it has none, none."""
    import numpy as np

    path = weights_file(folder, result.run)
    if result.weights is None:
        if path.exists():
            path.unlink()
        return
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **result.weights)  # type: ignore[arg-type]
    atomic.write(path, buffer.getvalue())


def with_weights(path: Path) -> Result:
    """The result in a file, with the weights that were kept of it, if they were."""
    import numpy as np

    result = read(path)
    kept = weights_file(path.parent, result.run)
    if not kept.exists():
        return result
    try:
        with np.load(io.BytesIO(kept.read_bytes()), allow_pickle=False) as file:
            return dataclasses.replace(result, weights={name: file[name] for name in file.files})
    except Exception as error:  # NumPy and zipfile raise whatever they like on damaged bytes
        raise StorageError(f"{kept}: damaged; the command that made it makes it anew once it is removed") from error


def is_stale(result: Result) -> bool:
    """Whether a result was made with other code or data of the user's own than what its names now refer to."""
    then = result.provenance.get("code", {})
    return any(then.get(name) != digest for name, digest in digests.of_run(result.run).items())


def _set_aside(result: Result, folder: Path) -> Path:
    """Keeps a result of other code as <run id>.<digest>.stale, out of all tables; its new path."""
    path = result_file(folder, result.run)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    logger.warning("%s was made with other code or data: set aside as .%s.stale", path, digest)
    return path.rename(path.with_suffix(f".{digest}.stale"))


def adopt(run: AnyRun, folder: Path) -> Path | None:
    """Copies the same run from a sibling experiment of the same scale, if one has finished it; the path of the copy."""
    for path in sorted(folder.parent.parent.glob(f"*/{folder.name}/{run.id}.json")):
        with suppress(Damaged):  # its own experiment says so
            if path.parent != folder and not is_stale(read(path)):
                return copy(path, folder)
    return None


def copy(path: Path, folder: Path) -> Path:
    """Publishes a file that holds a result, as it is, in another folder; its path there."""
    atomic.make_folder(folder)
    atomic.write(folder / path.name, path.read_bytes())
    (folder / path.name).with_suffix(".failed").unlink(missing_ok=True)
    return folder / path.name


class Failure(NamedTuple):
    """A run that ended without a result; the same command tries it again."""

    run: AnyRun
    reason: str


def save_failure(failure: Failure, folder: Path) -> None:
    """Leaves the reason beside the results, until the run has one."""
    atomic.write(failure_file(folder, failure.run), f"{failure.reason}\n".encode())


def failures(runs: Iterable[AnyRun], folder: Path) -> list[Failure]:
    """Which of the runs failed when they were last tried, and have no result since."""
    found = {path.stem: path for path in folder.glob("*.failed") if path.is_file()}
    files = [(run, found[run.id]) for run in runs if run.id in found] if found else []
    return [
        Failure(run, path.read_text(errors="replace").strip())
        for run, path in files
        if not result_file(folder, run).exists()
    ]


def result_file(folder: Path, run: AnyRun) -> Path:
    """The file that says that a run is done."""
    return folder / f"{run.id}.json"


def weights_file(folder: Path, run: AnyRun) -> Path:
    """The file that holds what a run has learned, if that was to be kept."""
    return folder / f"{run.id}{WEIGHTS}"


def done(folder: Path, run: AnyRun, *, weights: bool = False) -> bool:
    """Whether a run has its result, and beside it its weights, if those are asked for and there can be any.

    A result of a user's own code counts only if that code is still the same.
    """
    kept = not weights or not isinstance(run, Run) or weights_file(folder, run).exists()
    path = result_file(folder, run)
    if not kept or not path.exists():
        return False
    return not digests.of_run(run) or not is_stale(read(path))


def failure_file(folder: Path, run: AnyRun) -> Path:
    """The file that says why a run has no result."""
    return folder / f"{run.id}.failed"


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _finite(values: Any) -> Any:
    """JSON has no NaN: None stands for it."""
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def _one_line_lists(text: str) -> str:
    """Indented JSON with each curve on one line, so that a file can be read and a change to it diffed."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        lines[-1:] = [lines[-1] + line.strip()] if inside else [*lines[-1:], line]
        inside = line.endswith("[") or (inside and not line.strip().startswith("]"))
    return "\n".join(lines) + "\n"
