"""Double descent with random Fourier features on MNIST: least norm, a path of ridge penalties, and the kernel machine.

Paper scale: 10,000 images, 18 numbers of features from 100 to 60,000, and the Gaussian kernel machine, their limit; one
seed. Each run solves six penalties in closed form. Laptop scale: 2,000 images, features in proportion, three seeds.

Expected: with least norm the test error falls, rises to a peak where features are as many as images, and falls again,
below all that it was, to the error of the kernel machine. The norm of the weights has the same peak. A ridge penalty
removes it. The paper has figures and no numbers.

Found at the paper's scale: so it is. The test error is 5.1 % with a quarter of a feature per image, 90.2 % with one,
2.9 % with six, and 2.4 % of the kernel machine. A run takes at most 5 minutes on a busy core, all 19 took 37 minutes.
With 2,000 images, which take 2 minutes on a quiet core: 13.1 %, 87.8 %, 5.5 % and 4.9 %; the weights are a hundred
times as long at the peak as with six features per image. With λ = 1 there is no peak: 7.4 % with one feature per image.
"""

from rethink_gen import Experiment, KernelRun, RidgeRun, grid
from rethink_gen.analysis import figures, tables
from rethink_gen.analysis.tables import percent

FEATURES = (100, 250, 500, 1000, 2500, 5000, 7500, 9000, 9500, 10_000)  # up to the number of images
FEATURES += (10_500, 11_000, 12_500, 15_000, 20_000, 30_000, 45_000, 60_000)
SHOWN = [0.0, 0.001, 0.1, 1.0]  # penalties of the table and the figure
METRICS = ["train_error", "test_error", "squared_loss", "weight_norm"]
NEAR = 1.25  # times the error of the kernel machine


def runs(images, features, seeds):
    """Ridge regression with so many features, and the kernel machine that it tends to."""
    counts = tuple(f"fourier(count={count})" for count in features)
    limit = KernelRun(train_size=images, gamma=0.02)
    return (*grid(RidgeRun(train_size=images), features=counts, seed=range(seeds)), limit)


def by_capacity(frame):
    """The rows of ridge regression, each penalty by itself; capacity is the number of features per image."""
    ridge = frame[frame["kind"] == "ridge"].assign(last=True)
    count = ridge["features.count"].astype(int)
    return ridge.assign(features=count, capacity=count / ridge["num_train"], squared_loss=ridge["test_loss"])


def table(study):
    rows = by_capacity(study.curves) if len(study.curves) else study.curves
    shown = rows[rows["penalty"].isin(SHOWN)] if len(rows) else rows
    return tables.mean_and_interval(shown, ["features", "penalty"], METRICS)


def figure(study):
    rows = by_capacity(study.curves)
    kernel = study.runs[study.runs["kind"] == "kernel"]
    limit = kernel.assign(squared_loss=kernel["test_loss"])[["test_error", "squared_loss"]].mean().to_frame().T
    limit = limit.loc[[0, 0]].set_axis([rows["capacity"].min(), rows["capacity"].max()])
    return figures.against(
        rows[rows["penalty"].isin(SHOWN)],
        "capacity",
        ["weight_norm", "squared_loss", "test_error"],
        hue="penalty",
        threshold=1,
        beside=("kernel machine", limit),
        log="xy",
    )


def curve(study, metric, penalty=0.0):
    """A metric against the number of features per image, for one penalty: the mean over seeds."""
    rows = by_capacity(study.curves)
    return rows[rows["penalty"] == penalty].groupby("capacity")[metric].mean()


def errors_in_words(error, *capacities):
    return ", ".join(f"{percent(error[capacity])} at {capacity:g}" for capacity in capacities)


def test_error_and_norm_peak_at_the_threshold(study):
    """With least norm the test error, the squared loss and the norm of the weights peak where features are images."""
    peaks = {metric: curve(study, metric).idxmax() for metric in ("test_error", "squared_loss", "weight_norm")}
    return set(peaks.values()) == {1.0}, errors_in_words(curve(study, "test_error"), 0.5, 1.0, 2.0)


def the_second_descent_is_lower(study):
    """Beyond the peak the test error falls below all that it is before the peak."""
    error = curve(study, "test_error")
    before, after = error[error.index < 1].min(), error[error.index > 1].min()
    return after < before, f"{percent(before)} at best before, {percent(after)} after"


def the_kernel_machine_is_the_limit(study):
    """With most features the test error of least norm is at most 1.25 times that of the kernel machine."""
    error = curve(study, "test_error").iloc[-1]
    limit = study.runs.loc[study.runs["kind"] == "kernel", "test_error"].mean()
    return error <= NEAR * limit, f"{percent(error, 2)}, kernel machine {percent(limit, 2)}"


def the_training_loss_is_zero_from_the_threshold_on(study):
    """The squared training loss of least norm is zero (below 1e-6) from the threshold on, and not before."""
    loss = curve(study, "train_loss")
    zero = loss[loss < 1e-6]
    words = f"at most {zero.max():.1g}, and {loss[loss.index < 1].min():.1g} just before"
    return list(zero.index) == list(loss.index[loss.index >= 1]), words


def a_penalty_removes_the_peak(study):
    """With the best penalty of each number of features, more features never make the test error worse by 0.5 points."""
    rows = by_capacity(study.curves)
    best = rows.groupby(["capacity", "penalty"])["test_error"].mean().groupby("capacity").min()
    rise = best.diff().max()
    return rise < 0.005, errors_in_words(best, 0.5, 1.0, 2.0)


EXPERIMENT = Experiment(
    claim="As features are added, the test error of least norm peaks where there are as many as images, and then falls "
    "below all that it was.",
    locator="Section 2, random Fourier features on MNIST",
    runs=runs(10_000, FEATURES, seeds=1),
    laptop=runs(2000, [count // 5 for count in FEATURES], seeds=3),
    table=table,
    figure=figure,
    checks=[
        test_error_and_norm_peak_at_the_threshold,
        the_second_descent_is_lower,
        the_kernel_machine_is_the_limit,
        the_training_loss_is_zero_from_the_threshold_on,
        a_penalty_removes_the_peak,
    ],
)
