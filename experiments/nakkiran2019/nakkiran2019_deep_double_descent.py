"""The peak of the test error over the width of convolutional networks with noisy labels, and over epochs.

Paper scale: the 5-layer CNN and ResNet-18 on CIFAR-10, 15 widths, 105 runs for GPUs: the 60 of the ResNet take about
110 hours of a B200, by the time that others took for 400 epochs. They were not run. Numbers of the authors at epochs
400 and 3,999 stand beside them, and those of a third party in the figure.

Laptop scale: the CNN with k, 2k, 4k and 8k channels on 4,000 digits of 16×16 pixels, 80 epochs, one seed; 7 widths
with 20 % wrong labels, 4 without. The number of digits was chosen after trials of a few widths with the same seed: of
1,000 the peak has no left side (see the protocol).

Expected: with noise, the test error falls with width, rises to where all labels are just fitted, and falls again.
Without noise, or at the best epoch of each width, it only falls. Over epochs that of a wide network falls, rises and
falls.

Found at laptop scale: so it is. The test error is 18.1 % at width 1, 12.7 % at 2, 22.2 % at 4 and 12.5 % at 12. Width
4 misses 3.7 % of the labels, width 6 none. Longer training moves the peak to narrower networks, as the paper says of
its effective complexity: after 21 epochs the error rises from width 2 up to width 12, after 44 its peak is at 6, after
80 at 4. Stopped at its best epoch each width from 2 on errs on 7.2 to 9.0 %. Without noise the error falls from 9.8 to
3.6 %. At width 12 it is 7.2 % after 3 epochs, 16.8 % after 13 and 12.5 % at last; from one epoch to the next it may
jump by 9 points at first, so single epochs say little. The second descent ends near the first minimum over width, and
not below the early epochs. The 11 runs took 10 minutes of one core, 34 minutes while others worked on it.
"""

from rethink_gen import Experiment, registry
from rethink_gen.analysis import figures, tables
from rethink_gen.analysis.tables import percent
from rethink_gen.papers.nakkiran2019 import protocol

NOISE = 0.2
EPOCHS = {"laptop": (10, 21, 44, 80), "paper": (10, 100, 400, 1282)}  # of the figure
METRICS = ["train_error", "test_error", "least_test_error"]
JUST_FITTED = 0.02  # training error
STEP = 0.01  # the least height of a peak


def table(study):
    """At paper scale beside the authors' numbers of the ResNet; else the CNN by noise and width."""
    import pandas as pd

    if study.experiment.scale == "paper":
        at_400 = study.curves.assign(last=study.curves["epoch"] == 400) if len(study.curves) else study.curves
        parts = {"400": (at_400, "resnet_epoch_400"), "last": (study.runs, "resnet_last")}
        found = [
            tables.beside_paper(rows, item, paper="nakkiran2019").assign(epoch=epoch)
            for epoch, (rows, item) in parts.items()
        ]
        rows = pd.concat(found, ignore_index=True)
        return rows[["epoch", *rows.columns.drop("epoch")]]
    runs = study.runs
    if len(runs):
        runs = pd.concat([of_cnn(runs, noise).sort_values("width") for noise in (0.0, NOISE)])
    return tables.mean_and_interval(runs, ["corruption_level", "width"], METRICS)


def of_cnn(frame, noise):
    """The rows of the CNN at a level of noise, with its width."""
    rows = frame[frame["model"].str.startswith("mcnn") & (frame["corruption_level"] == noise)]
    return rows.assign(
        width=[registry.options_of("model", model)["width"] for model in rows["model"]],
        least_test_error=1 - rows["best_test_accuracy"],
    )


