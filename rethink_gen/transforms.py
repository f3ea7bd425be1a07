"""Images [B, H, W, C] → images, inside jit: crop, flip, rotation, per-image whitening. Random ones take a key.

An augmentation is a function `(key, images) -> images`, drawn anew for every batch. `random_crop` is special only in
that it shrinks the image: without it, the centre crop is taken once, before training.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Key = jax.Array
MAX_ROTATION = 25.0  # degrees (Table 4, footnote)


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
    crop = lambda image, corner: jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (size_h, size_w, channels))
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
    limit = MAX_ROTATION * jnp.pi / 180
    angles = jax.random.uniform(key, (batch,), minval=-limit, maxval=limit)
    y = jnp.arange(height)[:, None] - (height - 1) / 2
    x = jnp.arange(width)[None, :] - (width - 1) / 2

    def turn(image: jax.Array, angle: jax.Array) -> jax.Array:
        rows = jnp.cos(angle) * y + jnp.sin(angle) * x + (height - 1) / 2
        columns = jnp.cos(angle) * x - jnp.sin(angle) * y + (width - 1) / 2
        sample = lambda channel: jax.scipy.ndimage.map_coordinates(channel, [rows, columns], order=1, mode="nearest")
        return jax.vmap(sample, in_axes=-1, out_axes=-1)(image)

    return jax.vmap(turn)(images.astype(jnp.float32), angles)


def whiten(images: jax.Array) -> jax.Array:
    """float32 images with zero mean and unit variance each: (x - mean) / max(std, 1/√N) over an image's N values.

    On images in [0, 1], as TensorFlow's `per_image_whitening`, which the paper names in Appendix A.
    """
    images = images.astype(jnp.float32)
    floor = images[0].size ** -0.5
    mean = images.mean((1, 2, 3), keepdims=True)
    return (images - mean) / jnp.maximum(images.std((1, 2, 3), keepdims=True), floor)


# Each runs with a key of its own, in this order of names as a run lists them.
AUGMENTATIONS: dict[str, Callable[..., jax.Array]] = {"random_crop": random_crop, "flip": flip, "rotation": rotation}
