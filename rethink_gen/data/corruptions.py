"""Data set → data set: the randomizations of Section 2, each pure in a key, drawn once per run and fixed over epochs.

A corruption is a function `(key, dataset, level) -> Dataset`. `level` in [0, 1] is the probability with which each
example is hit, independently. Hits are nested: for one key, the examples hit at 0.2 are also hit at 0.4. Level 0 is the
identity. Test labels are never touched, so test accuracy always means accuracy on the true task.

What the paper leaves open is decided here, and switched by naming a variant (see the registry):

* Channels. "The pixels" of an image are its H·W positions: the channels of a position move together.
  Switch: `*_channels_apart` permutes the H·W·C values.
* Test images. Shuffled, random and Gaussian pixels act on the images of both splits, each test image as if it were one
  more training image; only labels are protected. (The paper says so for shuffled pixels alone.)
* Gaussian statistics. One mean and one variance over all values of the training images.
  Switch: `gaussian_per_channel`, `gaussian_per_pixel`.
* Whitening. Corruptions act after the centre crop (on the whole image, where a random crop augments) and before
  per-image whitening. For permutations the order does not
  matter, since whitening uses only an image's mean and variance; Gaussian images are whitened again, which rescales
  2,352 standard normal values by about 1 ± 0.015. Switch: `gaussian_standard`, a run with `whitening=False`.
* Counts. The number of hits is random (binomial), as "independently with probability p" says.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.data.dataset import Dataset, Split

Key = jax.Array
Corruption = Callable[[Key, Dataset, float], Dataset]


def true_labels(key: Key, dataset: Dataset, level: float = 1.0) -> Dataset:
    """The data set as it is."""
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
    """int32[n]: the labels drawn for the examples that are hit, and -1 for the others.

    What an example gets is a function of the key and its index, so data whose labels are not read yet can have theirs
    corrupted one by one, in any order, now and after a restart.
    """
    hit_key, draw_key = jax.random.split(key)
    draws = np.asarray(jax.random.randint(draw_key, (n,), 0, num_classes, jnp.int32))
    return np.where(_hits(hit_key, n, level), draws, np.int32(-1))


def random_signs(key: Key, dataset: Dataset, level: float) -> Dataset:
    """Replaces training labels by fair coin flips between the first two classes, each with probability `level`.

    At level 1 class 0 stands for the sign σ = -1 and class 1 for +1, whatever the number of classes. A network that is
    right on a fraction p of the labels has a correlation (1/n) Σ σ_i h(x_i) of 2p - 1 or more with its sign function h.

    References:
      Zhang et al. 2017, Section 2 (Rademacher complexity).
    """
    signs = random_labels(key, replace(dataset, num_classes=2), level)
    return replace(signs, num_classes=dataset.num_classes)


def shuffled_pixels(key: Key, dataset: Dataset, level: float, *, channels_together: bool = True) -> Dataset:
    """Moves the pixels of every image, train and test, by one random permutation (Section 2.2)."""

    def shuffle(key: Key, pixels: np.ndarray) -> np.ndarray:
        return pixels[:, permutation]

    positions = int(np.prod(dataset.train.images.shape[1 : 3 if channels_together else 4]))
    permutation = np.asarray(jax.random.permutation(jax.random.fold_in(key, 2), positions))
    return _corrupt_pixels(key, dataset, level, shuffle, positions)


def random_pixels(key: Key, dataset: Dataset, level: float, *, channels_together: bool = True) -> Dataset:
    """Moves the pixels of each image by a random permutation of its own (Section 2.2)."""

    def shuffle(key: Key, pixels: np.ndarray) -> np.ndarray:
        order = np.concatenate([_permutations(key, i, positions) for i in range(0, len(pixels), 1000)])[: len(pixels)]
        return np.take_along_axis(pixels, order[:, :, None], axis=1)

    positions = int(np.prod(dataset.train.images.shape[1 : 3 if channels_together else 4]))
    return _corrupt_pixels(key, dataset, level, shuffle, positions)


def gaussian_pixels(key: Key, dataset: Dataset, level: float, *, statistics: tuple[int, ...] = (0, 1, 2, 3)) -> Dataset:
    """Replaces each image by Gaussian noise with the mean and variance of the training images (Section 2.2).

    The values are float32 in the units of the images, neither rounded nor clipped, so that both moments match.

    Args:
      statistics: the axes of the training images N, H, W, C over which mean and variance are taken.
    """
    images = dataset.train.images
    mean = images.mean(statistics, dtype=np.float64, keepdims=True)
    std = images.std(statistics, dtype=np.float64, keepdims=True)
    return _noise(key, dataset, level, np.asarray(mean, np.float32), np.asarray(std, np.float32))


def gaussian_standard(key: Key, dataset: Dataset, level: float) -> Dataset:
    """Replaces each image by noise that is standard normal once divided by 255: for runs with `whitening=False`."""
    return _noise(key, dataset, level, np.zeros((), np.float32), np.full((), 255, np.float32))


def _noise(key: Key, dataset: Dataset, level: float, mean: np.ndarray, std: np.ndarray) -> Dataset:
    def draw(key: Key, pixels: np.ndarray) -> np.ndarray:
        noise = np.asarray(jax.random.normal(key, (len(pixels), *dataset.train.images.shape[1:]), jnp.float32))
        return (noise * std + mean).reshape(pixels.shape)

    return _corrupt_pixels(key, dataset, level, draw, int(np.prod(dataset.train.images.shape[1:3])))


def _corrupt_pixels(
    key: Key, dataset: Dataset, level: float, function: Callable[[Key, np.ndarray], np.ndarray], positions: int
) -> Dataset:
    """Applies `function(key, pixels[N, positions, ...])` to the images of both splits that are hit; labels stay."""

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
    """bool[n]: true with probability `level` each; for one key, growing with `level`."""
    return np.asarray(jax.random.uniform(key, (n,), jnp.float32) < level)


@partial(jax.jit, static_argnums=2)
def _permutations(key: Key, start: int, positions: int) -> jax.Array:
    """int32[1000, positions]: the permutations of images start … start + 999, each a function of its index alone."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, start + jnp.arange(1000))
    return jax.vmap(jax.random.permutation, (0, None))(keys, positions)


# These leave the images as they are.
OF_LABELS = (
    *("true_labels", "random_labels", "random_signs"),
    *("uniform_wrong", "pair_flip", "asymmetric", "class_conditional", "human"),
)
