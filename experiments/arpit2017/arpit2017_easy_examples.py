"""After one epoch, which training images are right? A hundred networks each, of true labels and of noise.

300 runs of one epoch: true labels, random labels, and random inputs, a hundred pairs of first weights and order each,
and the same noise for all. A result keeps one bit of each training image: whether it is classified as its label after
the epoch. Were all images equally hard and networks independent, the number of networks that are right about an image
would be binomial. Laptop scale: 1,000 images, batches of 32, two layers of 256 units, momentum 0.9; 6 minutes on one
core that other work shared.

Expected: with true labels, many images are right, or wrong, in nearly all networks; with random inputs their number is
as binomial; random labels are between.

Found at laptop scale: with true labels 66.0 % of the images are right in 95 % of the networks; one in twenty is right
in half of them or fewer. Their spread is 6.0 times that of chance, that of random labels 3.6 times. Random inputs are
nearest to chance, but not as near as the paper has it: 1.7 times. Classes of unequal size are not the reason: within a
class it is 1.6 times. So some Gaussian images are a little easier than others for every network.
"""

from dataclasses import replace

from rethink_gen import Experiment, grid
from rethink_gen.analysis import figures
from rethink_gen.analysis.tables import percent
from rethink_gen.papers.arpit2017.protocol import BASE, SMALL

KINDS = ("true_labels", "random_labels", "gaussian")
MOST = 0.95  # of the networks
DRAWN = 50  # points of a line
LIKE_CHANCE = 1.25  # times its spread


def runs(base, networks):
    """Networks that differ in first weights and order, and not in their labels and inputs."""
    one_epoch = replace(base, epochs=1, record=("correct",), corruption_seed=0)
    return grid(one_epoch, corruption=KINDS, seed=range(networks))


def shares(study):
    """Corruption → float[N]: for each training image, the share of the networks that classify it as its label."""
    import numpy as np

    correct = {}
    for result in study.results:
        correct.setdefault(result.run.corruption, []).append(result.is_correct())
    return {corruption: np.mean(each, axis=0) for corruption, each in correct.items()}


def table(study):
    """A row for each kind of labels and inputs: how the share of networks that are right differs between images.

    The spread is the standard deviation over images; that of chance is of a binomial with the same mean.
    """
    import pandas as pd

    networks = study.runs["seed"].nunique()
    rows = []
    for corruption, share in shares(study).items():
        mean, spread = share.mean(), share.std()
        chance = (mean * (1 - mean) / networks) ** 0.5
        row = {"corruption": corruption, "networks": networks, "mean": mean}
        row |= {"right in 95 %": (share >= MOST).mean(), "wrong in 95 %": (share <= 1 - MOST).mean()}
        rows.append({**row, "spread": spread, "of chance": chance, "times": spread / chance})
    return pd.DataFrame(rows)


def figure(study):
    """Images in the order of their share, beside the quantiles of a binomial."""
    import numpy as np
    import pandas as pd
    from scipy.stats import binom

    networks = study.runs["seed"].nunique()
    places = (np.arange(DRAWN) + 0.5) / DRAWN
    parts = []
    for corruption, share in shares(study).items():
        columns = {
            "place": places,
            "example_accuracy": np.quantile(share, places),
            "chance_accuracy": binom.ppf(places, networks, share.mean()) / networks,
        }
        parts.append(pd.DataFrame(columns).assign(corruption=corruption, last=True, status="finished"))
    return figures.against(
        pd.concat(parts),
        "place",
        "example_accuracy",
        hue="corruption",
        theory="chance_accuracy",
        about=f"{networks} networks after one epoch; the theory is a binomial of the same mean",
    )


def of_each(study, column):
    """A column of the table, by corruption."""
    return table(study).set_index("corruption")[column]


def in_words(values, show):
    return ", ".join(f"{name.replace('_', ' ')} {show(value)}" for name, value in values.items())


def true_labels_have_easy_and_hard_images(study):
    """With true labels, at least a fifth of the images are right, or wrong, in 95 % of the networks, and more than
    with noise.
    """
    decided = of_each(study, "right in 95 %") + of_each(study, "wrong in 95 %")
    true = decided["true_labels"]
    return true >= 0.2 and true > decided.drop("true_labels").max(), in_words(decided, percent)


def noise_is_nearer_to_chance(study):
    """Random labels spread less, in units of chance, than true labels do, and random inputs less than both."""
    times = of_each(study, "times")
    return times["true_labels"] > times["random_labels"] > times["gaussian"], in_words(times, "{:.2f} times".format)


def random_inputs_are_like_chance(study):
    """With random inputs the spread is that of chance: at most 1.25 times as large."""
    times = of_each(study, "times")["gaussian"]
    return times <= LIKE_CHANCE, f"{times:.2f} times"


def random_labels_are_not_like_chance(study):
    """With random labels it is larger, which the paper takes as a sign of shared patterns."""
    times = of_each(study, "times")["random_labels"]
    return times > LIKE_CHANCE, f"{times:.2f} times"


EXPERIMENT = Experiment(
    claim="After one epoch, some true labels are right in nearly all networks and some in hardly any; random inputs "
    "are all alike, but for chance.",
    locator="Section 3.1, Figure 1",
    runs=runs(BASE, networks=100),
    laptop=runs(SMALL, networks=100),
    smoke=runs(SMALL, networks=1),
    table=table,
    figure=figure,
    checks=[
        true_labels_have_easy_and_hard_images,
        noise_is_nearer_to_chance,
        random_inputs_are_like_chance,
        random_labels_are_not_like_chance,
    ],
)
