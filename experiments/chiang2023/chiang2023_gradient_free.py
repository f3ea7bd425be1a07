"""Training without gradients: do solutions that a search finds generalize as SGD's do, and does it fit random labels?

Laptop scale: 66 runs of a network with 16 hidden units, three seeds, on the first 4 and the first 100 images of MNIST:
guess-and-check (4 images alone), pattern search, random greedy search, a genetic algorithm, an evolution strategy, and
SGD from the same first weights. All took 6 minutes on two cores that others used, too. Paper scale: 260 runs of LeNet,
five seeds, up to 1,000 images; it needs a GPU and has not been run. We found no source for the test accuracies of the
paper, so no number here stands beside one of theirs. We know of no such searches on random labels elsewhere.

Expected: every search fits, random labels take longer, and solutions generalize as SGD's do at the same training loss.

Found: every search fits all labels, true and random. 100 true labels take 6,400 evaluations of the training loss (the
evolution strategy) to 16,900 (pattern search), random ones 2.6 to 4.3 times as many. So memorizing is no feat of
gradients. After 100 true labels all searches are right on 52 to 56 % of the test images; no gradient is needed for
that. But it is not what SGD reaches. At the same training loss SGD has 60 to 64 %: 4 points more than the evolution
strategy, which estimates a gradient, and 8 to 11 more than the others. Their noise, or single weights that moved far,
may be why: the norm of their weights grows from 7 to 14 or 15, that of the evolution strategy to 11, that of SGD to 8.
With 4 images seeds differ more than searches do: guess-and-check has 13 %, SGD 15 % at the same loss, 21 % once it has
fitted. Guesses have no reason to prefer true labels, and do not: about 17,000 of them for 4 labels, true or random.
"""

import math

from rethink_gen import Experiment, needs
from rethink_gen.analysis import figures, tables
from rethink_gen.analysis.tables import percent
from rethink_gen.papers.chiang2023.protocol import GUESS, LABELS, SEARCHES, runs

METRICS = ["train_accuracy", "loss_evaluations", "train_loss", "test_accuracy", "test_accuracy_of_sgd", "weight_norm"]
KEYS = ["search", "train_size", "corruption"]
LOSSES = [round(3 * 0.01 ** (i / 14), 3) for i in range(15)]  # 3 to 0.03, at which curves are compared
ALL = [GUESS, *SEARCHES]
ALIKE = 0.05  # of two test accuracies
CHANCE = 0.1


def at_the_fit(study):
    """A row per run: the first at which all training labels are fitted, or the last; SGD's test accuracy beside it."""
    curves = named(study.curves)
    fitted = curves[curves["train_accuracy"].eq(1) | curves["last"]].groupby("run", sort=False).head(1)
    beside = [_of_sgd(curves, row) for row in fitted.itertuples()]
    evaluations = fitted["step"].where(fitted["kind"].eq("search") & fitted["train_accuracy"].eq(1))
    return fitted.assign(last=True, loss_evaluations=evaluations, test_accuracy_of_sgd=beside)


def named(frame):
    """The frame with SGD as one of the searches."""
    return frame.assign(search=frame["search"].fillna("SGD") if "search" in frame else "SGD")


def _of_sgd(curves, row):
    """The test accuracy of SGD with the same data and seed where its training loss first is that of a row."""
    same = curves["train_size"].eq(row.train_size) & curves["corruption"].eq(row.corruption)
    curve = curves[same & curves["search"].eq("SGD") & curves["seed"].eq(row.seed)]
    return at_losses(curve, [row.train_loss], "test_accuracy")[0] if len(curve) else math.nan


def at_losses(curve, losses, metric):
    """A metric of one run where its training loss first falls to each of some losses; NaN where it never does.

    Between two measurements it is interpolated along the logarithm of the loss.
    """
    import numpy as np

    lowest = curve["train_loss"].cummin()
    falling = curve[lowest < lowest.shift(fill_value=np.inf)]
    logs = np.log(falling["train_loss"].to_numpy())
    return np.interp(np.log(losses), logs[::-1], falling[metric].to_numpy()[::-1], left=np.nan, right=np.nan)


def table(study):
    """Evaluations are of the loss on all training images, until all labels are fitted; SGD has none of its own."""
    frame = at_the_fit(study) if len(study.runs) else study.runs
    return tables.mean_and_interval(frame, KEYS, METRICS)


