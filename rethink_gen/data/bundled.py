"""Data sets that need no download: scikit-learn's digits, and modular addition, which is computed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from rethink_gen.data.dataset import Dataset, freeze
from rethink_gen.data.tfds import Source

MODULUS = 97  # of `modular_addition`


@cache
def digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8×8: 1,500 to train on and 297 to test on.

    Gray levels 0..16 become 0..255: level × 255/16, rounded half up. The split is drawn once and for all, from a stream
    that NumPy keeps fixed. The stored order would not do: its last 297 images are unlike the others (nearest neighbors
    get 94.6 % of them right, and 98.7 % of those drawn), so that the two splits would not be of one distribution.
    """
    spec = importlib.util.find_spec("sklearn")  # importing it takes five seconds
    paths = [Path(folder, "datasets/data/digits.csv.gz") for folder in (spec and spec.submodule_search_locations) or ()]
    if paths and paths[0].exists():
        table = np.loadtxt(paths[0], delimiter=",", dtype=np.int64)
    else:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        table = np.column_stack([images, labels]).astype(np.int64)
    table = table[np.random.RandomState(0).permutation(len(table))]
    images = ((table[:, :-1] * 255 + 8) // 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = table[:, -1].astype(np.int32)
    source = Source("digits", "", (8, 8, 1), 10, 1500, 297)
    return freeze(source, images[:1500], labels[:1500], images[1500:], labels[1500:])


@cache
def modular_addition() -> Dataset:
    """All 9,409 pairs (a, b) of numbers below 97; the label is (a + b) mod 97. Half of them are to train on.

    An image is 1×1 with 194 channels: a and b one-hot, 0 or 255. The order, and so the split, is drawn once and for
    all, from a stream that NumPy keeps fixed.

    References:
      Power et al. 2022, "Grokking: generalization beyond overfitting on small algorithmic datasets".
    """
    pairs = np.random.RandomState(0).permutation(MODULUS**2)
    a, b = np.divmod(pairs, MODULUS)
    one_hot = 255 * np.eye(MODULUS, dtype=np.uint8)
    images = np.concatenate([one_hot[a], one_hot[b]], axis=1)[:, None, None]
    labels = ((a + b) % MODULUS).astype(np.int32)
    half = len(pairs) // 2
    source = Source("modular_addition", "", images.shape[1:], MODULUS, half, len(pairs) - half)
    return freeze(source, images[:half], labels[:half], images[half:], labels[half:])


# What ships with a dependency, or is computed.
DATASETS: dict[str, Callable[[], Dataset]] = {"digits": digits, "modular_addition": modular_addition}
