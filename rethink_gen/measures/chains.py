"""Networks as matrices: plain chains of dense layers with ReLU between them, and the kernels of any network."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from rethink_gen.errors import UsageError
from rethink_gen.measures.network import Network, Weights

_TRIED = 20  # training examples
_NAME = re.compile(r"Dense_(\d+)")


class Layer(NamedTuple):
    """x → xW + b."""

    kernel: np.ndarray  # float64[inputs, outputs]
    bias: np.ndarray  # float64[outputs]


def layers(network: Network, weights: Weights) -> list[Layer]:
    """The layers of a plain chain, from the first to the last.

    Args:
      weights: those of the network, or its initial ones.

    Raises:
      UsageError: the network is no such chain: its weights are others, or the chain computes other logits.
    """
    numbered = sorted((int(found[1]), each) for name, each in weights.items() if (found := _NAME.fullmatch(name)))
    chain = [_layer(each) for _, each in numbered]
    if len(chain) != len(weights) or not chain or not _computes(chain, network, weights):
        raise UsageError("only of dense layers with ReLU between them, such as mlp(hidden=512+512); leave it away")
    return chain


def _layer(weights: dict[str, Any]) -> Layer:
    kernel = np.asarray(weights["kernel"], float)
    return Layer(kernel, np.asarray(weights["bias"], float) if "bias" in weights else np.zeros(kernel.shape[-1]))


def _computes(chain: list[Layer], network: Network, weights: Weights) -> bool:
    """Whether a chain gives the logits of the network, of a few examples."""
    x = network.inputs[:_TRIED]
    if not all(
        a.kernel.shape[0] == size
        for a, size in zip(chain, [x.shape[1], *(b.kernel.shape[1] for b in chain)], strict=False)
    ):
        return False
    logits = network.logits(weights)[:_TRIED]
    found = hidden(chain, x) @ chain[-1].kernel + chain[-1].bias
    # bfloat16 has 8 bits; another activation is further away.
    return bool(np.allclose(found, logits, rtol=0.02, atol=0.02 * (np.abs(logits).max() + 1e-6)))


def hidden(chain: list[Layer], inputs: np.ndarray) -> np.ndarray:
    """float64[N, H]: what enters the last layer."""
    x = np.asarray(inputs, float)
    for kernel, bias in chain[:-1]:
        x = np.maximum(x @ kernel + bias, 0)
    return x


def kernels(weights: Weights) -> list[np.ndarray]:
    """The kernels of any network as float64 arrays: its parameters with more than one axis, in the order of names."""
    import jax

    return [np.asarray(leaf, float) for leaf in jax.tree.leaves(weights) if leaf.ndim > 1]
