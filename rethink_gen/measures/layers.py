"""Which layers of a trained network matter."""

from __future__ import annotations

import re

from rethink_gen.data.randomness import stream
from rethink_gen.errors import UsageError, unknown
from rethink_gen.measures.network import SPLITS, Network, Weights

TO = ("initial", "fresh")


def reset_accuracy(network: Network, *, layer: int = 1, to: str = "initial", split: str = "train") -> float:
    """The accuracy on a split after the weights of one layer are set back to the first ones, or drawn afresh.

    Layers are counted from 1, as their names are numbered; those without weights do not count.

    References:
      Zhang et al. 2022, "Are all layers created equal?": re-initialization and re-randomization robustness.
    """
    for what, given, known in (("reset", to, TO), ("split", split, SPLITS)):
        if given not in known:
            raise unknown(f"{what} of measure reset_accuracy", given, known)
    names = sorted(network.weights, key=_natural)
    if not 1 <= layer <= len(names):
        raise UsageError(f"the network has layers 1 to {len(names)}")
    name = names[layer - 1]
    source = network.initial if to == "initial" else _fresh(network)
    return network.accuracy({**network.weights, name: source[name]}, split)


def _fresh(network: Network) -> Weights:
    return network.function.draw(stream(network.key, "reset_accuracy"), network.train.images)


def _natural(name: str) -> list[tuple[int, str]]:
    """Dense_2 before Dense_10."""
    return [(int(part or 0) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
