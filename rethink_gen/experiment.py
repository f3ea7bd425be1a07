"""What is studied, as frozen data: a `Run` is one training, with siblings for what is solved and not trained; an
`Experiment` is a claim about a grid of them.

Plain Python: importing this module, or a file of experiments/, loads neither jax nor pandas.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import itertools
import json
import math
import re
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self, TypeVar

from rethink_gen.errors import UsageError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Scale = Literal["smoke", "laptop", "paper"]
SCALES: tuple[Scale, ...] = typing.get_args(Scale)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,63}")
R = TypeVar("R", bound="AnyRun")


def traced(default: float) -> Any:
    """A field that is a number fed to a compiled program; the other fields choose the program."""
    return field(default=default, metadata={"traced": True})


@dataclass(frozen=True, kw_only=True)
class AnyRun:
    """What runs of every kind have: the data they see, what was done to them, and a seed.

    Numbers are coerced to their annotated type, so that 0 and 0.0 name the same run; values out of range are refused.
    """

    kind: ClassVar[str]  # of KINDS
    smoke: ClassVar[dict[str, Any]] = {"dataset": "digits", "train_size": 256, "test_size": 128}

    dataset: str = "cifar10"
    train_size: int | None = None  # the first n training images; None: all
    test_size: int | None = None  # the first n test images; None: all
    corruption: str = "true_labels"

    corruption_level: float = traced(1.0)  # probability in [0, 1] that an example is corrupted
    seed: int = traced(0)

    def __post_init__(self) -> None:
        for name, hint in hints(type(self)).items():
            if (value := getattr(self, name)) is getattr(type(self), name):
                continue  # the default, as it stands in the class
            value = coerce(name, value, hint)
            object.__setattr__(self, name, value)
            low, high = RANGES.get(name, (-math.inf, math.inf))
            if name in RANGES and value is not None and not low <= value <= high:
                raise UsageError(f"{name} must be in [{low:g}, {high:g}], got {value:g}")

    @property
    def recipe(self) -> Self:
        """This run with its traced fields at their defaults: equal recipes share one compiled program."""
        return replace(self, **{f.name: f.default for f in dataclasses.fields(self) if "traced" in f.metadata})

    @property
    def changes(self) -> dict[str, Any]:
        """The fields that differ from the defaults."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}

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
        """Readable, and unique by a digest of the fields that differ from the defaults: a new field keeps old ids."""
        return self._name(self.changes)

    @cached_property
    def setting(self) -> str:
        """The id that this run has with seed 0: equal for runs that differ in their seed alone."""
        return self._name({name: value for name, value in self.changes.items() if name != "seed"})

    def _name(self, changes: dict[str, Any]) -> str:
        digest = hashlib.sha256(json.dumps(changes, sort_keys=True, allow_nan=False).encode()).hexdigest()[:8]
        shown = [f"{k}={v}" for k, v in changes.items() if k in ("corruption_level", "weight_decay")]
        shown += [f"seed={changes['seed']}"] if "seed" in changes else []
        return "-".join([self.subject, self.corruption, *shown, digest])


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

    crop_size: int = 28  # pixels; images no larger than this stay whole
    whitening: bool = True  # per image: zero mean, unit variance
    augmentations: tuple[str, ...] = ()
    model: str = "mlp_1x512"
    dropout: float = 0.0  # rate before the last layer; 0: none
    batch_size: int = 128  # not stated in the paper; replications use 128
    epochs: int = 100  # not stated; by then 0.95**100 has all but stopped the learning
    stop_at_train_accuracy: float | None = None  # not stated; end the run at the first epoch that reaches it
    label_smoothing: float = 0.0  # share of a target that goes to all classes alike
    precision: str = "float32"  # or bfloat16: of activations and products

    learning_rate: float = traced(0.1)
    learning_rate_decay: float = traced(0.95)  # factor per epoch
    momentum: float = traced(0.9)
    weight_decay: float = traced(0.0)  # coefficient of ½‖w‖², on kernels only

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.augmentations)) < len(self.augmentations):
            raise UsageError(f"augmentations must each be named once, got {','.join(self.augmentations)}")

    @property
    def subject(self) -> str:
        return self.model


