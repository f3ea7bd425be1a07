"""What a training program is made of: its static facts, its numbers, its data, its state, and what it measures."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from rethink_gen import registry
from rethink_gen.data.randomness import Key
from rethink_gen.errors import unknown
from rethink_gen.optimization import losses, optimizers

PRECISIONS = ("float32", "bfloat16")  # of activations and products; parameters, statistics and loss are float32


@dataclass(frozen=True)
class Program:
    """The static facts of a training program. Runs with equal programs and array shapes share one compilation."""

    model: nn.Module
    augmentations: tuple[str, ...]
    crop_size: int
    whitening: bool
    batch_size: int
    label_smoothing: float = 0.0
    precision: str = "float32"
    top5: bool = False  # whether to count top-5 hits: the label is among the five largest logits
    optimizer: str = "sgd"
    schedule: str = "exponential"
    loss: str = "cross_entropy"
    order: str = "reshuffle"
    max_gradient_norm: float | None = None
    epochs: int = 0  # of the whole run, for schedules that depend on it
    code: str = ""  # digest of the user's components; an edited component makes another program

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)


class Hparams(NamedTuple):
    """The traced hyperparameters of a run, float32[], and its keys."""

    key: Key
    learning_rate: Any
    learning_rate_decay: Any  # factor per epoch
    momentum: Any
    weight_decay: Any  # coefficient of ½‖w‖²
    order_key: Key | None = None  # root key for the order of examples; None: `key`


class Data(NamedTuple):
    """One split on the device. Compiled functions take it as an argument: a closed-over array slows compilation."""

    images: jax.Array  # uint8 or float32[N, H, W, C], values in [0, 255]
    labels: jax.Array  # int32[N]
    # int32[N], to compare predictions with besides: of training examples their true labels; of test examples, labels
    # that were corrupted as those of the training examples were.
    other: jax.Array

    @property
    def changed(self) -> jax.Array:
        """bool[N]: whether the two labels differ."""
        return self.labels != self.other


class State(NamedTuple):
    """The training state: everything that changes during a run. A checkpoint holds this and the run."""

    step: jax.Array  # int32[]: steps taken since the start
    params: Any
    batch_stats: Any
    momentum: Any  # the state of the optimizer
    memory: Any  # float32[N, K], what the loss keeps of each example; None: it keeps nothing
    running: "Sums"  # over the minibatches of the current epoch


class Sums(NamedTuple):
    """Metrics as float32 sums over examples. Counts are exact below 2²⁴."""

    count: Any = 0.0  # examples
    loss: Any = 0.0  # in nats
    correct: Any = 0.0  # examples that are classified as their label
    changed: Any = 0.0  # examples whose other label is another one
    correct_changed: Any = 0.0  # examples of both kinds
    correct_other: Any = 0.0  # examples that are classified as their other label
    correct_top5: Any = None  # only if the program counts it


class Answers(NamedTuple):
    """What the network answers to each example of a batch. Values beyond the range of float16 are clipped to it."""

    prediction: jax.Array  # uint8[B], or uint16 with more than 256 classes: the class of the largest logit
    loss: jax.Array  # float16[B], of the label
    margin: jax.Array  # float16[B]: the logit of the label minus the largest other one
    error: jax.Array  # float16[B]: the norm of probabilities minus the label as one-hot, in [0, √2]


def num_classes(program: Program) -> int:
    """The number of classes K."""
    return program.model.num_classes  # type: ignore[attr-defined]


def remembers(program: Program) -> bool:
    """Whether the loss keeps something of each example from one step to the next."""
    return registry.asks_for(registry.resolve("loss", program.loss), "memory")


def reports_cross_entropy(program: Program) -> bool:
    """Whether the loss that is reported is cross-entropy: because it is the loss, or cannot be had of one example."""
    return registry.parse(program.loss)[0] in ("cross_entropy", *losses.OF_A_BATCH) or remembers(program)


def minimizes_what_it_reports(program: Program) -> bool:
    """Whether a step minimizes the loss that is reported, of labels as they are."""
    other = reports_cross_entropy(program) and program.loss != "cross_entropy"
    return not (program.label_smoothing or mixes(program) or other)


def full_batch(program: Program) -> bool:
    """Whether the optimizer has a line search, which needs the whole training set as its batch."""
    return registry.parse(program.optimizer)[0] in optimizers.FULL_BATCH


def mixes(program: Program) -> bool:
    """Whether an augmentation takes targets."""
    return any(registry.asks_for(registry.resolve("augmentation", name), "targets") for name in program.augmentations)
