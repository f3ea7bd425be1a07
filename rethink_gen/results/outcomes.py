"""Outcomes: which examples the network of a run classifies as their labels at its end, and which it was trained on.

A run keeps them if it asks for them, `Run(record="correct")`: a bit for each example, as text in its result, see
`records`. So thousands of runs are packed with them into one file. From runs on different subsets, `order="subset"`,
follow the memorization of an example, its influence on others, and its consistency.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rethink_gen.errors import UsageError
from rethink_gen.results.records import CHANGED, SEEN, from_text

if TYPE_CHECKING:
    import numpy as np

    from rethink_gen.results.result import Result

# Score of an example → which of its values point to a wrong label (1: large, -1: small), and what it is.
SCORES = {
    "memorization": (1, "how much more often it is classified as its label if it was trained on"),
    "unseen_accuracy": (-1, "share of the networks not trained on it that classify it as its label"),
}


class Outcomes(NamedTuple):
    """N training and M test examples of one run; of R runs, with an axis of runs in front."""

    train: np.ndarray  # bool[N]: the last network classifies the example as its label, as the run was given it
    test: np.ndarray  # bool[M]
    seen: np.ndarray  # bool[N]: the run was trained on the example
    changed: np.ndarray  # bool[N]: its label is not the true one


def of(results: Sequence[Result]) -> Outcomes:
    """The outcomes of runs on the same examples, bool[R, …].

    Raises:
      UsageError: there are no runs, one recorded none, or they have different numbers of examples.
    """
    import numpy as np

    if not results:
        raise UsageError("no runs here; train some that record='correct'")
    columns = list(zip(*map(_of_run, results), strict=True))
    for split, rows in zip(("training", "test"), columns, strict=False):
        if len(sizes := sorted({*map(len, rows)})) > 1:
            raise UsageError(f"runs have {' and '.join(map(str, sizes))} {split} examples: choose runs on the same")
    return Outcomes(*map(np.stack, columns))


def _of_run(result: Result) -> Outcomes:
    import numpy as np

    def bits(name: str, default: bool) -> np.ndarray:
        text, count = result.correct.get(name), result.provenance["num_train"]
        return np.full(count, default) if text is None else from_text(text, count)

    right = (result.is_correct(split) for split in ("train", "test"))
    return Outcomes(*right, seen=bits(SEEN, True), changed=bits(CHANGED, False))


def accuracies(outcomes: Outcomes, part: np.ndarray) -> dict[str, np.ndarray]:
    """Of each run, float64[R]: `accuracy_seen` on the examples that it was trained on, `accuracy_unseen` on the others.

    Args:
      part: bool[N], the examples that count.
    """
    import numpy as np

    right, seen = outcomes.train[:, part], outcomes.seen[:, part]
    columns = {"accuracy_seen": seen, "accuracy_unseen": ~seen}
    with np.errstate(invalid="ignore"):  # a run that has seen all of them
        return {name: (right & those).sum(1) / those.sum(1) for name, those in columns.items()}


class Memorization(NamedTuple):
    """How the training examples of runs on different subsets depend on being seen; NaN where one kind of run lacks."""

    seen: np.ndarray  # float64[N]: share of the runs with the example that classify it as its label
    unseen: np.ndarray  # float64[N]: of those without it; the mean over shares of subsets is the C-score
    runs: np.ndarray  # int[N]: how many runs have the example

    @property
    def memorization(self) -> np.ndarray:
        """float64[N], in [-1, 1]: how much more often the example is classified as its label if it was trained on.

        References:
          Feldman & Zhang 2020, Equation 1.
        """
        return self.seen - self.unseen


def memorization(outcomes: Outcomes) -> Memorization:
    """The memorization of training examples, from outcomes of R runs on different subsets."""
    with_it, without = _mean(outcomes.seen, outcomes.train), _mean(~outcomes.seen, outcomes.train)
    return Memorization(with_it, without, outcomes.seen.sum(0))


def influence(outcomes: Outcomes, examples: Any = slice(None)) -> np.ndarray:
    """float64[N, M]: how much more often a test example is classified right if a training example was trained on.

    It is NaN of a training example that all runs were trained on, or none.

    Args:
      examples: which training examples, as an index of arrays.

    References:
      Feldman & Zhang 2020, Equation 2.
    """
    import numpy as np

    seen, right = outcomes.seen[:, examples].astype(float), outcomes.test.astype(float)
    with_it = seen.sum(0)[:, None]
    with np.errstate(invalid="ignore"):
        return seen.T @ right / with_it - (1 - seen).T @ right / (len(seen) - with_it)


def _mean(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
    """float64[N]: the mean over chosen runs, bool[R, N]; NaN where there are none."""
    import numpy as np

    counts = chosen.sum(0)
    return np.where(counts > 0, (chosen & values).sum(0) / np.maximum(counts, 1), np.nan)