@dataclass(frozen=True, kw_only=True)
class KernelRun(AnyRun):
    """A kernel machine in closed form: the function of least norm through all labels, or ridge regression (Section 5).

    One-vs-all least squares, (K + λI) α = Y with one column of Y per class; the class of the largest output wins.
    """

    kind: ClassVar[str] = "kernel"
    # Bandwidths are chosen for a data set; at smoke scale all are digits.
    smoke: ClassVar[dict[str, Any]] = {**AnyRun.smoke, "num_filters": 64, "gamma": 0.2}

    dataset: str = "mnist"
    features: str = "pixels"
    kernel: str = "gaussian"
    gamma: float = 0.02  # exp(-γ‖x - x'‖²) of pixels in [0, 1]; the value of the first author's code for MNIST
    num_filters: int = 32_000  # of random convolutions
    solver: str = "auto"  # or cholesky, conjugate_gradients; auto: by size and memory
    weight_decay: float = 0.0  # λ; 0: interpolation

    @property
    def subject(self) -> str:
        return f"{self.kernel}_kernel-{self.features}"


@dataclass(frozen=True, kw_only=True)
class ExpressivityRun(AnyRun):
    """A network built, not trained, to fit its data, whole images: 2n+d weights in two layers (Theorem 1), or a deeper
    and narrower one (its corollary).
    """

    kind: ClassVar[str] = "expressivity"

    corruption: str = "random_labels"
    depth: int = 2  # layers of weights; 2: Theorem 1, more: of width O(n/depth)


@dataclass(frozen=True, kw_only=True)
class LeastSquaresRun(AnyRun):
    """SGD on a linear model with fewer examples than weights, beside the solution of least norm (Section 5).

    Whole images, whitened one by one.
    """

    kind: ClassVar[str] = "least_squares"
    smoke: ClassVar[dict[str, Any]] = {**AnyRun.smoke, "train_size": 32, "epochs": 2000}  # digits have 64 pixels

    train_size: int | None = 500  # fewer than pixels, so that there are many solutions
    batch_size: int = 1  # as in Section 5
    epochs: int = 3000
    learning_rate: float = 1.0  # in units of 1/‖x‖², the same for all whitened images; any below 2 is stable
    momentum: float = 0.0  # plain SGD, as in Section 5
    initial_scale: float = 0.0  # standard deviation of the weights at the start; 0: from zero


KINDS: dict[str, type[AnyRun]] = {kind.kind: kind for kind in (Run, KernelRun, ExpressivityRun, LeastSquaresRun)}


@cache
def hints(kind: type[AnyRun]) -> dict[str, Any]:
    """Field → annotated type, of one kind of run."""
    found = typing.get_type_hints(kind)
    return {field.name: found[field.name] for field in dataclasses.fields(kind)}


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

RANGES: dict[str, tuple[float, float]] = {
    "train_size": (1, 10**9),
    "test_size": (1, 10**9),
    "crop_size": (1, 4096),
    "dropout": (0, 0.99),
    "label_smoothing": (0, 0.99),
    "batch_size": (1, 10**6),
    "epochs": (1, 10**6),
    "stop_at_train_accuracy": (0, 1),
    "corruption_level": (0, 1),
    "learning_rate": (0, 1e3),
    "learning_rate_decay": (0, 1),
    "momentum": (0, 1),
    "weight_decay": (0, 1e3),
    "seed": (0, 2**31 - 1),
    "gamma": (0, 1e6),
    "num_filters": (1, 10**7),
    "depth": (2, 1000),
    "initial_scale": (0, 1e3),
}


def coerce(name: str, value: Any, hint: Any) -> Any:
    """`value` as the annotated type, from Python, JSON or the command line, or a UsageError that names the field."""
    if isinstance(hint, types.UnionType):  # "T | None"
        if value is None or value == "None":
            return None
        hint = next(t for t in typing.get_args(hint) if t is not types.NoneType)
    if typing.get_origin(hint) is tuple and isinstance(value, str | tuple | list):
        parts = value.split(",") if isinstance(value, str) else value
        return tuple(coerce(name, part, str) for part in parts if part)
    try:
        if hint is bool and str(value) in ("True", "true", "False", "false"):
            return str(value) in ("True", "true")
        if hint is int and not isinstance(value, bool) and int(value) == float(value):
            return int(value)
        if hint is float and not isinstance(value, bool) and math.isfinite(float(value)):
            return float(value) + 0.0  # -0.0 equals 0.0, so it becomes 0.0: equal runs share an id
        if hint is str and isinstance(value, str) and NAME.fullmatch(value):
            return value
    except (TypeError, ValueError, OverflowError):
        pass
    name_kind = "a name of letters, digits, '_' and '.'"
    kind = {int: "a whole number", float: "a finite number", bool: "true or false", str: name_kind}.get(hint, "names")
    raise UsageError(f"{name} must be {kind}, got {value!r}")


