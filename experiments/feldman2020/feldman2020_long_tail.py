"""Memorization of MNIST: which images does a network get right only if it was trained on them, and are they needed?

370 runs at laptop scale, on 4,000 images. 200 with true labels and 100 with 20 % of wrong labels train on a random 70 %
of the images; in 70 more, those images are left out that the first 200 memorized most, or as many random ones, or none.
1.3 seconds of CPU time a run; 40 minutes on a seventh of two cores. At the paper's scale, 2,000 runs with true labels
and 100 with wrong ones on all 60,000 images; the ranking for the last part would follow from them. The paper has
figures, and numbers for other data sets, so the verdict is on orderings.

Expected: few images of MNIST are memorized, and they are unusual. All wrong labels that are fitted are memorized, so
memorization finds them. Without the memorized images the test accuracy falls more than without random ones.

Found at laptop scale: 8.1 % of the images have a memorization of 0.25 or more, and for 81 % it is below 0.01. The most
memorized are unusual digits, see docs/memorization.md. The test accuracy of 94.05 % falls by 2.1 points without the 10
% of the images that were memorized most, and by 0.3 points without a random 10 %: memorizing them pays, as the paper
says. 209 pairs of a memorized image and a test image have an influence above 0.25, and 24 to 38 in each of ten wrong
pairings of runs and subsets; the images of a pair look alike. 104 pairs are below -0.25, so not all of the 209 need be
real. Memorization alone does not find all wrong labels: its AUROC is 0.884. In ten passes the networks fit 64 % of the
wrong labels that they are trained on, and what is not fitted is not memorized; and beside wrong labels they memorize a
fifth of the true ones. The other half of the score does better: the accuracy of the networks that were not trained on
an image has an AUROC of 0.991.
"""

from dataclasses import replace
from pathlib import Path

from rethink_gen import Experiment, grid, needs, register
from rethink_gen.analysis import tables
from rethink_gen.papers.feldman2020 import protocol
from rethink_gen.papers.feldman2020.protocol import BASE, SUBSET, THRESHOLD, runs

LAPTOP = replace(BASE, train_size=4000, test_size=5000)
COUNT = f"memorization of {THRESHOLD} or more"
SHARES = (0.025, 0.05, 0.1)  # of the images, that are left out
LEFT_OUT = ("without_memorized", "without_random")  # which ones
# Images of LAPTOP, the most memorized of its 200 runs with true labels first; see tests/results/test_outcomes.py.
RANKING = Path(protocol.__file__).with_name("memorized.txt")


@register.corruption
def without_memorized(key, dataset, level):
    """The share `level` of the images that earlier runs memorized most is left out."""
    ranked = [int(index) for index in RANKING.read_text().split()]
    there = [index for index in ranked if index < len(dataset.train.labels)]
    return without(dataset, there[: round(level * len(dataset.train.labels))])


@register.corruption
def without_random(key, dataset, level):
    """As many random images are left out."""
    import jax

    size = len(dataset.train.labels)
    return without(dataset, jax.random.permutation(key, size)[: round(level * size)])


def without(dataset, left_out):
    import numpy as np

    kept = np.setdiff1d(np.arange(len(dataset.train.labels)), left_out)
    train = dataset.train._replace(images=dataset.train.images[kept], labels=dataset.train.labels[kept])
    return replace(dataset, train=train, true_labels=dataset.true_labels[kept])


def removals(base, seeds):
    """Runs on all images, and without some of them."""
    whole = replace(base, order="reshuffle", epochs=10, record=())
    return (
        *grid(whole, seed=range(seeds)),
        *grid(whole, corruption=LEFT_OUT, corruption_level=SHARES, seed=range(seeds)),
    )


def outcomes_of(study, corruption):
    """The outcomes of the runs on subsets, with true or with wrong labels."""
    from rethink_gen.results import outcomes

    return outcomes.of([each for each in study.results if is_on_subset(each, corruption)])


