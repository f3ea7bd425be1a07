"""Section 2: the Rademacher complexity of networks is at its trivial bound, and norms of their weights bound it worse.

The labels of the training images are signs σ drawn at random (the corruption `random_signs`). A network that is right
on a fraction p of them correlates with σ by 2p - 1 or more, a lower bound of the supremum over all networks for this
draw; its mean over draws estimates the empirical Rademacher complexity from below. Norms bound it from above: that of
all networks with L layers whose norms are at most the trained one's is at most c · √2 · Π‖W_l‖_F · ‖x‖ / √n, with
c = 2^(L - 1) by Neyshabur et al. 2015 (Theorem 1) and c = √(2 L log 2) + 1 by Golowich et al. 2018 (Theorem 1); √2 for
the difference of two outputs. Biases are left out; with them the bounds would be larger. For contrast, softmax
regression, L = 1, which cannot fit the signs of many more images than it has weights.

60 runs, ten draws of three sizes: at laptop scale 20 minutes on one core that other work shared, at the paper's up to
all of CIFAR-10. Neither sizes nor draws are the paper's, which shows no such runs. Expected: the network's correlation
is 1 on every draw, and its norm bounds far above 1 at every size; the linear model's correlation falls with n.

Found at laptop scale: so it is. The bounds of the network are in the hundreds, and fall only because of the √n; those
of the linear model, whose correlation with the signs of 5,000 images is 0.35, are vacuous too. Of all 50,000 images,
one draw was fitted to 99.8 % by epoch 79.
"""

import math

from rethink_gen import Experiment, grid, needs, papers
from rethink_gen.analysis import figures
from rethink_gen.analysis.declare import by
from rethink_gen.papers.zhang2017.protocol import laptop_run

LAYERS = {"mlp_1x512": 2, "softmax_regression": 1}
ESTIMATES = ["correlation", "neyshabur_bound", "golowich_bound"]
NUM_PIXELS = {"cifar10": 28 * 28 * 3, "digits": 7 * 7}  # ‖x‖² of a whitened image


def runs(sizes):
    """The laptop's schedule at every size: the paper's own leaves too few steps for few images."""
    signs = laptop_run("mlp_1x512", corruption="random_signs", test_size=1000)
    return grid(signs, model=tuple(LAYERS), train_size=sizes, seed=range(10))


def measured(frame):
    """The frame with the correlation of signs and outputs, and bounds of its supremum."""
    layers, pixels = frame["model"].map(LAYERS).astype(float), frame["dataset"].map(NUM_PIXELS).astype(float)
    norms = 2**0.5 * frame["norm_product"] * (pixels / frame["num_train"].astype(float)) ** 0.5
    return frame.assign(
        correlation=2 * frame["train_accuracy"] - 1,
        trivial_bound=1,
        neyshabur_bound=norms * 2 ** (layers - 1),
        golowich_bound=norms * ((2 * layers * math.log(2)) ** 0.5 + 1),
    )


def figure(study):
    """Estimates and bounds on one logarithmic axis."""
    ends = measured(study.runs)
    shown = {"correlation": "estimate", "neyshabur_bound": "norm bound"}
    long = ends.melt(id_vars=ends.columns.difference(list(shown)), value_vars=list(shown), var_name="shown")
    line = long["model"].map(papers.label) + ": " + long["shown"].map(shown)
    drawn = figures.against(long.assign(line=line), "num_train", "value", hue="line", log="xy")
    [axes] = drawn.axes
    sizes = sorted(long["num_train"].unique())
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes])
    axes.set_ylabel("Rademacher complexity")
    axes.axhline(1, color="black", linewidth=1, zorder=1)
    axes.text(0.99, 1.1, "trivial bound", fontsize=8, ha="right", transform=axes.get_yaxis_transform())
    return drawn


@needs(model="mlp_1x512")
def every_draw_is_fitted(study):
    """The network fits the signs of every draw (training accuracy of at least 99 %)."""
    fitted = study.runs["fitted"]
    return fitted.all(), f"{fitted.sum()} of {len(fitted)} runs fitted"


@needs(model="mlp_1x512")
def complexity_is_close_to_the_trivial_bound(study):
    """So its empirical Rademacher complexity is close to 1, the trivial bound.

    McDiarmid's inequality gives a lower bound at every size, right on 95 % of occasions: one of n signs in one of m
    draws moves the mean over draws by 2/(nm) at most.
    """
    draws = measured(study.runs).groupby("num_train")["correlation"].agg(["mean", "size"])
    least = (draws["mean"] - (2 * math.log(1 / 0.05) / (draws.index * draws["size"])) ** 0.5).min()
    shown = math.floor(least * 1000) / 1000  # down: a lower bound rounded up is none
    return least > 0.9, f"at least {shown:.3f} at every size, with 95 % confidence by McDiarmid's inequality"


@needs(model="mlp_1x512")
def norm_bounds_are_vacuous(study):
    """The smaller of the bounds by the norms of its weights is more than ten times the trivial one."""
    bound = measured(study.runs)["neyshabur_bound"]
    return bound.min() > 10, f"{bound.min():,.0f} to {bound.max():,.0f}"


@needs(model="softmax_regression")
def complexity_of_a_linear_model_falls(study):
    """The complexity of a linear model, in contrast, falls with the number of images."""
    means = measured(study.runs).groupby("num_train")["correlation"].mean()
    return means.is_monotonic_decreasing, ", ".join(f"{n:,}: {value:.2f}" for n, value in means.items())


EXPERIMENT = Experiment(
    claim="Since networks fit random labels, their empirical Rademacher complexity is about 1, the trivial upper bound "
    "for functions with values ±1: a bound of the generalization error that follows from it says nothing.",
    locator="Section 2, Rademacher complexity",
    runs=runs(sizes=(1000, 5000, None)),
    laptop=runs(sizes=(1000, 2000, 5000)),
    table=by("model", "num_train", "trivial_bound", metrics=ESTIMATES, derive=measured),
    figure=figure,
    checks=[
        every_draw_is_fitted,
        complexity_is_close_to_the_trivial_bound,
        norm_bounds_are_vacuous,
        complexity_of_a_linear_model_falls,
    ],
)
