"""Initializers of weights."""

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
    """The first of the numbers drawn, as many as this shape has, with this variance in place of 1."""
    return (drawn[: math.prod(shape)] * jnp.sqrt(jnp.array(variance, drawn.dtype))).reshape(shape)


def _he_normal(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
    """Weights from N(0, 2 / inputs), to the bit those of flax's `variance_scaling(2.0, "fan_in", "normal")`.

    Drawn flat and in lengths that are powers of two: there XLA compiles a few generators, and not one per shape, which
    took the small Inception 22 seconds.
    """
    size, inputs = math.prod(shape), math.prod(shape[:-1])
    return _scaled(jax.random.normal(key, (1 << (size - 1).bit_length(),), dtype), tuple(shape), 2 / inputs)


def initializer(name: str) -> nn.initializers.Initializer:
    """The initializer of a name in INITIALIZERS; also `uniform0.07`, in ±0.07, and `normal0.05`, of that deviation.

    Raises:
      UsageError: there is none.
    """
    for kind, make in (("uniform", _uniform), ("normal", nn.initializers.normal)):
        if name.startswith(kind) and name[len(kind) :].replace(".", "", 1).isdigit():
            return make(float(name[len(kind) :]))
    if name not in INITIALIZERS:
        raise unknown("initialization", name, [*INITIALIZERS, "uniform0.07", "normal0.05"])
    return INITIALIZERS[name]


def _uniform(bound: float) -> nn.initializers.Initializer:
    """Uniform in ±bound: the first author's own port of the small Inception has 0.07 (2016)."""

    def init(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32, **_: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


# Not stated in the paper. `he` and zero biases: with them the paper's schedule fits random labels. In networks that
# convolve, the last layer is `small`, as in TensorFlow's CIFAR-10 tutorial. For the small AlexNet this decides whether
# it fits random labels: see experiments/zhang2017/alexnet_last_layer.py.
INITIALIZERS: dict[str, nn.initializers.Initializer] = {
    "he": _he_normal,
    "small": nn.initializers.truncated_normal(1 / 192),
    "glorot": nn.initializers.glorot_uniform(),
    "lecun": nn.initializers.lecun_normal(),
    "fan_in": nn.initializers.variance_scaling(1.0, "fan_in", "uniform"),  # TensorFlow's default of 2016
    "orthogonal": nn.initializers.orthogonal(),
}
