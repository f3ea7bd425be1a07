"""Margins of training examples, and what the last hidden layer makes of them."""

from __future__ import annotations

import numpy as np

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
