"""Training as pure functions of arrays: init, train_step, evaluate. No files, no printing, no devices.

The paper's protocol (Appendix A) is cross-entropy, SGD with momentum 0.9, a learning rate that is multiplied by a
constant after each epoch, and the same settings for true and corrupted data. Our choices where the paper is silent: the
last partial batch of an epoch is dropped; weight decay acts on kernels, not on biases and offsets; weights are not
averaged.

Every random key is folded from the seed, the name of a stream and a counter. So randomness depends on where a run is,
not on how it got there, and a resumed run takes the same steps as an uninterrupted one.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

from rethink_gen import registry
from rethink_gen.data import augmentations
from rethink_gen.data.randomness import Key, stream
from rethink_gen.models import create
from rethink_gen.optimization import losses, optimizers
from rethink_gen.training.program import (
    Answers,
    Data,
    Hparams,
    Program,
    State,
    Sums,
    full_batch,
    minimizes_what_it_reports,
    num_classes,
    remembers,
    reports_cross_entropy,
)

# The kinds of arguments of a vectorized function: one value per lane, one for all lanes, static, or a split of data.
EACH, SAME, STATIC, DATA = "each", "same", "static", "data"
_Function = TypeVar("_Function", bound=Callable[..., Any])


def _lanes(*kinds: str) -> Callable[[_Function], _Function]:
    """Declares the kind of each argument of a function of one run, so that vectorize.py can map it over runs.

    Args:
      kinds: EACH, SAME, STATIC or DATA for each argument.
    """

    def mark(function: _Function) -> _Function:
        function.lanes = kinds  # type: ignore[attr-defined]
        return function

    return mark


def init(
    program: Program,
    hparams: Hparams,
    images: jax.Array,
    key: Key | None = None,
    begin: Callable[[Any], Any] | None = None,
) -> State:
    """Creates the state before the first step.

    Args:
      images: [N, H, W, C], all of the training set; only the shape and dtype are used.
      key: root key for the weights; None: the key of the run.
      begin: makes first weights of those that are drawn; None: leaves them.
    """
    shape = example(program, images)
    initialize: Any = partial(program.model.lazy_init, **create.mode(program.model, train=False))
    variables = initialize(create.keys(stream(hparams.key if key is None else key, "init")), shape)
    params = begin(variables["params"]) if begin else variables["params"]
    momentum = _first_momentum(program, hparams, params)
    sums = Sums(*(jnp.zeros(()) for _ in range(len(Sums._fields) - (not program.top5))))
    memory = jnp.zeros((len(images), num_classes(program))) if remembers(program) else None
    return State(jnp.zeros((), jnp.int32), params, variables.get("batch_stats", {}), momentum, memory, sums)


@partial(jax.jit, static_argnums=0)  # one program in place of two for each shape of a parameter
def _first_momentum(program: Program, hparams: Hparams, params: Any) -> Any:
    """The state of the optimizer before the first step.

    Copies: an optimizer may keep the parameters themselves, and a buffer can be donated only once.
    """
    return jax.tree.map(jnp.copy, _optimizer(program, hparams, 0.0).init(params))


def example(program: Program, images: jax.Array) -> jax.ShapeDtypeStruct:
    """The shape of one image as it enters the network."""
    return jax.eval_shape(lambda x: inputs(program, x), images[:1])


def inputs(program: Program, images: jax.Array, key: Key | None = None) -> jax.Array:
    """Preprocesses images: augments, crops, scales to [0, 1] and whitens them.

    Args:
      images: uint8 or float32[B, H, W, C] in [0, 255].
      key: for the augmentations; None: no augmentation.

    Returns:
      float32[B, H, W, C], the input of the network.
    """
    for name in program.augmentations:
        augment = registry.resolve("augmentation", name)
        if key is not None and not registry.asks_for(augment, "targets"):
            options = {"size": program.crop_size} if "size" in registry.parameters(augment) else {}
            images = augment(stream(key, name), images, **options)
    images = augmentations.center_crop(images, program.crop_size).astype(jnp.float32) / 255
    return augmentations.whiten(images) if program.whitening else images


def mixed(program: Program, images: jax.Array, targets: jax.Array, key: Key) -> tuple[jax.Array, jax.Array]:
    """Preprocessed images and targets, float32[B, K], after the augmentations that take targets."""
    for name in program.augmentations:
        augment = registry.resolve("augmentation", name)
        if registry.asks_for(augment, "targets"):
            images, targets = augment(stream(key, name), images, targets=targets)
    return images, targets


def _optimizer(program: Program, hparams: Hparams, learning_rate: Any) -> optax.GradientTransformationExtraArgs:
    """Builds the optimizer of a step, with gradient clipping, and with L2 if it takes no `weight_decay`."""
    build = registry.resolve("optimizer", program.optimizer)
    taken = registry.parameters(build) & {"momentum", "weight_decay"}
    parts = [build(learning_rate, **{name: getattr(hparams, name) for name in taken})]
    if "weight_decay" not in taken:
        parts.insert(0, optimizers.l2(hparams.weight_decay))
    if program.max_gradient_norm is not None:
        parts.insert(0, optimizers.clip(program.max_gradient_norm))
    return optax.with_extra_args_support(parts[0] if len(parts) == 1 else optax.chain(*parts))


def _learning_rate(program: Program, hparams: Hparams, step: jax.Array, steps_per_epoch: int) -> jax.Array:
    """The learning rate of a step: the base learning rate times the schedule."""
    schedule = registry.resolve("schedule", program.schedule)
    taken = registry.parameters(schedule) & {"learning_rate_decay"}
    return hparams.learning_rate * schedule(
        step, steps_per_epoch, program.epochs, **{name: getattr(hparams, name) for name in taken}
    )


@_lanes(STATIC, EACH, SAME, STATIC, STATIC)
def epoch_order(program: Program, hparams: Hparams, epoch: jax.Array, size: int, batch_size: int) -> jax.Array:
    """The order of the examples in an epoch: int32[steps, batch_size], the indices of each batch."""
    order = registry.resolve("order", program.order)
    key = hparams.key if hparams.order_key is None else hparams.order_key
    return order(stream(key, "order"), epoch, size, batch_size)


@_lanes(STATIC, EACH, DATA, EACH, EACH)
def train_step(program: Program, hparams: Hparams, data: Data, order: jax.Array, state: State) -> State:
    """Takes one optimizer step on the next row of the epoch's order."""
    index = order[state.step % len(order)]
    return _step(program, hparams, jax.tree.map(lambda leaf: leaf[index], data), len(order), state, index)


