"""The style of all figures: colors and markers of names, axis labels, matplotlib settings."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from rethink_gen import papers


class Look(NamedTuple):
    """The color and the marker of a name."""

    color: str
    marker: str


def styled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function to draw with matplotlib's defaults and our style, instead of the user's settings."""

    @functools.wraps(function)
    def under_style(*args: Any, **kwargs: Any) -> Any:
        import matplotlib.style

        with matplotlib.style.context(["default", _STYLE]):
            return function(*args, **kwargs)

    return under_style


def look(name: Any, among: Iterable[Any] = ()) -> Look:
    """Chooses the color and the marker of a name or number.

    A name in LOOKS has its own. A number in `among` gets a color from dark to light, by its rank among these numbers.
    Any other name gets a look from a hash of its text; of the names in `among` that would share a color, the later in
    the alphabet gets the next color that is free.
    """
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if name in LOOKS:
        return LOOKS[name]
    order = sorted({other for other in among if _is_number(other)})
    if name in order:
        rank = order.index(name)
        return Look(to_hex(colormaps["viridis"](0.85 * rank / max(1, len(order) - 1))), _MARKERS[rank % len(_MARKERS)])
    given: dict[str, int] = {}  # name → its color
    for other in sorted({str(other) for other in among if other not in LOOKS} | {str(name)}):
        first = hashlib.sha256(other.encode()).digest()[0]
        places = [(first + i) % len(_OTHER_COLORS) for i in range(len(_OTHER_COLORS))]
        given[other] = next((place for place in places if place not in given.values()), places[0])
    marker = hashlib.sha256(str(name).encode()).digest()[1]
    return Look(_OTHER_COLORS[given[str(name)]], _MARKERS[marker % len(_MARKERS)])


def dark(color: str) -> str:
    """Darkens a color, so that it can be used for text on white."""
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = to_rgb(color)
    return to_hex((0.75 * red, 0.75 * green, 0.75 * blue))


def axis(column: str) -> str:
    """The axis label of a column."""
    return _AXES.get(column, papers.label(column))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value


GREY, _LIGHT = "#666666", "#e3e3e3"


_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.xmargin": 0.02,
    "figure.dpi": 200,
    "font.size": 9,
    "grid.color": _LIGHT,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markeredgewidth": 0.9,
    "lines.markersize": 5,
    "savefig.dpi": 200,
    "svg.fonttype": "path",  # text as paths looks the same on every machine
    "xtick.color": "#444444",
    "xtick.labelsize": 8,
    "ytick.color": "#444444",
    "ytick.labelsize": 8,
}


