"""A layer is set back, and the accuracy computed again."""

from dataclasses import dataclass

import numpy as np
import pytest
from networks import Chain, network, weights_of

from rethink_gen.errors import UsageError
from rethink_gen.measures.layers import reset_accuracy

SWAP = [[0.0, 1.0], [1.0, 0.0]]


@dataclass(frozen=True)
class Called(Chain):
    """Whose layers are called in this order."""

    order: tuple[tuple[str, ...], ...]

    def layers(self, images):
        return [*self.order]


# Trained layers keep the inputs as they are. Of the initial ones, the second swaps the classes.
NETWORK = network(Called((("Dense_0",), ("Dense_1",))), weights_of(np.eye(2), np.eye(2)), weights_of(np.eye(2), SWAP))


def test_a_layer_whose_first_weights_do_as_well_is_told_from_one_that_matters():
    assert reset_accuracy(NETWORK, layer=1) == 1
    assert reset_accuracy(NETWORK, layer=2) == 0


def test_a_fresh_layer_is_another_draw():
    """The chain draws zeros: all logits are equal, and the first class wins."""
    assert reset_accuracy(NETWORK, layer=1, to="fresh") == 0.5


def test_layers_are_counted_as_they_are_called_and_all_parts_of_one_are_set_back():
    """They were counted by name: the last layer of a ResNet before its blocks, and batch norm as a layer."""
    deep = weights_of(*[np.eye(2)] * 4)
    swapped = {"kernel": np.array(SWAP, np.float32), "bias": np.zeros(2, np.float32)}
    order = (("Dense_2",), ("Dense_0", "Dense_3"), ("Dense_1",))
    for changed, left in {"Dense_2": [0, 1, 1], "Dense_3": [1, 0, 1], "Dense_1": [1, 1, 0]}.items():
        of = network(Called(order), deep, {**deep, changed: swapped})
        assert [reset_accuracy(of, layer=layer) for layer in (1, 2, 3)] == left


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(UsageError, match="the network has layers 1 to 2"):
        reset_accuracy(NETWORK, layer=3)
    with pytest.raises(UsageError, match="no reset of measure reset_accuracy named 'zero'"):
        reset_accuracy(NETWORK, to="zero")
