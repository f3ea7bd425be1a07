"""How far do weights go, and how long do random labels take, with large batches? F1 on MNIST at a constant rate.

The first question is the paper's: at a constant rate the distance from the first weights grows as log t, and the √ rate
and ghost batch norm make it grow with large batches as with small ones. The second is ours: what do the √ rate and
ghost batch norm change of the time that random labels take? Regime adaptation changes no step at a constant rate; it
only allows more epochs, so it is no regime of its own here.

Paper scale, not run: 60,000 images; batches of 128 for 50 epochs, of 4,096 for 1,600; three seeds; 24 runs.
Laptop scale, our choice: the first 1,024 images, batches of 32 and 256 at rates of 0.05 and 0.14, 40 epochs each, which
are 1,280 and 160 steps; three seeds; 24 runs.

Expected: log t describes the distance better than √t in every regime; the √ rate and ghost batch norm bring large
batches as far as small ones in as many steps; random labels take large batches about as many epochs as small ones.

Found at laptop scale: log t is better in every regime and with both labelings. It explains 99 and 98 % of the distances
of small batches and of ghost batches with random labels: they grow until the labels are fitted, which is late. The
others stop growing early, once the labels are fitted, and log t explains 70 to 93 % of them. With true labels the √
rate and ghost batch norm each bring large batches farther, but not as far as small ones: 6.3, then 12.4 and 14.6, where
small batches are at 19.4 after 160 steps; after 32 steps both are ahead of small batches, after 64 no longer. With
random labels ghost batch norm takes large batches farther than small ones go in as many steps, 25.7 against 22.8. That
log t is better than √t says little where a curve levels off: that shape favors log t. Random labels: small batches take
30 epochs, large ones 6 at the same rate, 11 at the √ rate and 19 with ghost batch norm. So large batches need no regime
adaptation to memorize, and what helps them to generalize slows that down. The runs took 28 minutes on a machine with
five times as many processes as cores.
"""

import math
from dataclasses import replace

import numpy as np

from rethink_gen import Experiment, needs
from rethink_gen.analysis import figures, tables
from rethink_gen.papers.hoffer2017.protocol import F1, every, grids, regime_of_each, regimes

LABELS = ("true_labels", "random_labels")
BASE = replace(F1, schedule="constant", measurements=None, measures="distance_from_initial", record="measures")
SMALL = replace(BASE, train_size=1024, test_size=500, batch_size=32, learning_rate=0.05, epochs=40)
DIGITS = replace(BASE, dataset="digits", train_size=256, test_size=128, batch_size=8, epochs=4)
METRICS = ["steps_to_fit", "epochs_to_fit", "distance_from_initial", "R² of log t", "R² of √t"]


def constant(small, large, epochs):
    """The regimes of a constant rate, with so many epochs where batches are large."""
    found = regimes(small, large)
    return {name: run if name == "SB" else replace(run, epochs=epochs) for name, run in found.items() if name != "+RA"}


PAPER = grids(constant(BASE, 4096, epochs=1600), corruption=LABELS, seed=range(3))
LAPTOP = grids(constant(SMALL, 256, epochs=40), corruption=LABELS, seed=range(3))
SMOKE = grids({name: run.shrunk for name, run in constant(DIGITS, 32, epochs=4).items()}, corruption=LABELS)
REGIME_OF, ORDER = regime_of_each(PAPER, LAPTOP, SMOKE), list(LAPTOP)


def with_regimes(frame):
    """The frame with the regime of each run, as `batch`; without the rows before the first step."""
    return frame[frame["step"] > 0].assign(batch=frame["run"].map(REGIME_OF))


def with_fits(study):
    """A row for each run: what shares of the variance of its distances, over its steps, log t and √t explain."""
    curves = dict(tuple(study.curves[study.curves["step"] > 0].groupby("run")))
    frame = with_regimes(study.runs)
    for name, of_step in (("R² of log t", np.log), ("R² of √t", np.sqrt)):
        shares = {
            run: np.corrcoef(of_step(curve["step"]), curve["distance_from_initial"])[0, 1] ** 2
            for run, curve in curves.items()
        }
        frame = frame.assign(**{name: frame["run"].map(shares)})
    return frame


