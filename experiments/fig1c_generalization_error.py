"""Figure 1c: test error after convergence as more labels are random.

The 18 runs of Figure 1b: after `run fig1b`, this one trains nothing. Since the training error is zero throughout, the
test error is the generalization error. Expected: steady growth, from each network's test error to 90 %, chance.

Found: so it is for all three networks at laptop scale and for MLP 1x512 at the paper's (48.7 % to 90.0 %).
"""

from rethink_gen import papers
from rethink_gen.analysis import figures, tables
from rethink_gen.experiment import Check, Experiment
from rethink_gen.papers.zhang2017.protocol import (
    CORRUPTION_LEVELS,
    LABEL_CORRUPTION_MODELS,
    label_corruption_runs,
    laptop_run,
    paper_run,
)


def checks(frame):
    found = []
    for model in LABEL_CORRUPTION_MODELS:
        ends = frame[frame["last"] & (frame["model"] == model)]
        error = ends.groupby("corruption_level")["test_error"].mean()
        complete = len(error) == len(CORRUPTION_LEVELS)
        evidence = (
            ", ".join(f"{level:.0%}: {tables.percent(value)}" for level, value in error.items())
            if complete
            else "not run"
        )
        name = papers.label(model)
        found += [
            Check(
                f"The test error of {name} grows with the level of corruption.",
                bool(error.is_monotonic_increasing) if complete else None,
                evidence,
            ),
            Check(
                f"{name} is at chance at level 1 (90 %, within four standard errors on the test images).",
                bool(abs(error[1.0] - 0.9) <= margin(ends)) if complete else None,
                f"{tables.percent(error[1.0])}, ± {tables.percent(margin(ends))}" if complete else "not run",
            ),
        ]
    return found


def margin(ends):
    """Four standard errors of an accuracy of 10 % on the test images."""
    return 4 * (0.1 * 0.9 / ends["num_test"].min()) ** 0.5


EXPERIMENT = Experiment(
    claim="As the noise in the labels grows, the generalization error grows steadily, up to that of random guessing, "
    "although the training error stays zero.",
    locator="Figure 1c, Section 2.2",
    runs=label_corruption_runs(paper_run),
    laptop=label_corruption_runs(laptop_run),
    table=lambda frame: tables.mean_and_interval(
        frame, ["model", "corruption_level"], ["train_accuracy", "test_error", "generalization_gap"]
    ),
    figure=lambda frame: figures.against(frame, "corruption_level", "test_error", hue="model", chance=0.9),
    checks=checks,
)