def is_on_subset(result, corruption):
    return result.run.corruption == corruption and result.run.order == SUBSET


def parts_of(study):
    """Name → outcomes of the runs on subsets, and which of their images are meant."""
    found = {}
    if any(is_on_subset(each, "true_labels") for each in study.results):
        clean = outcomes_of(study, "true_labels")
        found["true labels"] = clean, ~clean.changed[0]
    if any(is_on_subset(each, "uniform_wrong") for each in study.results):
        noisy = outcomes_of(study, "uniform_wrong")
        found["noisy labels: true ones"] = noisy, ~noisy.changed[0]
        found["noisy labels: wrong ones"] = noisy, noisy.changed[0]
    return found


def memorized(study):
    """Name of a part → float64[n], the memorization of its images."""
    from rethink_gen.results import outcomes

    return {name: outcomes.memorization(of).memorization[part] for name, (of, part) in parts_of(study).items()}


def table(study):
    """A row for each part of the images of runs on subsets, then for what is left out."""
    import pandas as pd

    from rethink_gen.results import outcomes

    keys, every = ["data", COUNT], study.runs
    scores, rows = memorized(study), []
    for name, (of, part) in parts_of(study).items():
        kind = "true_labels" if name == "true labels" else "uniform_wrong"
        frame = every[every["corruption"].eq(kind) & every["order"].eq(SUBSET)]
        count = f"{(scores[name] >= THRESHOLD).sum()} of {part.sum()}"
        columns = outcomes.accuracies(of, part)
        frame = frame.assign(**{"data": name, COUNT: count}, **columns)
        rows.append(tables.mean_and_interval(frame, keys, [*columns, "test_accuracy"]))
    whole = every[every["order"].ne(SUBSET)] if len(every) else every
    whole = whole.assign(**{"data": named(whole), COUNT: ""})
    rows.append(tables.mean_and_interval(whole, keys if rows else keys[:1], "test_accuracy"))
    return pd.concat(rows)


def named(frame):
    """What the runs of a frame are trained on, in words."""
    words = {"true_labels": "all images", "without_memorized": "most memorized", "without_random": "random ones"}
    return [
        words[kind] if level == 0 else f"all but {tables.percent(level)}, {words[kind]}"
        for kind, level in zip(frame["corruption"], frame["corruption_level"], strict=True)
    ]


def figure(study):
    """Two panels: how many images are memorized how much, and the test accuracy without some of them."""
    from matplotlib.figure import Figure

    from rethink_gen.analysis.style import styled

    return styled(draw)(study, Figure(figsize=(8.2, 3.2), layout="constrained"))


def draw(study, figure):
    import numpy as np

    from rethink_gen.analysis.style import look

    left, right = figure.subplots(1, 2)
    scores = memorized(study)
    for name, values in scores.items():
        at = np.linspace(-0.1, 1, 111)
        share = [(values >= each).mean() for each in at]
        left.plot(at, share, label=name, color=look(name, scores).color)
    left.axvline(THRESHOLD, color="#666666", linewidth=1, linestyle=(0, (4, 3)))
    left.set(xlabel="memorization", ylabel="share of images with at least so much", xlim=(-0.1, 1), ylim=(0, 1.02))
    if scores:
        left.legend(loc="upper right")
    whole = study.runs[study.runs["order"].ne(SUBSET)]
    accuracy = whole.groupby(["corruption", "corruption_level"])["test_accuracy"]
    for kind in LEFT_OUT:
        means, spread = (getattr(accuracy, what)() for what in ("mean", "sem"))
        chosen = [("true_labels", 0.0), *((kind, share) for share in sorted(SHARES))]
        chosen = [each for each in chosen if each in means]
        label = {"without_memorized": "the most memorized", "without_random": "random ones"}[kind]
        style = {"label": label, "color": look(kind, LEFT_OUT).color, "marker": "o"}
        shares = [share for _, share in chosen]
        right.errorbar(shares, [means[each] for each in chosen], [2 * spread[each] for each in chosen], **style)
    right.set(xlabel="share of training images left out", ylabel="test accuracy, ± 2 standard errors")
    right.legend(title="left out")
    return figure


