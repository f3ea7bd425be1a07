"""Theorem 1: a network with 2n + d weights, solved for and not trained, that fits random labels on n images exactly.

16 runs, the same at laptop scale and the paper's: up to all 50,000 images of CIFAR-10, whole, so that d = 3,072; with
two, four and eight layers of weights (the corollary: depth k, width O(n/k)); and the true labels once. Half a minute
on two CPU cores. Expected: training error 0 with exactly 2n + d weights at any depth; the smallest network of Table 1
has twelve times as many. Residuals at machine precision times the cancellation in the sum, which grows about as n²,
since slopes are steep where projections are close. Seconds that grow as n to solve, as n² to evaluate. And where
nothing was learnt, nothing generalizes: test accuracy no better than chance, after true labels too.

Found: so it is, with 103,072 weights for 50,000 images. The largest residual is then 7e-4, about five rounding errors
of a sum that loses 11 of 16 digits; nearly all of it is of the forward pass, as the weights themselves, summed
exactly, are good for 5e-6. Test accuracy is below chance, 6 to 7 %: between points the network often leaves the range
of the labels.
"""

import math

from rethink_gen import papers
from rethink_gen.analysis import figures, tables
from rethink_gen.experiment import Check, Experiment
from rethink_gen.runs import ExpressivityRun, grid

SIZES, DEPTHS = (10, 100, 1000, 10_000, 50_000), (2, 4, 8)
RUNS = (
    *grid(ExpressivityRun(), depth=DEPTHS, train_size=SIZES),
    ExpressivityRun(corruption="true_labels", train_size=SIZES[-1]),
)
NUM_FEATURES = {"cifar10": 32 * 32 * 3, "digits": 8 * 8}
LARGEST_RESIDUAL = 16  # scaled; the limit at which the LINPACK benchmark accepts a solution


def measured(frame):
    """The frame with the weights of the theorem, those of a network that SGD fits, and the digits lost of 16."""
    if not len(frame):
        return frame
    table1 = papers.values("table1")
    trained = table1[(table1["model"] == "mlp_1x512") & (table1["metric"] == "parameters")]["value"].iloc[0]
    theorem = 2.0 * frame["num_train"] + frame["dataset"].map(NUM_FEATURES)
    lost = frame["cancellation"].map(math.log10)
    return frame.assign(**{"2n + d": theorem, "weights_of_mlp_1x512": trained, "digits_lost": lost})


def table(frame):
    keys = ["corruption", "num_train", "depth", "width", "num_weights", "2n + d", "weights_of_mlp_1x512"]
    fit = ["train_error", "test_accuracy", "max_residual"]
    cost = ["digits_lost", "smallest_eigenvalue", "seconds_solve", "seconds_forward"]
    return tables.mean_and_interval(measured(frame), keys, fit + cost)


def figure(frame):
    random = frame[frame["corruption"] == "random_labels"]
    metrics = ["max_residual", "seconds_solve", "seconds_forward"]
    return figures.against(random, "num_train", metrics, hue="depth", log="xy")


def checks(frame):
    ends = measured(frame[frame["last"]])
    largest = ends[ends["num_train"] == ends["num_train"].max()]

    def check(statement, holds, evidence):
        return Check(statement, bool(holds()), evidence()) if len(ends) else Check(statement, None, "not run")

    return [
        check(
            "Every network has exactly 2n + d weights, whatever its depth.",
            lambda: (ends["num_weights"] == ends["2n + d"]).all(),
            lambda: f"{largest['num_weights'].max():,.0f} for {largest['num_train'].max():,} images",
        ),
        check(
            "Depth k has width O(n/k): at most n/(k - 1) + 4.",
            lambda: (ends["width"] <= ends["num_train"] / (ends["depth"] - 1) + 4).all(),
            lambda: ", ".join(f"{k:g}: {width:,.0f}" for k, width in largest.groupby("depth")["width"].first().items()),
        ),
        check(
            "Every training label is fitted.",
            lambda: (ends["train_error"] == 0).all(),
            lambda: f"in {len(ends)} runs, the largest residual is {ends['max_residual'].max():.1g}",
        ),
        check(
            f"The residual is at machine precision: at most {LARGEST_RESIDUAL} rounding errors of the sum.",
            lambda: ends["scaled_residual"].max() <= LARGEST_RESIDUAL,
            lambda: f"at most {ends['scaled_residual'].max():.1f}",
        ),
        check(
            "What fits everything has learnt nothing: test accuracy is at most chance and four standard errors.",
            lambda: (ends["test_accuracy"] <= 0.1 + 4 * (0.1 * 0.9 / ends["num_test"]) ** 0.5).all(),
            lambda: f"at most {tables.percent(ends['test_accuracy'].max())}",
        ),
    ]


EXPERIMENT = Experiment(
    claim="A two-layer ReLU network with 2n + d weights can represent any function on n points in d dimensions; so can "
    "one of depth k, width O(n/k) and O(n + d) weights.",
    locator="Theorem 1 and Corollary 1, Section 4",
    runs=RUNS,
    laptop=RUNS,
    table=table,
    figure=figure,
    checks=checks,
)
