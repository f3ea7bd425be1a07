"""Corruptions of a data set: random labels, shuffled, random and Gaussian pixels (Section 2).

A corruption is a pure function `(key, dataset, level) -> Dataset`. A run applies it once; the result is fixed over
epochs. `level` in [0, 1] is the probability that an example is hit, independently of the others. Hits are nested: for
one key, the examples hit at 0.2 are also hit at 0.4. Level 0 is the identity. Test labels never change, so test
accuracy is always accuracy on the true task.

Our choices where the paper is silent, and the variants that make another choice (see the registry):

* Channels. "The pixels" of an image are its H·W positions: the channels of a position move together.
  Variants: `*_channels_apart` permutes the H·W·C values.
* Test images. Shuffled, random and Gaussian pixels act on the images of both splits, and treat a test image like
  another training image. Only test labels are protected. (The paper states this for shuffled pixels only.)
* Gaussian statistics. One mean and one variance over all values of the training images.
  Variants: `gaussian_per_channel`, `gaussian_per_pixel`.
* Whitening. Corruptions act after the center crop and before per-image whitening. With a random crop they act on the
  whole image. For permutations the order does not matter, since whitening uses only the mean and variance of an image.
  Gaussian images are whitened again, which rescales 2,352 standard normal values by about 1 ± 0.015.
  Variant: `gaussian_standard` in a run with `whitening=False`.
* Counts. The number of hits is random (binomial), as "independently with probability p" says.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import UsageError

Key = jax.Array
Corruption = Callable[[Key, Dataset, float], Dataset]


def true_labels(key: Key, dataset: Dataset, level: float = 1.0) -> Dataset:
    """True labels: returns the data set unchanged."""
    return dataset


def random_labels(key: Key, dataset: Dataset, level: float) -> Dataset:
    """Replaces training labels by uniform draws over all classes, each with probability `level`.

    A draw may return the true class, so on average `level * (1 - 1/K)` of the labels change.

    References:
      Zhang et al. 2017, Section 2.2 ("partially corrupted labels"; level 1 is "random labels").
    """
    labels = dataset.train.labels
    drawn = drawn_labels(key, len(labels), dataset.num_classes, level)
    true = labels if dataset.true_labels is None else dataset.true_labels
    return replace(dataset, train=dataset.train._replace(labels=np.where(drawn < 0, labels, drawn)), true_labels=true)


def drawn_labels(key: Key, n: int, num_classes: int, level: float) -> np.ndarray:
    """Draws random labels: int32[n], a class for each example that is hit, and -1 for the others.

    The label of an example depends only on the key and its index. So the labels of streamed data can be corrupted one
    by one, in any order, also after a restart.
    """
    hit_key, draw_key = jax.random.split(key)
    draws = np.asarray(jax.random.randint(draw_key, (n,), 0, num_classes, jnp.int32))
    return np.where(_hits(hit_key, n, level), draws, np.int32(-1))


def random_signs(key: Key, dataset: Dataset, level: float) -> Dataset:
    """Replaces training labels by fair coin flips between the first two classes, each with probability `level`.

    Class 0 is the sign σ = -1 and class 1 is σ = +1, for any number of classes from 2 on. At level 1, if a network
    predicts a fraction p of the labels, its sign function h has a correlation (1/n) Σ σ_i h(x_i) of at least 2p - 1
    with the signs.

    References:
      Zhang et al. 2017, Section 2 (Rademacher complexity).
    """
    if dataset.num_classes < 2:
        raise UsageError(f"random_signs needs at least 2 classes; {dataset.name} has {dataset.num_classes}")
    signs = random_labels(key, replace(dataset, num_classes=2), level)
    return replace(signs, num_classes=dataset.num_classes)


def shuffled_pixels(key: Key, dataset: Dataset, level: float, *, channels_together: bool = True) -> Dataset:
    """Permutes the pixels of all images, train and test, by one random permutation (Section 2.2).

    Args:
      channels_together: whether to permute the H·W positions (True) or the H·W·C values (False).
    """

    def shuffle(key: Key, pixels: np.ndarray) -> np.ndarray:
        return pixels[:, permutation]

    positions = _positions(dataset, channels_together)
    permutation = np.asarray(jax.random.permutation(jax.random.fold_in(key, 2), positions))
    return _corrupt_pixels(key, dataset, level, shuffle, positions)


def random_pixels(key: Key, dataset: Dataset, level: float, *, channels_together: bool = True) -> Dataset:
    """Permutes the pixels of each image by its own random permutation (Section 2.2).

    Args:
      channels_together: whether to permute the H·W positions (True) or the H·W·C values (False).
    """

    def shuffle(key: Key, pixels: np.ndarray) -> np.ndarray:
        order = np.concatenate([_permutations(key, i, positions) for i in range(0, len(pixels), 1000)])[: len(pixels)]
        return np.take_along_axis(pixels, order[:, :, None], axis=1)

    positions = _positions(dataset, channels_together)
    return _corrupt_pixels(key, dataset, level, shuffle, positions)


def _positions(dataset: Dataset, channels_together: bool) -> int:
    """How many pixels of an image, or values if channels move apart, change places.

    Raises:
      UsageError: the examples are feature vectors, which are images of one pixel.
    """
    positions, channels = int(np.prod(dataset.train.images.shape[1:3])), dataset.train.images.shape[3]
    if channels_together and positions == 1 < channels:
        raise UsageError(
            f"{dataset.name} holds feature vectors, images of one pixel, which cannot change places: "
            "name shuffled_pixels_channels_apart or random_pixels_channels_apart"
        )
    return positions if channels_together else positions * channels


def gaussian_pixels(key: Key, dataset: Dataset, level: float, *, statistics: tuple[int, ...] = (0, 1, 2, 3)) -> Dataset:
    """Replaces each image by Gaussian noise with the mean and variance of the training images (Section 2.2).

    The values are float32 in the range of the images. They are neither rounded nor clipped, so both moments match.

    Args:
      statistics: the axes of the training images N, H, W, C over which mean and variance are taken.
    """
    images = dataset.train.images
    mean = images.mean(statistics, dtype=np.float64, keepdims=True)
    std = images.std(statistics, dtype=np.float64, keepdims=True)
    return _noise(key, dataset, level, np.asarray(mean, np.float32), np.asarray(std, np.float32))


def gaussian_standard(key: Key, dataset: Dataset, level: float) -> Dataset:
    """Replaces each image by noise that is standard normal after division by 255; for runs with `whitening=False`."""
    return _noise(key, dataset, level, np.zeros((), np.float32), np.full((), 255, np.float32))


def _noise(key: Key, dataset: Dataset, level: float, mean: np.ndarray, std: np.ndarray) -> Dataset:
    def draw(key: Key, pixels: np.ndarray) -> np.ndarray:
        noise = np.asarray(jax.random.normal(key, (len(pixels), *dataset.train.images.shape[1:]), jnp.float32))
        return (noise * std + mean).reshape(pixels.shape)

    return _corrupt_pixels(key, dataset, level, draw, int(np.prod(dataset.train.images.shape[1:3])))


def _corrupt_pixels(
    key: Key, dataset: Dataset, level: float, function: Callable[[Key, np.ndarray], np.ndarray], positions: int
) -> Dataset:
    """Applies `function(key, pixels[N, positions, ...])` to the images that are hit, in both splits."""

    def corrupt(key: Key, split: Split) -> Split:
        hit_key, draw_key = jax.random.split(key)
        hit = _hits(hit_key, len(split.images), level)
        if not hit.any():
            return split
        corrupted = function(draw_key, split.images.reshape(len(split.images), positions, -1))
        corrupted = corrupted.reshape(split.images.shape)
        return split._replace(
            images=corrupted if hit.all() else np.where(hit[:, None, None, None], corrupted, split.images)
        )

    train_key, test_key = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    return replace(dataset, train=corrupt(train_key, dataset.train), test=corrupt(test_key, dataset.test))


def _hits(key: Key, n: int, level: float) -> np.ndarray:
    """Draws hits: bool[n], each True with probability `level`. For one key, hits at a lower level are a subset."""
    return np.asarray(jax.random.uniform(key, (n,), jnp.float32) < level)


@partial(jax.jit, static_argnums=2)
def _permutations(key: Key, start: int, positions: int) -> jax.Array:
    """The permutations int32[1000, positions] of images start … start + 999; each depends only on key and index."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, start + jnp.arange(1000))
    return jax.vmap(jax.random.permutation, (0, None))(keys, positions)


# Corruptions that do not change the images.
OF_LABELS = (
    *("true_labels", "random_labels", "random_signs"),
    *("uniform_wrong", "pair_flip", "asymmetric", "class_conditional", "class_conditional_cifar10n", "human"),
)
