"""Sharpness and curvature of losses whose answer is known: quadratics, and small chains by another route."""

import itertools
from dataclasses import dataclass

import jax
import numpy as np
import pytest
from networks import Chain, Quadratic, network, weights_of
from scipy import optimize

from rethink_gen.data.randomness import stream
from rethink_gen.measures import sharpness
from rethink_gen.models import layers

CURVATURE, AT = (1.0, 4.0, 0.5), np.array([0.5, -0.1, 2.0])


def quadratic(constant=1.0):
    return network(Quadratic(CURVATURE, constant=constant), {"w": AT.astype(np.float32)})


@pytest.mark.parametrize("epsilon", [1e-3, 5e-4, 0.1])
def test_sharpness_of_a_quadratic_is_that_at_the_corner_of_the_box(epsilon):
    here = 1 + 0.5 * (CURVATURE * AT**2).sum()
    corner = 1 + 0.5 * (CURVATURE * (np.abs(AT) + epsilon * (np.abs(AT) + 1)) ** 2).sum()
    expected = 100 * (corner - here) / (1 + here)
    # float32: the loss has seven digits, of which a small box leaves four.
    assert sharpness.sharpness(quadratic(), epsilon=epsilon) == pytest.approx(expected, rel=1e-2)


def test_the_search_goes_on_where_slopes_are_as_small_as_at_a_minimum():
    """The slopes are below 4e-6, where L-BFGS-B by default has converged before its first step."""
    at, epsilon = 1e-6 * np.sign(AT), 0.1
    corner = 0.5 * (np.array(CURVATURE) * (1e-6 + epsilon * (1e-6 + 1)) ** 2).sum()
    flat = network(Quadratic(CURVATURE, constant=0.0), {"w": at.astype(np.float32)})
    assert sharpness.sharpness(flat, epsilon=epsilon) == pytest.approx(100 * corner, rel=1e-2)


def test_sharpness_in_a_subspace_is_that_at_the_corner_of_its_box():
    slope, epsilon = (1.0, -2.0, 0.5, 3.0, -1.0), 0.01
    x = np.array([0.3, 0.2, -0.5, 1.0, 2.0])
    of = network(Quadratic((0.0,), slope, constant=5.0), {"w": x.astype(np.float32)})
    drawn = np.asarray(jax.random.normal(stream(of.key, "sharpness"), (5, 2)), float)
    drawn /= np.linalg.norm(drawn, axis=0)
    size = epsilon * (np.abs(np.linalg.pinv(drawn) @ x) + 1)
    corners = [drawn @ (np.array(signs) * size) for signs in itertools.product((-1, 1), repeat=2)]
    rise = max(np.dot(slope, corner) for corner in corners)
    expected = 100 * rise / (1 + 5 + np.dot(slope, x))
    assert sharpness.sharpness(of, epsilon=epsilon, dimensions=2) == pytest.approx(expected, rel=1e-3)


def test_a_search_that_ends_below_where_it_began_says_zero(monkeypatch):
    monkeypatch.setattr(optimize, "minimize", lambda *args, **options: optimize.OptimizeResult(fun=-0.5))
    flat = network(Quadratic((0.0,), constant=1.0), {"w": np.ones(3, np.float32)})
    assert sharpness.sharpness(flat) == 0


def test_the_top_eigenvalue_of_a_quadratic_is_its_largest_curvature():
    assert sharpness.top_eigenvalue(quadratic()) == pytest.approx(4, rel=1e-3)


def test_the_top_eigenvalue_is_zero_where_softmax_is_exactly_one_hot():
    """Logits that are 1,000 apart leave slopes of exactly zero, and ARPACK ended with "Starting vector is zero"."""
    assert sharpness.top_eigenvalue(network(Chain(), weights_of(1000 * np.eye(2)))) == 0


def test_the_top_eigenvalue_is_that_of_the_whole_hessian():
    generator = np.random.default_rng(0)
    weights = weights_of(generator.normal(size=(2, 3)), generator.normal(size=(3, 2)))
    of = network(Chain(), weights, images=generator.normal(size=(7, 2)), labels=generator.integers(2, size=7))
    flat, unravel = jax.flatten_util.ravel_pytree(weights)

    def loss(flat):
        return of.function.losses(of.function.logits(unravel(flat), {}, of.train.images), of.train.labels).mean()

    hessian = jax.jit(jax.hessian(loss))(flat)
    assert sharpness.top_eigenvalue(of) == pytest.approx(np.linalg.eigvalsh(hessian).max(), rel=1e-3)


