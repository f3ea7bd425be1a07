"""Norms and what is made of them, of two layers of diagonal matrices: every number is computed by hand."""

import math

import numpy as np
import pytest
from networks import Chain, Tanh, network, weights_of

from rethink_gen.errors import UsageError
from rethink_gen.measures import norms

FIRST, SECOND = [[2.0, 0.0], [0.0, 1.0]], [[3.0, 0.0], [0.0, -1.0]]
# Logits are (6, 0) and (0, -1), of which labels 0 and 0 have margins 6 and 1.
NETWORK = network(Chain(), weights_of(FIRST, SECOND), weights_of(np.zeros((2, 2)), np.eye(2)), labels=(0, 0))
MARGIN = 1.25  # the fifth percentile, between 1 and 6


def test_the_margins_are_those_computed_by_hand():
    assert NETWORK.margins.tolist() == [6.0, 1.0]


@pytest.mark.parametrize(
    ("measure", "product", "total"),
    [
        (norms.frobenius, math.sqrt(5) * math.sqrt(10), math.sqrt(5) + math.sqrt(10)),
        (norms.spectral, 6, 5),
        (norms.l1_max, 6, 5),
    ],
)
def test_norms_of_layers_are_multiplied_or_added_or_divided_by_the_margin(measure, product, total):
    assert measure(NETWORK) == pytest.approx(product)
    assert measure(NETWORK, combine="sum") == pytest.approx(total)
    assert measure(NETWORK, over_margin=True) == pytest.approx(product / MARGIN)


def test_a_norm_over_a_margin_that_is_not_positive_has_no_value():
    wrong = network(Chain(), NETWORK.weights, labels=(1, 1))
    assert math.isnan(norms.spectral(wrong, over_margin=True))


@pytest.mark.parametrize("p", [1, 2])
def test_the_path_norm_is_a_sum_over_paths_also_from_biases(p):
    weights = weights_of([[2.0, -1.0], [0.0, 1.0]], [[3.0], [-2.0]], biases=[[1.0, 0.0], [0.5]])
    paths = [2 * 3, 1 * 2, 0 * 3, 1 * 2, 1 * 3, 0 * 2, 0.5]
    of = network(Chain(), weights, labels=(0, 0))
    assert norms.path(of, p=p) == pytest.approx(sum(each**p for each in paths) ** (1 / p))


def test_l1_max_is_over_what_enters_a_unit():
    of = network(Chain(), weights_of([[1.0, 2.0], [1.0, -3.0]]))
    assert norms.l1_max(of) == 5


def test_distances_are_from_the_first_weights():
    moved = [np.array(FIRST), np.array(SECOND) - np.eye(2)]
    assert norms.distance_from_initial(NETWORK) == pytest.approx(math.sqrt(sum((each**2).sum() for each in moved)))
    assert norms.distance_from_initial(NETWORK, norm="spectral") == pytest.approx(2 + 2)


def test_spectral_complexity_is_that_of_the_formula():
    def formula(*ratios):
        return 6 * sum(ratio ** (2 / 3) for ratio in ratios) ** 1.5

    assert norms.spectral_complexity(NETWORK) == pytest.approx(formula(3 / 2, 4 / 3))
    assert norms.spectral_complexity(NETWORK, from_initial=True) == pytest.approx(formula(3 / 2, (2 + 2) / 3))


def test_the_spectral_norm_of_any_matrix_is_its_largest_stretch():
    kernel = np.random.default_rng(0).normal(size=(2, 5))
    directions = np.linspace(0, np.pi, 100_000)
    stretch = np.linalg.norm(np.column_stack([np.cos(directions), np.sin(directions)]) @ kernel, axis=1).max()
    assert norms.spectral(network(Chain(), weights_of(kernel))) == pytest.approx(stretch, rel=1e-5)


def test_spectral_frobenius_is_that_of_the_formula():
    assert norms.spectral_frobenius(NETWORK, from_initial=False) == pytest.approx(6 * math.sqrt(5 / 4 + 10 / 9))
    assert norms.spectral_frobenius(NETWORK, over_margin=True) == norms.spectral_frobenius(NETWORK) / MARGIN
    assert norms.spectral_frobenius(NETWORK) == pytest.approx(6 * math.sqrt(5 / 4 + (4 + 4) / 9))


@pytest.mark.parametrize(
    "other",
    [
        network(Tanh(), weights_of(FIRST, SECOND)),
        network(Chain(), {**weights_of(FIRST, SECOND), "Scale_0": {"kernel": np.eye(2), "bias": np.zeros(2)}}),
    ],
    ids=["another activation", "another layer"],
)
def test_a_network_that_is_no_chain_of_relu_layers_is_refused(other):
    with pytest.raises(UsageError, match="only of dense layers with ReLU"):
        norms.spectral(other)
    assert norms.frobenius(network(Tanh(), weights_of(FIRST, SECOND))) > 0


def test_an_unknown_norm_is_named():
    with pytest.raises(UsageError, match="no norm of measure distance_from_initial named 'nuclear'"):
        norms.distance_from_initial(NETWORK, norm="nuclear")
    with pytest.raises(UsageError, match="no way to combine norms named 'mean'"):
        norms.spectral(NETWORK, combine="mean")
