"""Figure 1b: how much longer fitting takes as more labels are random.

18 runs: three networks, six levels of corruption. Paper scale: 7 minutes a run on one CPU core for MLP 1x512, an
accelerator for the others. Laptop scale: 5,000 images for the MLP, seconds a run; 512 for the others, one to four
minutes.
The figure of the paper states neither the threshold nor the unit; here it is steps until 99 % training accuracy,
relative to the same network on true labels. Expected: smooth growth, to a small multiple of the time for true labels.

Found at the paper's scale for MLP 1x512: 1.4, 1.8, 2.2, 2.6 and 2.8 times the 25 epochs of true labels, as smooth as
in the paper. Random labels alone take the small AlexNet 2.3 times its 12 epochs, and the small Inception 3.1 times.
At laptop scale, with few images, the slowdown all but vanishes: no network takes more than 1.4 times as long.
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

SMALL_FACTOR = 10  # "a small constant factor"; Figure 1b ends near 4


def table(frame):
    return tables.mean_and_interval(
        frame, ["model", "corruption_level"], ["steps_to_fit", "epochs_to_fit", "train_accuracy", "test_error"]
    )


def checks(frame):
    found = []
    for model in LABEL_CORRUPTION_MODELS:
        of_model = frame[frame["model"] == model]
        steps = tables.time_to_fit(of_model, "corruption_level").sort_index()
        complete = len(steps) == len(CORRUPTION_LEVELS)
        slowdown = steps / steps.iloc[0] if complete else steps
        evidence = (
            ", ".join(f"{level:.0%}: {value:.1f}×" for level, value in slowdown.items()) if complete else "not run"
        )
        name = papers.label(model)
        found += [
            Check(
                f"{name} fits every level of corruption.",
                bool(steps.max() < float("inf")) if complete else None,
                evidence,
            ),
            Check(
                f"{name} takes at most a small factor longer than on true labels (under {SMALL_FACTOR}).",
                bool(slowdown.max() < SMALL_FACTOR) if complete else None,
                evidence,
            ),
        ]
    return found


EXPERIMENT = Experiment(
    claim="Training time increases only by a small constant factor compared with training on the true labels.",
    locator="Figure 1b, Section 2.2",
    runs=label_corruption_runs(paper_run),
    laptop=label_corruption_runs(laptop_run),
    table=table,
    figure=lambda frame: figures.against(frame, "corruption_level", "steps_to_fit", hue="model", relative_to=0.0),
    checks=checks,
)
