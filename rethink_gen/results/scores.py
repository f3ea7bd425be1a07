"""Scores of examples, from records of them: which are learned late, forgotten, or labelled wrongly.

Each score is a function of the records of one run and one split. It returns float32[E, N], one row for each measured
epoch after the start: the score from the epochs up to that one. The last row is the score of the run. All papers below
observe examples in the minibatches of training. Our choice: once an epoch, at fixed weights and without augmentation,
so that all examples are seen by the same network. Epoch 0, before training, does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from rethink_gen.results.records import Records

Function = Callable[[Records], np.ndarray]
EARLY = 0.1  # of all epochs; see `el2n`
DIGITS = 6  # of the curves that results keep


def forgetting(records: Records) -> np.ndarray:
    """The number of forgetting events: classified as its label at one epoch, and otherwise at the next.

    An example that has never been learned counts as forgotten at every epoch, as in the authors' code: no example that
    was learned can have more events.

    References:
      Toneva et al. 2018, Definitions in Section 2; mtoneva/example_forgetting, order_examples_by_forgetting.py.
    """
    correct = records.trained.correct
    events = np.zeros(correct.shape, np.float32)
    events[1:] = np.cumsum(correct[:-1] & ~correct[1:], axis=0)
    return np.where(_learned(correct), events, _numbers(correct))


def first_learned(records: Records) -> np.ndarray:
    """The first measured epoch at which the example is classified as its label; one more than the last, if at none.

    References:
      Toneva et al. 2018, Section 4 (epochs until an example is first learned).
    """
    trained = records.trained
    first = trained.epoch[np.argmax(trained.correct, axis=0)] if len(trained.epoch) else trained.label
    return np.where(_learned(trained.correct), first, trained.epoch[:, None] + 1).astype(np.float32)


def aum(records: Records) -> np.ndarray:
    """The area under the margin: the mean over epochs of the logit of the label minus the largest other logit.

    References:
      Pleiss et al. 2020, Equations 1 and 2.
    """
    return _mean(records.trained.margin)


def mean_loss(records: Records) -> np.ndarray:
    """The mean of the loss over epochs.

    References:
      Huang et al. 2019 (O2U-Net), who rank examples by their normalized mean loss under a cyclic learning rate.
    """
    return _mean(records.trained.loss)


def last_loss(records: Records) -> np.ndarray:
    """The loss at the epoch itself: what one looks at without records."""
    return records.trained.loss.astype(np.float32)


def el2n(records: Records) -> np.ndarray:
    """The norm of the error, ‖softmax(logits) − label as one-hot‖₂, early in training.

    Our choice of the epoch: the first one measured after a tenth of the epochs, where the paper has 10 to 20 of 200.
    The paper also takes the mean over ten networks.

    References:
      Paul et al. 2021, Definition 2.
    """
    trained = records.trained
    early = np.searchsorted(trained.epoch, EARLY * max(trained.epoch, default=0))
    rows = np.minimum(np.arange(len(trained.epoch)), early)
    return trained.error[rows].astype(np.float32)


def consistency(records: Records) -> np.ndarray:
    """The share of epochs at which the example is classified as its label; over several seeds, its mean.

    References:
      Jiang et al. 2021, Section 5: the accuracy during training, which of all their proxies orders examples most as the
      C-score does.
    """
    return _mean(records.trained.correct)


class Score(NamedTuple):
    """A score, and which of its values point to a wrong label."""

    function: Function
    sign: int  # 1: large values, -1: small values
    about: str


SCORES: dict[str, Score] = {
    "aum": Score(aum, -1, "area under the margin"),
    "mean_loss": Score(mean_loss, 1, "mean loss over epochs"),
    "consistency": Score(consistency, -1, "share of epochs at which it is classified as its label"),
    "forgetting": Score(forgetting, 1, "times that it was forgotten"),
    "first_learned": Score(first_learned, 1, "epoch at which it was first classified as its label"),
    "el2n": Score(el2n, 1, "norm of the error early in training"),
    "last_loss": Score(last_loss, 1, "loss at the last epoch"),
}


def auroc(suspicion: np.ndarray, wrong: np.ndarray) -> float:
    """The probability that a wrong label is more suspicious than a right one; ties count half. NaN if one kind lacks.

    The same as scikit-learn's `roc_auc_score`, which takes several times as long.

    Args:
      suspicion: float[N], large for suspicious examples.
      wrong: bool[N].
    """
    found, others = np.sort(suspicion[wrong]), np.sort(suspicion[~wrong])
    if not len(found) or not len(others) or np.isnan(suspicion).any():
        return float("nan")
    below, up_to = (np.searchsorted(others, found, side).sum() for side in ("left", "right"))
    return float((below + up_to) / (2 * len(found) * len(others)))


def precision(suspicion: np.ndarray, wrong: np.ndarray) -> float:
    """The share of wrong labels among the most suspicious examples, of as many as there are wrong labels.

    Ties at the threshold count with the share of wrong labels among them.
    """
    count = int(wrong.sum())
    if not count or np.isnan(suspicion).any():
        return float("nan")
    threshold = -np.partition(-suspicion, count - 1)[count - 1]
    above, level = suspicion > threshold, suspicion == threshold
    return float((wrong[above].sum() + (count - above.sum()) * wrong[level].mean()) / count)


def curves(records: Records) -> dict[str, list[float | None]]:
    """What a result keeps of the records of its training examples: metrics with one value for each measured epoch.

    * never_forgotten: the share of examples that were learned and never forgotten so far; with changed labels also
      never_forgotten_untouched and never_forgotten_corrupted, of the examples with their true label and of the others;
    * forgetting: the mean number of forgetting events so far, see `forgetting`; and of both parts alike;
    * auroc_aum, precision_aum and so on for each score: how well the score so far finds the changed labels.
    """
    trained, wrong = records.trained, records.changed
    events = forgetting(records)
    whole = {"never_forgotten": events == 0, "forgetting": events}
    found = {name: _mean_of(values, slice(None)) for name, values in whole.items()}
    if wrong.any() and not wrong.all():
        for name, values in whole.items():
            found |= {f"{name}_untouched": _mean_of(values, ~wrong), f"{name}_corrupted": _mean_of(values, wrong)}
        for name, score in SCORES.items():
            suspicion = score.sign * score.function(records)
            for judge in (auroc, precision):
                found[f"{judge.__name__}_{name}"] = [judge(row, wrong) for row in suspicion]
    before = len(records.epoch) - len(trained.epoch)
    return {name: [*[None] * before, *map(_known, values)] for name, values in found.items()}


def _mean_of(values: np.ndarray, part: np.ndarray | slice) -> list[float]:
    return values[:, part].mean(axis=1).tolist()


def _known(value: float) -> float | None:
    """A value of a curve; None where it is not a number."""
    return round(float(value), DIGITS) if np.isfinite(value) else None


def suggestions(many: Iterable[Records]) -> np.ndarray:
    """int[N]: the class, other than its label, as which each example was classified most often; else its label.

    Args:
      many: records of the same split of several runs, with the same labels.
    """
    counts: np.ndarray | None = None
    label = np.zeros(0, int)
    for records in many:
        trained, label = records.trained, records.label
        classes = int(max(label.max(), trained.prediction.max(initial=0))) + 1
        here = np.zeros((len(label), classes), int)
        for row in trained.prediction:
            here[np.arange(len(label)), row] += 1
        here[np.arange(len(label)), label] = 0
        counts = here if counts is None else _add(counts, here)
    assert counts is not None
    return np.where(counts.any(1), counts.argmax(1), label)


def _add(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The sum of two arrays of counts, of which one may know more classes."""
    wide = max(one.shape[1], other.shape[1])
    one, other = (np.pad(each, ((0, 0), (0, wide - each.shape[1]))) for each in (one, other))
    return one + other


def last(records: Records) -> Mapping[str, np.ndarray]:
    """All scores at the last epoch: name → float32[N]; NaN if no epoch was trained."""
    empty = np.full(len(records.label), np.nan, np.float32)
    found = {name: score.function(records) for name, score in SCORES.items()}
    return {name: values[-1] if len(values) else empty for name, values in found.items()}


def _learned(correct: np.ndarray) -> np.ndarray:
    """bool[E, N]: whether the example has been classified as its label up to the epoch."""
    return np.logical_or.accumulate(correct, axis=0)


def _numbers(values: np.ndarray) -> np.ndarray:
    """float32[E, 1]: 1, 2, … for the epochs."""
    return np.arange(1, len(values) + 1, dtype=np.float32)[:, None]


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over the epochs up to each one."""
    return (np.cumsum(values, axis=0, dtype=np.float64) / _numbers(values)).astype(np.float32)
