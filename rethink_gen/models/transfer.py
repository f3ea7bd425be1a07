"""Begin from the weights of another training: which layers, and at which norm. Pure functions of flax's trees."""

from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.errors import UsageError
from rethink_gen.models import create

Weights = Mapping[str, Any]  # submodule → its arrays, such as {"Dense_0": {"kernel": [D, H], "bias": [H]}}


Layers = list[tuple[str, ...]]  # the names of the submodules that make up each


def layers(model: nn.Module, example: jax.ShapeDtypeStruct) -> Layers:
    """The layers that have weights, in the order in which a network calls them.

    A layer is a submodule with a kernel, such as a convolution or a residual block. One without, such as batch norm,
    whose arrays have an axis at most, belongs to the layer before it; before the first one, to that. If the network has
    no submodules, each of its arrays is a layer.

    Args:
      example: the shape of its inputs, [B, H, W, C].
    """
    called: dict[str, None] = {}

    def note(method: Any, arguments: Any, options: Any, context: nn.module.InterceptorContext) -> Any:
        if context.module.path:
            called.setdefault(context.module.path[0])
        return method(*arguments, **options)

    with nn.intercept_methods(note):
        options: Any = create.mode(model, train=False)
        variables = jax.eval_shape(lambda x: model.init(create.keys(jax.random.key(0)), x, **options), example)
    found: Layers = []
    has_kernel = False  # of the last one found
    for name in called:
        if name not in variables["params"]:
            continue
        here = any(leaf.ndim > 1 for leaf in jax.tree.leaves(variables["params"][name]))
        if not found or (here and has_kernel):
            found.append((name,))
        else:
            found[-1] = (*found[-1], name)
        has_kernel |= here
    return found or [(name,) for name in variables["params"]]


def after(order: Layers, first: int | None) -> list[str]:
    """The submodules of the layers after the first ones; None: after all but the last.

    Raises:
      UsageError: there are not so many.
    """
    count = len(order) - 1 if first is None else first
    if not 1 <= count <= len(order):
        raise UsageError(f"pretrain_layers must be 1 to {len(order)}, the layers of this network, got {count}")
    return [name for layer in order[count:] for name in layer]


def begun(drawn: Weights, learned: Weights, fresh: Iterable[str], *, rescale: bool) -> dict[str, Any]:
    """Weights that begin as another training of the same network has left them, but for some layers.

    Args:
      drawn: first weights.
      learned: those of the other training.
      fresh: the submodules that begin as they are drawn.
      rescale: whether each array of the others has the norm of the one that was drawn. So biases, which are drawn as
        0, are 0 again.
    """
    begin = {**learned, **{name: drawn[name] for name in fresh}}
    return jax.tree.map(_at_norm, begin, dict(drawn)) if rescale else begin


def _at_norm(array: jax.Array, like: jax.Array) -> jax.Array:
    """An array at the norm of another one; the other one where it is 0. What is not finite stays so."""
    norm = jnp.linalg.norm(array)
    return jnp.where(norm == 0, like, array * (jnp.linalg.norm(like) / norm))
