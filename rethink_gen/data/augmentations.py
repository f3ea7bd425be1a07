"""Images [B, H, W, C] → images, inside jit: crop, flip, rotation, color, per-image whitening. Random ones take a key.

An augmentation is a function `(key, images) -> images`, drawn anew for every batch, each with a key of its own, in the
order in which a run lists them; images are in 0..255. Those that take a `size` shrink the image to the crop size:
without one, the centre crop is taken once, before training.

`crop` and `color` are those of TensorFlow's Inception package, which the paper used on ImageNet. Ours: the package
places its windows by boxes around objects, which tensorflow-datasets does not have; and it varies the method of
resizing and the order of the changes of color from thread to thread, where here both are always the first.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from rethink_gen import registry

Key = jax.Array
_MAX_ROTATION = 25.0  # degrees (Table 4, footnote)
_MIN_AREA, _ASPECTS = 0.1, (0.75, 1.33)  # of `crop`: share of the image; width / height


def center_crop(images, size: int):
    """The central size × size pixels; images no larger than that stay whole. Works on NumPy and JAX arrays."""
    height, width = images.shape[1:3]
    top, left = max(0, (height - size) // 2), max(0, (width - size) // 2)
    return images[:, top : top + size, left : left + size]


def random_crop(key: Key, images: jax.Array, size: int) -> jax.Array:
    """A size × size window of each image at a uniformly drawn place: 25 places for 28 of 32 pixels (Section 3)."""
    batch, height, width, channels = images.shape
    size_h, size_w = min(size, height), min(size, width)
    room = jnp.array([height - size_h + 1, width - size_w + 1])
    corners = jax.random.randint(key, (batch, 2), 0, room)

    def crop(image, corner):
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (size_h, size_w, channels))

    return jax.vmap(crop)(images, corners)


def flip(key: Key, images: jax.Array) -> jax.Array:
    """Each image mirrored left to right with probability one half (Table 4)."""
    mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1], images)


def rotation(key: Key, images: jax.Array) -> jax.Array:
    """Each image turned about its centre by a uniform angle of up to ±25 degrees (Table 4).

    Bilinear interpolation, and the nearest border pixel outside the image: not stated in the paper.
    """
    batch, height, width, _ = images.shape
    limit = _MAX_ROTATION * jnp.pi / 180
    angles = jax.random.uniform(key, (batch,), minval=-limit, maxval=limit)
    y = jnp.arange(height)[:, None] - (height - 1) / 2
    x = jnp.arange(width)[None, :] - (width - 1) / 2

    def turn(image: jax.Array, angle: jax.Array) -> jax.Array:
        rows = jnp.cos(angle) * y + jnp.sin(angle) * x + (height - 1) / 2
        columns = jnp.cos(angle) * x - jnp.sin(angle) * y + (width - 1) / 2

        def sample(channel):
            return jax.scipy.ndimage.map_coordinates(channel, [rows, columns], order=1, mode="nearest")

        return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)

    return jax.vmap(turn)(images.astype(jnp.float32), angles)


def crop(key: Key, images: jax.Array, size: int) -> jax.Array:
    """A window of each image, of 10 to 100 % of its area, resized to size × size and mirrored half of the time.

    As TensorFlow's `sample_distorted_bounding_box` where no box is given: the aspect ratio is uniform, then the height
    among those that give an area in the range and fit, then the place.
    """
    batch, height, width, channels = images.shape
    aspect_key, height_key, place_key, flip_key = jax.random.split(key, 4)
    aspect = jax.random.uniform(aspect_key, (batch,), minval=_ASPECTS[0], maxval=_ASPECTS[1])
    lowest = jnp.sqrt(_MIN_AREA * height * width / aspect)
    highest = jnp.minimum(jnp.minimum(height, width / aspect), jnp.sqrt(height * width / aspect))
    window_height = jax.random.uniform(height_key, (batch,), minval=lowest, maxval=highest)
    window = jnp.stack([window_height, window_height * aspect], axis=-1)
    corner = jax.random.uniform(place_key, (batch, 2)) * (jnp.array([height, width]) - window)

    def resize(image: jax.Array, window: jax.Array, corner: jax.Array) -> jax.Array:
        scale = size / window
        return jax.image.scale_and_translate(
            image, (size, size, channels), (0, 1), scale, -corner * scale, method="linear"
        )

    return flip(flip_key, jax.vmap(resize)(images.astype(jnp.float32), window, corner))


def color(key: Key, images: jax.Array) -> jax.Array:
    """Brightness, saturation, hue and contrast of each RGB image changed at random."""
    keys = jax.random.split(key, 4)

    def draw(i, low, high):
        return jax.random.uniform(keys[i], (len(images), 1, 1, 1), minval=low, maxval=high)

    x = images / 255 + draw(0, -32 / 255, 32 / 255)
    x = _turn_hue(x, draw(2, -0.2, 0.2), saturation=draw(1, 0.5, 1.5))
    mean = x.mean((1, 2), keepdims=True)
    return 255 * (mean + draw(3, 0.5, 1.5) * (x - mean)).clip(0, 1)


def _turn_hue(rgb: jax.Array, turn: jax.Array, saturation: jax.Array) -> jax.Array:
    """Colors [..., 3] with their hue moved on by `turn` of a full circle and their saturation multiplied."""
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
    """float32 images with zero mean and unit variance each: (x - mean) / max(std, 1/√N) over an image's N values.

    On images in [0, 1], as TensorFlow's `per_image_whitening`, which the paper names in Appendix A.
    """
    images = images.astype(jnp.float32)
    floor = images[0].size ** -0.5
    mean = images.mean((1, 2, 3), keepdims=True)
    return (images - mean) / jnp.maximum(images.std((1, 2, 3), keepdims=True), floor)


def crops(augmentations: Iterable[str]) -> bool:
    """Whether one of the augmentations of a run shrinks the image to the crop size."""
    return any("size" in registry.parameters(registry.resolve("augmentation", each)) for each in augmentations)
