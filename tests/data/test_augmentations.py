"""Crop, flip, rotation and whitening: against NumPy and SciPy, and by what must not change."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from scipy import ndimage, stats

from rethink_gen import registry
from rethink_gen.data import augmentations
from rethink_gen.data.augmentations import center_crop, flip, random_crop, rotation

SIGMAS, P_VALUE = 4.42, 1e-5  # a right implementation passes on 99.999 % of seeds
KEY = jax.random.key(0)
whiten = jax.jit(augmentations.whiten)
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


def test_gaussian_noise_has_its_deviation_on_every_value():
    noise = np.asarray(augmentations.gaussian_noise(KEY, jnp.full((100, 10, 10, 3), 7.0), deviation=20.0)) - 7
    assert abs(noise.mean()) < SIGMAS * 20 / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(20, rel=SIGMAS / np.sqrt(2 * noise.size))
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < SIGMAS / 100  # of 10,000 pairs


def test_input_dropout_blackens_whole_pixels_and_leaves_the_others():
    images = 1 + random_images(100, 10, 10, 3) // 2
    dropped = np.asarray(augmentations.input_dropout(KEY, images, rate=0.3))
    black = (dropped == 0).all(-1)
    assert np.array_equal(dropped, np.where(black[..., None], 0, images))
    assert black.mean() == pytest.approx(0.3, abs=SIGMAS * np.sqrt(0.3 * 0.7 / black.size))


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


def test_padding_lets_a_random_crop_reach_beyond_the_image():
    crops = np.asarray(random_crop(KEY, 1 + coordinates(4000, 6, 6), 4, padding=2))
    inside = (crops > 0).any(-1).sum((1, 2))  # pixels of the image; those of the padding are black
    assert set(inside) == {4, 6, 8, 9, 12, 16}
    share = 4 / 49  # of the 7 × 7 positions, those with 2 × 2 pixels in a corner of the image
    assert abs((inside == 4).sum() - 4000 * share) < SIGMAS * np.sqrt(4000 * share * (1 - share))


def test_images_that_stay_whole_keep_their_size_also_with_padding():
    """As they are tested: a network that was trained on 10 × 10 pixels would be tested on 6 × 6, or fail."""
    assert random_crop(KEY, random_images(2, 6, 6, 1), 28, padding=2).shape == (2, 6, 6, 1)


def test_flip_mirrors_half_of_the_images_left_to_right():
    images = random_images(2000, 4, 5, 3)
    flipped = np.asarray(flip(KEY, jnp.asarray(images)))
    assert flipped.dtype == np.uint8
    mirrored = (flipped != images).any((1, 2, 3))
    assert np.array_equal(flipped[mirrored], images[mirrored][:, :, ::-1])
    assert abs(mirrored.sum() - 1000) < SIGMAS * np.sqrt(2000 / 4)
    assert np.array_equal(flip(KEY, jnp.asarray(flipped)), images), "the same flips again restore the images"


def test_rotation_by_no_angle_is_the_identity(monkeypatch):
    monkeypatch.setattr(augmentations, "_MAX_ROTATION", 0.0)
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


OF_IMAGES = [
    name
    for name in registry.COMPONENTS["augmentation"]
    if "targets" not in registry.parameters(registry.resolve("augmentation", name))
]


@pytest.mark.parametrize("name", OF_IMAGES)
def test_an_augmentation_is_drawn_for_each_image_from_the_key_alone(name):
    images = np.tile(random_images(1, 8, 8, 3), (40, 1, 1, 1))
    augment = jax.jit(
        partial(registry.resolve("augmentation", name), **({"size": 6} if augmentations.crops([name]) else {}))
    )
    one, same, other = (np.asarray(augment(jax.random.key(seed), images)) for seed in (1, 1, 2))
    assert one.shape == ((40, 6, 6, 3) if augmentations.crops([name]) else (40, 8, 8, 3))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len(np.unique(one, axis=0)) > 1
    if name != "gaussian_noise":
        assert one.min() >= (0 if name in ("color", "input_dropout") else np.min(images))
        assert one.max() <= (255 if name == "color" else np.max(images))


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


crop_16 = jax.jit(partial(augmentations.crop, size=16))


@cache
def windows():
    """Corner, height and width of the windows that `crop` takes from 2,000 images of 40×60 pixels; which are mirrored.

    Away from the border the resized coordinates are straight lines, whatever the filter.
    """
    rows, columns = np.moveaxis(np.asarray(crop_16(KEY, coordinates(2000, 40, 60)), np.float64), -1, 0)
    lines = rows[:, :, 8], columns[:, 8, :]
    slopes = [(line[:, 13] - line[:, 2]) / 11 for line in lines]
    starts = [line[:, 2] - 2.5 * slope + 0.5 for line, slope in zip(lines, slopes, strict=True)]
    height, width = 16 * slopes[0], 16 * np.abs(slopes[1])
    left = np.where(slopes[1] > 0, starts[1], starts[1] - width)
    return starts[0], left, height, width, slopes[1] < 0


def test_a_crop_is_a_window_inside_the_image_of_a_tenth_of_it_or_more():
    top, left, height, width, _ = windows()
    slack = 0.15  # of a pixel: the filter samples a line at whole pixels
    assert min(top.min(), left.min()) > -slack
    assert (top + height).max() < 40 + slack
    assert (left + width).max() < 60 + slack
    share = height * width / (40 * 60)
    assert 0.098 < share.min() < 0.11
    assert 0.85 < share.max() < 0.9  # 1.33 in 3:2 is 89 % at most
    assert 0.74 < (width / height).min() < 0.76
    assert 1.32 < (width / height).max() < 1.34


def test_a_crop_is_drawn_as_tensorflow_draws_it():
    """The aspect ratio is uniform; given that, the height; given both, the place. Half are mirrored."""
    top, left, height, width, mirrored = windows()
    aspect = width / height
    low, high = np.sqrt(0.1 * 2400 / aspect), np.minimum(40, np.minimum(60 / aspect, np.sqrt(2400 / aspect)))
    room = 60 - width
    uniform = {
        "aspect": (aspect - 0.75) / 0.58,
        "height": (height - low) / (high - low),
        "left": (left / room)[room > 1],
        "top": (top / (40 - height))[40 - height > 1],
    }
    for name, values in uniform.items():
        assert stats.kstest(values, stats.uniform.cdf).pvalue > P_VALUE, name
    assert abs(mirrored.sum() - 1000) < SIGMAS * np.sqrt(2000 / 4)


def test_a_crop_keeps_a_constant_image():
    np.testing.assert_allclose(crop_16(KEY, np.full((4, 40, 60, 3), 200, np.uint8)), 200, rtol=1e-5)


def test_hue_and_saturation_are_matplotlibs():
    rgb = np.random.default_rng(0).random((7, 5, 5, 3)).astype(np.float32)
    rgb[0, 0, 0], rgb[0, 0, 1] = 0, 0.5  # black and grey have neither
    for turn, factor in ((0.0, 1.0), (0.2, 1.0), (-0.2, 0.5), (0.05, 1.5)):
        hsv = rgb_to_hsv(rgb.astype(np.float64))
        hsv[..., 0] = (hsv[..., 0] + turn) % 1
        hsv[..., 1] = (factor * hsv[..., 1]).clip(0, 1)
        found = augmentations._turn_hue(jnp.asarray(rgb), jnp.float32(turn), jnp.float32(factor))
        np.testing.assert_allclose(found, hsv_to_rgb(hsv), atol=2e-6)


def test_color_changes_brightness_and_contrast_of_grey_images_within_its_bounds():
    """Of a grey image only these two are left: mean + factor · (x + shift - mean)."""
    image = np.full((1, 8, 8, 3), 120, np.uint8)
    image[:, :, ::2] = 136
    found = np.asarray(jax.jit(augmentations.color)(KEY, np.repeat(image, 1000, 0)), np.float64)
    assert np.ptp(found, axis=-1).max() < 1e-3, "grey stays grey"
    shift, factor = (found.mean((1, 2, 3)) - 128) / 32, found.std((1, 2, 3)) / 8
    assert stats.kstest((shift + 1) / 2, stats.uniform.cdf).pvalue > P_VALUE
    assert stats.kstest(factor - 0.5, stats.uniform.cdf).pvalue > P_VALUE
    extreme = np.asarray(jax.jit(augmentations.color)(KEY, random_images(50, 4, 4, 3)))
    assert (extreme.min(), extreme.max()) == (0, 255), "what leaves the range is cut off"


def test_cutout_hides_one_square_of_each_image_with_its_mean_color():
    """Of a center uniform over 12 × 10 pixels, a square of 4 keeps on average (1 + 2 + 3 + 4·8 + 3 …) of its area."""
    images = random_images(500, 12, 10, 3)
    found = np.asarray(augmentations.cutout(KEY, jnp.asarray(images), side=4))
    hidden = (found != images).any(-1)
    for before, after, where in zip(images, found, hidden, strict=True):
        np.testing.assert_allclose(after[where], np.broadcast_to(before.mean((0, 1)), after[where].shape), rtol=1e-5)
        rows, columns = (np.flatnonzero(where.any(axis)) for axis in (1, 0))
        assert np.ptp(rows) < 4
        assert np.ptp(columns) < 4
    # Starts are −2 … 9 for rows: of four rows, those inside are 2, 3, 4 × 9, 3; for columns 2, 3, 4 × 7, 3.
    expected = (2 + 3 + 9 * 4 + 3) / 12 * (2 + 3 + 7 * 4 + 3) / 10
    assert abs(hidden.sum((1, 2)).mean() - expected) < SIGMAS * hidden.sum((1, 2)).std() / np.sqrt(500)


def test_channel_permutation_gives_each_order_of_channels_equally_often():
    images = np.broadcast_to(np.array([10, 20, 30], np.uint8), (3000, 2, 2, 3))
    found = np.asarray(augmentations.channel_permutation(KEY, jnp.asarray(images)))
    np.testing.assert_array_equal(found, np.broadcast_to(found[:, :1, :1], found.shape))
    orders = np.unique(found[:, 0, 0], axis=0, return_counts=True)
    assert len(orders[0]) == 6
    assert stats.chisquare(orders[1]).pvalue > P_VALUE
