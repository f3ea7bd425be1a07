"""Margins of training examples, and how alike a network makes them."""

from __future__ import annotations

import numpy as np

from rethink_gen.errors import UsageError, unknown
from rethink_gen.measures import chains, norms
from rethink_gen.measures.network import Network


def margin(network: Network, *, percentile: float = 5.0) -> float:
    """A percentile of the margins: the logit of the label minus the largest other one."""
    return float(np.percentile(network.margins, percentile))


def normalized_margin(network: Network, *, percentile: float = 5.0, from_initial: bool = False) -> float:
    """A percentile of the margins over R ‖X‖ / N, with R the spectral complexity and ‖X‖ the norm of all N inputs.

    References:
      Bartlett et al. 2017, Section 3.
    """
    complexity = norms.spectral_complexity(network, from_initial=from_initial)
    scale = complexity * float(np.linalg.norm(network.inputs.astype(float))) / network.size
    return margin(network, percentile=percentile) / scale


def effective_rank(network: Network) -> float:
    """exp(entropy) of the singular values of the last hidden layer's outputs, [N, H], as shares of their sum.

    References:
      Roy and Vetterli 2007. Outputs are not centered; the choice is ours.
    """
    features = chains.hidden(chains.layers(network, network.weights), network.inputs)
    # Squares of singular values, of the smaller of the two products.
    product = features @ features.T if len(features) < features.shape[1] else features.T @ features
    values = np.sqrt(np.linalg.eigvalsh(product).clip(min=0))
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def similarity(network: Network, *, at: str = "initial") -> float:
    """The mean cosine between the logits of two training examples; 1 where all have the same output but for its length.

    Args:
      at: the weights: "initial", before training, or "last".

    Our choice: logits stand for the features before the last layer, which is linear and random at first.
    """
    weights = {"initial": network.initial, "last": network.weights}
    if at not in weights:
        raise unknown("option at of measure similarity", at, weights)
    logits = network.logits(weights[at]).astype(float)
    directions = logits / np.linalg.norm(logits, axis=1, keepdims=True)
    n = len(directions)
    if n < 2:
        raise UsageError("similarity is of two training examples or more")
    return float((np.square(directions.sum(0)).sum() - n) / (n * (n - 1)))  # of pairs of different examples
