"""Records while a run trains, of examples and of weights: rows of measured epochs, on the host and in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rethink_gen import memory
from rethink_gen.errors import UsageError
from rethink_gen.results import scores
from rethink_gen.results.records import CHANGED, SEEN, Records, to_text
from rethink_gen.results.result import Curves
from rethink_gen.runs import CORRECT, EXAMPLES, WEIGHTS, Run
from rethink_gen.training import collectives
from rethink_gen.training.program import Answers, Data

_PREFIX = "records/"
_OF_WEIGHTS = "weights/"
_MOST_BYTES = 10**9  # of recorded weights: they are in memory while a run trains, and in its checkpoints
Rows = dict[str, list[np.ndarray]]  # such as train/loss → float16[N] for each measured epoch; SEEN → bool[N], once
Labels = Mapping[str, tuple[np.ndarray, np.ndarray]]  # split → int32[N], as the run was given them, and true ones


def add(rows: Rows, answers: Mapping[str, Answers], run: Run) -> None:
    """Adds what the network answered after an epoch, split → answers; it replaces the last, if that is all to keep."""
    for split, each in answers.items():
        for name, array in each._asdict().items():
            before = rows.get(f"{split}/{name}", []) if EXAMPLES in run.record else []
            rows[f"{split}/{name}"] = [*before, np.asarray(array)]


def add_seen(rows: Rows, order: Any, size: int) -> None:
    """Notes which examples an epoch trains on, for runs that record what is correct.

    Args:
      order: int32[S, B], of the epoch.
      size: the number of training examples.
    """
    [seen] = rows.setdefault(SEEN, [np.zeros(size, bool)])
    seen[np.asarray(order)] = True


def add_weights(rows: Rows, weights: Mapping[str, np.ndarray]) -> None:
    """Adds the weights after an epoch."""
    for name, array in weights.items():
        rows.setdefault(_OF_WEIGHTS + name, []).append(array)


def check_size(run: Run, weights: Mapping[str, np.ndarray]) -> None:
    """Refuses to record more weights than memory should hold.

    Raises:
      UsageError: says how many bytes that would be, and how they become fewer.
    """
    epochs = len(run.measured_epochs)
    if (size := epochs * sum(array.nbytes for array in weights.values())) > _MOST_BYTES:
        raise UsageError(
            f"record=weights of {epochs} epochs would take {memory.gigabytes(size)}, at most "
            f"{memory.gigabytes(_MOST_BYTES)} are kept: set fewer measurements"
        )


def to_arrays(rows: Rows) -> dict[str, np.ndarray]:
    """The rows as arrays of a checkpoint."""
    return {_PREFIX + name: np.stack(each) for name, each in rows.items()}


def split(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Rows]:
    """The arrays of a checkpoint as those of the training state, and the rows."""
    state = {name: array for name, array in arrays.items() if not name.startswith(_PREFIX)}
    rows = {name.removeprefix(_PREFIX): list(array) for name, array in arrays.items() if name not in state}
    return state, rows


def labels(splits: Mapping[str, Any], lane: int | None) -> Labels:
    """Split → its labels as a run was given them, and true ones; of streams, nothing.

    Args:
      splits: `Data` of all lanes, streams, or None where there is no such split.
      lane: that of the run; None: there is one alone.
    """
    found = {}
    for name, data in ((name, data) for name, data in splits.items() if isinstance(data, Data)):
        given, other = collectives.fetch((data.labels, data.other))
        if lane is not None:
            given, other = given[lane], other[lane]
        found[name] = (given, given if name == "test" else other)
    return found


def records(rows: Rows, epochs: list[Any], labels: Labels, run: Run) -> dict[str, Records] | None:
    """Split → the records of its examples at the measured epochs, if the run asks for them."""
    if EXAMPLES not in run.record:
        return None
    return {
        name: Records(np.asarray(epochs, np.int32), *each, *(np.stack(rows[f"{name}/{x}"]) for x in Answers._fields))
        for name, each in labels.items()
    }


def weights(rows: Rows, epochs: list[Any], run: Run) -> dict[int, dict[str, np.ndarray]] | None:
    """Epoch → the weights after it, if the run asks for them."""
    if WEIGHTS not in run.record:
        return None
    named = {name.removeprefix(_OF_WEIGHTS): each for name, each in rows.items() if name.startswith(_OF_WEIGHTS)}
    return {epoch: {name: each[i] for name, each in named.items()} for i, epoch in enumerate(epochs)}


def correct(rows: Rows, labels: Labels, run: Run) -> dict[str, str]:
    """Split → which of its examples were classified as their label at the end, as text, if the run asks for it.

    Besides, where they tell training examples apart: SEEN, which of them the run was trained on, and CHANGED, which
    have not their true label.
    """
    if CORRECT not in run.record:
        return {}
    right = {name: to_text(rows[f"{name}/prediction"][-1] == given) for name, (given, _) in labels.items()}
    given, true = labels["train"]
    [seen], changed = rows.get(SEEN, [np.ones(len(given), bool)]), given != true
    right |= {} if seen.all() else {SEEN: to_text(seen)}
    return right | ({CHANGED: to_text(changed)} if changed.any() else {})


def with_scores(curves: Curves, kept: Mapping[str, Records] | None) -> Curves:
    """The curves of a run, and those that follow from the records of its training examples."""
    return {**curves, **scores.curves(kept["train"])} if kept else curves
