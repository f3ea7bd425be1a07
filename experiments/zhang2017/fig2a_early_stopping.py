"""Figure 2a: training and test accuracy of Inception V3 on ImageNet over time, and the best test accuracy so far.

3 runs, all among those of table2_imagenet, whose notes say what the paper scale needs and what stands in for it at the
others; a run that one of the two experiments has finished the other copies. Expected: with all regularizers the test
accuracy rises to the end; without augmentation it falls from its best, by 3 to 5 points, so that stopping early helps.
"""

from rethink_gen import Experiment
from rethink_gen.analysis.declare import by, lines
from rethink_gen.papers.zhang2017.protocol import BARE, DECAYED, REGULARIZED, imagenet_runs, with_settings

METRICS = ["train_accuracy", "test_accuracy", "best_test_accuracy"]
SETTINGS = (REGULARIZED, DECAYED, BARE)


def gain(study):
    """How far the best test accuracy is above the last, by setting."""
    runs = with_settings(study.runs)
    return (runs["best_test_accuracy"] - runs["test_accuracy"]).groupby(runs["setting"]).mean()


def in_words(gain):
    return ", ".join(f"{name}: {100 * value:.1f} points" for name, value in gain.items())


def early_stopping_helps_without_augmentation(study):
    """Without augmentation the best test accuracy is at least 2 points above the last: stopping early helps."""
    points = gain(study)
    return min(points["weight decay"], points["no regularizer"]) >= 0.02, in_words(points)


def early_stopping_does_not_help_with_all_regularizers(study):
    """With all regularizers it is less than 2 points above the last."""
    points = gain(study)
    return points["augmentation, weight decay, dropout"] < 0.02, in_words(points)


EXPERIMENT = Experiment(
    claim="Early stopping could improve generalization on ImageNet where other regularizers are absent.",
    locator="Figure 2a, Section 3.1",
    runs=imagenet_runs(SETTINGS),
    laptop=imagenet_runs(SETTINGS, laptop=True),
    table=by("model", "setting", metrics=METRICS, derive=with_settings),
    figure=lines(x="step", y="test_accuracy", hue="setting", dashed="train_accuracy", best=True, derive=with_settings),
    checks=[early_stopping_helps_without_augmentation, early_stopping_does_not_help_with_all_regularizers],
)
