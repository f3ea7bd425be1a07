"""Tries a user's own components on shapes, so that a wrong one is named before anything is compiled.

What each kind takes and returns stands in docs/adding.md. Built-in components have tests instead.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rethink_gen import registry
from rethink_gen.data.randomness import root_key
from rethink_gen.errors import ComponentError, naming
from rethink_gen.runs import Run, components
from rethink_gen.training import core
from rethink_gen.training.program import Hparams, Program, remembers


class _Sizes(NamedTuple):
    """What components see: images of this shape and dtype, so many classes, examples and examples per batch."""

    images: jax.ShapeDtypeStruct  # [B, H, W, C]
    classes: int
    examples: int
    batch: int


def check(run: Run, program: Program, images: Any, num_classes: int, num_train: int) -> None:
    """Refuses a user's component that fails, or that returns something else than its kind does.

    Args:
      images: [..., H, W, C]; only the shape and the dtype are used.

    Raises:
      ComponentError: names the component, and either what it raised or what it must return.
    """
    batch = jax.ShapeDtypeStruct((program.batch_size, *images.shape[-3:]), images.dtype)
    sizes = _Sizes(batch, num_classes, num_train, program.batch_size)
    for kind, text in components(run):
        if kind not in _CHECKS or registry.is_built_in(kind, text):
            continue
        with naming(kind, text):
            wrong = _CHECKS[kind](program, text, sizes)
        if wrong:
            raise ComponentError(f"{kind} {text!r} must return {wrong}")


def _model(program: Program, text: str, sizes: _Sizes) -> str:
    def logits(images: jax.Array) -> Any:
        number = jnp.float32(0)
        state = core.init(program, Hparams(root_key(0), number, number, number, number), images)
        return core.apply(program, state.params, state.batch_stats, core.inputs(program, images))

    shape = (sizes.images.shape[0], sizes.classes)
    return _unlike(jax.eval_shape(logits, _cropped(program, sizes)), shape, "a logit for each image and class")


def _cropped(program: Program, sizes: _Sizes) -> jax.ShapeDtypeStruct:
    """What augmentations of the right form make of the images."""
    count, height, width, channels = sizes.images.shape
    size = program.crop_size
    return jax.ShapeDtypeStruct((count, min(size, height), min(size, width), channels), sizes.images.dtype)


def _augmentation(program: Program, text: str, sizes: _Sizes) -> str:
    augment = registry.resolve("augmentation", text)
    if registry.asks_for(augment, "targets"):
        return _mixing(program, augment, sizes)
    sized = "size" in registry.parameters(augment)
    options = {"size": program.crop_size} if sized else {}
    images = jax.eval_shape(lambda images: augment(root_key(0), images, **options), sizes.images)
    shape = _cropped(program, sizes).shape if sized else sizes.images.shape
    return _unlike(images, shape, "images of the size that it was asked for" if sized else "images of the same size")


def _mixing(program: Program, mix: Callable[..., Any], sizes: _Sizes) -> str:
    shapes = _cropped(program, sizes).shape, (sizes.batch, sizes.classes)
    given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    found = jax.eval_shape(lambda images, targets: mix(root_key(0), images, targets=targets), *given)
    return _unlike_pair(found, shapes, ("images of the same size", "a row of targets for each image"))


def _optimizer(program: Program, text: str, sizes: _Sizes) -> str:
    build = registry.resolve("optimizer", text)
    numbers = dict.fromkeys(registry.parameters(build) & {"momentum", "weight_decay"}, 0.0)
    made = build(0.1, **numbers)
    fits = callable(getattr(made, "init", None)) and callable(getattr(made, "update", None))
    return "" if fits else f"an optax.GradientTransformation, not {type(made).__name__}"


def _schedule(program: Program, text: str, sizes: _Sizes) -> str:
    schedule = registry.resolve("schedule", text)
    numbers = dict.fromkeys(registry.parameters(schedule) & {"learning_rate_decay"}, 1.0)
    steps = sizes.examples // sizes.batch
    factor = jax.eval_shape(lambda step: schedule(step, steps, program.epochs, **numbers), jnp.int32(0))
    return _unlike(factor, (), "one number, the factor of the learning rate")


def _loss(program: Program, text: str, sizes: _Sizes) -> str:
    rows = jax.ShapeDtypeStruct((sizes.batch, sizes.classes), jnp.float32)
    loss, meaning = registry.resolve("loss", text), "a loss for each example"
    if not remembers(program):
        return _unlike(jax.eval_shape(loss, rows, rows), (sizes.batch,), meaning)
    found = jax.eval_shape(lambda logits, targets, memory: loss(logits, targets, memory=memory), rows, rows, rows)
    return _unlike_pair(found, ((sizes.batch,), rows.shape), (meaning, "what it keeps of each example"))


def _order(program: Program, text: str, sizes: _Sizes) -> str:
    shape = (sizes.examples // sizes.batch, sizes.batch)
    order = registry.resolve("order", text)(root_key(0), jnp.int32(0), sizes.examples, sizes.batch)
    indices = f"indices of examples, 0 to {sizes.examples - 1}"
    if wrong := _unlike(order, shape, indices):
        return wrong
    if not jnp.issubdtype(order.dtype, jnp.integer):
        return f"{indices}, not {order.dtype}"
    least, most = int(order.min()), int(order.max())
    return "" if least >= 0 and most < sizes.examples else f"{indices}, not {least} to {most}"


def _unlike(value: Any, shape: tuple[int, ...], meaning: str) -> str:
    """What a value should be and is not; empty if it is an array of this shape."""
    found = getattr(value, "shape", None)
    if found == shape:
        return ""
    return f"{meaning}: shape {shape}, not {type(value).__name__ if found is None else found}"


def _unlike_pair(found: Any, shapes: tuple[Any, Any], meanings: tuple[str, str]) -> str:
    """The same of a pair of values."""
    if not isinstance(found, tuple) or len(found) != len(shapes):
        return f"a pair: {meanings[0]}, and {meanings[1]}; not {type(found).__name__}"
    return next(filter(None, map(_unlike, found, shapes, meanings)), "")


_CHECKS: dict[str, Callable[[Program, str, _Sizes], str]] = {
    "model": _model,
    "augmentation": _augmentation,
    "optimizer": _optimizer,
    "schedule": _schedule,
    "loss": _loss,
    "order": _order,
}
