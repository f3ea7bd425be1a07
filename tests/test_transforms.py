"""Crop, flip, rotation and whitening: against NumPy and SciPy, and by what must not change."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats

from rethink_gen import transforms
from rethink_gen.transforms import AUGMENTATIONS, center_crop, flip, random_crop, rotation

SIGMAS, P_VALUE = 4.42, 1e-5  # a right implementation passes on 99.999 % of seeds
KEY = jax.random.key(0)
whiten = jax.jit(transforms.whiten)
crop_28 = jax.jit(partial(random_crop, size=28))


def random_images(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def coordinates(batch, height, width):
    """Images whose two channels are the row and the column of a pixel: they show where each pixel was taken from."""
    image = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1)
    return np.broadcast_to(image.astype(np.float32), (batch, height, width, 2))


def test_centre_crop_is_the_middle():
    images = random_images(2, 32, 32, 3)
    assert np.array_equal(center_crop(images, 28), images[:, 2:30, 2:30])
    assert np.array_equal(center_crop(jnp.asarray(images), 28), images[:, 2:30, 2:30])
    assert np.array_equal(center_crop(images[:, :8, :8], 7), images[:, :7, :7])  # one pixel over: the last goes


def test_small_images_stay_whole():
    for height, width in ((8, 8), (28, 28), (8, 40)):
        images = random_images(2, height, width, 1)
        kept = images[:, :, 6:34] if width == 40 else images
        assert np.array_equal(center_crop(images, 28), kept)
        assert crop_28(KEY, images).shape == kept.shape
    assert np.array_equal(crop_28(KEY, images[:, :, :8]), images[:, :, :8])


def test_random_crop_takes_each_of_25_windows_equally_often():
    crops = np.asarray(crop_28(KEY, coordinates(4000, 32, 32)))
    assert crops.shape == (4000, 28, 28, 2)
    corners = crops[:, :1, :1]
    assert np.array_equal(crops - corners, coordinates(4000, 28, 28)), "a window is 28 neighboring rows and columns"
    rows, columns = corners.reshape(4000, 2).astype(int).T
    assert stats.chisquare(np.bincount(5 * rows + columns, minlength=25)).pvalue > P_VALUE
    assert rows.max() == columns.max() == 4


def test_flip_mirrors_half_of_the_images_left_to_right():
    images = random_images(2000, 4, 5, 3)
    flipped = np.asarray(flip(KEY, jnp.asarray(images)))
    assert flipped.dtype == np.uint8
    mirrored = (flipped != images).any((1, 2, 3))
    assert np.array_equal(flipped[mirrored], images[mirrored][:, :, ::-1])
    assert abs(mirrored.sum() - 1000) < SIGMAS * np.sqrt(2000 / 4)
    assert np.array_equal(flip(KEY, jnp.asarray(flipped)), images), "the same flips again restore the images"


def test_rotation_by_no_angle_is_the_identity(monkeypatch):
    monkeypatch.setattr(transforms, "MAX_ROTATION", 0.0)
    images = random_images(3, 7, 8, 3)
    turned = jax.jit(lambda images: rotation(KEY, images))(images)
    assert turned.dtype == jnp.float32
    np.testing.assert_allclose(turned, images, atol=1e-4)  # 255 in float32 ends at 2e-5


@cache
def turned_by():
    """The angles in degrees by which rotation with KEY turns each of 500 images, from where it takes each pixel."""
    height, width, center = 16, 15, np.array([7.5, 7])
    at = coordinates(1, height, width)[0] - center
    taken = np.asarray(jax.jit(rotation)(KEY, coordinates(500, height, width)), np.float64) - center
    radius = np.hypot(at[..., 0], at[..., 1])
    inside = (radius > 1) & (radius < 6)  # there no pixel is taken from outside the image; interpolation is exact
    turns = (taken[:, inside] @ [1j, 1]) / (at[inside] @ [1j, 1])
    np.testing.assert_allclose(np.abs(turns), 1, atol=1e-5)  # float32 coordinates up to 16
    angles = np.degrees(np.angle(turns))
    assert np.ptp(angles, axis=1).max() < 0.001, "all pixels of an image turn about its centre by one angle"
    return angles.mean(1)


def test_rotation_is_by_up_to_25_degrees_either_way():
    assert stats.kstest(turned_by(), stats.uniform(-25, 50).cdf).pvalue > P_VALUE
    assert np.abs(turned_by()).max() < 25.001
    assert np.abs(turned_by()).max() > 24


def test_rotation_is_scipys_with_the_nearest_pixel_outside():
    images = random_images(500, 9, 12, 3)
    turned = np.asarray(jax.jit(rotation)(KEY, images))
    for image, ours, angle in zip(images[:20].astype(np.float64), turned, turned_by(), strict=False):
        theirs = ndimage.rotate(image, angle, (1, 0), reshape=False, order=1, mode="nearest")
        np.testing.assert_allclose(ours, theirs, atol=0.01)  # 255 per pixel × 1e-5 of a pixel


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_is_drawn_for_each_image_from_the_key_alone(name):
    images = np.tile(random_images(1, 8, 8, 3), (40, 1, 1, 1))
    augment = jax.jit(partial(AUGMENTATIONS[name], **({"size": 6} if name == "random_crop" else {})))
    one, same, other = (np.asarray(augment(jax.random.key(seed), images)) for seed in (1, 1, 2))
    assert one.shape == ((40, 6, 6, 3) if name == "random_crop" else (40, 8, 8, 3))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len(np.unique(one, axis=0)) > 1
    assert one.min() >= np.min(images)
    assert one.max() <= np.max(images)


def test_whitening_is_numpys():
    images = (random_images(5, 6, 7, 3) / 255).astype(np.float32)
    x = images.astype(np.float64)
    expected = (x - x.mean((1, 2, 3), keepdims=True)) / x.std((1, 2, 3), keepdims=True)
    white = whiten(images)
    assert white.dtype == jnp.float32
    np.testing.assert_allclose(white, expected, atol=1e-5)  # float32 sums over 126 values


def test_whitening_divides_by_no_less_than_one_over_root_n():
    flat = np.full((1, 4, 4, 1), 0.5, np.float32)
    assert np.array_equal(whiten(flat), np.zeros_like(flat)), "a constant image becomes zero"
    faint = flat.copy()
    faint[0, :2] += 0.125  # standard deviation 1/16, below 1/√16 = 1/4: each value is 1/16 from the mean, times 4
    assert np.array_equal(np.abs(whiten(faint)), np.full_like(faint, 0.25))


def test_whitening_does_not_see_brightness_contrast_or_the_order_of_pixels():
    images = (random_images(3, 5, 5, 3) / 255).astype(np.float32)
    white = whiten(images)
    np.testing.assert_allclose(whiten(0.5 * images + 0.25), white, atol=1e-5)  # float32
    shuffled = images[:, ::-1, [3, 0, 4, 1, 2]]
    np.testing.assert_allclose(whiten(shuffled), white[:, ::-1, jnp.array([3, 0, 4, 1, 2])], atol=1e-5)