def figure(study):
    """Test accuracy and norm of the weights against the training loss, on true labels of most images."""
    import pandas as pd

    curves = largest(named(study.curves))
    rows = []
    for _, curve in curves[curves["corruption"] == "true_labels"].groupby("run"):
        of_run = pd.DataFrame({name: at_losses(curve, LOSSES, name) for name in ("test_accuracy", "weight_norm")})
        plain = curve.iloc[[-1]].drop(columns=[*of_run, "train_loss"])
        rows.append(of_run.assign(train_loss=LOSSES).dropna().merge(plain, how="cross"))
    frame = pd.concat(rows) if rows else curves
    return figures.against(frame, "train_loss", ["test_accuracy", "weight_norm"], hue="search", log="x")


def largest(frame):
    """The runs with most images."""
    return frame[frame["train_size"] == frame["train_size"].max()]


def each(frame, metric):
    """A metric by search, the largest first: the mean over seeds."""
    return frame.groupby("search")[metric].mean().sort_values(ascending=False)


def in_words(numbers):
    return ", ".join(f"{name.replace('_', ' ')} {number}" for name, number in numbers.items())


def searches_fit(study):
    """How many runs of each search fit all labels, in words, and whether all do."""
    runs = named(study.runs)
    fits = runs[runs["kind"] == "search"]["train_accuracy"].eq(1).groupby(runs["search"])
    return fits.all().all(), in_words(fits.sum().astype(str) + " of " + fits.size().astype(str))


@needs(corruption="true_labels", search=ALL)
def every_search_fits_true_labels(study):
    """Every search fits all true labels, without gradients."""
    return searches_fit(study)


@needs(corruption="random_labels", search=ALL)
def every_search_fits_random_labels(study):
    """Every search fits all random labels, too: memorizing needs no gradients."""
    return searches_fit(study)


@needs(corruption=[*LABELS], search=[*SEARCHES])
def random_labels_take_more_evaluations(study):
    """Random labels take each search more evaluations than true labels of the same images."""
    runs = largest(at_the_fit(study))
    means = runs.groupby(["corruption", "search"])["loss_evaluations"].mean()
    times = means["random_labels"] / means["true_labels"]
    shown = {name: f"{times[name]:.1f} times as many as {means['true_labels'][name]:,.0f}" for name in times.index}
    return (times > 1).all(), in_words(shown)


@needs(corruption="true_labels", search=[*SEARCHES])
def gradients_are_not_needed_to_generalize(study):
    """What a search finds is right on test images at least three times as often as a guess."""
    test = each(largest(at_the_fit(study)), "test_accuracy")
    return test.min() >= 3 * CHANCE, in_words(test.map(percent))


@needs(corruption="true_labels")
def searches_generalize_as_sgd_does(study):
    """At the same training loss, test accuracies of the searches are those of SGD, within 5 points."""
    runs = largest(at_the_fit(study))
    means = runs[runs["kind"] == "search"].groupby("search")[["test_accuracy", "test_accuracy_of_sgd"]].mean()
    gaps = means["test_accuracy_of_sgd"] - means["test_accuracy"]
    pairs = {
        name: f"{percent(row.test_accuracy)} (SGD {percent(row.test_accuracy_of_sgd)})"
        for name, row in means.iterrows()
    }
    return gaps.abs().max() <= ALIKE, in_words(pairs)


@needs(corruption="random_labels", search=[*SEARCHES])
def nobody_generalizes_from_random_labels(study):
    """After random labels, test accuracy is at chance, within 5 points."""
    test = each(largest(at_the_fit(study)), "test_accuracy")
    return test.sub(CHANCE).abs().max() <= ALIKE, f"{percent(test.min())} to {percent(test.max())}"


LAPTOP = runs("mlp(hidden=16)", (100,), seeds=3, evaluations=200_000)

EXPERIMENT = Experiment(
    claim="Networks need no gradients: searches of their weights fit all labels and generalize as SGD's solution does.",
    locator="Section 3, MNIST",
    runs=runs("lenet", (100, 300, 500, 1000), seeds=5, evaluations=10_000_000),
    laptop=LAPTOP,
    smoke=tuple(run for run in LAPTOP if run.train_size == 100),
    table=table,
    figure=figure,
    checks=[
        every_search_fits_true_labels,
        every_search_fits_random_labels,
        random_labels_take_more_evaluations,
        gradients_are_not_needed_to_generalize,
        searches_generalize_as_sgd_does,
        nobody_generalizes_from_random_labels,
    ],
)
