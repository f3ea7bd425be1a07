"""Figure 1b: how much longer fitting takes as more labels are random.

18 runs: three networks, six levels of corruption. Paper scale: 7 minutes a run on one CPU core for MLP 1x512, an
accelerator for the others. Laptop scale: 5,000 images for the MLP, 20 seconds a run on two CPU cores; 512 for the
others, one to four minutes, and more on a busy machine.

The figure of the paper states neither the threshold nor the unit; here it is steps until 99 % training accuracy,
relative to the same network on true labels. Expected: smooth growth, to a small multiple of the time for true labels.

Found at the paper's scale for MLP 1x512: 1.4, 1.8, 2.2, 2.6 and 2.8 times the 25 epochs of true labels, as smooth as in
the paper. The small AlexNet takes 1.7 times its 12 epochs with 40 % of the labels random, and 2.25 times with all; the
small Inception 3.1 times its 12 epochs with all. Their other levels have not been run. At laptop scale, with few
images, the slowdown all but vanishes: no network takes more than 1.4 times as long.
"""

from rethink_gen import Experiment, for_each
from rethink_gen.analysis.declare import by, lines
from rethink_gen.analysis.tables import time_to_fit
from rethink_gen.papers.zhang2017.protocol import (
    LABEL_CORRUPTION_MODELS,
    label_corruption_runs,
    laptop_run,
    paper_run,
)

SMALL_FACTOR = 10  # "a small constant factor"; Figure 1b ends near 4


def slowdown(study):
    """Steps to fit divided by those for true labels, by level of corruption; infinite where a run never fitted."""
    steps = time_to_fit(study.runs, "corruption_level").sort_index()
    return steps / steps[0.0]


def in_words(slowdown):
    return ", ".join(f"{level:.0%}: {factor:.1f}×" for level, factor in slowdown.items())


def every_level_is_fitted(study):
    """{model} fits every level of corruption."""
    return study.runs["fitted"].all(), in_words(slowdown(study))


def slowdown_is_small(study):
    """{model} takes at most a small factor longer than on true labels (under 10)."""
    factors = slowdown(study)
    return study.runs["fitted"].all() and factors.max() < SMALL_FACTOR, in_words(factors)


EXPERIMENT = Experiment(
    claim="Training time increases only by a small constant factor compared with training on the true labels.",
    locator="Figure 1b, Section 2.2",
    runs=label_corruption_runs(paper_run),
    laptop=label_corruption_runs(laptop_run),
    table=by("model", "corruption_level", metrics=["steps_to_fit", "epochs_to_fit", "train_accuracy", "test_error"]),
    figure=lines(x="corruption_level", y="steps_to_fit", hue="model", relative_to=0.0),
    checks=for_each("model", LABEL_CORRUPTION_MODELS, every_level_is_fitted, slowdown_is_small),
)
