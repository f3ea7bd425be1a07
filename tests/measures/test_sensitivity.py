"""Loss sensitivity of softmax regression, against training it again with every pixel changed a little."""

import numpy as np
import pytest
from networks import Chain, network, weights_of

from rethink_gen.measures import sensitivity
from rethink_gen.measures.sensitivity import gini, sensitivities, sensitivity_gini

IMAGES, LABELS = np.random.default_rng(0).normal(size=(4, 2)), np.array([0, 1, 1, 0])
OF = network(Chain(), weights_of([[0.3, -0.2], [0.1, 0.4]]), images=IMAGES, labels=LABELS)
STEPS, RATE = 5, 0.3


def loss_and_gradient(weights, bias, x, y):
    logits = x @ weights + bias
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    error = (p - np.eye(2)[y]) / len(y)
    return -np.log(p[range(len(y)), y]).mean(), x.T @ error, error.sum(0)


def loss_after(steps, trained_on, order):
    weights, bias = np.array([[0.3, -0.2], [0.1, 0.4]]), np.zeros(2)
    for rows in order[:steps]:
        _, by_weights, by_bias = loss_and_gradient(weights, bias, trained_on[rows], LABELS[rows])
        weights, bias = weights - RATE * by_weights, bias - RATE * by_bias
    return loss_and_gradient(weights, bias, IMAGES.astype(np.float32), LABELS)[0]


def test_sensitivity_is_how_the_loss_changes_if_it_is_trained_on_other_pixels():
    order = np.asarray(sensitivity._order(OF, STEPS, 2))
    assert sorted(order[:2].ravel()) == [0, 1, 2, 3], "an epoch has each example once"
    expected, small = np.zeros(4), 1e-5
    for i, j in np.ndindex(4, 2):
        change = np.zeros((4, 2))
        change[i, j] = small
        for t in range(1, STEPS + 1):
            higher, lower = (loss_after(t, IMAGES + sign * change, order) for sign in (1, -1))
            expected[i] += abs(higher - lower) / (2 * small) / STEPS
    found = sensitivities(OF, steps=STEPS, batch_size=2, learning_rate=RATE)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert sensitivity_gini(OF, steps=STEPS, batch_size=2, learning_rate=RATE) == pytest.approx(gini(found))


def test_the_gini_coefficient_is_between_all_alike_and_one_alone():
    assert gini(np.full(7, 3.0)) == pytest.approx(0)
    assert gini(np.array([0.0, 0, 5, 0])) == pytest.approx(3 / 4)
    assert gini(np.array([3.0, 1.0])) == pytest.approx(1 / 4), "half of the mean difference over the mean"


def test_a_batch_has_at_most_all_examples():
    whole = [sensitivity_gini(OF, steps=2, batch_size=size) for size in (4, 32)]
    assert whole[0] == whole[1]
