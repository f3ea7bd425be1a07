"""Which examples are near a border, where the border is known."""

import numpy as np
import pytest
from networks import Chain, network, weights_of

from rethink_gen.errors import UsageError
from rethink_gen.measures.critical import critical_sample_ratio

# The classes of (a, b) are told apart by the sign of a - b. In a box of radius r that changes by 2r at most.
DIFFERENCES = (0.05, -0.3, 0.58, -0.58, 0.62, -0.62, 5.0)
IMAGES = np.array([(10 + d, 10) for d in DIFFERENCES])
LINEAR = network(Chain(), weights_of(np.eye(2)), images=IMAGES, labels=np.zeros(len(IMAGES)))


@pytest.mark.parametrize(("radius", "expected"), [(0.3, 4 / 7), (0.1, 1 / 7), (0.4, 6 / 7)])
def test_examples_count_whose_class_changes_at_a_corner_of_their_box(radius, expected):
    """Labels do not matter: all are of class 0, and half of the images are classified as 1."""
    assert critical_sample_ratio(LINEAR, radius=radius) == pytest.approx(expected)


def test_far_borders_take_more_steps():
    """The border is 2.5 away, a step is 0.25."""
    assert critical_sample_ratio(LINEAR, radius=3.0, noise=0.0, iterations=9) == pytest.approx(6 / 7)
    assert critical_sample_ratio(LINEAR, radius=3.0, noise=0.0, iterations=11) == 1


def test_noise_leaves_a_place_without_slope():
    """Logits 0.1 and relu(x - 0.1): around 0 there is no slope, and from 0.2 on the second class wins."""
    weights = weights_of([[1.0]], [[0.0, 1.0]], biases=[np.array([-0.1]), np.array([0.1, 0.0])])
    flat = network(Chain(), weights, images=np.zeros((100, 1)), labels=np.zeros(100))
    assert critical_sample_ratio(flat, noise=0.0, iterations=50) == 0
    assert critical_sample_ratio(flat, noise=0.2, iterations=50) > 0.95
    assert critical_sample_ratio(flat, noise=0.2, iterations=50, radius=0.15) == 0, "the search does not leave the box"


def test_an_example_of_which_the_network_is_sure_has_a_slope_as_well():
    """Its class has a probability of 1 in float32, and a loss of 0."""
    sure = network(Chain(), weights_of(100 * np.eye(2)), images=[(11.0, 10.0)], labels=[0])
    assert critical_sample_ratio(sure, radius=0.4) == 0
    assert critical_sample_ratio(sure, radius=0.6, noise=0.0) == 1


def test_examples_of_all_windows_count_once(monkeypatch):
    monkeypatch.setattr("rethink_gen.measures.network._WINDOW", 2)
    assert critical_sample_ratio(LINEAR) == pytest.approx(4 / 7)
    assert critical_sample_ratio(LINEAR, split="train") == pytest.approx(4 / 7)


def test_a_split_that_is_not_there_is_named():
    with pytest.raises(
        UsageError, match="no split of measure critical_sample_ratio named 'tests'; did you mean 'test'"
    ):
        critical_sample_ratio(LINEAR, split="tests")
