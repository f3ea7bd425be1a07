"""Networks that are small enough to compute by hand."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.data.randomness import root_key
from rethink_gen.measures.network import Network, Split


@dataclass(frozen=True)
class Chain:
    """Dense layers, with ReLU between them; cross-entropy."""

    def inputs(self, images):
        return images

    def logits(self, weights, statistics, images):
        x = images.reshape(len(images), -1)
        for i, layer in enumerate(weights.values()):
            x = (jax.nn.relu(x) if i else x) @ layer["kernel"] + layer["bias"]
        return x

    def losses(self, logits, labels):
        return jax.nn.logsumexp(logits, axis=-1) - jnp.take_along_axis(logits, labels[:, None], -1)[:, 0]

    def draw(self, key, images):
        return {"Dense_0": {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}}

    def layers(self, images):
        return []


@dataclass(frozen=True)
class Tanh(Chain):
    def logits(self, weights, statistics, images):
        return jnp.tanh(super().logits(weights, statistics, images))


@dataclass(frozen=True)
class Quadratic(Chain):
    """The logits are the weights, and the loss is constant + Σ slope w + ½ Σ curvature w²."""

    curvature: tuple[float, ...]
    slope: tuple[float, ...] = (0.0,)
    constant: float = 0.0

    def logits(self, weights, statistics, images):
        return jnp.tile(weights["w"], (len(images), 1))

    def losses(self, logits, labels):
        slope, curvature = jnp.array(self.slope), jnp.array(self.curvature)
        return self.constant + (slope * logits + 0.5 * curvature * logits**2).sum(-1)


def weights_of(*kernels, biases=None):
    kernels = [np.array(kernel, np.float32) for kernel in kernels]
    biases = biases or [np.zeros(kernel.shape[1]) for kernel in kernels]
    pairs = zip(kernels, biases, strict=True)
    return {f"Dense_{i}": {"kernel": k, "bias": np.array(b, np.float32)} for i, (k, b) in enumerate(pairs)}


def network(function, weights, initial=None, images=((1.0, 0.0), (0.0, 1.0)), labels=(0, 1)):
    split = Split(np.array(images, np.float32), np.array(labels, np.int32))
    return Network(function, weights, weights if initial is None else initial, {}, split, split, root_key(0))
