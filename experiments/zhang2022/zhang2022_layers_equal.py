"""One layer of a trained network is set back to its first weights, or drawn afresh: which layers matter?

10 runs at the paper's scale, 6 at the laptop scale: 5,000 images, three seeds, otherwise the same. The 6 took 4 minutes
on one core that other work shared.

Expected: with true labels, upper layers can be set back almost for free, a fresh draw of any layer leaves chance, and
random labels need every layer.

Found at laptop scale: a fresh draw leaves chance, whichever layer and labels it is. With true labels the first weights
of layers 2 and 3 do nearly as well as the learned ones: 93.3 and 93.2 % of the test images, of 94.6 %. Those of the
first layer leave 71.1 %, those of the last one 89.3 %, which is 5.3 points less: the sentence about all upper layers
does not hold. Random labels need each layer more, and the first ones most: 17.5, 58.3, 79.5 and 81.4 % of the training
images are left. That four in five are left without the learned layer 3, or 4, was not expected.
"""

from dataclasses import replace

from rethink_gen import Experiment, grid, needs
from rethink_gen.analysis.declare import by, lines
from rethink_gen.analysis.tables import percent
from rethink_gen.papers.zhang2022.protocol import BASE, LAYERS, MEASURES

LABELS = ("true_labels", "random_labels")
LAPTOP = replace(BASE, train_size=5000, test_size=2000, measurements=10)
TO = {"initial": "first weights", "fresh": "a fresh draw"}
ROBUST = 0.05  # of the accuracy: what a layer that does not matter costs at most


def by_layer(frame):
    """A row for each run, layer and reset: the accuracies after it, and which labels and which reset they are of."""
    import pandas as pd

    parts = []
    for to, weights in TO.items():
        for layer in LAYERS:
            of_split = {split: frame[MEASURES[layer, to, split]] for split in ("train", "test")}
            labels = frame["corruption"].map({"true_labels": "true labels", "random_labels": "random labels"})
            parts.append(
                frame.assign(
                    layer=layer,
                    reset=weights,
                    labels_and_reset=labels + ", " + weights,
                    reset_train_accuracy=of_split["train"],
                    reset_test_accuracy=of_split["test"],
                )
            )
    return pd.concat(parts).sort_values("corruption", ascending=False, kind="stable", ignore_index=True)


def left(study, to, split="train"):
    """The accuracy that is left after the reset of each layer: a row for each run."""
    columns = {layer: MEASURES[layer, to, split] for layer in LAYERS}
    return study.runs[list(columns.values())].set_axis(list(columns), axis=1)


def in_words(accuracies):
    return ", ".join(f"layer {layer} {percent(value)}" for layer, value in accuracies.mean().items())


@needs(corruption="true_labels")
def upper_layers_can_be_set_back(study):
    """With true labels, setting any layer but the first back to its first weights costs less than 5 points in tests."""
    lost = left(study, "initial", "test").rsub(study.runs["test_accuracy"], axis=0).mean()
    return (lost[list(LAYERS[1:])] < ROBUST).all(), "left: " + in_words(left(study, "initial", "test"))


def no_layer_can_be_drawn_afresh(study):
    """With true and with random labels, a fresh draw of any layer leaves at most 20 % training accuracy."""
    fresh = left(study, "fresh").groupby(study.runs["corruption"]).mean()
    return (fresh <= 0.2).all(axis=None), f"at most {percent(fresh.max(axis=None))} left"


def random_labels_need_each_layer_more(study):
    """With random labels, each layer set back to its first weights costs more training accuracy than with true ones."""
    of = study.runs["corruption"].eq("random_labels")
    accuracies = left(study, "initial")
    random, true = accuracies[of], accuracies[~of]
    return (
        random.mean() < true.mean()
    ).all(), f"left of random labels: {in_words(random)}; of true ones: {in_words(true)}"


EXPERIMENT = Experiment(
    claim="Upper layers of a trained network can be set back to their first weights almost for free, while a fresh "
    "draw ruins it; a network that has memorized random labels needs each layer more.",
    locator="Section 3, fully connected networks on MNIST; random labels are ours",
    runs=grid(BASE, corruption=LABELS, seed=range(5)),
    laptop=grid(LAPTOP, corruption=LABELS, seed=range(3)),
    table=by("corruption", "reset", "layer", metrics=["reset_train_accuracy", "reset_test_accuracy"], derive=by_layer),
    figure=lines(x="layer", y=["reset_train_accuracy", "reset_test_accuracy"], hue="labels_and_reset", derive=by_layer),
    checks=[upper_layers_can_be_set_back, no_layer_can_be_drawn_afresh, random_labels_need_each_layer_more],
)
