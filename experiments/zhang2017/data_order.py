"""Does the order in which examples are seen slow memorization? Six orders, true labels and random ones.

36 runs of the MLP of 512 units on CIFAR-10, each stopped when it has fitted: 5,000 images and three seeds at laptop
scale, all images and one seed of each at paper scale (12 runs). The rate is constant, so that only the order differs.
The stored order of CIFAR-10 is random in its classes. Not published elsewhere, as far as we know.

Expected: sampling with replacement is slower, for in n draws it misses 37 % of the examples; the other orders differ
little, since the label of one example says nothing about that of the next.

Found at laptop scale: all orders fit, and none needs more than 1.21 times the epochs of a new permutation; none needs
fewer. With replacement takes 1.18 times as many, on true and on random labels alike. That repeated orders cost as much
on random labels was not expected (one permutation: 34 to 41 epochs, stored: 35 to 36, a new one each time: 31 to 32),
so two sentences do not hold. A buffer of 1,000 of the 5,000 images is nearly as good as a permutation of all. The runs
took 26 minutes in all, two side by side on a busy machine.
"""

from rethink_gen import Experiment, Run, grid
from rethink_gen.analysis.declare import by, lines

ORDERS = ("reshuffle", "shuffle_once", "stored", "buffer(capacity=100)", "buffer(capacity=1000)", "with_replacement")
LABELS = ("true_labels", "random_labels")
RUN = Run(
    model="mlp_1x512", batch_size=50, epochs=200, learning_rate=0.001, schedule="constant", stop_at_train_accuracy=0.99
)
SMALL = Run(**{**RUN.changes, "train_size": 5000, "test_size": 2000})


def epochs(study):
    """Epochs until 99 % of the training set are fitted, by labels and order: the mean over seeds."""
    return study.runs.groupby(["corruption", "order"], sort=False)["epochs_to_fit"].mean().unstack()


def ratios(study, order):
    """Epochs with an order divided by those with a new permutation in each epoch."""
    table = epochs(study)
    return table[order] / table["reshuffle"]


def in_words(ratio):
    return ", ".join(f"{value:.2f} times as many epochs on {name.replace('_', ' ')}" for name, value in ratio.items())


def every_order_fits(study):
    """With every order the network fits true and random labels."""
    fitted = study.runs["fitted"]
    return fitted.all(), f"{fitted.sum()} of {len(fitted)} runs fitted"


def replacement_slows_memorization(study):
    """Sampling with replacement needs more epochs than a new permutation, on random labels."""
    ratio = ratios(study, "with_replacement")
    return ratio["random_labels"] > 1, in_words(ratio)


def one_permutation_is_enough(study):
    """One permutation for the whole run needs at most a tenth more epochs than a new one each time."""
    ratio = ratios(study, "shuffle_once")
    return (ratio < 1.1).all(), in_words(ratio)


def stored_order_is_enough(study):
    """The stored order needs at most a tenth more epochs than a new permutation each time."""
    ratio = ratios(study, "stored")
    return (ratio < 1.1).all(), in_words(ratio)


EXPERIMENT = Experiment(
    claim="Random labels are fitted in any order of the examples; drawing with replacement slows that a little.",
    locator="Our own, about the training of Section 2",
    runs=grid(RUN, corruption=LABELS, order=ORDERS),
    laptop=grid(SMALL, corruption=LABELS, order=ORDERS, seed=range(3)),
    table=by("corruption", "order", metrics=["epochs_to_fit", "steps_to_fit", "test_accuracy"]),
    figure=lines(x="epoch", y="train_loss", log="y", hue="order", where={"corruption": "random_labels"}),
    checks=[every_order_fits, replacement_slows_memorization, one_permutation_is_enough, stored_order_is_enough],
)
