"""Norms of weights, and the bounds that are made of them. Kernels alone count, unless a measure says otherwise.

With `over_margin`, a norm is divided by the margin: the fifth percentile over the training examples, as in the authors'
code for Neyshabur et al. 2017. It is NaN where that margin is not positive, because the network does not fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from rethink_gen.errors import unknown
from rethink_gen.measures import chains
from rethink_gen.measures.network import Network

COMBINED = {"product": math.prod, "sum": math.fsum}
MARGIN = 5.0  # the percentile that counts as the margin


def frobenius(network: Network, *, combine: str = "product", over_margin: bool = False) -> float:
    """The product, or the sum, of the Frobenius norms of the kernels."""
    return _combined(map(np.linalg.norm, chains.kernels(network.weights)), combine, network, over_margin)


def spectral(network: Network, *, combine: str = "product", over_margin: bool = False) -> float:
    """The product, or the sum, of the spectral norms of the layers: their largest singular values."""
    chain = chains.layers(network, network.weights)
    return _combined((np.linalg.norm(kernel, 2) for kernel, _ in chain), combine, network, over_margin)


def l1_max(network: Network, *, combine: str = "product", over_margin: bool = False) -> float:
    """The product, or the sum, of the L1,∞ norms of the layers: the largest L1 norm of what enters a unit."""
    chain = chains.layers(network, network.weights)
    return _combined((np.abs(kernel).sum(0).max() for kernel, _ in chain), combine, network, over_margin)


def path(network: Network, *, p: int = 2, over_margin: bool = False) -> float:
    """(Σ |product of the weights along a path|^p)^(1/p), over all paths from an input, or a bias, to a logit.

    References:
      Neyshabur et al. 2015. That biases begin paths, too, is as in the authors' code.
    """
    chain = chains.layers(network, network.weights)
    sums = np.ones(len(chain[0].kernel))
    for kernel, bias in chain:
        sums = sums @ np.abs(kernel) ** p + np.abs(bias) ** p
    return _over_margin(float(sums.sum()) ** (1 / p), network, over_margin)


def distance_from_initial(network: Network, *, norm: str = "frobenius") -> float:
    """How far the kernels are from the first ones: Frobenius of all of them together, or the sum of spectral norms."""
    if norm == "frobenius":
        pairs = zip(chains.kernels(network.weights), chains.kernels(network.initial), strict=True)
        return math.sqrt(sum(float(np.square(now - then).sum()) for now, then in pairs))
    if norm == "spectral":
        return math.fsum(float(np.linalg.norm(difference, 2)) for _, difference in _moved(network))
    raise unknown("norm of measure distance_from_initial", norm, ("frobenius", "spectral"))


def spectral_complexity(network: Network, *, from_initial: bool = False, over_margin: bool = False) -> float:
    """R = Π sᵢ (Σ (‖(Wᵢ - Mᵢ)ᵀ‖₂,₁ / sᵢ)^(2/3))^(3/2), with sᵢ the spectral norms of the layers.

    The reference matrices Mᵢ are zero, or the first weights. ‖·‖₂,₁ sums the Euclidean norms of what enters each unit.

    References:
      Bartlett et al. 2017, equation 1.2, with the Lipschitz constant 1 of ReLU. Biases, which it has not, are left out.
    """
    norms, differences = _norms_and_differences(network, from_initial)
    ratios = [np.linalg.norm(each, axis=0).sum() / s for s, each in zip(norms, differences, strict=True)]
    value = math.prod(norms) * sum(ratio ** (2 / 3) for ratio in ratios) ** 1.5
    return _over_margin(float(value), network, over_margin)


def spectral_frobenius(network: Network, *, from_initial: bool = True, over_margin: bool = False) -> float:
    """Π sᵢ (Σ ‖Wᵢ - Mᵢ‖² / sᵢ²)^(1/2), with the Frobenius norm: what a PAC-Bayes bound takes from the weights.

    References:
      Neyshabur et al. 2018, Theorem 1; from the first weights in Nagarajan and Kolter 2019.
    """
    norms, differences = _norms_and_differences(network, from_initial)
    ratios = [np.linalg.norm(each) / s for s, each in zip(norms, differences, strict=True)]
    return _over_margin(float(math.prod(norms) * math.hypot(*ratios)), network, over_margin)


def _norms_and_differences(network: Network, from_initial: bool) -> tuple[list[float], list[np.ndarray]]:
    """The spectral norm of each layer, and its difference from the reference matrix."""
    moved = _moved(network)
    return [float(np.linalg.norm(now, 2)) for now, _ in moved], [each[int(from_initial)] for each in moved]


def _moved(network: Network) -> list[tuple[np.ndarray, np.ndarray]]:
    """The kernel of each layer, and its difference from the first one."""
    chain = chains.layers(network, network.weights)
    first = chains.layers(network, network.initial)
    return [(now.kernel, now.kernel - then.kernel) for now, then in zip(chain, first, strict=True)]


def _combined(values: Iterable[Any], combine: str, network: Network, over_margin: bool) -> float:
    if combine not in COMBINED:
        raise unknown("way to combine norms", combine, COMBINED)
    return _over_margin(float(COMBINED[combine](map(float, values))), network, over_margin)


def _over_margin(value: float, network: Network, wanted: bool) -> float:
    if not wanted:
        return value
    margin = float(np.percentile(network.margins, MARGIN))
    return value / margin if margin > 0 else math.nan
