"""mixup and CutMix: each example says by its channel which one it is, so mixed images show what they were made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from rethink_gen.data.augmentations import cutmix, mixup

B, K, P_VALUE = 16, 5, 1e-5  # a right implementation passes on 99.999 % of seeds
KEYS = jax.random.split(jax.random.key(0), 400)
LABELS = np.arange(B) % K
TARGETS = jnp.asarray(np.eye(K)[LABELS], jnp.float32)
IMAGES = jnp.broadcast_to(jnp.eye(B)[:, None, None, :], (B, 6, 5, B))  # example i is 1 in channel i, 0 elsewhere


def mixtures(mix, alpha):
    """Of each key: the shares of all examples in each mixed image, [B, 6, 5, B]; and the targets, [B, K]."""
    images, targets = jax.jit(jax.vmap(lambda key: mix(key, IMAGES, TARGETS, alpha=alpha)))(KEYS)
    return zip(np.asarray(images), np.asarray(targets), strict=True)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 8.0])
def test_mixup_blends_each_example_with_another_by_one_beta_weight(alpha):
    weights = []
    for shares, targets in mixtures(mixup, alpha):
        np.testing.assert_array_equal(shares, np.broadcast_to(shares[:, :1, :1], shares.shape))
        share = shares[:, 0, 0]
        own = np.diag(share)
        weight = own.min()  # an example that is its own partner stays as it is
        partners = np.where(own > 0.9999, np.arange(B), (share - np.diag(own)).argmax(1))
        assert sorted(partners) == [*range(B)]
        expected = weight * np.eye(B) + (1 - weight) * np.eye(B)[partners]
        np.testing.assert_allclose(share, expected, atol=1e-3)
        np.testing.assert_allclose(targets, share @ np.eye(K)[LABELS], atol=1e-6)
        weights.append(weight)
    assert stats.kstest(weights, stats.beta(alpha, alpha).cdf).pvalue > P_VALUE


def test_cutmix_pastes_one_rectangle_at_one_place_and_mixes_targets_by_its_area():
    areas = []
    for shares, targets in mixtures(cutmix, 1.0):
        pasted = shares[np.arange(B), :, :, np.arange(B)] == 0
        inside = pasted.any(0)
        assert (pasted[pasted.any((1, 2))] == inside).all(), "but for an example that is its own partner"
        rows, columns = inside.any(1), inside.any(0)
        np.testing.assert_array_equal(inside, np.outer(rows, columns))
        assert (np.diff(np.flatnonzero(rows)) == 1).all()
        assert (np.diff(np.flatnonzero(columns)) == 1).all()
        np.testing.assert_allclose(targets, shares.mean((1, 2)) @ np.eye(K)[LABELS], atol=1e-6)
        areas.append(inside.mean())
    # The share is uniform before its sides are rounded down to pixels, 5 × 4 at most, and cut off at the border.
    assert 0.15 < np.mean(areas) < 0.5
    assert max(areas) == pytest.approx(20 / 30)


def test_a_weight_of_zero_mixes_nothing():
    for mix in (mixup, cutmix):
        images, targets = mix(KEYS[0], IMAGES, TARGETS, alpha=0.0)
        np.testing.assert_array_equal(images, IMAGES)
        np.testing.assert_array_equal(targets, TARGETS)
