"""A training run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

from rethink_gen import catalog, registry
from rethink_gen.coercion import SEED, setting
from rethink_gen.errors import UsageError, unknown
from rethink_gen.runs.base import AnyRun

# What a run can keep besides its curves.
EXAMPLES, CORRECT, MEASURES, WEIGHTS = RECORDS = ("examples", "correct", "measures", "weights")
OF_EXAMPLES = (EXAMPLES, CORRECT)  # of these, what needs answers to single examples


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
    record: tuple[str, ...] = setting(
        (),
        "examples: what the network answers to each, at each measured epoch; correct: which are right at the end; "
        "measures: their values at each measured epoch; weights: the network at each measured epoch",
    )
    measures: tuple[str, ...] = setting((), "numbers of the trained network, such as norms", kind="measure")
    train_skip: int = setting(0, "training images that are passed over before the first n", within=(0, 10**9))
    pretrain_epochs: int = setting(
        0,
        "of a training before this one, on the training images that follow; 0: a fresh start",
        within=(0, 10**6),
    )
    pretrain_size: int | None = setting(None, "how many images that is; None: train_size", within=(1, 10**9))
    pretrain_corruption: str = setting("random_labels", "what is done to those images", kind="corruption")
    pretrain_layers: int | None = setting(
        None, "the first n layers begin as pre-trained; None: all but the last", within=(1, 10**4)
    )
    pretrain_rescale: bool = setting(
        False, "whether pre-trained weights begin at the norm of drawn ones, array by array"
    )

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
        for name in ("augmentations", "measures", "record"):
            if len(set(given := getattr(self, name))) < len(given):
                raise UsageError(f"{name} must each be named once, got {','.join(given)}")
        if others := sorted({*self.record} - {*RECORDS}):
            raise unknown("record", others[0], RECORDS)
        object.__setattr__(self, "record", tuple(name for name in RECORDS if name in self.record))  # in one order
        if MEASURES in self.record and not self.measures:
            raise UsageError("record=measures has nothing to record: name measures, such as measures=margin")

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

    @property
    def pretraining(self) -> Run | None:
        """The run that trains the network before this one, from the same first weights; None: this starts afresh.

        Raises:
          UsageError: it has no images of its own, or the settings of a pre-training are there without one.
        """
        if not self.pretrain_epochs:
            if useless := sorted(AFRESH.keys() & self.changes.keys()):
                raise UsageError(f"{useless[0]} has no effect without pretrain_epochs")
            return None
        if self.train_size is None:
            raise UsageError("pretrain_epochs needs a train_size: pre-training is on the training images after those")
        return replace(
            self,
            train_skip=self.train_skip + self.train_size,
            train_size=self.pretrain_size or self.train_size,
            corruption=self.pretrain_corruption,
            corruption_level=1.0,
            epochs=self.pretrain_epochs,
            measurements=2,
            **dict.fromkeys(("stop_at_train_accuracy", "validation_size"), None),
            **dict.fromkeys(("record", "measures"), ()),
            **AFRESH,
        )

    @property
    def shrunk(self) -> Self:
        """As for other runs, and with few images and epochs of pre-training."""
        small = super().shrunk
        few = small.train_size or 0
        return replace(
            small,
            train_skip=min(small.train_skip, few),
            pretrain_epochs=min(small.pretrain_epochs, small.epochs),
            pretrain_size=small.pretrain_size and min(small.pretrain_size, few),
        )


# The settings of pre-training as a run without it has them.
AFRESH = {each.name: each.default for each in dataclasses.fields(Run) if each.name.startswith("pretrain_")}
