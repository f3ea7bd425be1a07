"""Records of examples while a run trains: one row for each measured epoch, on the host and in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rethink_gen.results import scores
from rethink_gen.results.records import Records
from rethink_gen.results.store import Curves
from rethink_gen.runs import Run
from rethink_gen.runs.training import EXAMPLES
from rethink_gen.training.program import Answers

_PREFIX = "records/"
Rows = dict[str, list[np.ndarray]]  # such as train/loss → float16[N] for each measured epoch


def wanted(run: Run) -> bool:
    """Whether the records of its examples are to be kept."""
    return EXAMPLES in run.record


def add(rows: Rows, answers: Mapping[str, Answers]) -> None:
    """Adds what the network answered after an epoch, split → answers."""
    for split, each in answers.items():
        for name, array in each._asdict().items():
            rows.setdefault(f"{split}/{name}", []).append(np.asarray(array))


def to_arrays(rows: Rows) -> dict[str, np.ndarray]:
    """The rows as arrays of a checkpoint."""
    return {_PREFIX + name: np.stack(each) for name, each in rows.items()}


def split(arrays: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], Rows]:
    """The arrays of a checkpoint as those of the training state, and the rows."""
    state = {name: array for name, array in arrays.items() if not name.startswith(_PREFIX)}
    rows = {name.removeprefix(_PREFIX): list(array) for name, array in arrays.items() if name not in state}
    return state, rows


def records(rows: Rows, epochs: list[Any], labels: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Records]:
    """Split → the records of its examples.

    Args:
      epochs: those that were measured.
      labels: split → int32[N], labels as the run was given them, and true labels.
    """
    return {
        name: Records(np.asarray(epochs, np.int32), *each, *(np.stack(rows[f"{name}/{x}"]) for x in Answers._fields))
        for name, each in labels.items()
    }


def with_scores(curves: Curves, kept: Mapping[str, Records] | None) -> Curves:
    """The curves of a run, and those that follow from the records of its training examples."""
    return {**curves, **scores.curves(kept["train"])} if kept else curves
