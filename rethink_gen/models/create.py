"""Create a flax module from a model's name.

A model maps whitened images float32[B, H, W, C] to logits float32[B, K]. It is built with `num_classes`, and with
`dropout` if it has that field. If it takes `train`, that switches dropout and the statistics of batch norm.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen import registry
from rethink_gen.errors import ComponentError, UsageError, naming


class Network(NamedTuple):
    """A network as functions of its weights, which are a tree of float32 arrays."""

    draw: Callable[[jax.Array], Any]  # key → first weights
    logits: Callable[[Any, jax.Array], jax.Array]  # weights, float32[B, H, W, C] → float32[B, K]


def create(name: str, num_classes: int, dropout: float = 0.0) -> nn.Module:
    """Creates the model with this name.

    Args:
      name: a registered model, with or without options: `mlp` or `mlp(hidden=64)`.
      num_classes: number of logits.
      dropout: dropout rate before the last layer, in [0, 1).

    Raises:
      UsageError: the model or one of its options is unknown, it has no field num_classes, or dropout is asked of a
        model that has none.
    """
    build = registry.resolve("model", name)
    takes = {"dropout": dropout} if "dropout" in registry.parameters(build) else {}
    if dropout and not takes:
        raise UsageError(f"model {name!r} has no dropout: give it a field `dropout: float = 0.0`, or set dropout=0")
    if "num_classes" not in registry.parameters(build):
        raise ComponentError(f"model {name!r} needs a field `num_classes: int`, the number of logits")
    with naming("model", name):
        model = build(num_classes=num_classes, **takes)
    if not isinstance(model, nn.Module) or not hasattr(model, "num_classes"):
        way_out = "write a class, see Model in docs/adding.md"
        raise ComponentError(f"model {name!r} must make a flax.linen module with the field num_classes: {way_out}")
    try:
        hash(model)  # compiled programs are known by it
    except TypeError as error:
        raise ComponentError(f"model {name!r} holds what has no hash, such as a list: make it a tuple") from error
    return model


def mode(model: nn.Module, *, train: bool) -> dict[str, bool]:
    """What a model is called with beside the images: whether it is training, if it takes that."""
    return {"train": train} if "train" in registry.parameters(type(model).__call__) else {}


def keys(key: jax.Array) -> dict[str, jax.Array]:
    """What first weights are drawn with: flax.linen takes the first, and dropout of flax.nnx needs one to be made."""
    return {"params": key, "dropout": key}


def network(name: str, num_classes: int, shape: tuple[int, ...]) -> Network:
    """The network with this name, for solvers that keep nothing but its weights.

    Args:
      name: as for `create`.
      num_classes: number of logits.
      shape: of an image, [H, W, C].

    Raises:
      ComponentError: it has batch norm, whose statistics only training updates.
    """
    model = create(name, num_classes)
    options = mode(model, train=False)
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    initialize: Any = partial(model.lazy_init, **options)
    with naming("model", name):
        variables = jax.eval_shape(initialize, keys(jax.random.key(0)), example)
    if variables.keys() - {"params"}:
        raise ComponentError(
            f"model {name!r} has batch norm, whose statistics are not updated without training: name another"
        )
    return Network(
        draw=lambda key: initialize(keys(key), example)["params"],
        logits=lambda weights, images: model.apply({"params": weights}, images, **options),  # type: ignore
    )
