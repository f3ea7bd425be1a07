"""Fit learners without gradients, scikit-learn's or a user's own, to the same corrupted data as networks see.

Inputs are all values of an image in a row, divided by 255. One fit gives a curve: the accuracies after so many trees,
rounds of boosting or leaves, see `stages`. A learner runs in a thread of its own, so that a stop signal is answered
while it works.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from rethink_gen import memory, registry
from rethink_gen.data.dataset import Dataset
from rethink_gen.errors import ComponentError, naming
from rethink_gen.results.result import Curves
from rethink_gen.runs import LearnerRun
from rethink_gen.solvers import stages
from rethink_gen.solvers.stages import Stage

Tick = Callable[[int, int, dict[str, float | None]], None]  # (step, steps, metrics) of the progress

_SECONDS_BETWEEN_TICKS = 0.2
_PARTS = 1000  # of the progress
_CHUNKS = 20  # in which a forest is grown
_NODE_BYTES = 64  # of a node of a tree, without its values, which are 8 bytes for each class
# Random labels of MNIST take libsvm 1.2 seconds of one core for 2,000 images, 5.4 for 4,000 and 39 for 8,000. That is
# about an hour for 40,000, and three for 60,000.
_MOST_FOR_SVM = 40_000


def solve(run: LearnerRun, dataset: Dataset, tick: Tick) -> tuple[Curves, dict[str, Any]]:
    """Fits a learner and evaluates each of its stages on both splits.

    Args:
      run: names the learner, and how many threads it may use.
      dataset: images uint8 or float32[n, H, W, C], labels int32[n].
      tick: called with the progress several times a second; it may raise to stop. What the learner was at then goes on
        in its thread until it ends, or the process does.

    Returns:
      Curves with one row per stage, and facts for provenance:

      * epoch: trees, rounds of boosting or leaves; 1 for a learner without stages;
      * train_accuracy, test_accuracy, train_accuracy_untouched, train_accuracy_corrupted, train_recovered: as of
        networks; None where there is no such example;
      * train_loss, test_loss: the mean of ‖p - y‖² with y one-hot, where the learner has probabilities p;
      * leaves, support_vectors, stored_examples or weights: what the learner consists of, where it can be counted;
      * train_effective_parameters, test_effective_parameters: where the run asks for them; see `stages`;
      * seconds_fit: of the whole fit, in the last row.

    Raises:
      ComponentError: the learner fails, is no classifier, cannot do data of this size, or has no effective parameters.
    """
    done = [0.0]  # the share of the work: half of it is the fit, half are the stages
    found: list[Any] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            found.append(_fit_and_follow(run, dataset, done))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True, name=run.id)
    thread.start()
    while thread.is_alive():
        thread.join(_SECONDS_BETWEEN_TICKS)
        tick(int(_PARTS * done[0]), _PARTS, {})
    if errors:
        raise errors[0]
    return found[0]


def _fit_and_follow(run: LearnerRun, dataset: Dataset, done: list[float]) -> tuple[Curves, dict[str, Any]]:
    """`solve`, in the thread of the learner; `done` is kept up to date."""
    from threadpoolctl import threadpool_limits  # comes with scikit-learn

    train, test = (_flat(split.images) for split in (dataset.train, dataset.test))
    with threadpool_limits(run.threads), warnings.catch_warnings(record=True) as warned, naming("learner", run.learner):
        warnings.simplefilter("always")
        learner = _create(run)
        if run.effective_parameters:
            stages.smoothers(learner, (train, test))  # refused before the fit, which may take long
        started = time.monotonic()
        _fit(run, learner, train, dataset, done)
        seconds = time.monotonic() - started
        counted = stages.effective_parameters(learner, (train, test)) if run.effective_parameters else {}
        count = len(stages.measured(learner))
        rows = []
        for stage in stages.follow(learner, (train, test)):
            rows.append(_row(run, learner, stage, dataset))
            names = ("train_effective_parameters", "test_effective_parameters")
            rows[-1] |= dict(zip(names, counted.get(stage.number, []), strict=False))
            done[0] = 0.5 + 0.5 * len(rows) / count
    rows[-1]["seconds_fit"] = round(seconds, 2)
    told = sorted({str(each.message).partition("\n")[0][:200] for each in warned})
    curves = {name: [row.get(name) for row in rows] for name in {name: 0 for row in rows for name in row}}
    packages = {each.__module__.partition(".")[0] for each in type(learner).__mro__}
    lightgbm = {"lightgbm": version("lightgbm")} if "lightgbm" in packages else {}
    return curves, {"scikit_learn": version("scikit-learn"), **lightgbm, **({"warnings": told} if told else {})}


def _flat(images: Any) -> np.ndarray:
    """All values of each image, divided by 255: float32[n, D]."""
    return np.asarray(images, np.float32).reshape(len(images), -1) / np.float32(255)


def _create(run: LearnerRun) -> Any:
    """The learner that a run names, with its seed and number of threads wherever it has such parameters.

    Raises:
      ComponentError: it is no classifier.
    """
    build = registry.resolve("learner", run.learner)
    learner = build(run.seed) if "seed" in registry.parameters(build) else build()
    if not all(callable(getattr(learner, name, None)) for name in ("fit", "predict")):
        raise ComponentError(
            f"learner {run.learner!r} must return a classifier with fit and predict, not {type(learner).__name__}"
        )
    if callable(getattr(learner, "get_params", None)):
        last = {name: name.rpartition("__")[2] for name in learner.get_params()}
        threads = {name: run.threads for name in last if last[name] == "n_jobs" and run.threads > 1}
        unset = [name for name, value in learner.get_params().items() if last[name] == "random_state" and value is None]
        learner.set_params(**threads, **dict.fromkeys(unset, run.seed))
    return learner


def _fit(run: LearnerRun, learner: Any, x: np.ndarray, dataset: Dataset, done: list[float]) -> None:
    """Fits the learner; a forest in chunks, so that its size is known after the first tree, and its progress later.

    Raises:
      ComponentError: it would take hours, or more memory than is free.
    """
    from sklearn.svm import SVC

    y = dataset.train.labels
    if isinstance(learner, SVC) and len(y) > _MOST_FOR_SVM:
        raise ComponentError(
            f"learner {run.learner!r} would take hours on {len(y):,} images: set train_size={_MOST_FOR_SVM}"
        )
    if not stages.is_forest(learner):
        learner.fit(x, y)
        return
    trees = learner.n_estimators
    learner.set_params(warm_start=True)
    for number in sorted({1, *(trees * i // _CHUNKS for i in range(1, _CHUNKS + 1))} - {0}):
        learner.set_params(n_estimators=number).fit(x, y)
        done[0] = 0.5 * number / trees
        if number == 1:
            _check_memory(
                run, learner.estimators_[0].tree_.node_count * (_NODE_BYTES + 8 * dataset.num_classes) * trees
            )


def _check_memory(run: LearnerRun, needed: int) -> None:
    """Refuses a forest that does not fit.

    Raises:
      ComponentError: names what is needed and what is free.
    """
    if needed > (free := memory.free_of_host()):
        sizes = f"needs {memory.gigabytes(needed)}; {memory.gigabytes(free)} are free"
        raise ComponentError(f"learner {run.learner!r} {sizes}: set fewer trees or a smaller train_size")


def _row(run: LearnerRun, learner: Any, stage: Stage, dataset: Dataset) -> dict[str, float | None]:
    """What is measured of a stage."""
    row: dict[str, float | None] = {"epoch": stage.number}
    for name, split, outputs in zip(("train", "test"), (dataset.train, dataset.test), stage.outputs, strict=True):
        predicted = np.asarray(outputs)
        if predicted.ndim == 2 and predicted.shape[1] == len(learner.classes_):
            probabilities = np.zeros((len(predicted), dataset.num_classes))
            probabilities[:, learner.classes_] = predicted
            squares = np.square(probabilities - np.eye(dataset.num_classes)[split.labels]).sum(1)
            row[f"{name}_loss"] = float(squares.mean())
            predicted = learner.classes_[predicted.argmax(1)]
        if predicted.shape != split.labels.shape or not np.isin(predicted, np.arange(dataset.num_classes)).all():
            last = dataset.num_classes - 1
            raise ComponentError(f"learner {run.learner!r} must predict a label of 0 to {last} for each image")
        row[f"{name}_accuracy"] = _mean(predicted == split.labels)
        if name == "train":
            right, changed = predicted == split.labels, dataset.changed
            row["train_accuracy_untouched"] = _mean(right[~changed])
            row["train_accuracy_corrupted"] = _mean(right[changed])
            row["train_recovered"] = _mean((predicted == dataset.true_labels)[changed])
    return row | stage.capacity


def _mean(which: np.ndarray) -> float | None:
    """The share of examples; None of none."""
    return float(which.mean()) if len(which) else None
