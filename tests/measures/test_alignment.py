"""Covariances of weights and inputs that are small enough to compute by hand."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from networks import Chain, network, weights_of

import rethink_gen as rg
from rethink_gen.errors import UsageError
from rethink_gen.measures.alignment import _first_kernel, _principal, misalignment

# They vary 3 along the first axis, and 1 along the second.
INPUTS = ((3.0, 0.0), (-3.0, 0.0), (0.0, 1.0), (0.0, -1.0))
ALONG_AXES = np.array([[2.0, -2.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])  # four units; variances 4 : 1
TURNED = np.array([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2) @ ALONG_AXES  # by 45°


def of(kernel, **other):
    return network(Chain(), weights_of(kernel, np.ones((4, 2))), images=INPUTS, labels=(0, 1, 0, 1), **other)


def test_weights_along_the_principal_components_of_inputs_are_aligned():
    assert misalignment(of(ALONG_AXES)) == pytest.approx(1, abs=1e-6)
    assert misalignment(of(7 * ALONG_AXES)) == pytest.approx(1, abs=1e-6), "whatever their scale"


def test_weights_that_are_turned_against_the_inputs_are_not():
    """At 45° both directions have the variance (4 + 1) / 2, and the inverse (1/4 + 1) / 2: the root is 5/4."""
    assert misalignment(of(TURNED)) == pytest.approx(5 / 4, rel=1e-6)
    one = misalignment(of(TURNED), components=1)
    assert one == pytest.approx(1), "in one dimension there is nothing to turn"


def test_first_weights_are_measured_too():
    initial = weights_of(ALONG_AXES, np.ones((4, 2)))
    turned = of(TURNED, initial=initial)
    assert misalignment(turned, at="initial") == pytest.approx(1, abs=1e-6)
    assert misalignment(turned, at="last") == pytest.approx(5 / 4, rel=1e-6)


def test_a_random_basis_is_between_both_and_tells_nothing_of_isotropic_weights():
    """A basis turned by an angle t has √((4 cos² + sin²)(cos² / 4 + sin²)), at most 5/4."""
    assert 1 <= misalignment(of(ALONG_AXES), basis="random") <= 5 / 4
    alike = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    assert misalignment(of(alike), basis="random") == pytest.approx(1, abs=1e-6)


@dataclass(frozen=True)
class Images(Chain):
    def inputs(self, images):
        return jnp.asarray(images)


def test_inputs_of_a_convolution_are_its_patches():
    """Against np.cov of the patches as they are cut by hand, of more images than a window has."""
    images = np.random.default_rng(0).normal(size=(1100, 4, 3, 2)).astype(np.float32)
    weights = {"Conv_0": {"kernel": np.ones((3, 2, 2, 5), np.float32)}}
    found = _principal(network(Images(), weights, images=images, labels=np.zeros(1100)), (3, 2, 2, 5), 4)
    patches = [image[i : i + 3, j : j + 2].ravel() for image in images for i in range(2) for j in range(2)]
    values, vectors = np.linalg.eigh(np.cov(np.array(patches, float).T))
    np.testing.assert_allclose(np.abs((found * vectors[:, -4:]).sum(0)), 1, atol=1e-4)
    assert (np.diff(values) > 0).all()


@dataclass(frozen=True)
class InPatches(Images):
    """As ConvNeXt: a dense layer of patches, and then blocks. Their names come first, their kernels look at pixels."""

    def layers(self, images):
        return [("Dense_0",), ("Block_0",)]


def test_first_layer_is_the_one_that_is_called_first_and_not_the_first_name():
    """A depthwise kernel has one channel, as gray images have."""
    weights = {"Block_0": {"kernel": np.ones((3, 3, 1, 5))}, "Dense_0": {"kernel": np.ones((4, 5))}}
    images = np.zeros((2, 4, 4, 1), np.float32)
    with pytest.raises(UsageError, match="only of networks whose first layer is dense, or a convolution"):
        misalignment(network(InPatches(), weights, images=images, labels=(0, 1)))
    weights["Dense_0"] = {"kernel": np.full((2, 2, 1, 5), 7.0)}
    assert _first_kernel(network(InPatches(), weights, images=images, labels=(0, 1)), weights).max() == 7


def test_what_has_no_such_covariance_is_refused():
    with pytest.raises(UsageError, match="the first layer has 2 units: set components below that"):
        misalignment(of(ALONG_AXES[:, :2]))
    with pytest.raises(UsageError, match="only of networks whose first layer is dense, or a convolution"):
        misalignment(network(Chain(), {"w": np.ones(3)}, images=INPUTS, labels=(0, 1, 0, 1)))
    with pytest.raises(UsageError, match="no basis of measure misalignment named 'input'"):
        misalignment(of(ALONG_AXES), basis="input")


def test_networks_of_runs_are_measured(tmp_path):
    for model in ("mlp(hidden=60)", "mcnn(width=80)"):
        run = rg.Run(
            dataset="digits", train_size=60, test_size=20, batch_size=60, epochs=1, model=model,
            measures="misalignment,misalignment(at=initial),misalignment(basis=random)",
        )  # fmt: skip
        values = [rg.train(run, results=tmp_path).summary[name] for name in run.measures]
        assert all(1 < value < 5 for value in values)