def grid(base: R, **axes: Any) -> tuple[R, ...]:
    """Every combination of the axes' values, the last axis fastest: `grid(run, model=("a", "b"), seed=range(3))`."""
    for name in axes:
        if name not in hints(type(base)):
            raise unknown("field", name, hints(type(base)))
    return tuple(replace(base, **dict(zip(axes, values, strict=True))) for values in itertools.product(*axes.values()))


class Check(NamedTuple):
    """One sentence of a claim, held against the results: True, False, or None where the runs it needs are missing."""

    statement: str
    holds: bool | None
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A claim, the runs that test it, and pure functions from their tidy frame to a table, a figure and a verdict.

    `runs` is the paper's own scale and `laptop` the same question within an hour on two CPU cores; smoke follows by
    one rule. The frame has one row per (run, epoch); see `results.frame` for its columns.
    """

    claim: str
    locator: str
    runs: tuple[AnyRun, ...]
    laptop: tuple[AnyRun, ...]
    table: Callable[[pd.DataFrame], pd.DataFrame]
    figure: Callable[[pd.DataFrame], Figure] | None = None
    checks: Callable[[pd.DataFrame], list[Check]]
    name: str = ""
    scale: Scale = "paper"
    doc: str = ""

    def at(self, scale: Scale) -> Experiment:
        """The same experiment at a scale: smoke, laptop or paper."""
        if scale not in SCALES:
            raise unknown("scale", scale, SCALES)
        runs = smoke(self.runs) if scale == "smoke" else self.laptop if scale == "laptop" else self.runs
        return replace(self, scale=scale, runs=tuple(dict.fromkeys(runs)))


def smoke(runs: tuple[AnyRun, ...]) -> tuple[AnyRun, ...]:
    """The first seed of each setting on 256 of scikit-learn's digits, for at most four epochs: it runs, in seconds.

    For ImageNet 8 generated pictures stand in.
    """
    first = min(run.seed for run in runs)
    kept = [run for run in runs if run.seed == first]
    return tuple(run.shrunk for run in kept if run.dataset != "digits") or tuple(kept)


HERE = Path(__file__).resolve().parent


def default_folder() -> Path:
    """The folder of experiments: the copy that travels in the wheel, else the checkout's own."""
    packaged = HERE / "_experiments"
    return packaged if packaged.is_dir() else HERE.parent / "experiments"


def names(folder: Path | None = None) -> list[str]:
    """The experiments in a folder, by file name."""
    folder = folder or default_folder()
    if not folder.is_dir():
        raise UsageError(f"no folder of experiments at {folder}; name one with --experiments DIR")
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def find(name: str, folder: Path | None = None) -> Experiment:
    """The experiment whose file name is `name` or begins with it, if only one does."""
    folder = folder or default_folder()
    known = names(folder)
    matches = [name] if name in known else [k for k in known if name and k.startswith(name)]
    if len(matches) > 1:
        raise UsageError(f"{name!r} could be {', '.join(matches)}; give more letters")
    if not matches:
        raise unknown("experiment", name, known)
    path = folder / f"{matches[0]}.py"
    spec = importlib.util.spec_from_file_location(f"experiments.{path.stem}", path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found = module.EXPERIMENT
        if not isinstance(found, Experiment):
            raise TypeError(f"it is of type {type(found).__name__}")
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except Exception as error:  # a user's own file: say where, not how
        raise UsageError(f"{path} does not define EXPERIMENT: {type(error).__name__}: {error}") from error
    return replace(found, name=path.stem, doc=(module.__doc__ or "").strip())
