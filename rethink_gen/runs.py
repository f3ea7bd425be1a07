"""What is run, as frozen data: a `Run` is one training, with siblings for what is solved and not trained.

Plain Python: importing this module, or a file of experiments/, loads neither jax nor pandas.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, ClassVar, Self, TypeVar

from rethink_gen import catalog, registry
from rethink_gen.coercion import SEED, coerce, setting
from rethink_gen.errors import UsageError, unknown

NAME = registry.NAME
R = TypeVar("R", bound="AnyRun")


RECORDS = ("examples",)  # what a run can keep besides its curves


@dataclass(frozen=True, kw_only=True)
class AnyRun:
    """What runs of every kind have: the data they see, what was done to them, and a seed.

    Numbers are coerced to their annotated type, so that 0 and 0.0 name the same run; values out of range are refused.
    """

    kind: ClassVar[str]  # of KINDS
    smoke: ClassVar[dict[str, Any]] = {"dataset": "digits", "train_size": 256, "test_size": 128}
    draws_data: ClassVar[bool] = False  # whether its solver draws the data; `dataset` is then a name and no source

    dataset: str = setting("cifar10", "the data set: a name, or a Dataset of your own")
    train_size: int | None = setting(None, "the first n training images; None: all", within=(1, 10**9))
    test_size: int | None = setting(None, "the first n test images; None: all", within=(1, 10**9))
    corruption: str = setting("true_labels", "what is done to the data", kind="corruption")

    corruption_level: float = setting(1.0, "probability that an example is corrupted", traced=True, within=(0, 1))
    seed: int = setting(0, "of all that is random", traced=True, within=SEED)
    corruption_seed: int | None = setting(None, "of the corruption; None: the seed", traced=True, within=SEED)

    def __new__(cls, *values: Any, **fields: Any) -> Self:
        for name in fields:
            if name not in hints(cls):
                raise unknown(f"field of {cls.__name__}", name, hints(cls))
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            if (value := getattr(self, each.name)) is each.default:
                continue
            if each.name == "dataset" and not isinstance(value, str):
                value = value.name  # a Dataset of the user's own is registered under its name
            value = coerce(each.name, value, hints(type(self))[each.name], each.metadata["kind"])
            object.__setattr__(self, each.name, value)
            low, high = each.metadata["range"]
            if isinstance(value, int | float) and not low <= value <= high:
                raise UsageError(f"{each.name} must be in [{low:g}, {high:g}], got {value:g}")

    def seed_of(self, what: str) -> int:
        """The seed of the corruption, the order or the first weights (`init`): its own, or that of the run."""
        own = getattr(self, f"{what}_seed", None)
        return self.seed if own is None else own

    @property
    def recipe(self) -> Self:
        """This run with its traced fields as ids leave them out: equal recipes share one compiled program."""
        plain = {f.name: f.metadata["left_out"] for f in dataclasses.fields(self) if f.metadata["traced"]}
        return replace(self, **plain)

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that run ids do not leave out: those that differ from the defaults."""
        values = ((each, getattr(self, each.name)) for each in dataclasses.fields(self))
        return {each.name: value for each, value in values if value != each.metadata["left_out"]}

    @property
    def shrunk(self) -> Self:
        """The run as the smoke scale has it: with the values of `smoke`, upper bounds where they are whole numbers."""
        bound = lambda name, value: value if not isinstance(value, int) else min(value, getattr(self, name) or value)
        small = SMALL_IMAGENET if self.dataset == "imagenet2012" else self.smoke
        return replace(self, **{name: bound(name, value) for name, value in small.items()})

    @property
    def subject(self) -> str:
        """What learns, in a word: a model's name; where there is none, the kind of run."""
        return self.kind

    @cached_property
    def id(self) -> str:
        """Readable, and unique by a digest of `changes`: a new field keeps old ids."""
        return self._name(self.changes)

    @cached_property
    def setting(self) -> str:
        """The id that this run has without its seeds: equal for runs that differ in seeds alone."""
        return self._name({name: value for name, value in self.changes.items() if name not in SEEDS})

    def _name(self, changes: dict[str, Any]) -> str:
        digest = hashlib.sha256(json.dumps(changes, sort_keys=True, allow_nan=False).encode()).hexdigest()[:8]
        shown = [f"{k}={v}" for k, v in changes.items() if k in ("corruption_level", "weight_decay")]
        shown += [f"seed={changes['seed']}"] if "seed" in changes else []
        names = [re.sub(r"\(.*\)", "", text) for text in (self.subject, self.corruption)]  # options are in the digest
        return "-".join([*names, *shown, digest])


