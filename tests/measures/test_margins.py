"""Margins over spectral complexity, the effective rank and the similarity of outputs, by hand."""

import numpy as np
import pytest
from networks import Chain, network, weights_of

from rethink_gen.errors import UsageError
from rethink_gen.measures import margins, norms

NETWORK = network(Chain(), weights_of([[2.0, 0.0], [0.0, 1.0]]), labels=(0, 1))  # margins 2 and 1


def test_a_margin_is_a_percentile_over_the_training_examples():
    assert margins.margin(NETWORK, percentile=0) == 1
    assert margins.margin(NETWORK, percentile=50) == 1.5
    assert margins.margin(NETWORK) == pytest.approx(1.05)


def test_a_normalized_margin_does_not_change_with_the_scale_of_weights_or_inputs():
    scaled = network(Chain(), weights_of([[6.0, 0.0], [0.0, 3.0]]), images=5 * NETWORK.inputs, labels=(0, 1))
    found = margins.normalized_margin(NETWORK, percentile=0)
    # Complexity (2 + 1), norm of the inputs √2, two examples.
    assert found == pytest.approx(1 / (3 * np.sqrt(2) / 2))
    assert margins.normalized_margin(scaled, percentile=0) == pytest.approx(found)
    assert norms.spectral_complexity(scaled) == pytest.approx(9)


@pytest.mark.parametrize(("values", "rank"), [((1.0, 1.0), 2), ((1.0, 0.0), 1), ((3.0, 1.0), 4 / 27**0.25)])
def test_the_effective_rank_is_the_exponential_of_an_entropy(values, rank):
    """Of shares ¾ and ¼ it is 4 / 3^(3/4)."""
    of = network(Chain(), weights_of(np.diag(values), np.eye(2)))
    assert margins.effective_rank(of) == pytest.approx(rank, rel=1e-6)


def test_the_effective_rank_is_the_same_with_fewer_examples_than_units_and_with_more():
    images = np.random.default_rng(0).normal(size=(3, 2))
    kernel = np.random.default_rng(1).normal(size=(2, 6))
    weights = weights_of(kernel, np.ones((6, 2)))
    few = network(Chain(), weights, images=images, labels=(0, 1, 0))
    many = network(Chain(), weights, images=np.tile(images, (4, 1)), labels=(0, 1, 0) * 4)
    shares = np.linalg.svd(np.maximum(images @ kernel, 0), compute_uv=False)
    shares = shares / shares.sum()
    assert margins.effective_rank(few) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-3)
    assert margins.effective_rank(many) == pytest.approx(margins.effective_rank(few), rel=1e-3)


def test_similarity_is_the_mean_cosine_of_pairs():
    """Logits (1, 0), (0, 1) and (1, 1): cosines 0, √½ and √½. At the last weights all are multiples of (1, 1)."""
    images = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    last, first = weights_of([[1.0, 1.0], [2.0, 2.0]]), weights_of(np.eye(2))
    of = network(Chain(), last, initial=first, images=images, labels=(0, 1, 0))
    assert margins.similarity(of) == pytest.approx(2 * np.sqrt(0.5) / 3)
    assert margins.similarity(of, at="last") == pytest.approx(1)
    with pytest.raises(UsageError, match="initial"):
        margins.similarity(of, at="first")
