"""Losses against their definitions in NumPy and float64, and where they agree with each other."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rethink_gen import registry
from rethink_gen.optimization.losses import cross_entropy, cross_entropy_of_labels, smooth, squared_error

LOSSES = {name: each.load() for name, each in registry.COMPONENTS["loss"].items()}
WITHOUT_MEMORY = [name for name, loss in LOSSES.items() if not registry.asks_for(loss, "memory")]

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


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


P = softmax(LOGITS)


@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_generalized_cross_entropy_equals_numpy(q):
    """At q = 1 it is half of the mean absolute error between p and a one-hot target: Σ|p − t| / 2 = 1 − p_label."""
    close(LOSSES["generalized_cross_entropy"](f32(LOGITS), f32(MIXED), q=q), (MIXED * (1 - P**q) / q).sum(1))
    if q == 1:
        absolute = np.abs(P - ONE_HOT).sum(1) / 2
        close(LOSSES["generalized_cross_entropy"](f32(LOGITS), f32(ONE_HOT), q=q), absolute)


def test_generalized_cross_entropy_is_cross_entropy_for_small_q():
    found = LOSSES["generalized_cross_entropy"](f32(LOGITS), f32(ONE_HOT), q=1e-4)
    np.testing.assert_allclose(found, cross_entropy_in_numpy(LOGITS, ONE_HOT), rtol=1e-3)


def test_bootstrapping_mixes_the_target_with_what_the_network_says():
    for hard, says in ((False, P), (True, np.eye(K)[LOGITS.argmax(1)])):
        expected = cross_entropy_in_numpy(LOGITS, 0.8 * ONE_HOT + 0.2 * says)
        close(LOSSES["bootstrapping"](f32(LOGITS), f32(ONE_HOT), beta=0.8, hard=hard), expected)


def test_small_loss_keeps_the_smallest_of_a_batch_and_their_mean():
    """Of five losses, ⌈0.5 · 5⌉ = 3: the mean over the batch is the mean of the three smallest."""
    losses = np.sort(cross_entropy_in_numpy(LOGITS, ONE_HOT))
    found = LOSSES["small_loss"](f32(LOGITS), f32(ONE_HOT), keep=0.5)
    assert (found > 0).sum() == 3
    close(found.mean(), losses[:3].mean())
    slope = jax.grad(lambda x: LOSSES["small_loss"](x, f32(ONE_HOT), keep=0.5).mean())(f32(LOGITS))
    assert (np.abs(slope).sum(1) > 0).sum() == 3


@pytest.mark.parametrize(("keep", "batch", "kept"), [(0.55, 100, 55), (0.07, 200, 14), (0.56, 50, 28), (1e-6, 50, 1)])
def test_small_loss_keeps_no_more_than_its_share(keep, batch, kept):
    """0.55 · 100 is 55.00000000000001 in floating point, and 56 losses were kept."""
    logits = f32(np.random.default_rng(0).normal(size=(batch, K)))
    assert (LOSSES["small_loss"](logits, jax.nn.one_hot(jnp.zeros(batch, int), K), keep=keep) > 0).sum() == kept


def test_early_learning_equals_numpy():
    before = np.random.default_rng(1).dirichlet(np.ones(K), size=B) / 2
    found, memory = LOSSES["early_learning"](f32(LOGITS), f32(ONE_HOT), f32(before), weight=3.0, decay=0.7)
    clipped = P.clip(1e-4, 1 - 1e-4)
    expected = 0.7 * before + 0.3 * clipped / clipped.sum(1, keepdims=True)
    close(memory, expected)
    close(found, cross_entropy_in_numpy(LOGITS, ONE_HOT) + 3 * np.log(1 - (expected * clipped).sum(1)))


@pytest.mark.parametrize("name", WITHOUT_MEMORY)
def test_losses_have_one_number_per_example(name):
    loss = jax.jit(LOSSES[name])(f32(LOGITS), f32(ONE_HOT))
    assert (loss.shape, loss.dtype) == ((B,), jnp.float32)


def test_smooth_spreads_a_share_over_all_classes():
    close(smooth(f32([[1, 0, 0, 0]]), 0.2), [[0.85, 0.05, 0.05, 0.05]])
    close(smooth(f32(MIXED), 0.3).sum(1), np.ones(B))
    close(smooth(f32(MIXED), 1.0), np.full((B, K), 1 / K))


def test_smooth_takes_a_traced_share():
    close(jax.jit(smooth)(f32(ONE_HOT), jnp.float32(0.2)), smooth(f32(ONE_HOT), 0.2))