@dataclass(frozen=True, kw_only=True)
class Run(AnyRun):
    """One training run with one seed. The defaults are the paper's protocol for CIFAR-10 (Section 2 and Appendix A)
    where it states one, and our choices, marked so, where it is silent.
    """

    kind: ClassVar[str] = "training"
    # Digits are 8×8: they are cropped to 7×7 as CIFAR-10's 32×32 are to 28×28.
    smoke: ClassVar[dict[str, Any]] = {
        **AnyRun.smoke, "crop_size": 7, "batch_size": 32, "epochs": 4, "precision": "float32"
    }  # fmt: skip

    crop_size: int = setting(28, "pixels; images no larger than this stay whole", within=(1, 4096))
    whitening: bool = setting(True, "per image: zero mean, unit variance")
    augmentations: tuple[str, ...] = setting((), "random changes of training images", kind="augmentation")
    model: str = setting("mlp_1x512", "the network", kind="model")
    dropout: float = setting(0.0, "rate before the last layer; 0: none", within=(0, 0.99))
    batch_size: int = setting(128, "not stated in the paper; replications use 128", within=(1, 10**6))
    # Not stated in the paper; by then 0.95**100 has all but stopped the learning.
    epochs: int = setting(100, "at most; not stated in the paper", within=(1, 10**6))
    stop_at_train_accuracy: float | None = setting(None, "end at the first epoch that reaches it", within=(0, 1))
    label_smoothing: float = setting(0.0, "share of a target that goes to all classes alike", within=(0, 0.99))
    precision: str = setting("float32", "or bfloat16: of activations and products")
    optimizer: str = setting("sgd", "how gradients become steps", kind="optimizer")
    schedule: str = setting("exponential", "of the learning rate", kind="schedule")
    loss: str = setting("cross_entropy", "what is minimized", kind="loss")
    order: str = setting("reshuffle", "in which training examples are seen", kind="order")
    max_gradient_norm: float | None = setting(None, "longer gradients are clipped to this norm", within=(1e-12, 1e12))
    validation_size: int | None = setting(
        None, "the last n training examples are held out, with their labels as given; None: none", within=(1, 10**9)
    )
    measurements: int | None = setting(
        None, "how many epochs are measured, spaced evenly on a logarithmic axis; None: all", within=(2, 10**6)
    )
    record: tuple[str, ...] = setting((), "examples: what the network answers to each of them at each measured epoch")
    measures: tuple[str, ...] = setting((), "numbers of the trained network, such as norms", kind="measure")

    learning_rate: float = setting(
        None,
        "at the start; None: 0.01 for MLPs and AlexNet, as in the paper, and without batch norm; else 0.1",
        traced=True,
        within=(0, 1e3),
        left_out=0.1,
    )
    learning_rate_decay: float = setting(0.95, "factor per epoch of `exponential`", traced=True, within=(0, 1))
    momentum: float = setting(0.9, "of optimizers that have one", traced=True, within=(0, 1))
    weight_decay: float = setting(0.0, "coefficient of ½‖w‖², on kernels only", traced=True, within=(0, 1e3))
    init_seed: int | None = setting(None, "of the first weights; None: the seed", traced=True, within=SEED)
    order_seed: int | None = setting(None, "of the order of examples; None: the seed", traced=True, within=SEED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learning_rate is None:
            rate = catalog.LEARNING_RATES.get(registry.parse(self.model)[0], catalog.LEARNING_RATE)
            object.__setattr__(self, "learning_rate", rate)
        for name in ("augmentations", "measures"):
            if len(set(given := getattr(self, name))) < len(given):
                raise UsageError(f"{name} must each be named once, got {','.join(given)}")
        if others := sorted({*self.record} - {*RECORDS}):
            raise unknown("record", others[0], RECORDS)

    @property
    def subject(self) -> str:
        return self.model

    @cached_property
    def measured_epochs(self) -> frozenset[int] | range:
        """The epochs at which both splits are evaluated: 0, before training, and then up to the last one."""
        if self.measurements is None:
            return range(self.epochs + 1)
        count = self.measurements
        return frozenset((0, *(round(self.epochs ** (i / (count - 1))) for i in range(count))))


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
    none. The last row of its curves is the solution of least norm; see `rethink_gen.solvers.ridge`.
    """

    kind: ClassVar[str] = "ridge"

    dataset: str = setting("mnist", "the data set")
    features: str = setting("fourier(count=1000)", "of an image; their number is the capacity", kind="features")

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


# Options of learners that the smoke scale makes small.
COUNTS, SMALL_COUNT = ("trees", "rounds", "members"), 5

# Runs that differ in these alone are replicates.
SEEDS = ("seed", "init_seed", "order_seed", "corruption_seed")
KINDS: dict[str, type[AnyRun]] = {
    kind.kind: kind
    for kind in (
        *(Run, KernelRun, ExpressivityRun, LeastSquaresRun, RidgeRun),
        *(LearnerRun, SearchRun, PacBayesRun, TeacherRun),
    )
}


@cache
def hints(kind: type[AnyRun]) -> dict[str, Any]:
    """Field → annotated type, of one kind of run."""
    found = typing.get_type_hints(kind)
    return {field.name: found[field.name] for field in dataclasses.fields(kind)}


def kinds() -> dict[str, str]:
    """Field → the kind of component that it names, of all kinds of run."""
    every = (each for kind in KINDS.values() for each in dataclasses.fields(kind))
    return {each.name: each.metadata["kind"] for each in every if each.metadata["kind"]}


def fields() -> dict[str, Any]:
    """Field → annotated type, of all kinds of run."""
    return {name: hint for kind in KINDS.values() for name, hint in hints(kind).items()}


# What the smoke scale has for ImageNet: networks for 299×299 pixels have no use for digits.
SMALL_IMAGENET: dict[str, Any] = {
    "dataset": "generated_imagenet",
    "train_size": 8,
    "test_size": 8,
    "batch_size": 4,
    "epochs": 2,
    "learning_rate": 0.0015,  # for a batch of 4 what 0.1 is for 256
}


def components(run: AnyRun) -> Iterator[tuple[str, str]]:
    """The components that a run names, as pairs of kind and text."""
    for each in dataclasses.fields(run):
        if kind := each.metadata["kind"]:
            value = getattr(run, each.name)
            yield from ((kind, text) for text in (value if isinstance(value, tuple) else (value,)))


def grid(base: R, **axes: Any) -> tuple[R, ...]:
    """Every combination of the axes' values, the last axis fastest: `grid(run, model=("a", "b"), seed=range(3))`."""
    for name in axes:
        if name not in hints(type(base)):
            raise unknown("field", name, hints(type(base)))
    return tuple(replace(base, **dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values()))


def as_dict(run: AnyRun) -> dict[str, Any]:
    """A run as JSON holds it."""
    return {"kind": run.kind, **dataclasses.asdict(run)}


def from_dict(fields: dict[str, Any]) -> AnyRun:
    """The run that `as_dict` made it of."""
    return KINDS[fields["kind"]](**{name: value for name, value in fields.items() if name != "kind"})
