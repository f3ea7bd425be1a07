"""A layer is set back, and the accuracy computed again."""

import numpy as np
import pytest
from networks import Chain, network, weights_of

from rethink_gen.errors import UsageError
from rethink_gen.measures.layers import reset_accuracy

SWAP = [[0.0, 1.0], [1.0, 0.0]]
# Trained layers keep the inputs as they are. Of the initial ones, the second swaps the classes.
NETWORK = network(Chain(), weights_of(np.eye(2), np.eye(2)), weights_of(np.eye(2), SWAP))


def test_a_layer_whose_first_weights_do_as_well_is_told_from_one_that_matters():
    assert reset_accuracy(NETWORK, layer=1) == 1
    assert reset_accuracy(NETWORK, layer=2) == 0


def test_a_fresh_layer_is_another_draw():
    """The chain draws zeros: all logits are equal, and the first class wins."""
    assert reset_accuracy(NETWORK, layer=1, to="fresh") == 0.5


def test_layers_are_counted_as_they_are_numbered():
    deep = weights_of(*[np.eye(2)] * 11)
    initial = {**deep, "Dense_10": {"kernel": np.array(SWAP, np.float32), "bias": np.zeros(2, np.float32)}}
    of = network(Chain(), deep, initial)
    assert [reset_accuracy(of, layer=layer) for layer in (2, 3, 11)] == [1, 1, 0]


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="the network has layers 1 to 2"):
        reset_accuracy(NETWORK, layer=3)
    with pytest.raises(UsageError, match="no reset of measure reset_accuracy named 'zero'"):
        reset_accuracy(NETWORK, to="zero")
