"""Mixed batches: mixup and CutMix, augmentations that change targets, too. They run inside jit.

An augmentation with a parameter `targets` is a function `(key, images, targets) -> (images, targets)`: images
float32[B, H, W, C] as the network gets them, after the other augmentations, cropping and whitening; and targets
float32[B, K], rows that sum to 1. One weight is drawn for each batch, as the authors of mixup do; each example is mixed
with another one of its batch.
"""

import jax
import jax.numpy as jnp

Key = jax.Array
Mixed = tuple[jax.Array, jax.Array]


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
