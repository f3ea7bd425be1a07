"""Double descent of one hidden layer on MNIST with squared loss and without label noise, as units are added."""

from rethink_gen import Experiment
from rethink_gen.analysis import figures, tables
from rethink_gen.analysis.tables import percent
from rethink_gen.papers.belkin2019 import protocol

WIDTH = "model.hidden"
PEAK = 1.1  # times the least before and the least after it
NEAR = 1.5  # times fewer or more parameters than labels times classes
FITTED = 0.01  # squared loss; a network that answers zero has 1
EPOCHS = {"laptop": (60, 346, 2000), "paper": (169, 1007, 6000)}  # of the figure
METRICS = ["train_error", "test_error", "squared_train_loss", "squared_loss"]


def with_losses(frame):
    """The frame with the losses under names that say that they are squared."""
    return (
        frame.assign(squared_loss=frame["test_loss"], squared_train_loss=frame["train_loss"]) if len(frame) else frame
    )


def table(study):
    return tables.mean_and_interval(with_losses(study.runs), [WIDTH], METRICS)


def stopped(study):
    """Each network at its first measured epoch without an error on the training set, or at its last one."""
    frame = with_losses(study.curves)
    over = frame[(frame["train_error"] == 0) | frame["last"]]
    return over.drop_duplicates("run").groupby(WIDTH)[METRICS].mean()


def figure(study):
    """Losses and test error against width at several epochs, and of networks that stop as soon as they err on none."""
    frame = with_losses(study.curves)
    epochs = EPOCHS.get(study.experiment.scale)
    return figures.against(
        frame[frame["epoch"].isin(epochs)].assign(last=True) if epochs else frame[frame["last"]],
        WIDTH,
        ["squared_loss", "squared_train_loss", "test_error"],
        hue="epoch",
        threshold=protocol.threshold(study.runs["num_train"].max()),
        beside=("no training error", stopped(study)),
        log="xy",
    )


def by_width(study, metric):
    """A metric at the last epoch against the width: the mean over seeds."""
    return with_losses(study.runs).groupby(WIDTH)[metric].mean()


def peak(values):
    """Where values are highest, as a multiple of the least before and of the least after, and that multiple."""
    inner = values.index[1:-1]
    height = {x: values[x] / max(values[values.index < x].min(), values[values.index > x].min()) for x in inner}
    top = max(height, key=lambda x: height[x])
    return top, height[top]


def in_words(values, top, form="{:.3f}".format):
    before, after = values[values.index < top], values[values.index > top]
    points = {width: values[width] for width in (before.idxmin(), top, after.idxmin())}
    return ", ".join(f"{form(value)} at width {width}" for width, value in points.items())


def the_test_loss_has_a_peak_at_the_threshold(study):
    """The test loss has a peak of 10 % or more over width, where parameters are 2/3 to 3/2 of labels times classes."""
    loss = by_width(study, "squared_loss")
    top, height = peak(loss)
    share = top / protocol.threshold(study.runs["num_train"].max())
    return height >= PEAK and 1 / NEAR <= share <= NEAR, in_words(loss, top)


def the_test_error_has_a_peak_too(study):
    """The test error has a peak of 10 % or more, too."""
    error = by_width(study, "test_error")
    top, height = peak(error)
    return height >= PEAK, in_words(error, top, percent)


def the_second_descent_is_lower(study):
    """Beyond the threshold the test loss falls below all that it is before it."""
    loss, threshold = by_width(study, "squared_loss"), protocol.threshold(study.runs["num_train"].max())
    before, after = loss[loss.index < threshold], loss[loss.index > threshold]
    words = f"{before.min():.3f} at width {before.idxmin()}, {after.min():.3f} at width {after.idxmin()}"
    return after.min() < before.min(), words


def labels_are_fitted_from_the_threshold_on(study):
    """Beyond the threshold every network errs on no training image, with a squared loss of at most 0.01."""
    runs = with_losses(study.runs)
    beyond = runs[runs[WIDTH] > protocol.threshold(runs["num_train"].max())]
    loss = beyond["squared_train_loss"].max()
    return (beyond["train_error"] == 0).all() and loss <= FITTED, f"training loss at most {loss:.2g}"


def the_training_loss_only_falls(study):
    """With each step in width the training loss falls, although no network begins from a smaller one."""
    loss = by_width(study, "squared_train_loss")
    words = ", ".join(f"{loss[width]:.2g} at width {width}" for width in loss.index[:: max(1, len(loss) // 4)])
    return (loss.diff().dropna() < 0).all(), words


EXPERIMENT = Experiment(
    claim="As hidden units are added, the test loss of a network falls, peaks where it has as many parameters as there "
    "are labels times classes, and falls again below all that it was.",
    locator="Section 3, fully connected networks on MNIST",
    runs=protocol.networks(*protocol.WIDE, seeds=5),
    laptop=protocol.networks(*protocol.NARROW, seeds=3, faster=3),
    smoke=protocol.networks(1, 4, 64, seeds=1),
    table=table,
    figure=figure,
    checks=[
        the_test_loss_has_a_peak_at_the_threshold,
        the_test_error_has_a_peak_too,
        the_second_descent_is_lower,
        labels_are_fitted_from_the_threshold_on,
        the_training_loss_only_falls,
    ],
)
