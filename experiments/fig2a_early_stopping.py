"""Figure 2a: training and test accuracy of Inception V3 on ImageNet over time, and the best test accuracy so far.

3 runs, all among those of table2_imagenet, whose notes say what the paper scale needs and what stands in for it at the
others; a run that one of the two experiments has finished the other copies. Expected: with all regularizers the test
accuracy rises to the end; without augmentation it falls from its best, by 3 to 5 points, so that stopping early helps.
"""

from rethink_gen.analysis import figures, tables
from rethink_gen.experiment import Check, Experiment
from rethink_gen.papers.zhang2017.protocol import BARE, DECAYED, REGULARIZED, imagenet_runs, settings

SETTINGS = (REGULARIZED, DECAYED, BARE)
METRICS = ["train_accuracy", "test_accuracy", "best_test_accuracy"]


def named(frame):
    return frame.assign(setting=settings(frame))


def checks(frame):
    ends = named(frame[frame["last"]])
    gain = (ends["best_test_accuracy"] - ends["test_accuracy"]).groupby(ends["setting"]).mean()
    evidence = ", ".join(f"{name}: {100 * value:.1f} points" for name, value in gain.items()) or "not run"

    def check(statement, holds):
        return Check(statement, bool(holds()) if len(gain) == len(SETTINGS) else None, evidence)

    return [
        check(
            "Without augmentation the best test accuracy is at least 2 points above the last: stopping early helps.",
            lambda: min(gain["weight decay"], gain["no regularizer"]) >= 0.02,
        ),
        check(
            "With all regularizers it is less than 2 points above the last.",
            lambda: gain["augmentation, weight decay, dropout"] < 0.02,
        ),
    ]


EXPERIMENT = Experiment(
    claim="Early stopping could improve generalization on ImageNet where other regularizers are absent.",
    locator="Figure 2a, Section 3.1",
    runs=imagenet_runs(SETTINGS),
    laptop=imagenet_runs(SETTINGS, laptop=True),
    table=lambda frame: tables.mean_and_interval(named(frame), ["model", "setting"], METRICS),
    figure=lambda frame: figures.curves(
        named(frame), "step", "test_accuracy", hue="setting", dashed="train_accuracy", best=True
    ),
    checks=checks,
)