@_lanes(STATIC, EACH, DATA, STATIC, EACH)
def train_batch(program: Program, hparams: Hparams, batch: Data, steps_per_epoch: int, state: State) -> State:
    """Takes one optimizer step on a batch that is already gathered, from a stream."""
    return _step(program, hparams, batch, steps_per_epoch, state, None)


def _step(
    program: Program, hparams: Hparams, batch: Data, steps_per_epoch: int, state: State, index: jax.Array | None
) -> State:
    """Takes one optimizer step.

    Args:
      index: int32[B], which examples the batch holds; None: not known, so the loss can remember nothing.
    """
    row = state.step % steps_per_epoch
    key = jax.random.fold_in(stream(hparams.key, "augment"), state.step)
    images = inputs(program, batch.images, key)
    targets: jax.Array | None = None
    if not minimizes_what_it_reports(program):
        targets = losses.smooth(jax.nn.one_hot(batch.labels, num_classes(program)), program.label_smoothing)
        images, targets = mixed(program, images, targets, key)

    def loss(params: Any) -> tuple[jax.Array, tuple[Sums, Any, Any]]:
        logits, updates = apply(
            program,
            params,
            state.batch_stats,
            images,
            train=True,
            mutable=["batch_stats", "auxiliary"],
            rngs={"dropout": stream(key, "dropout")},
        )
        sums = _score(program, logits, batch)
        memory = None
        if index is not None and remembers(program):
            function = registry.resolve("loss", program.loss)
            each, memory = function(logits.astype(jnp.float32), targets, memory=state.memory[index])
            total = each.mean()
        else:
            total = sums.loss / sums.count if targets is None else _mean_loss(program, logits, targets)
        for auxiliary in jax.tree.leaves(updates.get("auxiliary", {})):
            weight: float = getattr(program.model, "auxiliary_weight", 0.0)
            of = jax.nn.one_hot(batch.labels, auxiliary.shape[-1]) if targets is None else targets
            total += weight * _mean_loss(program, auxiliary, of)
        return total, (sums, updates.get("batch_stats", {}), memory)

    gradient, (sums, batch_stats, memory) = jax.grad(loss, has_aux=True)(state.params)
    step_optimizer = _optimizer(program, hparams, _learning_rate(program, hparams, state.step, steps_per_epoch))
    line_search = {}
    if full_batch(program):
        line_search = {"value": loss(state.params)[0], "value_fn": lambda params: loss(params)[0]}
    updates, momentum = step_optimizer.update(gradient, state.momentum, state.params, **line_search)
    running = jax.tree.map(lambda total, new: jnp.where(row == 0, 0.0, total) + new, state.running, sums)
    memory = state.memory if memory is None else state.memory.at[index].set(memory)
    return State(state.step + 1, optax.apply_updates(state.params, updates), batch_stats, momentum, memory, running)


@_lanes(STATIC, EACH, DATA, EACH, EACH, SAME)
def train_steps(
    program: Program, hparams: Hparams, data: Data, order: jax.Array, state: State, count: jax.Array
) -> State:
    """Takes `count` steps in one compiled loop. `count` is traced, so any number of steps uses the same program."""
    return jax.lax.fori_loop(0, count, lambda _, state: train_step(program, hparams, data, order, state), state)


