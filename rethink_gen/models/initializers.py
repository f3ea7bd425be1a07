"""Weight initializers by name."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rethink_gen.errors import unknown


@partial(jax.jit, static_argnums=(1, 2))
def _scaled(drawn: jax.Array, shape: tuple[int, ...], variance: float) -> jax.Array:
    """Reshapes the first draws to `shape` and scales their variance from 1 to `variance`."""
    return (drawn[: math.prod(shape)] * jnp.sqrt(jnp.array(variance, drawn.dtype))).reshape(shape)


def _he_normal(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """He initialization: weights from N(0, 2 / fan_in).

    The weights are those of flax's `variance_scaling(2.0, "fan_in", "normal")` up to the rounding of the scale, which
    is another in flax 0.12.12 than in 0.12.8; ours have the same bits with every version. They are drawn
    flat, in lengths that are powers of two. So XLA compiles a few generators instead of one per shape; one per shape
    took 22 seconds for the small Inception.
    """
    size, inputs = math.prod(shape), math.prod(shape[:-1])
    return _scaled(jax.random.normal(key, (1 << (size - 1).bit_length(),), dtype), tuple(shape), 2 / inputs)


def initializer(name: str) -> nn.initializers.Initializer:
    """Returns the initializer with this name.

    Args:
      name: a name in INITIALIZERS; or `uniformX`, uniform in ±X; or `normalX`, normal with standard deviation X; or
        `truncatedX`, the same without draws beyond ±2X. X is a decimal number: `uniform0.07`, `normal0.05`.

    Raises:
      UsageError: the name is unknown.
    """
    for kind, make in _OF_A_SCALE.items():
        if name.startswith(kind) and name[len(kind) :].replace(".", "", 1).isdigit():
            return make(float(name[len(kind) :]))
    if name not in INITIALIZERS:
        raise unknown("initialization", name, [*INITIALIZERS, "uniform0.07", "normal0.05", "truncated0.05"])
    return INITIALIZERS[name]


def _uniform(bound: float) -> nn.initializers.Initializer:
    """Uniform in ±bound. The first author's own port of the small Inception (2016) uses 0.07."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


_OF_A_SCALE = {
    "uniform": _uniform,
    "normal": nn.initializers.normal,
    "truncated": nn.initializers.truncated_normal,
}

# Not stated in the paper. We use `he` and zero biases, because the paper's schedule then fits random labels. The last
# layer of convolutional networks is `small`, as in TensorFlow's CIFAR-10 tutorial. For the small AlexNet this decides
# whether it fits random labels: see the experiment alexnet_last_layer.
INITIALIZERS: dict[str, nn.initializers.Initializer] = {
    "he": _he_normal,
    "small": nn.initializers.truncated_normal(1 / 192),
    "glorot": nn.initializers.glorot_uniform(),
    "lecun": nn.initializers.lecun_normal(),
    "fan_in": nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),  # TensorFlow's default of 2016
    "orthogonal": nn.initializers.orthogonal(),
}
