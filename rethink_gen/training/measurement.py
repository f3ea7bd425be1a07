"""Evaluate whole splits and compute the metrics of an epoch; at the end of a run, the measures that it names."""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from rethink_gen import registry
from rethink_gen.data.randomness import Key, root_key, stream
from rethink_gen.data.streaming import Stream
from rethink_gen.errors import ComponentError, UsageError, naming
from rethink_gen.measures.network import Network, Split, Weights
from rethink_gen.models import transfer
from rethink_gen.results.result import METRICS, TOP5, VALIDATION
from rethink_gen.results.validation import can_name_curve
from rethink_gen.runs import Run
from rethink_gen.training import collectives, core
from rethink_gen.training.compilation import convolves, jit
from rethink_gen.training.program import (
    Answers,
    Data,
    Hparams,
    Program,
    State,
    Sums,
    num_classes,
    reports_cross_entropy,
)
from rethink_gen.training.vectorize import Lanes

logger = logging.getLogger(__name__)
_EVALUATION_BATCH = 1000  # examples
_TRIED = 20  # examples that measures are tried on before training
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


# Programs, data sets and measures that were tried in this process.
_tried: set[tuple[Program, str, tuple[str, ...]]] = set()
# Options with which a built-in measure is tried: what takes long does not tell whether it goes with a network.
_QUICK = {"draws": 1, "iterations": 1, "steps": 1, "tolerance": 1.0}


@dataclass(frozen=True)
class _Function:
    """What the network of a program computes, for measures."""

    program: Program

    def inputs(self, images: Any) -> jax.Array:
        return core.inputs(self.program, images)

    def logits(self, weights: Weights, statistics: Any, images: Any) -> jax.Array:
        logits: Any = core.apply(self.program, weights, statistics, self.inputs(images))
        return logits.astype(np.float32)

    def losses(self, logits: jax.Array, labels: Any) -> jax.Array:
        return core.loss_of_each(self.program, logits, labels)

    def draw(self, key: Key, images: Any) -> Weights:
        return _first(self.program, key, images).params

    def layers(self, images: Any) -> transfer.Layers:
        return transfer.layers(self.program.model, core.example(self.program, images))


def _first(program: Program, key: Key, images: Any) -> State:
    number = np.float32(0)  # no weight depends on a rate
    return core.init(program, Hparams(key, number, number, number, number), images, key)


def network(run: Run, program: Program, weights: Weights, statistics: Any, train: Data, test: Data) -> Network:
    """The network of a run as measures see it; its first weights are drawn again from the seed.

    Args:
      weights, statistics: of the run itself, and no stack of lanes; the same of `train` and `test`.
    """
    function, images = _Function(program), np.asarray(train.images)
    return Network(
        function=function,
        weights=weights,
        initial=function.draw(root_key(run.seed_of("init")), images),
        statistics=statistics,
        train=Split(images, np.asarray(train.labels)),
        test=Split(np.asarray(test.images), np.asarray(test.labels)),
        key=stream(root_key(run.seed), "measures"),
    )


def try_measures(run: Run, program: Program, splits: Callable[[], tuple[Data, Data]]) -> None:
    """Computes each measure of a run of a few examples and first weights, so that a wrong one is named before training.

    Args:
      splits: the training and the test examples of the run, on the host; called where its measures are new.

    Raises:
      ComponentError: a measure fails, does not go with this network, or has the name of another column.
    """
    new = (program, run.dataset, run.measures)
    if new in _tried:
        return
    few = [jax.tree.map(lambda leaf: np.asarray(leaf[:_TRIED]), split) for split in splits()]
    first = _first(program, root_key(run.seed_of("init")), few[0].images)
    tried = network(run, program, first.params, first.batch_stats, *few)
    for text in run.measures:
        if not can_name_curve(text, run.kind) or text in (*METRICS, *TOP5, *VALIDATION):
            raise ComponentError(f"measure {text!r}: a column of results cannot have this name; give it another")
        compute(tried, _quick(text))
    _tried.add(new)


def _quick(text: str) -> str:
    """A built-in measure with the options of _QUICK."""
    if not registry.is_built_in("measure", text):
        return text
    name, given = registry.parse(text)
    quick = {option: value for option, value in _QUICK.items() if option in registry.options_of("measure", text)}
    inside = ",".join(f"{option}={value}" for option, value in {**given, **quick}.items())
    return f"{name}({inside})" if inside else name


def compute(network: Network, text: str) -> float | None:
    """The value of one measure; None if it is not finite.

    Raises:
      ComponentError: it fails, does not go with this network, or returns something else than a number.
    """
    with naming("measure", text):
        try:
            found = registry.resolve("measure", text)(network)
        except UsageError as error:  # it does not go with this network
            raise ComponentError(f"measure {text!r}: {error}") from error
    if np.shape(found) != () or not np.issubdtype(np.asarray(found).dtype, np.number):
        raise ComponentError(f"measure {text!r} must return one number, not {type(found).__name__} {np.shape(found)}")
    return float(found) if np.isfinite(found) else None


def compute_all(network: Network, texts: Iterable[str]) -> dict[str, float | None]:
    """Text → value of each measure. One that fails has no value and is named in a warning: the training is not lost."""
    values: dict[str, float | None] = {}
    for text in texts:
        try:
            values[text] = compute(network, text)
        except (ComponentError, MemoryError) as error:
            logger.warning("%s", error)
            values[text] = None
    return values