@_lanes(STATIC, EACH, DATA, SAME, STATIC)
def evaluate(program: Program, state: State, data: Data, start: jax.Array, size: int) -> Sums:
    """Evaluates the examples start … start + size - 1, as far as they exist, without augmentation and dropout."""
    return evaluate_batch(program, state, *_window(data, start, size))


@_lanes(STATIC, EACH, DATA, SAME, STATIC)
def evaluate_each(program: Program, state: State, data: Data, start: jax.Array, size: int) -> tuple[Sums, Answers]:
    """The same, and the answers to each example; those beyond the last one repeat it."""
    batch, weight = _window(data, start, size)
    logits: Any = apply(program, state.params, state.batch_stats, inputs(program, batch.images))
    return _score(program, logits, batch, weight), _answers(program, logits, batch.labels)


def _window(data: Data, start: jax.Array, size: int) -> tuple[Data, jax.Array]:
    """The examples from `start` on, and their weights: 0 beyond the last one."""
    index = start + jnp.arange(size)
    batch = jax.tree.map(lambda leaf: leaf[index.clip(max=len(data.labels) - 1)], data)
    return batch, (index < len(data.labels)).astype(jnp.float32)


@_lanes(STATIC, EACH, DATA, EACH)
def evaluate_batch(program: Program, state: State, batch: Data, weight: jax.Array) -> Sums:
    """Evaluates a batch without augmentation and dropout. Examples of weight 0 do not count.

    Args:
      weight: float32[B], 0 or 1.
    """
    logits: Any = apply(program, state.params, state.batch_stats, inputs(program, batch.images))
    return _score(program, logits, batch, weight)


def apply(
    program: Program, params: Any, batch_stats: Any, images: jax.Array, *, train: bool = False, **options: Any
) -> Any:
    """Applies the model to preprocessed images, in the precision of the program.

    Args:
      train: for the model, if it takes it.
      options: for `flax.linen.Module.apply`, such as `mutable` and `rngs`.
    """

    def to_precision(leaf: jax.Array) -> jax.Array:
        return leaf.astype(program.precision)

    variables = {"params": jax.tree.map(to_precision, params), "batch_stats": batch_stats}
    return program.model.apply(variables, to_precision(images), **create.mode(program.model, train=train), **options)


def _mean_loss(program: Program, logits: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean loss of a batch with these targets, float32[B, K]."""
    return registry.resolve("loss", program.loss)(logits.astype(jnp.float32), targets).mean()


def _score(program: Program, logits: jax.Array, batch: Data, weight: Any = 1.0) -> Sums:
    """Sums the loss and the hits of logits [B, K] over a batch. Examples of weight 0 do not count."""
    logits = logits.astype(jnp.float32)  # in bfloat16 the loss loses its digits near interpolation
    weight = jnp.broadcast_to(weight, batch.labels.shape)
    loss = loss_of_each(program, logits, batch.labels)
    predictions = logits.argmax(-1)
    correct, other = weight * (predictions == batch.labels), weight * (predictions == batch.other)
    changed = weight * batch.changed
    sums = Sums(
        count=weight.sum(),
        loss=(weight * loss).sum(),
        correct=correct.sum(),
        changed=changed.sum(),
        correct_changed=(correct * changed).sum(),
        correct_other=other.sum(),
    )
    if not program.top5:
        return sums
    top5 = (jax.lax.top_k(logits, 5)[1] == batch.labels[:, None]).any(-1)
    return sums._replace(correct_top5=(weight * top5).sum())


def loss_of_each(program: Program, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The loss of each example, float32[B]."""
    if reports_cross_entropy(program):
        return losses.cross_entropy_of_labels(logits, labels)
    return registry.resolve("loss", program.loss)(logits, jax.nn.one_hot(labels, logits.shape[-1]))


def _answers(program: Program, logits: jax.Array, labels: jax.Array) -> Answers:
    logits = logits.astype(jnp.float32)
    of_label = jax.nn.one_hot(labels, classes := logits.shape[-1])
    margin = jnp.take_along_axis(logits, labels[:, None], -1)[:, 0] - jnp.where(of_label > 0, -jnp.inf, logits).max(-1)
    error = jnp.linalg.norm(jax.nn.softmax(logits) - of_label, axis=-1)
    limit = float(jnp.finfo(jnp.float16).max)
    narrow = [
        each.clip(-limit, limit).astype("float16") for each in (loss_of_each(program, logits, labels), margin, error)
    ]
    return Answers(logits.argmax(-1).astype(jnp.uint8 if classes <= 256 else jnp.uint16), *narrow)


@_lanes(EACH)
def weight_norm(state: State) -> jax.Array:
    """The weight norm ‖w‖₂ over all trainable parameters."""
    return optax.tree.norm(state.params)


@_lanes(EACH)
def layer_norms(state: State) -> list[jax.Array]:
    """The Frobenius norm of each layer's kernel. Norm-based complexity bounds grow with their product."""
    return [optax.tree.norm(leaf) for leaf in jax.tree.leaves(state.params) if leaf.ndim > 1]
