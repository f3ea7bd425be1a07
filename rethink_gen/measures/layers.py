"""Which layers of a trained network matter."""

from __future__ import annotations

from rethink_gen.data.randomness import stream
from rethink_gen.errors import UsageError, unknown
from rethink_gen.measures.network import SPLITS, Network, Weights

TO = ("initial", "fresh")


def reset_accuracy(network: Network, *, layer: int = 1, to: str = "initial", split: str = "train") -> float:
    """The accuracy on a split after the weights of one layer are set back to the first ones, or drawn afresh.

    Layers with weights are counted from 1, in the order in which the network calls them. A residual block is one, and
    so is a convolution or a dense layer with its batch norm, whose running statistics stay.

    References:
      Zhang et al. 2022, "Are all layers created equal?": re-initialization and re-randomization robustness.
    """
    for what, given, known in (("reset", to, TO), ("split", split, SPLITS)):
        if given not in known:
            raise unknown(f"{what} of measure reset_accuracy", given, known)
    layers = network.function.layers(network.train.images[:1])
    if not 1 <= layer <= len(layers):
        raise UsageError(f"the network has layers 1 to {len(layers)}")
    source = network.initial if to == "initial" else _fresh(network)
    return network.accuracy({**network.weights, **{name: source[name] for name in layers[layer - 1]}}, split)


def _fresh(network: Network) -> Weights:
    return network.function.draw(stream(network.key, "reset_accuracy"), network.train.images)
