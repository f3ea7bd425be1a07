"""Runs that are solved or searched, and not trained by SGD; each kind has a module of `rethink_gen.solvers`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from rethink_gen import registry
from rethink_gen.coercion import setting
from rethink_gen.errors import UsageError, unknown
from rethink_gen.runs.base import AnyRun

NETWORKS = ("dense", "convolutional")  # of an IdentityRun
# Options of learners that the smoke scale makes small.
COUNTS, SMALL_COUNT = ("trees", "rounds", "members"), 5
PATHS = ("penalties", "components")  # of a ridge run
PRECISIONS = ("float32", "float64")  # of a kernel run


@dataclass(frozen=True, kw_only=True)
class KernelRun(AnyRun):
    """A kernel machine in closed form: the function of least norm through all labels, or ridge regression (Section 5).

    One-vs-all least squares, (K + λI) α = Y with one column of Y per class; the class of the largest output wins.
    """

    kind: ClassVar[str] = "kernel"
    # Bandwidths are chosen for a data set; at smoke scale all are digits.
    smoke: ClassVar[dict[str, Any]] = {**AnyRun.smoke, "num_filters": 64, "gamma": 0.2}

    dataset: str = setting("mnist", "the data set")
    features: str = setting("pixels", "of an image", kind="features")
    kernel: str = setting("gaussian", "of two feature vectors", kind="kernel")
    # The default is the value of the first author's code for MNIST.
    gamma: float = setting(0.02, "exp(-γ‖x - x'‖²) of pixels in [0, 1]", within=(0, 1e6))
    num_filters: int = setting(32_000, "of random convolutions", within=(1, 10**7))
    solver: str = setting("auto", "or cholesky, conjugate_gradients; auto: by size and memory")
    weight_decay: float = setting(0.0, "λ; 0: interpolation", within=(0, 1e3))
    iterations: int | None = setting(
        None, "steps of plain conjugate gradients at most, until all labels are fitted; None: solve", within=(1, 10**6)
    )
    precision: str = setting("float32", "or float64, for twice the memory: of the kernel matrix and the solver")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)

    @property
    def subject(self) -> str:
        return f"{self.kernel}_kernel-{self.features}"


@dataclass(frozen=True, kw_only=True)
class ExpressivityRun(AnyRun):
    """A network built, not trained, to fit its data, whole images: 2n+d weights in two layers (Theorem 1), or a deeper
    and narrower one (its corollary).
    """

    kind: ClassVar[str] = "expressivity"

    corruption: str = setting("random_labels", "what is done to the data", kind="corruption")
    depth: int = setting(2, "layers of weights; 2: Theorem 1, more: of width O(n/depth)", within=(2, 1000))


@dataclass(frozen=True, kw_only=True)
class LeastSquaresRun(AnyRun):
    """SGD on a linear model with fewer examples than weights, beside the solution of least norm (Section 5).

    Whole images, whitened one by one.
    """

    kind: ClassVar[str] = "least_squares"
    smoke: ClassVar[dict[str, Any]] = {**AnyRun.smoke, "train_size": 32, "epochs": 2000}  # digits have 64 pixels

    # Fewer than pixels, so that there are many solutions.
    train_size: int | None = setting(500, "the first n training images", within=(1, 10**9))
    batch_size: int = setting(1, "as in Section 5", within=(1, 10**6))
    epochs: int = setting(3000, "at most", within=(1, 10**6))
    # The squared norm is the same for all whitened images; any rate below 2 is stable.
    learning_rate: float = setting(1.0, "in units of 1/‖x‖²", within=(0, 1e3))
    momentum: float = setting(0.0, "0: plain SGD, as in Section 5", within=(0, 1))
    initial_scale: float = setting(0.0, "standard deviation of the first weights; 0: from zero", within=(0, 1e3))


@dataclass(frozen=True, kw_only=True)
class RidgeRun(AnyRun):
    """Linear models on features of images, in closed form: ridge regression for a path of penalties, from strong to
    none, or least squares on ever more principal components of the features. The last row of its curves is the solution
    of least norm; see `rethink_gen.solvers.ridge`.
    """

    kind: ClassVar[str] = "ridge"

    dataset: str = setting("mnist", "the data set")
    features: str = setting("fourier(count=1000)", "of an image; their number is the capacity", kind="features")
    path: str = setting("penalties", "of what there is a row each; or components, with effective parameters")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.path not in PATHS:
            raise unknown("path", self.path, PATHS)

    @property
    def subject(self) -> str:
        return f"{self.kind}-{self.features}"


@dataclass(frozen=True, kw_only=True)
class LearnerRun(AnyRun):
    """A learner without gradients, such as a random forest, fitted to whole images. Its curves have a row for each
    number of trees, rounds or leaves; see `rethink_gen.solvers.learner`.
    """

    kind: ClassVar[str] = "learner"

    dataset: str = setting("mnist", "the data set")
    learner: str = setting("random_forest", "the learner", kind="learner")
    threads: int = setting(1, "that it may use; runs of a grid have a core each", within=(1, 1024))
    effective_parameters: bool = setting(False, "counted at each stage, of learners that smooth labels")

    @property
    def subject(self) -> str:
        return self.learner

    @property
    def shrunk(self) -> Self:
        """As for other runs, and with few trees and rounds."""
        name, options = registry.parse(self.learner)[0], registry.options_of("learner", self.learner)
        counts = {option: min(value, SMALL_COUNT) for option, value in options.items() if option in COUNTS}
        inside = ",".join(
            f"{option}={value}" for option, value in {**registry.parse(self.learner)[1], **counts}.items()
        )
        return replace(super().shrunk, learner=f"{name}({inside})")


@dataclass(frozen=True, kw_only=True)
class SearchRun(AnyRun):
    """A network trained without gradients: a search of its weights, until one candidate fits all training labels. Whole
    images; see `rethink_gen.solvers.search`.
    """

    kind: ClassVar[str] = "search"
    smoke: ClassVar[dict[str, Any]] = {**AnyRun.smoke, "evaluations": 1000}

    dataset: str = setting("mnist", "the data set")
    train_size: int | None = setting(100, "the first n training images", within=(1, 10**9))
    model: str = setting("mlp(hidden=16)", "the network", kind="model")
    search: str = setting("pattern_search", "of its weights", kind="search")
    evaluations: int = setting(100_000, "at most, of the loss on all training images", within=(1, 10**12))

    @property
    def subject(self) -> str:
        return self.search


@dataclass(frozen=True, kw_only=True)
class PacBayesRun(AnyRun):
    """A network trained by SGD to tell the upper half of the classes from the lower, and the PAC-Bayes bound of a
    Gaussian posterior around it, optimized. Whole images; see `rethink_gen.solvers.pac_bayes`.
    """

    kind: ClassVar[str] = "pac_bayes"
    smoke: ClassVar[dict[str, Any]] = {**AnyRun.smoke, "batch_size": 32, "epochs": 4, "bound_epochs": 4, "samples": 100}

    dataset: str = setting("mnist", "the data set")
    model: str = setting("mlp(hidden=600)", "the network; it has one output", kind="model")
    batch_size: int = setting(100, "of SGD, of the bound and of a Monte Carlo draw", within=(1, 10**6))
    epochs: int = setting(20, "of SGD", within=(1, 10**6))
    learning_rate: float = setting(0.01, "of SGD with momentum 0.9", within=(0, 1e3))
    bound_epochs: int = setting(1000, "of RMSprop on the bound", within=(1, 10**6))
    bound_learning_rate: float = setting(0.001, "a tenth of it after a quarter of the epochs", within=(0, 1e3))
    samples: int = setting(20_000, "Monte Carlo draws of weights for the error of the posterior", within=(2, 10**9))

    @property
    def subject(self) -> str:
        return f"{self.kind}-{self.model}"


@dataclass(frozen=True, kw_only=True)
class IdentityRun(AnyRun):
    """A network trained by gradient descent to return its training image, and what it returns for others. Whole images;
    see `rethink_gen.solvers.identity`.
    """

    kind: ClassVar[str] = "identity"
    smoke: ClassVar[dict[str, Any]] = {**AnyRun.smoke, "steps": 64}

    dataset: str = setting("mnist", "the data set")
    train_size: int | None = setting(1, "the first n training images", within=(1, 10**9))
    network: str = setting("dense", "its layers: dense or convolutional")
    layers: int = setting(5, "with weights", within=(1, 1000))
    units: int = setting(512, "of each layer but the last; of convolutions: channels", within=(1, 10**5))
    steps: int = setting(1000, "of gradient descent, with all training images", within=(1, 10**9))
    learning_rate: float = setting(0.1, "of gradient descent", within=(0, 1e3))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network not in NETWORKS:
            raise unknown("network", self.network, NETWORKS)

    @property
    def subject(self) -> str:
        return f"{self.kind}-{self.network}"


@dataclass(frozen=True, kw_only=True)
class TeacherRun(AnyRun):
    """A linear student of a linear teacher, on Gaussian inputs, in closed form: least norm and ridge regression, as
    means over many draws and in theory; see `rethink_gen.solvers.teacher`. It has no data set.
    """

    kind: ClassVar[str] = "teacher"
    smoke: ClassVar[dict[str, Any]] = {"draws": 5}
    draws_data: ClassVar[bool] = True

    dataset: str = setting("gaussian_inputs", "drawn by the run: leave it")
    train_size: int | None = setting(100, "examples in a draw", within=(1, 10**9))
    dimension: int = setting(100, "values of an input", within=(1, 10**4))
    num_features: int | None = setting(None, "how many of them the student sees; None: all", within=(1, 10**4))
    noise: float = setting(0.5, "standard deviation of the noise of labels; that of the teacher is 1", within=(0, 1e3))
    draws: int = setting(100, "independent draws of teacher, inputs and noise", within=(2, 10**6))

    def __post_init__(self) -> None:
        super().__post_init__()
        if {"dataset", "test_size", "corruption"} & self.changes.keys():
            raise UsageError("a teacher run draws its own data: leave dataset, test_size and corruption as they are")
        if self.train_size is None:
            raise UsageError("a teacher run needs a train_size: how many examples it draws")
