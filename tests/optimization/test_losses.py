"""Losses against their definitions in NumPy and float64, and where they agree with each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rethink_gen import registry
from rethink_gen.optimization.losses import cross_entropy, cross_entropy_of_labels, smooth, squared_error

LOSSES = {name: each.load() for name, each in registry.COMPONENTS["loss"].items()}

B, K = 5, 4
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(B, K), scale=3)
LABELS = np.array([0, 3, 1, 1, 2])
ONE_HOT = np.eye(K)[LABELS]
MIXED = RNG.dirichlet(np.ones(K), size=B)


def close(ours, expected):
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)  # float32


def f32(array):
    return jnp.asarray(array, jnp.float32)


def cross_entropy_in_numpy(logits, targets):
    return -(targets * np.log(np.exp(logits) / np.exp(logits).sum(1, keepdims=True))).sum(1)


@pytest.mark.parametrize("targets", [ONE_HOT, MIXED], ids=["one_hot", "mixed"])
def test_cross_entropy_equals_numpy(targets):
    close(cross_entropy(f32(LOGITS), f32(targets)), cross_entropy_in_numpy(LOGITS, targets))


def test_cross_entropy_of_equal_logits_is_the_log_of_the_number_of_classes():
    close(cross_entropy(jnp.zeros((B, K)), f32(MIXED)), np.full(B, np.log(K)))


def test_cross_entropy_is_finite_at_large_logits():
    logits = f32([[1000.0, 0.0], [0.0, 1000.0]])
    close(cross_entropy(logits, f32([[1, 0], [1, 0]])), [0.0, 1000.0])


def test_cross_entropy_of_labels_equals_that_of_one_hot_targets():
    close(cross_entropy_of_labels(f32(LOGITS), jnp.asarray(LABELS)), cross_entropy(f32(LOGITS), f32(ONE_HOT)))


def test_cross_entropy_of_labels_is_the_call_of_the_first_version_bit_for_bit():
    expected = optax.softmax_cross_entropy_with_integer_labels(f32(LOGITS), jnp.asarray(LABELS))
    np.testing.assert_array_equal(cross_entropy_of_labels(f32(LOGITS), jnp.asarray(LABELS)), expected)


def test_smoothed_cross_entropy_is_that_of_the_first_version_bit_for_bit():
    targets = optax.smooth_labels(jax.nn.one_hot(LABELS, K), 0.1)
    expected = optax.softmax_cross_entropy(f32(LOGITS), targets)
    np.testing.assert_array_equal(cross_entropy(f32(LOGITS), smooth(jax.nn.one_hot(LABELS, K), 0.1)), expected)


def test_squared_error_by_hand():
    """(2 − 1)² + (3 − 0)² = 10 and (0.5 − 0.5)² + (−1 − 0.5)² = 2.25."""
    close(squared_error(f32([[2, 3], [0.5, -1]]), f32([[1, 0], [0.5, 0.5]])), [10.0, 2.25])


def test_squared_error_is_classes_times_that_of_hui_and_belkin():
    close(squared_error(f32(LOGITS), f32(ONE_HOT)), K * np.mean((LOGITS - ONE_HOT) ** 2, axis=1))


@pytest.mark.parametrize(("name", "expected"), [("cross_entropy", MIXED), ("squared_error", MIXED)])
def test_the_gradient_vanishes_where_the_output_is_the_target(name, expected):
    logits = np.log(MIXED) if name == "cross_entropy" else MIXED
    gradient = jax.grad(lambda x: LOSSES[name](x, f32(expected)).sum())(f32(logits))
    close(gradient, np.zeros((B, K)))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_have_one_number_per_example(name):
    loss = jax.jit(LOSSES[name])(f32(LOGITS), f32(ONE_HOT))
    assert (loss.shape, loss.dtype) == ((B,), jnp.float32)


def test_smooth_spreads_a_share_over_all_classes():
    close(smooth(f32([[1, 0, 0, 0]]), 0.2), [[0.85, 0.05, 0.05, 0.05]])
    close(smooth(f32(MIXED), 0.3).sum(1), np.ones(B))
    close(smooth(f32(MIXED), 1.0), np.full((B, K), 1 / K))


def test_smooth_takes_a_traced_share():
    close(jax.jit(smooth)(f32(ONE_HOT), jnp.float32(0.2)), smooth(f32(ONE_HOT), 0.2))
