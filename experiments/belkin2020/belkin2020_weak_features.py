"""Double descent in the number of features: a linear student that sees a part of what its teacher sees.

21 runs, the same at laptop and paper scale: 100 examples of 400 values, of which the student sees the first 5 to 400;
100 draws each; least norm and three ridge penalties, each with its theory. The whole experiment takes 15 seconds on one
CPU core.

Expected: with least norm the error rises to a peak where there are as many features as examples, and then falls below
all that it was before. Ridge regression removes the peak; with the best penalty more features never hurt.

Found: so it is. Least norm is best with all 400 features, with an error of 0.77; before the peak it is never better
than guessing zero, 1. At the peak itself the mean over draws is of no meaning, as in theory it is infinite, and the
figure leaves it out. The best penalty falls from 1 to the same 0.77 without a peak.
"""

from rethink_gen import Experiment, TeacherRun, grid
from rethink_gen.analysis.declare import by, lines
from rethink_gen.analysis.teacher import agrees_with_theory, error_curve, finite, in_words

EXAMPLES = 100
FEATURES = (5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100, 105, 110, 120, 150, 200, 250, 300, 400)
RUNS = grid(TeacherRun(train_size=EXAMPLES, dimension=FEATURES[-1], noise=0.2), num_features=FEATURES)
METRICS = ["excess_risk", "predicted_risk", "excess_risk_sem", "train_loss", "weight_norm"]


def least_norm_peaks_where_features_are_examples(study):
    """The error of least norm has its peak where there are as many features as examples."""
    error = error_curve(study, "num_features", 0)
    return error.idxmax() == EXAMPLES, in_words(error.loc[[50, EXAMPLES, 200]], "features")


def the_second_descent_is_lower(study):
    """Beyond the peak the error falls below all that it is before it."""
    error = error_curve(study, "num_features", 0)
    before, after = error[error.index < EXAMPLES].min(), error[error.index > EXAMPLES].min()
    return after < before, f"{before:.3f} at best before the peak, {after:.3f} after it"


def with_the_best_penalty_more_features_never_hurt(study):
    """With the best ridge penalty the error falls with every step in the number of features."""
    error = error_curve(study, "num_features", 1)
    return error.is_monotonic_decreasing, in_words(error.loc[[50, EXAMPLES, 200]], "features")


EXPERIMENT = Experiment(
    claim="The error of the solution of least norm peaks where features are as many as examples, and is lowest with "
    "far more features.",
    locator="Section 2",
    runs=RUNS,
    laptop=RUNS,
    table=by("num_features", "relative_penalty", metrics=METRICS, path=True),
    figure=lines(
        x="num_features",
        y="excess_risk",
        hue="relative_penalty",
        theory="predicted_risk",
        threshold=EXAMPLES,
        path=True,
        derive=finite,
        log="xy",
    ),
    checks=[
        least_norm_peaks_where_features_are_examples,
        the_second_descent_is_lower,
        with_the_best_penalty_more_features_never_hurt,
        agrees_with_theory,
    ],
)
