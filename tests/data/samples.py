"""Small data sets whose corruption can be told, and what chance allows.

Splits are of equal size, and of few sizes in all: each new shape costs a compilation.
"""

from functools import cache

import numpy as np
from scipy import stats

from rethink_gen import registry
from rethink_gen.data import randomness
from rethink_gen.data.corruptions import OF_LABELS
from rethink_gen.data.dataset import Dataset, Split

SEEDS = range(20)
SIGMAS, P_VALUE = 4.42, 1e-5
SPECIAL = ("class_conditional", "human", "extra_noisy_copies")  # see test_label_noise.py
NAMES = [name for name in registry.COMPONENTS["corruption"] if name not in SPECIAL]
PIXELS = [name for name in NAMES if name not in OF_LABELS]


def corrupt_key(seed):
    """The key that a run of this seed corrupts with."""
    return randomness.stream(randomness.root_key(seed), "corrupt")


def frozen(array):
    array.setflags(write=False)  # as `load` hands them out
    return array


def dataset_of(train_images, test_images, num_classes=10):
    split = lambda images: Split(frozen(images), frozen(np.arange(len(images), dtype=np.int32) % num_classes))
    return Dataset("synthetic", split(train_images), split(test_images), num_classes, "")


@cache
def small():
    """30 and 30 images taller than wide, with three channels of different brightness."""
    rng = np.random.default_rng(0)
    draw = lambda: (rng.integers(0, 100, (30, 6, 4, 3)) + np.array([0, 50, 150])).astype(np.uint8)
    return dataset_of(draw(), draw())


@cache
def telltale(n=30):
    """Every image the same, and every value in it another: where a value is found says how it moved."""
    images = np.tile(np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3), (n, 1, 1, 1))
    return dataset_of(images, images.copy())


@cache
def uneven():
    """2,000 and 2,000 images, some brighter, whose channels and pixels differ in mean and spread; the latter darker."""
    rng = np.random.default_rng(1)
    mean, std = rng.uniform(90, 190, (6, 4, 3)), rng.uniform(5, 20, (6, 4, 3))
    brightness = rng.normal(0, 10, (2, 2000, 1, 1, 1))
    images = mean + brightness + std * rng.standard_normal((2, 2000, 6, 4, 3))
    images = images.round().clip(0, 255).astype(np.uint8)
    return dataset_of(images[0], images[1] // 2)


@cache
def labels_only():
    return dataset_of(np.zeros((50_000, 1, 1, 1), np.uint8), np.zeros((10, 1, 1, 1), np.uint8))


def independent(counts):
    """Whether the rows and columns of a table of counts are, as far as chance allows."""
    expected = np.outer(counts.sum(1), counts.sum(0)) / counts.sum()
    statistic = ((counts - expected) ** 2 / expected).sum()
    return stats.chi2.sf(statistic, (counts.shape[0] - 1) * (counts.shape[1] - 1)) > P_VALUE


def equal(one, other):
    pairs = zip((*one.train, *one.test), (*other.train, *other.test), strict=True)
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs)


def differs(one, other):
    """bool[N]: which examples of two splits are not the same."""
    return (one.images != other.images).any((1, 2, 3)) | (one.labels != other.labels)
