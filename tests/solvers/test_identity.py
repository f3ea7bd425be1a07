"""The function that networks find from one image: against the closed form of one layer, and a kernel made by hand."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rethink_gen import memory
from rethink_gen.data import pipeline, randomness
from rethink_gen.errors import UsageError
from rethink_gen.runs import IdentityRun
from rethink_gen.solvers import identity

RUN = IdentityRun(dataset="digits", layers=1, test_size=20, steps=300, learning_rate=1.0)


def solved(run):
    dataset = pipeline.load(run)[0]
    ticks = []
    curves, facts = identity.solve(run, dataset, lambda *progress: ticks.append(progress[:2]))
    return dataset, curves, facts, ticks


def test_one_dense_layer_is_its_first_weights_moved_along_the_training_image():
    """f(z) = A z + (x - A x) (x·z) / (x·x), of images with a 1 for the bias: the only move that gradients make."""
    dataset, curves, facts, ticks = solved(RUN)
    network = identity._Network("dense", 1, 512)
    train, test = (np.asarray(split.images, float) / 255 for split in (dataset.train, dataset.test))
    first = network.init(randomness.stream(randomness.root_key(0), "init"), jnp.asarray(train, jnp.float32))
    kernel = np.asarray(first["params"]["MLP_0"]["Dense_0"]["kernel"], float)
    x, z = (np.column_stack([each.reshape(len(each), -1), np.ones(len(each))]) for each in (train, test))
    a = np.vstack([kernel, np.zeros(64)])
    outputs = z @ a + np.outer(z @ x[0] / (x[0] @ x[0]), x[0, :64] - x[0] @ a)
    to_input, to_trained = (
        np.mean([np.corrcoef(y, other)[0, 1] for y, other in zip(outputs, others, strict=True)])
        for others in (z[:, :64], np.broadcast_to(x[0, :64], outputs.shape))
    )
    assert curves["test_to_input"][-1] == pytest.approx(to_input, abs=1e-5)
    assert curves["test_to_trained"][-1] == pytest.approx(to_trained, abs=1e-5)
    assert curves["test_error_to_input"][-1] == pytest.approx(np.square(outputs - z[:, :64]).mean(), rel=1e-4)
    assert curves["train_loss"][-1] < 1e-10
    assert curves["step"] == curves["epoch"] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert facts == {"num_params": 65 * 64}
    assert ticks[-1] == (300, 300)


def test_a_convolution_that_is_the_identity_returns_every_image():
    network = identity._Network("convolutional", 1, 16)
    images = jax.random.uniform(jax.random.key(0), (5, 6, 6, 1))
    weights = jax.tree.map(jnp.zeros_like, network.init(jax.random.key(1), images))
    weights["params"]["Conv_0"]["kernel"] = weights["params"]["Conv_0"]["kernel"].at[1, 1].set(1.0)
    found = identity._compared(network, weights, images[0], images[1:3], images[3:])
    assert found["test_to_input"] == pytest.approx(1)
    assert found["noise_error_to_input"] == 0
    assert found["noise_to_trained"] < 0.9


def test_the_correlation_with_an_image_of_one_color_is_zero():
    assert identity._correlations(jnp.ones((1, 3)), jnp.array([[1.0, 2.0, 3.0]])).tolist() == [0]


def test_convolutions_learn_their_image():
    """9·2 + 2 weights of the first layer, 9·2 + 1 of the second."""
    _, curves, facts, _ = solved(replace(RUN, network="convolutional", layers=2, units=2, learning_rate=0.1))
    assert curves["train_loss"][-1] < 0.5 * curves["train_loss"][0]
    assert facts == {"num_params": 39}


def test_a_rate_at_which_training_diverges_is_named():
    with pytest.raises(UsageError, match="set a smaller learning_rate"):
        solved(replace(RUN, learning_rate=1000.0))


def test_an_unknown_network_is_refused():
    with pytest.raises(UsageError, match="convolutional"):
        IdentityRun(network="convolution")


def test_many_test_images_are_compared_in_parts_that_fit_into_memory(monkeypatch):
    """The outputs for all test images of MNIST of 512 channels at once need tens of gigabytes."""
    sizes, compared, network = [], identity._compared, identity._Network("convolutional", 1, 3)
    images = jax.random.uniform(jax.random.key(0), (7, 8, 8, 1))
    weights, noise = network.init(jax.random.key(1), images), 1 - images
    whole = {name: float(value) for name, value in compared(network, weights, images[0], images, noise).items()}
    monkeypatch.setattr(identity, "_PART", 3)
    monkeypatch.setattr(identity, "_compared", lambda *given: sizes.append(len(given[3])) or compared(*given))
    assert identity._compared_in_parts(network, weights, images[0], images, noise) == pytest.approx(whole, rel=1e-5)
    assert sizes == [3, 3, 1]


def test_a_network_that_does_not_fit_into_memory_is_refused(monkeypatch):
    """Two layers of 10 units for an image of 64 values have 64 · 10 + 10 + 10 · 64 + 64 weights."""
    needed = 4 * (3 * (64 * 10 + 10 + 10 * 64 + 64) + 2 * 2 * 10)
    monkeypatch.setattr(memory, "free", lambda: needed - 1)
    with pytest.raises(UsageError, match=r"2 layers of 10 units need 0.0 GB; .* set fewer units"):
        solved(replace(RUN, layers=2, units=10))
    monkeypatch.setattr(memory, "free", lambda: needed)
    solved(replace(RUN, layers=2, units=10, steps=1, learning_rate=0.1))


def test_corruption_of_labels_that_would_change_nothing_but_the_id_is_refused():
    with pytest.raises(UsageError, match="random_labels changes labels, which an IdentityRun does not use"):
        solved(replace(RUN, corruption="random_labels"))
