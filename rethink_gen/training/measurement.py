"""Evaluate whole splits and compute the metrics of an epoch."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rethink_gen import registry
from rethink_gen.data.streaming import Stream
from rethink_gen.training import collectives, core
from rethink_gen.training.compilation import convolves, jit
from rethink_gen.training.program import Answers, Data, Program, State, Sums, num_classes, reports_cross_entropy
from rethink_gen.training.vectorize import Lanes

_EVALUATION_BATCH = 1000  # examples
# A run has diverged, and ends, if its loss is so many times that of a constant guess for so many epochs. Our choice: no
# committed run was above 21 times after its first epoch, and those few came back.
_EXPLODED, _EXPLODED_EPOCHS = 100, 3
_STREAMED_EVALUATION = 50_000  # training images of a stream to evaluate; as many as ImageNet's test split has


class Measured(NamedTuple):
    """What was measured of one run after an epoch."""

    row: dict[str, float | None]  # of the curves
    answers: dict[str, Answers]  # split → what the network answers to its examples, if that is recorded


def measure(
    program: Program,
    state: State,
    train: Data | Stream,
    test: Data | Stream,
    lanes: Lanes,
    *,
    step: int,
    epoch: int,
    validation: Data | None = None,
    each: bool = False,
) -> list[Measured]:
    """Evaluates the splits and returns what was measured for each lane.

    `train_` and `test_` metrics are at fixed weights; `running_` metrics are means over the minibatches of the epoch,
    while the weights changed. A value is None if it is not finite or nothing was counted.

    Args:
      state: of all lanes.
      step, epoch: completed so far; both are columns of the row.
      each: whether to return the answers to each example, too.
    """
    splits = {"train": train, "test": test} | ({} if validation is None else {"validation": validation})
    totals = [total(program, state, data, lanes, each=each) for data in splits.values()]
    whole = tuple(sums for sums, _ in totals)
    norms = [jit(norm, lanes)(state) for norm in (core.weight_norm, core.layer_norms)]
    rows = []
    everything: tuple[Any, ...] = (whole, *collectives.fetch((state.running, *norms)))
    for lane, (sums, running, weight_norm, layer_norms) in enumerate(lanes.unstack(everything)):
        train_sums, test_sums, *held_out = sums
        untouched = train_sums.count - train_sums.changed
        right_untouched = train_sums.correct - train_sums.correct_changed
        recovered = (
            train_sums.correct_other - right_untouched
        )  # corrupted examples that are classified as they truly are
        row = {
            "epoch": epoch,
            "step": step,
            "train_loss": _ratio(train_sums.loss, train_sums.count),
            "train_accuracy": _ratio(train_sums.correct, train_sums.count),
            "train_accuracy_untouched": _ratio(right_untouched, untouched),
            "train_accuracy_corrupted": _ratio(train_sums.correct_changed, train_sums.changed),
            "train_recovered": _ratio(recovered, train_sums.changed),
            "running_loss": _ratio(running.loss, running.count),
            "running_accuracy": _ratio(running.correct, running.count),
            "test_loss": _ratio(test_sums.loss, test_sums.count),
            "test_accuracy": _ratio(test_sums.correct, test_sums.count),
            "test_accuracy_noisy_labels": _ratio(test_sums.correct_other, test_sums.count if test_sums.changed else 0),
            "weight_norm": _ratio(float(weight_norm), 1.0),
            "norm_product": _ratio(math.prod(map(float, layer_norms)), 1.0),
        }
        if train_sums.correct_top5 is not None:
            row["train_top5_accuracy"] = _ratio(train_sums.correct_top5, train_sums.count)
            row["test_top5_accuracy"] = _ratio(test_sums.correct_top5, test_sums.count)
        for sums in held_out:
            row["validation_loss"] = _ratio(sums.loss, sums.count)
            row["validation_accuracy"] = _ratio(sums.correct, sums.count)
        answers = {name: answers[lane] for name, (_, answers) in zip(splits, totals, strict=True) if answers}
        rows.append(Measured(row, answers))
    return rows


def total(
    program: Program, state: State, data: Data | Stream, lanes: Lanes, *, each: bool = False
) -> tuple[Sums, list[Answers]]:
    """The metrics of a whole split as sums; of a stream, over its first _STREAMED_EVALUATION examples.

    Args:
      each: whether to return the answers to each example, too, for each lane; not of a stream.
    """
    answers: list[Answers] = []
    if isinstance(data, Stream):
        evaluate, size = jit(core.evaluate_batch, convolves=True), min(len(data.labels), _STREAMED_EVALUATION)
        order = np.arange(-(-size // program.batch_size) * program.batch_size).reshape(-1, program.batch_size)
        rows = order.clip(max=size - 1)  # examples of weight 0 fill the last batch
        weights = (order < size).astype(np.float32)
        parts = [evaluate(program, state, collectives.read_batch(data, rows, i), weights[i]) for i in range(len(rows))]
    else:
        function = core.evaluate_each if each else core.evaluate
        evaluate = jit(function, lanes, convolves=convolves(program.model, data.images.shape[-3:]))
        count = data.labels.shape[-1]
        size = min(_EVALUATION_BATCH, count)
        parts = [evaluate(program, state, data, start, size) for start in range(0, count, size)]
        if each:
            parts, windows = zip(*collectives.fetch(parts), strict=True)
            answers = [_joined(each_lane, count) for each_lane in zip(*map(lanes.unstack, windows), strict=True)]

    def exact(*column: Any) -> Any:
        return sum(np.asarray(part, np.float64) for part in column)

    return jax.tree.map(exact, *collectives.fetch(parts)), answers


def _joined(windows: Sequence[Answers], count: int) -> Answers:
    """The answers to `count` examples from those to each window; the last window is longer than what is left."""
    return jax.tree.map(lambda *columns: np.concatenate(columns)[:count], *windows)


def constant_guess(program: Program) -> float:
    """The loss of equal logits for all classes: log K for cross-entropy."""
    classes = num_classes(program)
    if reports_cross_entropy(program):
        return math.log(classes)
    labels = jax.nn.one_hot(np.zeros(1, np.int32), classes)
    return float(registry.resolve("loss", program.loss)(np.zeros((1, classes), np.float32), labels)[0])


def diverged(losses: Sequence[float | None], guess: float, *, ended: bool) -> bool:
    """Whether a run diverged: its loss is not finite, or far above that of a constant guess for several epochs.

    Args:
      losses: of the training set, at the start and after each epoch. The start does not count: before the first step
        the statistics of batch norm are not those of the data.
      guess: from `constant_guess`.
      ended: whether there are no more epochs. Then all of a few are enough.
    """
    if losses[-1] is None:
        return True
    last = losses[1:][-_EXPLODED_EPOCHS:]
    enough = len(last) == _EXPLODED_EPOCHS or (ended and len(last) > 0)
    return enough and guess > 0 and all(loss is None or loss > _EXPLODED * guess for loss in last)


def _ratio(total: float, count: float) -> float | None:
    """total / count; None if this is not finite, because nothing was counted or the run diverged."""
    value = float(total) / float(count) if count else float("nan")
    return value if np.isfinite(value) else None
