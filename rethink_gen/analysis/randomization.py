"""The randomization test of Zhang et al. 2017 for any network and data: its table, its figure and its verdict.

The sentences are checks of an `Experiment`, so that the table, the report, JSON and a notebook all show them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rethink_gen.analysis.declare import by, lines
from rethink_gen.analysis.tables import percent
from rethink_gen.experiment import CheckFunction, Experiment, needs
from rethink_gen.papers import label

if TYPE_CHECKING:
    import pandas as pd

    from rethink_gen.experiment import Study
    from rethink_gen.runs import Run

TRUE, RANDOM = "true_labels", "random_labels"
REGULARIZERS = ("augmentations", "weight_decay", "dropout", "label_smoothing")
WAY_OUT = "docs/fitting.md says what to try"
# Our choices. A loss above this share of log K is that of a guess. One is still falling if its mean over the last
# quarter of a run is below that over the quarter before by more than this share of it, or of what it has gained on a
# guess.
_GUESS, _FALLING = 0.95, 0.05
_GAIN = 0.2  # after random labels: at most this share of what true labels gain over guessing, on new examples


def declare(name: str, runs: Sequence[Run], doc: str = "") -> Experiment:
    """The experiment that the runs of one network on versions of one data set are."""
    model, dataset = label(runs[0].model), label(runs[0].dataset)
    versions = {(run.corruption, run.corruption_level) for run in runs}
    checks: list[CheckFunction] = [true_labels_are_fitted]
    if any(corruption == RANDOM for corruption, _ in versions):
        checks.append(random_labels_are_fitted)
    if (RANDOM, 1.0) in versions:
        checks += [random_labels_are_in_the_weights, only_true_labels_generalize]
    if any(corruption not in (TRUE, RANDOM) for corruption, _ in versions):
        checks.append(other_versions_are_fitted)
    return Experiment(
        name=name,
        claim=f"The randomization test of {model} on {dataset}: does it fit random labels, and how long does it take?",
        locator="The test of Zhang et al. 2017, Section 2.2",
        runs=tuple(runs),
        laptop=tuple(runs),
        table=by(
            "corruption",
            "corruption_level",
            metrics=["train_accuracy", "test_accuracy", "epochs_to_fit", "epochs_relative_to_true"],
            derive=_relative,
        ),
        figure=lines(x="epoch", y=["train_accuracy", "test_accuracy"], hue="version", derive=_versions),
        checks=checks,
        doc=doc,
    )


@needs(corruption=TRUE)
def true_labels_are_fitted(study: Study) -> tuple[bool, str]:
    """It fits its training examples with their true labels."""
    runs = study.runs
    if not runs["fitted"].all():
        return False, _why_not(study, runs)
    return True, f"fits {_number(runs)} true labels in {_epochs(runs)}"


@needs(corruption=[TRUE, RANDOM])
def random_labels_are_fitted(study: Study) -> tuple[bool, str]:
    """It fits labels that are drawn at random."""
    runs = study.runs[study.runs["corruption"] == RANDOM]
    said = []
    for level, at_level in sorted(runs.groupby("corruption_level"), reverse=True):
        if at_level["fitted"].all():
            of = "random labels" if level == 1 else f"labels, of which {percent(level, 0)} are random,"
            said.append(f"fits {_number(at_level)} {of} in {_epochs(at_level)}{_times(study, at_level)}")
        else:
            said.append(_why_not(study, at_level))
    return runs["fitted"].all(), "; ".join(said)


@needs(corruption=RANDOM, corruption_level=1.0)
def random_labels_are_in_the_weights(study: Study) -> tuple[bool | None, str]:
    """It then holds the random labels in its weights, for nothing else tells them.

    n labels drawn uniformly from K classes are n·log2(K) bits. A network that answers a share 1 - e of them correctly
    has at least n·(log2(K) - h(e) - e·log2(K - 1)) bits of them in its weights (Fano's inequality; h: binary entropy).
    """
    runs = study.runs
    told = runs.dropna(subset=["num_params", "num_classes"])
    if not len(told):
        return None, "results of an older version do not say how many parameters the network has"
    first, accuracy = told.iloc[0], runs["train_accuracy"].mean()
    examples, classes, parameters = (int(first[f"num_{name}"]) for name in ("train", "classes", "params"))
    bits = examples * math.log2(classes)
    held = examples * _bits_of_a_label(accuracy, classes)
    labels = f"{examples:,} labels × log2({classes}) = {bits:,.0f} bits, {bits / parameters:.2g} per parameter"
    stored = f"at {percent(accuracy)} training accuracy the {parameters:,} parameters hold at least {held:,.0f} of them"
    return (True if runs["fitted"].all() else None), f"{labels}; {stored}"


@needs(corruption=[TRUE, RANDOM])
def only_true_labels_generalize(study: Study) -> tuple[bool, str]:
    """It is right on new examples after true labels, and guesses after random ones."""
    chance = 1 / study.runs["num_classes"].iloc[0]
    after = {name: _version(study.runs, name)["test_accuracy"].mean() for name in (TRUE, RANDOM)}
    told = ", ".join(f"{percent(value)} right after {label(name)}" for name, value in after.items())
    gain = after[TRUE] - chance
    return gain > 0 and after[RANDOM] - chance <= _GAIN * gain, f"{told}; a guess among all classes: {percent(chance)}"


def other_versions_are_fitted(study: Study) -> tuple[bool, str]:
    """It fits the other versions of the data."""
    others = study.runs[~study.runs["corruption"].isin((TRUE, RANDOM))]
    said = [
        f"fits {_named(name)} in {_epochs(runs)}{_times(study, runs)}"
        if runs["fitted"].all()
        else _why_not(study, runs)
        for name, runs in others.groupby("corruption", sort=False)
    ]
    return others["fitted"].all(), "; ".join(said)


def _version(runs: pd.DataFrame, corruption: str) -> pd.DataFrame:
    """The runs of a corruption, wholly corrupted."""
    return runs[(runs["corruption"] == corruption) & (runs["corruption_level"] == float(corruption != TRUE))]


def _named(version: str) -> str:
    """A version of the data in a sentence."""
    return re.sub("^gaussian", "Gaussian noise", version).replace("_", " ")


def _number(runs: pd.DataFrame) -> str:
    return f"{int(runs['num_train'].iloc[0]):,}"


def _epochs(runs: pd.DataFrame) -> str:
    """How long fitted runs took: 23 epochs, or a mean over seeds."""
    mean = runs["epochs_to_fit"].mean()
    over = f" (mean of {len(runs)} seeds)" if len(runs) > 1 else ""
    return f"{mean:.4g} epoch{'' if mean == 1 else 's'}{over}"


def _times(study: Study, runs: pd.DataFrame) -> str:
    """How much longer than true labels; empty where these were not fitted, or at once."""
    ratio = _relative(study.runs).loc[runs.index, "epochs_relative_to_true"].mean()
    times = "" if f"{ratio:.2g}" == "1" else f"{ratio:.2g} times "
    return f", {times}as long as true ones" if math.isfinite(ratio) else ""


def _relative(runs: pd.DataFrame) -> pd.DataFrame:
    """Adds `epochs_relative_to_true`: epochs to fit, divided by the mean of the runs on true labels."""
    true = runs[runs["corruption"] == TRUE]
    mean = true["epochs_to_fit"].mean() if len(true) and true["epochs_to_fit"].notna().all() else math.nan
    return runs.assign(epochs_relative_to_true=runs["epochs_to_fit"] / (mean or math.nan))


def _versions(frame: pd.DataFrame) -> pd.DataFrame:
    """Adds `version`: the corruption, with its level where that is not 1."""
    partly = frame["corruption_level"].gt(0) & frame["corruption_level"].lt(1)
    levels = frame["corruption_level"].map("{:.0%}".format)
    return frame.assign(version=frame["corruption"].where(~partly, levels + " " + frame["corruption"]))


def _bits_of_a_label(accuracy: float, classes: int) -> float:
    """The least information per label in the weights, in bits: Fano's inequality; 0 at chance and below."""
    error = 1 - accuracy
    if error >= 1 - 1 / classes:
        return 0.0
    entropy = -sum(p * math.log2(p) for p in (error, accuracy) if p > 0)
    return math.log2(classes) - entropy - error * math.log2(classes - 1)


def _why_not(study: Study, runs: pd.DataFrame) -> str:
    """Why the first run of these that was not fitted may not have been."""
    run = runs[~runs["fitted"]].iloc[0]
    version = _versions(runs)["version"].iloc[0]
    some = f" with {int((~runs['fitted']).sum())} of {len(runs)} seeds" if len(runs) > 1 else ""
    reached = f"does not fit {_named(version)}{some}"
    if run["status"] == "diverged":
        return f"{reached}: it diverged at learning rate {run['learning_rate']:g}; try a lower one, {WAY_OUT}"
    losses = study.curves.loc[study.curves["run"] == run["run"], "train_loss"].tolist()
    on = [f"{label(name)} {run[name]}" for name in REGULARIZERS if run[name]]
    regularized = f"; {' and '.join(on)} may keep it from fitting" if on else ""
    reached += f": {percent(run['train_accuracy'])} after {int(run['epoch']):,} epochs; its loss {_course(run, losses)}"
    return f"{reached}{regularized}; {WAY_OUT}"


def _course(run: pd.Series, losses: Sequence[float]) -> str:
    """Which way the loss of a run went, and what that asks for."""
    known = run["loss"] == "cross_entropy" and run["num_classes"] > 1  # an older result does not say it
    guess = math.log(run["num_classes"]) if known else losses[0]
    half, quarter = len(losses) // 2, len(losses) * 3 // 4
    before, last = (sum(part) / len(part) for part in (losses[half:quarter] or losses[:1], losses[quarter:]))
    if losses[-1] > _GUESS * guess:
        return f"stayed near that of a guess, {guess:.2f}: try another learning rate or initialization"
    if before - last > _FALLING * min(before, guess - last):
        return f"was still falling, from {before:.3g} to {last:.3g} in its second half: give it more epochs"
    size = f" than one of {int(run['num_params']):,} parameters" if run["num_params"] > 0 else ""
    labels = f"{int(run['num_train']):,} labels"
    return f"no longer falls: try another learning rate, or a larger network{size} for {labels}"