def table(study):
    return tables.mean_and_interval(with_fits(study), ["corruption", "batch"], METRICS)


def figure(study):
    """The distance over steps, with true and with random labels."""
    frame, same, distance = with_regimes(study.curves), ["batch", "seed", "step"], "distance_from_initial"
    true, random = (frame[frame["corruption"] == labels] for labels in LABELS)
    both = random.merge(true[[*same, distance]], on=same, how="left", suffixes=("_random_labels", "_true_labels"))
    return figures.curves(both, "step", [f"{distance}_{labels}" for labels in LABELS], hue="batch", log="x")


def distances_when_large_batches_end(study):
    """Regime → the distance after as many steps as large batches take, a mean over seeds; and these steps."""
    frame = with_regimes(study.curves)
    steps = frame.groupby("batch")["step"].max().min()
    found = {}
    for regime in ORDER:
        curve = frame[frame["batch"] == regime].groupby("step")["distance_from_initial"].mean()
        found[regime] = np.interp(math.log(steps), np.log(curve.index), curve)
    return found, steps


@needs(corruption="true_labels")
def distance_grows_as_log_t(study):
    """With true labels and in every regime, log t explains more of the distance than √t."""
    means = with_fits(study).groupby("batch")[["R² of log t", "R² of √t"]].mean().loc[ORDER]
    words = "; ".join(f"{regime} {log:.3f} against {sqrt:.3f}" for regime, log, sqrt in means.itertuples())
    return (means["R² of log t"] > means["R² of √t"]).all(), f"R²: {words}"


@needs(corruption="true_labels")
def as_many_steps_go_as_far(study):
    """With the √ rate and ghost batch norm, large batches go as far in as many steps as small ones, within a fifth."""
    found, steps = distances_when_large_batches_end(study)
    words = ", ".join(f"{regime} {distance:.1f}" for regime, distance in found.items())
    return abs(found["+GBN"] / found["SB"] - 1) < 0.2, f"after {steps:,} steps: {words}"


def epochs_to_fit(study):
    """Epochs until fitted by regime: means over seeds, infinite where a run never fitted; and the same in words."""
    runs = with_regimes(study.runs).fillna({"epochs_to_fit": math.inf})
    found = runs.groupby("batch")["epochs_to_fit"].mean().loc[ORDER]
    told = (
        f"{regime} {epochs:.0f}" if epochs < math.inf else f"{regime} not every run" for regime, epochs in found.items()
    )
    return found, "epochs: " + ", ".join(told)


@needs(corruption="random_labels")
def large_batches_need_no_more_epochs_for_random_labels(study):
    """Large batches fit random labels in no more epochs than small ones, so that they need no regime adaptation."""
    found, words = epochs_to_fit(study)
    return found["LB"] <= found["SB"] and found["LB"] < math.inf, words


@needs(corruption="random_labels")
def ghost_batch_norm_slows_random_labels(study):
    """At the same rate, random labels take more epochs with ghost batch norm."""
    found, words = epochs_to_fit(study)
    return found["+GBN"] > found["+LR"], words


EXPERIMENT = Experiment(
    claim="At a constant rate the distance from the first weights grows as log t, and with the √ rate and ghost batch "
    "norm as far with large batches as with small ones; large batches fit random labels in no more epochs.",
    locator="Section 3 and Figure 2; random labels are ours",
    runs=every(PAPER),
    laptop=every(LAPTOP),
    smoke=every(SMOKE),
    table=table,
    figure=figure,
    checks=[
        distance_grows_as_log_t,
        as_many_steps_go_as_far,
        large_batches_need_no_more_epochs_for_random_labels,
        ghost_batch_norm_slows_random_labels,
    ],
)