def test_the_fisher_rao_norm_of_layers_without_biases_is_that_of_outputs_alone():
    """(L + 1)² E⟨∂ℓ/∂f, f⟩² for L hidden layers: Theorem 3.1 of Liang et al. 2019."""
    generator = np.random.default_rng(0)
    weights = weights_of(*(generator.normal(size=(2, 2)) for _ in range(3)))
    of = network(Chain(), weights, images=generator.normal(size=(50, 2)), labels=generator.integers(2, size=50))
    probabilities = np.exp(of.outputs) / np.exp(of.outputs).sum(-1, keepdims=True)
    slopes = ((probabilities - np.eye(2)[of.train.labels]) * of.outputs).sum(-1)
    assert sharpness.fisher_rao(of) == pytest.approx(3 * np.sqrt((slopes**2).mean()), rel=1e-4)


@dataclass(frozen=True)
class Signs(Chain):
    """Example i is classified as class 0 if weight i is positive."""

    def logits(self, weights, statistics, images):
        own = weights["w"][images[:, 0].astype(int)]
        return jax.numpy.column_stack([own, 0 * own])


@pytest.mark.parametrize(("magnitude", "weight"), [(True, 1.0), (True, 0.5), (False, 0.5)])
def test_pac_bayes_is_the_noise_at_which_a_tenth_is_lost(magnitude, weight):
    """A weight w with noise of deviation s changes its sign with probability 0.1 where s = w / 1.2816."""
    count = 1000
    of = network(
        Signs(), {"w": np.full(count, weight, np.float32)}, images=np.arange(count)[:, None], labels=np.zeros(count)
    )
    sigma = (1 if magnitude else weight) / 1.2816
    # 10,000 draws: the share that is lost is known to 0.003, σ to 2 %.
    assert sharpness.pac_bayes(of, magnitude=magnitude) == pytest.approx(1 / sigma**2, rel=0.05)


@dataclass(frozen=True)
class HandWritten(Chain):
    """Layers whose gradients are written by hand, of images of one value that the weights scale."""

    def logits(self, weights, statistics, images):
        x = layers.max_pool(images.reshape(-1, 3, 3, 1) * weights["w"])
        return layers.local_response_normalization(x).reshape(len(images), -1)


def test_layers_with_gradients_written_by_hand_have_slopes_and_curvature():
    generator = np.random.default_rng(0)
    weights = {"w": np.array([1.0, 0.5], np.float32)}
    of = network(HandWritten(), weights, images=generator.random((4, 9)), labels=(0, 1, 2, 3))
    step = 1e-2

    def losses(scale):
        return np.asarray(
            of.function.losses(of.function.logits({"w": scale * weights["w"]}, {}, of.train.images), of.train.labels)
        )

    slopes = (losses(1 + step) - losses(1 - step)) / (2 * step)
    np.testing.assert_allclose(of.slopes(weights), slopes, rtol=1e-2, atol=1e-4)
    curvature = ((losses(1 + step) - 2 * losses(1) + losses(1 - step)) / step**2).mean()
    along = np.dot(of.hessian_times(weights)["w"], weights["w"])
    assert along == pytest.approx(curvature, rel=0.05)


def test_examples_of_the_last_window_count_once(monkeypatch):
    monkeypatch.setattr("rethink_gen.measures.network._WINDOW", 2)
    weights = weights_of([[1.0, -1.0], [0.5, 2.0]])
    images, labels = np.arange(6.0).reshape(3, 2), (0, 1, 1)
    of = network(Chain(), weights, images=images, labels=labels)
    logits = images @ weights["Dense_0"]["kernel"]
    loss = (np.log(np.exp(logits).sum(-1)) - logits[[0, 1, 2], labels]).mean()
    assert of.outputs.shape == (3, 2)
    assert of.loss(weights) == pytest.approx(loss, rel=1e-6)
    assert of.loss_and_gradient(weights)[0] == pytest.approx(loss, rel=1e-6)
    assert of.slopes(weights).shape == (3,)
    assert of.accuracy(weights) == pytest.approx((logits.argmax(-1) == labels).mean())
