"""One run as pure functions of arrays: init, train_step, evaluate. No files, no printing, no devices.

The paper's protocol (Appendix A): cross-entropy, SGD with momentum 0.9, the learning rate multiplied by a constant
after each epoch, the same settings for true and corrupted data. Our choices where it is silent: the last partial batch
of an epoch is dropped; weight decay acts on kernels, not on biases and offsets; weights are not averaged.

Randomness depends on where a run is, not on how it got there: every key is folded from the seed, the name of a stream
and a counter. So a run that was interrupted and resumed takes the very steps of one that was not.
"""

import zlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rethink_gen import transforms
from rethink_gen.errors import unknown

Key = jax.Array
PRECISIONS = ("float32", "bfloat16")  # of activations and products; parameters, statistics and loss are float32


@dataclass(frozen=True)
class Program:
    """The static facts of a training program: runs with equal programs and array shapes share one compilation."""

    model: nn.Module
    augmentations: tuple[str, ...]
    crop_size: int
    whitening: bool
    batch_size: int
    label_smoothing: float = 0.0
    precision: str = "float32"
    top5: bool = False  # whether the examples are counted whose label is among the five likeliest

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        for name in self.augmentations:
            if name not in transforms.AUGMENTATIONS:
                raise unknown("augmentation", name, transforms.AUGMENTATIONS)


class Hparams(NamedTuple):
    """The traced numbers of a run, float32 scalars, and its root key."""

    key: Key
    learning_rate: Any
    learning_rate_decay: Any  # factor per epoch
    momentum: Any
    weight_decay: Any  # coefficient of ½‖w‖²


class Data(NamedTuple):
    """One split on the device. An argument of every compiled function: closed over, it would become program text."""

    images: jax.Array  # uint8 or float32[N, H, W, C], values in [0, 255]
    labels: jax.Array  # int32[N]
    changed: jax.Array  # bool[N]: the label is not the true one


class State(NamedTuple):
    """All that changes during a run; with the run itself, all that a checkpoint needs."""

    step: jax.Array  # int32: steps taken since the start
    params: Any
    batch_stats: Any
    momentum: Any  # the optimizer's state
    running: "Sums"  # over the minibatches of the epoch under way


class Sums(NamedTuple):
    """Metrics as float32 sums over examples, exact for counts below 2²⁴."""

    count: Any = 0.0
    loss: Any = 0.0  # nats
    correct: Any = 0.0
    changed: Any = 0.0
    correct_changed: Any = 0.0
    correct_top5: Any = None  # where the program counts it


def stream(key: Key, name: str) -> Key:
    """The key of a named stream of randomness; streams of one seed are independent."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def root_key(seed: int) -> Key:
    """The key of a seed. Threefry is named, so that a change of jax's default cannot change a run."""
    return jax.random.key(seed, impl="threefry2x32")


def init(program: Program, hparams: Hparams, images: jax.Array) -> State:
    """The state before the first step, for images of this shape."""
    shape = jax.eval_shape(lambda x: inputs(program, x), images[:1])
    variables = program.model.lazy_init(stream(hparams.key, "init"), shape)
    params = variables["params"]
    momentum = optimizer(hparams, 0.0).init(params)
    sums = Sums(*(jnp.zeros(()) for _ in range(len(Sums._fields) - (not program.top5))))
    return State(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), momentum, sums)


def inputs(program: Program, images: jax.Array, key: Key | None = None) -> jax.Array:
    """float32[B, H, W, C], what the network sees: augmented if a key is given, cropped, scaled to [0, 1], whitened."""
    if key is not None:
        for name in program.augmentations:
            options = {"size": program.crop_size} if name in transforms.CROPS else {}
            images = transforms.AUGMENTATIONS[name](stream(key, name), images, **options)
    images = transforms.center_crop(images, program.crop_size).astype(jnp.float32) / 255
    return transforms.whiten(images) if program.whitening else images


def optimizer(hparams: Hparams, learning_rate: Any) -> optax.GradientTransformation:
    """v ← momentum · v + gradient + weight_decay · w;  w ← w - learning_rate · v."""
    kernels = lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    return optax.chain(
        optax.add_decayed_weights(hparams.weight_decay, mask=kernels),
        optax.trace(hparams.momentum),
        optax.scale(-learning_rate),
    )


def epoch_order(hparams: Hparams, epoch: jax.Array, size: int, batch_size: int) -> jax.Array:
    """int32[steps, batch_size]: the examples that each step of an epoch sees, permuted; the remainder is dropped."""
    order = jax.random.permutation(jax.random.fold_in(stream(hparams.key, "order"), epoch), size)
    return order[: size - size % batch_size].reshape(-1, batch_size)