def figure(study):
    """Errors of the CNN against width, with 20 % noise at several epochs, and without noise at the last one."""
    rows = of_cnn(study.curves, NOISE)
    shown = rows[rows["epoch"].isin(EPOCHS.get(study.experiment.scale, rows["epoch"].unique()))]
    clean = by_width(study, ["test_error", "train_error"], 0.0)
    others = (protocol.THEIRS, protocol.third_party()) if study.experiment.scale == "paper" else ("no noise", clean)
    return figures.against(
        shown.assign(last=True),
        "width",
        ["test_error", "train_error"],
        hue="epoch",
        threshold=just_fitted(by_width(study, "train_error")),
        beside=others,
        top=1.1 * shown[["test_error", "train_error"]].max().max() if len(shown) else None,
    )


def by_width(study, metric, noise=NOISE):
    """A metric of the CNN at the last epoch against the width: the mean over seeds."""
    return of_cnn(study.runs, noise).groupby("width")[metric].mean()


def just_fitted(train_error):
    """The least width whose training error is at most 2 %."""
    return min(train_error.index[train_error <= JUST_FITTED], default=None)


def peak(error):
    """Where an error is highest above the least before it and the least after it, and how high above the larger."""
    inner = error.index[1:-1]
    sides = ((error[error.index < x].min(), error[error.index > x].min()) for x in inner)
    height = {x: error[x] - max(least) for x, least in zip(inner, sides, strict=True)}
    top = max(height, key=lambda x: height[x])
    return top, height[top]


def in_words(error, top):
    before, after = error[error.index < top].min(), error.iloc[-1]
    return f"{percent(before)} at best before, {percent(error[top])} at {top}, {percent(after)} at {error.index[-1]}"


def noise_makes_a_peak(study):
    """With 20 % noise the test error of the CNN has a peak over width: 1 point or more above what is on both sides."""
    error = by_width(study, "test_error")
    top, height = peak(error)
    return height >= STEP, in_words(error, top)


def the_peak_is_where_labels_are_just_fitted(study):
    """The peak is at the least width with a training error of at most 2 %, or one step of width beside it."""
    widths = by_width(study, "train_error")
    top, fitted = peak(by_width(study, "test_error"))[0], just_fitted(widths)
    places = [list(widths.index).index(width) for width in (top, fitted) if width is not None]
    return len(places) == 2 and abs(places[0] - places[1]) <= 1, f"peak at width {top}, 2 % at width {fitted}"


def without_noise_there_is_no_peak(study):
    """Without noise, and the same epochs, there is no peak of 1 point."""
    error = by_width(study, "test_error", 0.0)
    return peak(error)[1] < STEP, ", ".join(f"{percent(value)} at width {width}" for width, value in error.items())


def early_stopping_removes_the_peak(study):
    """With 20 % noise, but after the best epoch of each width, there is no peak of 1 point."""
    error = by_width(study, "least_test_error")
    return peak(error)[1] < STEP, ", ".join(f"{percent(value)} at width {width}" for width, value in error.items())


def a_wide_network_descends_twice_over_epochs(study):
    """With 20 % noise the test error of the widest CNN rises after its least value, and then falls again by 1 point."""
    rows = of_cnn(study.curves, NOISE)
    error = rows[rows["width"] == rows["width"].max()].groupby("epoch")["test_error"].mean()
    least = error.idxmin()
    top = error[error.index >= least].idxmax()
    words = (
        f"{percent(error[least])} at epoch {least}, {percent(error[top])} at {top}, {percent(error.iloc[-1])} at last"
    )
    return error[top] - max(error[least], error.iloc[-1]) >= STEP, f"width {rows['width'].max()}: {words}"


EXPERIMENT = Experiment(
    claim="With noisy labels, the test error of convolutional networks has a peak at the width that just fits the "
    "training set, and falls again with more width; without noise, or with early stopping, there is no peak.",
    locator="Sections 4 to 6",
    runs=protocol.runs(),
    laptop=protocol.small_runs(),
    smoke=protocol.small_runs((1, 2, 3), (1, 2)),
    table=table,
    figure=figure,
    checks=[
        noise_makes_a_peak,
        the_peak_is_where_labels_are_just_fitted,
        without_noise_there_is_no_peak,
        early_stopping_removes_the_peak,
        a_wide_network_descends_twice_over_epochs,
    ],
)
