"""The randomization test in under a minute: five versions of scikit-learn's digits, one network that fits them all.

5 runs of an MLP with three hidden layers of 512 units on 1,500 images, the same at every scale: about half a minute
on two CPU cores. Expected: training accuracy 100 % on all five, test accuracy high only where labels and pixels still
belong together. Shuffled pixels are no harder than true ones here: an MLP does not know which pixels are neighbors.
"""

from rethink_gen import Experiment, Run, grid
from rethink_gen.analysis.declare import by, lines
from rethink_gen.analysis.tables import percent

CORRUPTIONS = ("true_labels", "shuffled_pixels", "random_pixels", "gaussian", "random_labels")
RUNS = grid(
    Run(dataset="digits", model="mlp_3x512", learning_rate=0.03, learning_rate_decay=0.98, batch_size=50, epochs=40),
    corruption=CORRUPTIONS,
)


def every_version_is_fitted(study):
    """The network fits every version of the data, also labels drawn at random."""
    fitted = study.runs["fitted"]
    return fitted.all(), f"training accuracy reached 99 % on {fitted.sum()} of {len(fitted)}"


def it_generalizes_from_true_labels_alone(study):
    """It generalizes from true labels and is at chance (10 %) after random ones."""
    accuracy = study.runs.groupby("corruption", sort=False)["test_accuracy"].mean()
    evidence = ", ".join(f"{percent(value)} test accuracy on {name}" for name, value in accuracy.items())
    return accuracy["true_labels"] > 0.9 and accuracy["random_labels"] < 0.2, evidence


EXPERIMENT = Experiment(
    claim="Deep neural networks easily fit random labels: the same network, with the same settings, reaches zero "
    "training error on true labels, where it generalizes, and on random ones, where it cannot.",
    locator="Section 2.2, on scikit-learn's digits",
    paper="zhang2017",
    runs=RUNS,
    laptop=RUNS,
    table=by("corruption", metrics=["train_accuracy", "test_accuracy", "epochs_to_fit"]),
    figure=lines(x="epoch", y=["train_accuracy", "test_accuracy"], hue="corruption"),
    checks=[every_version_is_fitted, it_generalizes_from_true_labels_alone],
)