def train_step(program: Program, hparams: Hparams, data: Data, order: jax.Array, state: State) -> State:
    """One step of SGD on the next row of the epoch's order."""
    batch = jax.tree.map(lambda leaf: leaf[order[state.step % len(order)]], data)
    return train_batch(program, hparams, batch, len(order), state)


def train_batch(program: Program, hparams: Hparams, batch: Data, steps_per_epoch: int, state: State) -> State:
    """One step of SGD on a batch that was gathered before, on the device or from a stream."""
    epoch, row = state.step // steps_per_epoch, state.step % steps_per_epoch
    key = jax.random.fold_in(stream(hparams.key, "augment"), state.step)
    images = inputs(program, batch.images, key)

    def loss(params: Any) -> tuple[jax.Array, tuple[Sums, Any]]:
        logits, updates = apply(
            program,
            params,
            state.batch_stats,
            images,
            train=True,
            mutable=["batch_stats", "auxiliary"],
            rngs={"dropout": stream(key, "dropout")},
        )
        sums = score(program, logits, batch)
        total = smoothed(program, logits, batch) if program.label_smoothing else sums.loss / sums.count
        for auxiliary in jax.tree.leaves(updates.get("auxiliary", {})):
            weight: float = getattr(program.model, "auxiliary_weight", 0.0)
            total += weight * smoothed(program, auxiliary, batch)
        return total, (sums, updates.get("batch_stats", {}))

    gradient, (sums, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
    learning_rate = hparams.learning_rate * hparams.learning_rate_decay ** epoch.astype(jnp.float32)
    updates, momentum = optimizer(hparams, learning_rate).update(gradient, state.momentum, state.params)
    running = jax.tree.map(lambda total, new: jnp.where(row == 0, 0.0, total) + new, state.running, sums)
    return State(state.step + 1, optax.apply_updates(state.params, updates), batch_stats, momentum, running)


def train_steps(
    program: Program, hparams: Hparams, data: Data, order: jax.Array, state: State, count: jax.Array
) -> State:
    """`count` steps in one compiled loop; `count` is traced, so any number of steps is the same program."""
    return jax.lax.fori_loop(0, count, lambda _, state: train_step(program, hparams, data, order, state), state)


def evaluate(program: Program, state: State, data: Data, start: jax.Array, size: int) -> Sums:
    """Sums over the examples start … start + size - 1 that exist, at fixed weights and without augmentation."""
    index = start + jnp.arange(size)
    batch = jax.tree.map(lambda leaf: leaf[index.clip(max=len(data.labels) - 1)], data)
    return evaluate_batch(program, state, batch, (index < len(data.labels)).astype(jnp.float32))


def evaluate_batch(program: Program, state: State, batch: Data, weight: jax.Array) -> Sums:
    """Sums over a batch, at fixed weights and without augmentation; an example of weight 0 does not count."""
    logits: Any = apply(program, state.params, state.batch_stats, inputs(program, batch.images))
    return score(program, logits, batch, weight)


def apply(program: Program, params: Any, batch_stats: Any, images: jax.Array, **options: Any) -> Any:
    """What the model returns for a batch, computed in the precision of the program."""
    to_precision = lambda leaf: leaf.astype(program.precision)
    variables = {"params": jax.tree.map(to_precision, params), "batch_stats": batch_stats}
    return program.model.apply(variables, to_precision(images), **options)


def smoothed(program: Program, logits: jax.Array, batch: Data) -> jax.Array:
    """The mean cross-entropy with targets that are 1 - ε for the label, and ε shared by all classes."""
    targets = optax.smooth_labels(jax.nn.one_hot(batch.labels, logits.shape[-1]), program.label_smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets).mean()


def score(program: Program, logits: jax.Array, batch: Data, weight: Any = 1.0) -> Sums:
    """Cross-entropy and hits of logits float32[B, K], summed over the batch; an example of weight 0 does not count."""
    logits = logits.astype(jnp.float32)  # in bfloat16 a loss loses its digits where a network all but interpolates
    weight = jnp.broadcast_to(weight, batch.labels.shape)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    correct = weight * (logits.argmax(-1) == batch.labels)
    changed = weight * batch.changed
    sums = Sums(weight.sum(), (weight * loss).sum(), correct.sum(), changed.sum(), (correct * changed).sum())
    if not program.top5:
        return sums
    top5 = (jax.lax.top_k(logits, 5)[1] == batch.labels[:, None]).any(-1)
    return sums._replace(correct_top5=(weight * top5).sum())


def weight_norm(state: State) -> jax.Array:
    """‖w‖₂ over all trainable parameters."""
    return optax.tree.norm(state.params)


def layer_norms(state: State) -> list[jax.Array]:
    """The Frobenius norm of each layer's kernel; bounds of a network's complexity grow with their product."""
    return [optax.tree.norm(leaf) for leaf in jax.tree.leaves(state.params) if leaf.ndim > 1]
