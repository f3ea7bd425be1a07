"""PAC-Bayes bounds, optimized: below one half for true labels, though networks have more weights than examples.

Laptop scale: 9 runs, T-100, T-100² and R-100 (100 units in one or two layers, true or random labels) on 20,000 images,
three seeds; 17 minutes on one core of a machine that others used, too. Paper scale: T-600 to T-600³, and R-600. Of
these R-600, T-300² and T-600 have been run, in 58, 41 and 39 minutes there; a step takes 10 ms on a quiet core.

    rethink-gen run dziugaite2017_pac_bayes --scale paper --only corruption=random_labels

Expected: with true labels the bound is 0.16 to 0.22, with random labels it is above one half, whatever the network. We
have Table 1 from memory, so its numbers stand beside ours without a verdict.

Found, true labels: at paper scale T-300² has a bound of 0.175, with 5,009 nats, and errors of the stochastic network of
3.3 and 3.7 % on training and test images. The paper has 0.170, 5,791 nats, 2.7 and 3.4 %. T-600 has 0.180, 5,105 nats,
3.4 and 3.8 %; the paper 0.161, 5,144 nats, 2.8 and 3.4 %. We optimize for 240 epochs, they for 1,000. At the laptop
scale the bounds are 0.23 and 0.26 with a third of the images, where the stochastic networks are wrong on 4.7 and 4.8 %
of the test images, and networks have four weights an image. Bounds are about five times the errors.

Found, random labels: we know of no other reproduction of R-600. SGD fits 98.8 % of 55,000 random labels in 120 epochs.
There, with standard deviations of twice the weights, the divergence is 4.0 million nats, and the stochastic network is
at chance: the noise alone destroys what was memorized. Optimizing the bound does not bring it back. It lowers the
divergence to 1,400 nats instead, and the bound to 0.62: the network forgets, and its bound comes near one half, as it
can for coins. The paper has 11.2 % wrong training labels, 201,131 nats and a bound of 1.352. Our divergence passes that
value between epochs 5 and 10, with the labels already forgotten. So their optimization kept what ours gives up. We
start as their public code does; the runs of the paper may have started elsewhere. Their 1,000 epochs in place of our
240 are no likely reason: memorizing costs 1.35 of the objective, and saves no more than 1, the loss of a coin.

Two more findings about the published numbers, by arithmetic. Those of true labels follow from the errors and
divergences beside them by inverting kl, within 0.0015 for four networks of six. That of random labels does not: kl
inverted twice is 0.99 there. 1.352 is √(B / 2), the complexity alone, without the training error.
"""

import math
import re

from rethink_gen import Experiment, needs
from rethink_gen.analysis import figures, tables
from rethink_gen.analysis.tables import percent
from rethink_gen.papers.dziugaite2017.protocol import BASE, LAYERS, RANDOM, SMALL, TRUE, runs

METRICS = [
    *("train_error", "test_error", "snn_train_error", "snn_test_error"),
    *("bound", "pinsker_bound", "complexity", "kl", "num_params"),
]
NAMES = {TRUE: "T", RANDOM: "R"}
POWERS = {1: "", 2: "²", 3: "³"}  # by number of hidden layers
CHANCE = 0.5
FITTED = 0.05


def table(study):
    """At paper scale beside Table 1, as we remember it; the VC dimension is the authors' upper bound."""
    if not len(study.runs) or study.experiment.scale != "paper":
        runs = named(study.runs) if len(study.runs) else study.runs
        return tables.mean_and_interval(runs, ["network"], METRICS)
    frame = study.runs.assign(vc_dimension=math.nan)
    rows = named(tables.beside_paper(frame, "table1", paper="dziugaite2017"))
    return rows[["network", *rows.columns[rows.columns.get_loc("metric") : -1]]]


def figure(study):
    return figures.curves(named(study.curves), "epoch", ["snn_train_error", "bound"], hue="network", log="x")


def named(frame):
    """The frame with the paper's names of networks: T-600² has two layers of 600 and true labels, R-600 random ones."""

    def name(model, corruption):
        layers = re.findall(r"hidden=([\d+]+)", model)[0].split("+")
        return f"{NAMES[corruption]}-{layers[0]}{POWERS[len(layers)]}"

    return frame.assign(network=[name(*pair) for pair in zip(frame["model"], frame["corruption"], strict=True)])


def in_words(values):
    """The least and the largest of some numbers."""
    low, high = (f"{value:.3g}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def sgd_fits_every_labeling(study):
    """SGD fits true and random labels: at most 5 % of them are wrong."""
    errors = study.runs.groupby("corruption")["train_error"].mean()
    return study.runs["train_error"].max() <= FITTED, ", ".join(f"{name} {percent(e)}" for name, e in errors.items())


@needs(corruption=TRUE)
def bounds_of_true_labels_are_not_vacuous(study):
    """With true labels, every bound is below one half, the error of a coin, with more weights than examples."""
    ends = study.runs
    more = (ends["num_params"] > ends["num_train"]).all()
    evidence = f"{in_words(ends['bound'])}, with {in_words(ends['num_params'] / ends['num_train'])} weights an example"
    return bool(ends["bound"].max() < CHANCE and more), evidence


def every_bound_holds(study):
    """The error of every stochastic network on the test set is below its bound."""
    ends = study.runs
    return (ends["snn_test_error"] < ends["bound"]).all(), f"{len(ends)} of them"


@needs(corruption=RANDOM)
def bounds_of_random_labels_are_vacuous(study):
    """With random labels, every bound is above one half."""
    return study.runs["bound"].min() > CHANCE, in_words(study.runs["bound"])


def memorizing_is_farther_from_the_first_weights(study):
    """Before the bound is optimized, the divergence from the prior is larger with random labels than with true ones."""
    starts = study.curves[study.curves["epoch"] == 0]
    random = starts[starts["corruption"] == RANDOM]
    true = starts[starts["corruption"].eq(TRUE) & starts["model"].isin(random["model"])]
    holds = random["kl"].min() > true["kl"].max()
    return holds, f"{random['kl'].mean():,.0f} nats and {true['kl'].mean():,.0f}"


@needs(corruption=RANDOM)
def a_memorizing_posterior_is_left(study):
    """Optimizing the bound of random labels forgets them: in the end, the stochastic network is near chance on them.

    The paper reports 11 %.
    """
    errors = study.runs["snn_train_error"]
    return errors.min() > 0.4, f"{percent(errors.mean())} of the training labels are wrong"


LAPTOP = runs(SMALL, (100,), (100, 100), seeds=3)

EXPERIMENT = Experiment(
    claim="A PAC-Bayes bound that is optimized says something of networks with more weights than examples: below one "
    "half with true labels, not with random ones.",
    locator="Table 1",
    runs=runs(BASE, *LAYERS),
    laptop=LAPTOP,
    smoke=LAPTOP,
    table=table,
    figure=figure,
    checks=[
        sgd_fits_every_labeling,
        bounds_of_true_labels_are_not_vacuous,
        every_bound_holds,
        bounds_of_random_labels_are_vacuous,
        memorizing_is_farther_from_the_first_weights,
        a_memorizing_posterior_is_left,
    ],
)
