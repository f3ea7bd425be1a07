"""Figure 1c: test error after convergence as more labels are random.

The 18 runs of Figure 1b: after `run fig1b`, this one trains nothing. Since the training error is nearly zero, the test
error is nearly the generalization error: MLP 1x512 misses at most 0.7 % of its training labels at the paper's scale,
the others next to none. Expected: steady growth, from each network's test error to 90 %, chance.

Found: so it is for all three networks at laptop scale and for MLP 1x512 at the paper's (48.7 % to 90.0 %).
"""

from rethink_gen import Experiment, for_each
from rethink_gen.analysis.declare import by, lines
from rethink_gen.analysis.tables import percent
from rethink_gen.papers.zhang2017.protocol import (
    LABEL_CORRUPTION_MODELS,
    label_corruption_runs,
    laptop_run,
    paper_run,
)


def error_grows_with_corruption(study):
    """The test error of {model} grows with the level of corruption."""
    error = study.runs.groupby("corruption_level")["test_error"].mean()
    return error.is_monotonic_increasing, ", ".join(f"{level:.0%}: {percent(value)}" for level, value in error.items())


def error_ends_at_chance(study):
    """{model} is at chance at level 1 (90 %, within four standard errors on the test images)."""
    error = study.runs.groupby("corruption_level")["test_error"].mean()[1.0]
    margin = 4 * (0.1 * 0.9 / study.runs["num_test"].min()) ** 0.5
    return abs(error - 0.9) <= margin, f"{percent(error)}, ± {percent(margin)}"


EXPERIMENT = Experiment(
    claim="As the noise in the labels grows, the generalization error grows steadily, up to that of random guessing, "
    "although the training error stays zero.",
    locator="Figure 1c, Section 2.2",
    runs=label_corruption_runs(paper_run),
    laptop=label_corruption_runs(laptop_run),
    table=by("model", "corruption_level", metrics=["train_accuracy", "test_error", "generalization_gap"]),
    figure=lines(x="corruption_level", y="test_error", hue="model", chance=0.9),
    checks=for_each("model", LABEL_CORRUPTION_MODELS, error_grows_with_corruption, error_ends_at_chance),
)
