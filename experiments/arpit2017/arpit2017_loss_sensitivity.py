"""Do few examples shape the training, or all alike? The Gini coefficient of loss sensitivity, of true labels and noise.

The sensitivity of an image is how much the training loss changes with its pixels, through all steps of SGD that were
made on it. A Gini coefficient over images near 1 says that few images matter. 9 runs: true labels, random labels,
random inputs; 1,000 images of MNIST, two layers of 16 units as in the paper, 10 to 1,000 steps, three seeds; the same
at laptop and paper scale. The paper has images of 14×14 pixels, and does not state rate and batches; ours are a rate of
0.05, batches of 32, and no momentum. The loss is differentiated after ten of the steps, evenly spaced.

Expected: the coefficient is larger with true labels than with random inputs. Random labels on true images are ours.

Found: so it is. After 1,000 steps the coefficient is 0.51 with true labels, 0.18 with random inputs and 0.24 with
random labels. After 10 steps, which have seen 320 of the images, it says no more than that. From 100 steps on, when all
were seen, it is larger with true labels than with random inputs, whichever seeds are compared. The runs took 8 minutes
on one core that other work shared, nearly all of it for the measure.
"""

from dataclasses import replace

from rethink_gen import Experiment, grid
from rethink_gen.analysis.declare import by, lines
from rethink_gen.papers.arpit2017.protocol import SENSITIVITY, SMALL

TINY = replace(
    SMALL, model="mlp(hidden=16+16)", learning_rate=0.05, momentum=0.0, epochs=32, measures=tuple(SENSITIVITY.values())
)
RUNS = grid(TINY, corruption=("true_labels", "random_labels", "gaussian"), seed=range(3))


def by_steps(frame):
    """A row for each run and number of steps, and the coefficient after them."""
    import pandas as pd

    ends = frame[frame["last"]]
    return pd.concat([ends.assign(sgd_steps=steps, gini=ends[name]) for steps, name in SENSITIVITY.items()])


def means(study):
    """The coefficient: a row for each number of steps, a column for each kind of labels and inputs."""
    return by_steps(study.runs).groupby(["sgd_steps", "corruption"])["gini"].mean().unstack()


def in_words(row):
    return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in row.items())


def few_true_images_matter(study):
    """At the end, the coefficient is larger with true labels than with random inputs."""
    last = means(study).iloc[-1]
    return last["true_labels"] > last["gaussian"], in_words(last)


def they_do_so_from_early_on(study):
    """From 100 steps on it is so at every number of steps, whichever seeds are compared."""
    values = by_steps(study.runs).query("sgd_steps >= 100").groupby(["sgd_steps", "corruption"])["gini"]
    low, high = values.min().unstack()["true_labels"], values.max().unstack()["gaussian"]
    words = ", ".join(f"{low[steps]:.3f} and {high[steps]:.3f} after {steps}" for steps in low.index)
    return (low > high).all(), f"the least of true labels and the largest of random inputs: {words}"


def random_labels_are_like_random_inputs(study):
    """Random labels on true images are nearer to random inputs than to true labels."""
    last = means(study).iloc[-1]
    between = (last["true_labels"] + last["gaussian"]) / 2
    return last["random_labels"] < between, in_words(last)


EXPERIMENT = Experiment(
    claim="With true labels few training images matter for the loss, with noise nearly all do.",
    locator="Section 3.2, Figure 3",
    runs=RUNS,
    laptop=RUNS,
    table=by("corruption", "sgd_steps", metrics=["gini"], derive=by_steps),
    figure=lines(x="sgd_steps", y="gini", hue="corruption", derive=by_steps, log="x"),
    checks=[few_true_images_matter, they_do_so_from_early_on, random_labels_are_like_random_inputs],
)