_AXES = {
    "auroc_aum": "AUROC of the area under the margin",
    "auroc_last_loss": "AUROC of the loss at this epoch",
    "auroc_mean_loss": "AUROC of the mean loss so far",
    "batch_size": "images in a batch",
    "bound": "bound on the error on new examples",
    "capacity": "features per training image",
    "copies": "copies of each image with random labels, α",
    "corruption_level": "label corruption",
    "distance": "distance to the least-norm solution / its norm",
    "distance_from_initial": "distance from the first weights",
    "distance_from_initial_random_labels": "distance from the first weights, random labels",
    "distance_from_initial_true_labels": "distance from the first weights, true labels",
    "distance_to_limit": "distance to the predicted limit / that norm",
    "epoch": "epoch",
    "example_accuracy": "share of the networks that are right",
    "excess_risk": "squared error on new inputs (guessing zero: 1)",
    "epochs_to_fit": "epochs to fit",
    "gini": "Gini coefficient of loss sensitivity",
    "growth": "leaves or rounds, of all; then trees or ensembles",
    "memorized": "training accuracy on random labels",
    "never_forgotten": "never forgotten so far, of all such examples",
    "layer": "layer that is reset",
    "max_residual": "largest residual",
    "model.hidden": "width of the hidden layer",
    "noise_to_input": "correlation of output and input, noise",
    "noise_to_trained": "correlation of output and training image, noise",
    "noise_fitted": "training accuracy on random labels",
    "not_learned": "least test error with true labels",
    "num_features": "features that the student sees",
    "num_train": "training images",
    "penalty": "λ",
    "place": "training images in order, as a share of all",
    "relative_penalty": "λ/λ*",
    "relative_size": "size, relative to where the second axis begins",
    "reset_test_accuracy": "test accuracy after the reset",
    "reset_train_accuracy": "training accuracy after the reset",
    "running_accuracy": "training accuracy, mean over the epoch",
    "running_loss": "training loss, mean over the epoch (nats)",
    "seconds_forward": "seconds to evaluate them all",
    "seconds_solve": "seconds to solve",
    "sgd_steps": "steps of SGD",
    "snn_train_error": "training error of the stochastic network",
    "step": "steps",
    "steps_to_fit": "steps to fit",
    "test_error_five_of_twenty": "test error, simulated data",
    "test_error_mnist": "test error, MNIST",
    "test_effective_parameters": "effective parameters on test inputs",
    "test_to_input": "correlation of output and input, test images",
    "test_loss": "test loss (nats)",
    "train_accuracy": "training accuracy",
    "train_accuracy_corrupted": "wrong labels that are fitted",
    "train_loss": "training loss (nats)",
    "train_size": "training examples",
    "weight_norm": "norm of the weights",
}


# Okabe and Ito's colors, which readers with any color vision can distinguish. Yellow is left out: it is too light.
LOOKS: dict[Any, Look] = {
    "true_labels": Look("#0072B2", "o"),
    "shuffled_pixels": Look("#009E73", "^"),
    "gaussian": Look("#E69F00", "v"),
    "random_pixels": Look("#CC79A7", "D"),
    "random_labels": Look("#D55E00", "s"),
    "small_inception": Look("#0072B2", "o"),
    "small_inception_without_batch_norm": Look("#E69F00", "s"),
    "small_alexnet": Look("#D55E00", "^"),
    "mlp_3x512": Look("#CC79A7", "v"),
    "mlp_1x512": Look("#009E73", "D"),
    "no regularizer": Look("#0072B2", "o"),
    "weight decay": Look("#56B4E9", "^"),
    "augmentation": Look("#CC79A7", "v"),
    "augmentation, weight decay, dropout": Look("#009E73", "D"),
    "random labels, no regularizer": Look("#D55E00", "s"),
    "random labels, weight decay": Look("#E69F00", "P"),
    "random labels, weight decay, dropout": Look("#000000", "X"),
    "stacking of three": Look("#332288", "v"),
    "random forest": Look("#009E73", "^"),
    "random forest, no bootstrap": Look("#117733", "v"),
    "gradient boosting": Look("#882255", "P"),
    "one tree": Look("#999933", "s"),
    "L2 boosting": Look("#AA4499", "o"),
    "random features": Look("#4477AA", "s"),
    "extra trees": Look("#44AA99", "D"),
    "AdaBoost, stumps": Look("#E69F00", "o"),
    "AdaBoost, depth 8": Look("#D55E00", "^"),
    "nearest neighbor": Look("#000000", "X"),
    "SVM, C = 1": Look("#56B4E9", "o"),
    "SVM, C = 100": Look("#0072B2", "s"),
    "logistic regression": Look("#CC79A7", "D"),
    "SB": Look("#0072B2", "o"),
    "LB": Look("#D55E00", "s"),
    "+LR": Look("#E69F00", "^"),
    "+GBN": Look("#CC79A7", "D"),
    "+RA": Look("#009E73", "v"),
}


# For other names: Paul Tol's muted colors, which differ from those above.
_OTHER_COLORS = ("#332288", "#117733", "#882255", "#999933", "#AA4499", "#44AA99", "#661100")


PALETTE = tuple({each.color: None for each in LOOKS.values()} | dict.fromkeys(_OTHER_COLORS))  # for colors by order


_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
