"""Augmentations and per-image whitening: crop, flip, rotation, color. All run inside jit.

An augmentation is a function `(key, images) -> images` on images [B, H, W, C] with values in [0, 255]. It is drawn anew
for every batch. A run lists its augmentations; they are applied in this order, each with its own key. Augmentations
with a `size` argument crop the image to `size` × `size` pixels. If a run has none of these, its images are
center-cropped once, before training.

One with a parameter `targets` mixes examples: `(key, images, targets) -> (images, targets)`, images float32[B, H, W, C]
as the network gets them, after the other augmentations, cropping and whitening; targets float32[B, K], rows that sum to
1. One weight is drawn for each batch, as the authors of mixup do; each example is mixed with another one of its batch.

`crop` and `color` follow TensorFlow's Inception package, which the paper used on ImageNet, with two differences. The
package places windows by bounding boxes of objects, which tensorflow-datasets does not have. The package varies the
resizing method and the order of the color changes between threads; here both are those of the package's first thread.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from rethink_gen import registry

Key = jax.Array
Mixed = tuple[jax.Array, jax.Array]
_MAX_ROTATION = 25.0  # degrees (Table 4, footnote)
_MIN_AREA, _ASPECTS = 0.1, (0.75, 1.33)  # of `crop`: smallest fraction of the image; range of width / height


def center_crop(images, size: int):
    """Crops the central size × size pixels. A side of at most `size` stays whole. Works on NumPy and JAX arrays."""
    height, width = images.shape[1:3]
    top, left = max(0, (height - size) // 2), max(0, (width - size) // 2)
    return images[:, top : top + size, left : left + size]


def random_crop(key: Key, images: jax.Array, size: int, *, padding: int = 0) -> jax.Array:
    """Crops a size × size window of each image at a uniformly random position (Section 3).

    There are 25 positions for windows of 28 × 28 in images of 32 × 32 pixels.

    Args:
      padding: black pixels that are added on each side before. The paper does not mention any.
    """
    batch, height, width, channels = images.shape
    size_h, size_w = min(size, height), min(size, width)
    images = jnp.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    room = jnp.array([height - size_h + 1, width - size_w + 1]) + 2 * padding
    corners = jax.random.randint(key, (batch, 2), 0, room)

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (size_h, size_w, channels))

    return jax.vmap(crop)(images, corners)


def gaussian_noise(key: Key, images: jax.Array, *, deviation: float = 64.0) -> jax.Array:
    """Adds Gaussian noise to every value; `deviation` is in units of pixels, of which 255 is white. None is clipped."""
    return images + deviation * jax.random.normal(key, images.shape)


def input_dropout(key: Key, images: jax.Array, *, rate: float = 0.2) -> jax.Array:
    """Makes each pixel black with probability `rate`; the others stay as they are, for whitening rescales them."""
    kept = jax.random.bernoulli(key, 1 - rate, (*images.shape[:3], 1))
    return jnp.where(kept, images, 0)


def flip(key: Key, images: jax.Array) -> jax.Array:
    """Flips each image left to right with probability one half (Table 4)."""
    mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def rotation(key: Key, images: jax.Array) -> jax.Array:
    """Rotates each image about its center by a uniformly random angle in ±25 degrees (Table 4).

    Not stated in the paper: bilinear interpolation, and the nearest border pixel outside the image.
    """
    batch, height, width, _ = images.shape
    limit = _MAX_ROTATION * jnp.pi / 180
    angles = jax.random.uniform(key, (batch,), minval=-limit, maxval=limit)
    y = jnp.arange(height)[:, None] - (height - 1) / 2
    x = jnp.arange(width)[None, :] - (width - 1) / 2

    def turn(image: jax.Array, angle: jax.Array) -> jax.Array:
        rows = jnp.cos(angle) * y + jnp.sin(angle) * x + (height - 1) / 2
        columns = jnp.cos(angle) * x - jnp.sin(angle) * y + (width - 1) / 2

        def sample(channel: jax.Array) -> jax.Array:
            return jax.scipy.ndimage.map_coordinates(channel, [rows, columns], order=1, mode="nearest")

        return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)

    return jax.vmap(turn)(images.astype(jnp.float32), angles)


def crop(key: Key, images: jax.Array, size: int) -> jax.Array:
    """Random resized crop: a window of 10 to 100 % of the area, resized to size × size, and flipped half of the time.

    A side of the image that is smaller than `size` stays as long as it is. Where one side is 7.5 times the other or
    more, no window may have a tenth of the area: then it is the largest of its aspect ratio.

    The window is drawn as in TensorFlow's `sample_distorted_bounding_box` without boxes: first a uniform aspect ratio,
    then a uniform height among those with an area in the range that fit, then a uniform position.
    """
    batch, height, width, channels = images.shape
    sides = jnp.array([min(size, height), min(size, width)])  # as images are cropped that are tested on
    aspect_key, height_key, place_key, flip_key = jax.random.split(key, 4)
    aspect = jax.random.uniform(aspect_key, (batch,), minval=_ASPECTS[0], maxval=_ASPECTS[1])
    highest = jnp.minimum(jnp.minimum(height, width / aspect), jnp.sqrt(height * width / aspect))
    lowest = jnp.minimum(jnp.sqrt(_MIN_AREA * height * width / aspect), highest)
    window_height = jax.random.uniform(height_key, (batch,), minval=lowest, maxval=highest)
    window = jnp.stack([window_height, window_height * aspect], axis=-1)
    corner = jax.random.uniform(place_key, (batch, 2)) * (jnp.array([height, width]) - window)

    def resize(image: jax.Array, window: jax.Array, corner: jax.Array) -> jax.Array:
        scale, shape = sides / window, (min(size, height), min(size, width), channels)
        return jax.image.scale_and_translate(image, shape, (0, 1), scale, -corner * scale, method="linear")

    return flip(flip_key, jax.vmap(resize)(images.astype(jnp.float32), window, corner))


def color(key: Key, images: jax.Array) -> jax.Array:
    """Color jitter: changes brightness, saturation, hue and contrast of each RGB image at random."""
    keys = jax.random.split(key, 4)

    def draw(i: int, low: float, high: float) -> jax.Array:
        return jax.random.uniform(keys[i], (len(images), 1, 1, 1), minval=low, maxval=high)

    x = images / 255 + draw(0, -32 / 255, 32 / 255)
    x = _turn_hue(x, draw(2, -0.2, 0.2), saturation=draw(1, 0.5, 1.5))
    mean = x.mean((1, 2), keepdims=True)
    return 255 * (mean + draw(3, 0.5, 1.5) * (x - mean)).clip(0, 1)


def cutout(key: Key, images: jax.Array, *, side: int = 8) -> jax.Array:
    """Fills a square of `side` × `side` pixels of each image with the mean color of that image.

    Its center is uniform over the image, so a part may lie outside. The paper fills with the mean of the data set,
    which is 0 for its inputs; with per-image whitening the mean of the image is what becomes 0. The default is our
    choice: the paper's 16 of 32 pixels hide a quarter of an image, 8 of 28 a twelfth.

    References:
      DeVries & Taylor 2017, "Improved regularization of convolutional neural networks with cutout".
    """
    batch, height, width, _ = images.shape
    centers = jax.random.randint(key, (batch, 2), 0, jnp.array([height, width]), jnp.int32)
    rows, columns = (
        (places >= center - side // 2) & (places < center - side // 2 + side)
        for places, center in zip((jnp.arange(height), jnp.arange(width)), centers.T[:, :, None], strict=True)
    )
    hidden = rows[:, :, None, None] & columns[:, None, :, None]
    return jnp.where(hidden, images.mean((1, 2), keepdims=True, dtype=jnp.float32), images)


def channel_permutation(key: Key, images: jax.Array) -> jax.Array:
    """Puts the channels of each image into a random order of its own: of RGB images, one of six."""
    order = jax.vmap(lambda one: jax.random.permutation(one, images.shape[-1]))(jax.random.split(key, len(images)))
    return jnp.take_along_axis(images, order[:, None, None, :], axis=-1)


def _turn_hue(rgb: jax.Array, turn: jax.Array, saturation: jax.Array) -> jax.Array:
    """Rotates the hue of colors [..., 3] by `turn` of a full circle and multiplies their saturation."""
    r, g, b = jnp.moveaxis(rgb, -1, 0)
    value = rgb.max(-1, keepdims=True)
    chroma = value - rgb.min(-1, keepdims=True)
    sixths = jnp.where(value[..., 0] == r, g - b, jnp.where(value[..., 0] == g, b - r, r - g))[..., None]
    start = jnp.where(value[..., 0] == r, 0, jnp.where(value[..., 0] == g, 2, 4))[..., None]
    hue = start + sixths / jnp.where(chroma > 0, chroma, 1) + 6 * turn  # in sixths of the circle
    strength = (saturation * jnp.where(value > 0, chroma / jnp.where(value > 0, value, 1), 0)).clip(0, 1)
    k = (jnp.array([5, 3, 1]) + hue) % 6
    return value * (1 - strength * jnp.minimum(k, 4 - k).clip(0, 1))


def whiten(images: jax.Array) -> jax.Array:
    """Per-image whitening: (x - mean) / max(std, 1/√N) over the N values of an image, float32.

    Images must be in [0, 1]. This is TensorFlow's `per_image_whitening`, which the paper names in Appendix A.
    """
    images = images.astype(jnp.float32)
    floor = images[0].size ** -0.5
    mean = images.mean((1, 2, 3), keepdims=True)
    return (images - mean) / jnp.maximum(images.std((1, 2, 3), keepdims=True), floor)


def crops(augmentations: Iterable[str]) -> bool:
    """Whether one of the augmentations of a run crops the images."""
    return any("size" in registry.parameters(registry.resolve("augmentation", each)) for each in augmentations)


def mixup(key: Key, images: jax.Array, targets: jax.Array, *, alpha: float = 1.0) -> Mixed:
    """λ · one example + (1 − λ) · another, pixels and targets alike, with λ from Beta(α, α).

    Args:
      alpha: α ≥ 0; 0: nothing is mixed. A large one makes λ near one half.

    References:
      Zhang, Cissé, Dauphin & Lopez-Paz 2018, "mixup: beyond empirical risk minimization", equation (1).
    """
    if alpha == 0:
        return images, targets
    weight, other = _draw(key, len(images), alpha)
    return _blend(weight, images, images[other]), _blend(weight, targets, targets[other])


def cutmix(key: Key, images: jax.Array, targets: jax.Array, *, alpha: float = 1.0) -> Mixed:
    """A rectangle of another example is pasted into each, at the same place; targets are mixed by area.

    The rectangle has the share 1 − λ of the area, with λ from Beta(α, α), and its center is uniform over the image.
    What lies outside of the image is cut off, and targets follow the area that is left.

    Args:
      alpha: α ≥ 0; 0: nothing is mixed.

    References:
      Yun et al. 2019, "CutMix: regularization strategy to train strong classifiers with localizable features",
      Algorithm A1.
    """
    if alpha == 0:
        return images, targets
    weight_key, row_key, column_key = jax.random.split(key, 3)
    weight, other = _draw(weight_key, len(images), alpha)
    inside = jnp.ones(images.shape[1:3], bool)
    for axis, axis_key in enumerate((row_key, column_key)):
        size = images.shape[1 + axis]
        side = jnp.floor(size * jnp.sqrt(1 - weight)).astype(jnp.int32)
        first = jax.random.randint(axis_key, (), 0, size, jnp.int32) - side // 2
        places = jnp.arange(size)
        along = (places >= first) & (places < first + side)
        inside &= along[:, None] if axis == 0 else along
    kept = 1 - inside.mean(dtype=jnp.float32)
    pasted = jnp.where(inside[None, :, :, None], images[other], images)
    return pasted, _blend(kept, targets, targets[other])


def _draw(key: Key, count: int, alpha: float) -> tuple[jax.Array, jax.Array]:
    """λ, float32[], and for each example another one, int32[count]: a permutation of the batch."""
    weight_key, order_key = jax.random.split(key)
    weight = jax.random.beta(weight_key, alpha, alpha, dtype=jnp.float32)
    return weight, jax.random.permutation(order_key, count)


def _blend(weight: jax.Array, one: jax.Array, other: jax.Array) -> jax.Array:
    return weight * one + (1 - weight) * other
