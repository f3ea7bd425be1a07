"""Features of kernel machines, beside SciPy and loops, and how blocks of them become inner products."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
from scipy.spatial.distance import cdist

from rethink_gen import registry
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.runs import KernelRun
from rethink_gen.solvers import features as features_module
from rethink_gen.solvers import kernels
from rethink_gen.solvers.features import Features, _convolve, _gabor_responses, _random_filters
from rethink_gen.solvers.linear_algebra import Meter

QUIET = Meter(lambda step, steps, metrics: None, 1.0)
COLOR = np.random.default_rng(0).integers(0, 256, (8, 9, 8, 3)).astype(np.uint8)


def three_blocks() -> Features:
    """Of two features each: small whole numbers, whose products are exact."""
    return Features(lambda images, i: jnp.asarray(images[:, i, :2, 0] // 16, jnp.float32), (2, 2, 2))


def inner_products() -> np.ndarray:
    x = (COLOR[:, :3, :2, 0] // 16).reshape(8, 6).astype(np.float32)
    return x @ x.T


def test_features_are_streamed_through_inner_products():
    inner, norms = kernels._streamed(three_blocks(), [COLOR[:3], COLOR[3:6], COLOR[6:]], 2, QUIET)
    assert set(inner) == {(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)}  # the last part is for testing
    np.testing.assert_array_equal(np.asarray(inner[2, 1]), inner_products()[6:, 3:6])
    np.testing.assert_array_equal(np.asarray(norms[1]), np.diag(inner_products())[3:6])


@pytest.fixture
def few_patches(monkeypatch):
    """Random convolutions whiten with 2,000 patches: with as many as usual it takes seconds."""
    monkeypatch.setattr(features_module, "_PATCHES", 2000)


@pytest.fixture
def filters_per_block(few_patches, monkeypatch):
    """A small number of them."""
    monkeypatch.setattr(features_module, "FILTERS_OF_A_BLOCK", 16)
    return 16


def test_random_convolutions_are_streamed(filters_per_block):
    run = KernelRun(features="random_convolutions", num_filters=2 * filters_per_block, gamma=0.3, weight_decay=0.5)
    features = registry.resolve("features", run.features)(run, COLOR)
    assert features.widths == (4 * filters_per_block,) * 2
    parts = [COLOR, COLOR[::-1]]
    matrix = kernels._kernel_matrix(run, features, parts, 1, kernels._streamed(features, parts, 1, QUIET), QUIET)
    x = np.concatenate([features.block(COLOR, i) for i in range(2)], 1).astype(np.float64)
    alive = x.var(0) > 0
    np.testing.assert_allclose(x[:, alive].var(0), 1 / x.shape[1], rtol=1e-3)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    expected = np.exp(-0.3 * cdist(x, x, "sqeuclidean"))
    np.testing.assert_allclose(matrix.tile(0, 0), expected + 0.5 * np.eye(8), atol=1e-5)
    np.testing.assert_allclose(matrix.tile(1, 0), expected[::-1], atol=1e-5)


def test_inner_products_are_kept_for_the_next_run_of_the_same_images_and_features(filters_per_block, monkeypatch):
    split = Split(COLOR, np.arange(8, dtype=np.int32) % 3)
    data = Dataset("color", split, split, num_classes=3, checksum="")
    run = KernelRun(features="random_convolutions", num_filters=2 * filters_per_block, gamma=0.3, weight_decay=0.5)
    counted, streamed = [], kernels._streamed
    monkeypatch.setattr(kernels, "_streamed", lambda *args: counted.append(1) or streamed(*args))
    solved = lambda run, data: kernels.solve(run, data, lambda step, steps, metrics: None)[0]
    regularized, alone = replace(run, gamma=0.1, weight_decay=1.0), solved(run, data)
    kernels._KEPT.clear()
    afresh = solved(regularized, data)
    assert (len(counted), solved(run, data), len(counted)) == (2, alone, 2)
    assert (solved(regularized, data), len(counted)) == (afresh, 2)
    other = replace(data, train=Split(COLOR[::-1], data.train.labels))
    assert solved(run, other) != alone
    assert solved(replace(run, seed=1), data) != alone
    assert (len(counted), len(kernels._KEPT)) == (4, 1)


@pytest.mark.parametrize("images", [COLOR, np.float32(COLOR[:, :5, :4, :1])], ids=["color", "smaller_than_a_patch"])
@pytest.mark.parametrize(
    "name", [n if n != "fourier" else "fourier(count=20)" for n in registry.COMPONENTS["features"]]
)
def test_features_are_those_of_each_image_alone(few_patches, name, images):
    features = registry.resolve("features", name)(KernelRun(num_filters=20), images)
    found = np.asarray(features.block(images, 0))
    assert found.shape == (len(images), features.widths[0])
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.asarray(features.block(images[::-1], 0)), found[::-1], atol=1e-5)


def test_wavelet_features_have_mean_0_and_all_together_variance_1():
    x = np.asarray(registry.resolve("features", "gabor_wavelets")(KernelRun(), COLOR).block(COLOR, 0), np.float64)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(x.var(0).sum(), 1, rtol=1e-5)


def test_gabor_responses_are_those_of_wavelets_slid_over_the_image():
    image, radius = COLOR[0].mean(-1) / 255, 20
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    expected = []
    for angle in np.pi * np.arange(8) / 8:
        envelope = np.exp(-(x**2 + y**2) / 18) / (18 * np.pi)  # deviation 3, half the wavelength of 6
        wave = np.exp(2j * np.pi / 6 * (x * np.cos(angle) + y * np.sin(angle)))
        wavelet = envelope * (wave - (envelope * wave).sum() / envelope.sum())
        response = np.abs(scipy.signal.correlate2d(image, wavelet.conj(), mode="full"))
        response = response[radius : radius + 9, radius : radius + 8]
        expected.append(response[:8].reshape(2, 4, 2, 4).mean((1, 3)))  # cells of 4×4; the ninth row fills none
    found = np.asarray(_gabor_responses(COLOR[:1]))[0].reshape(2, 2, 8)
    np.testing.assert_allclose(found, np.stack(expected, -1), rtol=1e-4)


def test_random_convolutions_are_those_of_a_loop(few_patches):
    filters, offsets = _random_filters(KernelRun(num_filters=5), COLOR)
    filters_xyc = filters.reshape(6, 6, 3, 5)
    expected = np.zeros((8, 2, 2, 5))
    for y, x in np.ndindex(4, 3):  # 9×8 images have 4×3 patches of 6×6: quadrants of 2×2, which share a column
        patch = COLOR[:, y : y + 6, x : x + 6].astype(np.float64)
        patch -= patch.mean((1, 2, 3), keepdims=True)
        patch /= np.sqrt(patch.var((1, 2, 3), keepdims=True) + 10)
        response = np.maximum(np.einsum("nyxc,xycf->nf", patch, filters_xyc) - offsets, 0) / 4
        for column in {min(x, 1), max(x - 1, 0)}:
            expected[:, y // 2, column] += response
    np.testing.assert_allclose(_convolve(COLOR, filters, offsets), expected.reshape(8, -1), rtol=1e-4, atol=1e-5)


def test_two_sided_convolutions_are_those_of_both_signs_of_the_filters(few_patches):
    """The negative of a filter has the negative mean, and the same threshold above it."""
    filters, offsets = _random_filters(KernelRun(num_filters=5), COLOR)
    mirrored = 2 * features_module._THRESHOLD - offsets
    expected = [_convolve(COLOR, *each).reshape(8, 2, 2, 5) for each in ((filters, offsets), (-filters, mirrored))]
    found = _convolve(COLOR, filters, offsets, True)
    np.testing.assert_allclose(found.reshape(8, 2, 2, 10), np.concatenate(expected, -1), atol=1e-6)
    run = KernelRun(num_filters=5, features="random_convolutions(two_sided=true)")
    features = registry.resolve("features", run.features)(run, COLOR)
    assert features.widths == (40,)
    assert features.block(COLOR, 0).shape == (8, 40)


def test_filters_are_whitened_patches_of_norm_one():
    filters, offsets = _random_filters(KernelRun(num_filters=5), COLOR)
    windows = [image[y : y + 6, x : x + 6].transpose(1, 0, 2).ravel() for image in COLOR for y, x in np.ndindex(4, 3)]
    patches = np.asarray(windows, np.float64)
    patches = (patches - patches.mean(1, keepdims=True)) / np.sqrt(patches.var(1, keepdims=True) + 10)
    unwhiten = scipy.linalg.sqrtm(np.cov(patches.T) + 0.1 * np.eye(108)).real
    directions = unwhiten @ filters
    np.testing.assert_allclose(np.linalg.norm(directions, axis=0), 1, atol=0.02)  # ours are drawn with replacement
    whitened = np.linalg.solve(unwhiten, (patches - patches.mean(0)).T).T
    whitened /= np.linalg.norm(whitened, axis=1, keepdims=True)
    assert (whitened @ directions).max(0).min() > 0.97  # each filter is one of the patches
    np.testing.assert_allclose(offsets, 0.25 + patches.mean(0) @ filters, atol=0.01)  # the threshold, and centering
