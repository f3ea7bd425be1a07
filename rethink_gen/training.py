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


@dataclass(frozen=True)
class Program:
    """The static facts of a training program: runs with equal programs and array shapes share one compilation."""

    model: nn.Module
    augmentations: tuple[str, ...]
    crop_size: int
    whitening: bool
    batch_size: int

    def __post_init__(self) -> None:
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
    sums = Sums(*(jnp.zeros(()) for _ in Sums._fields))
    return State(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), momentum, sums)


def inputs(program: Program, images: jax.Array, key: Key | None = None) -> jax.Array:
    """float32[B, H, W, C], what the network sees: augmented if a key is given, cropped, scaled to [0, 1], whitened."""
    if key is not None:
        for name in program.augmentations:
            options = {"size": program.crop_size} if name == "random_crop" else {}
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
    epoch, row = state.step // len(order), state.step % len(order)
    key = jax.random.fold_in(stream(hparams.key, "augment"), state.step)
    batch = jax.tree.map(lambda leaf: leaf[order[row]], data)
    images = inputs(program, batch.images, key)

    def loss(params: Any) -> tuple[jax.Array, tuple[Sums, Any]]:
        logits, updates = program.model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            images,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": stream(key, "dropout")},
        )
        sums = score(logits, batch)
        return sums.loss / sums.count, (sums, updates.get("batch_stats", {}))

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
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    logits: Any = program.model.apply(variables, inputs(program, batch.images))
    return score(logits, batch, (index < len(data.labels)).astype(jnp.float32))


def score(logits: jax.Array, batch: Data, weight: Any = 1.0) -> Sums:
    """Cross-entropy and hits of logits float32[B, K], summed over the batch; an example of weight 0 does not count."""
    weight = jnp.broadcast_to(weight, batch.labels.shape)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    correct = weight * (logits.argmax(-1) == batch.labels)
    changed = weight * batch.changed
    return Sums(weight.sum(), (weight * loss).sum(), correct.sum(), changed.sum(), (correct * changed).sum())


def weight_norm(state: State) -> jax.Array:
    """‖w‖₂ over all trainable parameters."""
    return optax.tree.norm(state.params)