@needs(order=SUBSET, corruption="true_labels")
def few_images_are_memorized(study):
    """With true labels at least 90 % of the images are not memorized, and at least 1 % are."""
    values = memorized(study)["true labels"]
    share = (values >= THRESHOLD).mean()
    many = f"{tables.percent(share)} have a memorization of {THRESHOLD} or more"
    return 0.01 <= share <= 0.1, f"{many}; the mean is {values.mean():.3f}"


@needs(order=SUBSET, corruption="true_labels")
def halves_of_the_runs_agree(study):
    """Two halves of the runs give the same memorization, with a correlation of at least 0.8."""
    import numpy as np

    from rethink_gen.results import outcomes

    whole = outcomes_of(study, "true_labels")
    halves = [outcomes.Outcomes(*(each[first::2] for each in whole)) for first in (0, 1)]
    found = np.corrcoef([outcomes.memorization(half).memorization for half in halves])[0, 1]
    return found >= 0.8, f"{found:.3f}"


@needs(order=SUBSET, corruption="uniform_wrong")
def wrong_labels_are_memorized(study):
    """Memorization finds wrong labels, with an AUROC of at least 0.95."""
    from rethink_gen.results import outcomes
    from rethink_gen.results.scores import auroc

    noisy = outcomes_of(study, "uniform_wrong")
    found, wrong = outcomes.memorization(noisy), noisy.changed[0]
    area, unseen = auroc(found.memorization, wrong), auroc(-found.unseen, wrong)
    means = f"mean memorization {found.memorization[wrong].mean():.2f} of wrong labels"
    others = f"{found.memorization[~wrong].mean():.2f} of the others"
    return (
        area >= 0.95,
        f"AUROC {area:.3f}; {means}, {others}; the accuracy of the runs without the image: {unseen:.3f}",
    )


@needs(order=SUBSET, corruption="true_labels")
def memorized_images_have_influence(study):
    """More pairs of a memorized and a test image have an influence above 0.25 than when runs and subsets are paired
    wrongly.
    """
    import numpy as np

    from rethink_gen.results import outcomes

    whole = outcomes_of(study, "true_labels")
    chosen = np.flatnonzero(outcomes.memorization(whole).memorization >= THRESHOLD)
    wrongly = whole._replace(test=np.roll(whole.test, 1, axis=0))
    many, chance = (int((outcomes.influence(each, chosen) > 0.25).sum()) for each in (whole, wrongly))
    return many > chance, f"{many} pairs of {len(chosen)} images with {whole.test.shape[1]}; paired wrongly {chance}"


@needs(corruption=list(LEFT_OUT))
def memorized_images_are_needed(study):
    """At each share, the test accuracy is lower without the most memorized images than without random ones."""
    means = study.runs.groupby(["corruption_level", "corruption"])["test_accuracy"].mean().unstack()
    worse = means["without_random"] - means["without_memorized"]
    told = [f"{100 * worse[share]:.2f} points at {tables.percent(share)}" for share in means.index if share > 0]
    return (worse.dropna() > 0).all(), ", ".join(told)


EXPERIMENT = Experiment(
    claim="Networks memorize rare and mislabeled examples, and memorizing the rare ones helps them generalize.",
    locator="Sections 2 and 3, Figures 1 to 3",
    runs=runs(BASE, true=2000, noisy=100),
    laptop=(*runs(LAPTOP, true=200, noisy=100), *removals(LAPTOP, seeds=10)),
    smoke=(*runs(LAPTOP, true=6, noisy=6), *removals(LAPTOP, seeds=1)),
    table=table,
    figure=figure,
    checks=[
        few_images_are_memorized,
        halves_of_the_runs_agree,
        wrong_labels_are_memorized,
        memorized_images_have_influence,
        memorized_images_are_needed,
    ],
)
