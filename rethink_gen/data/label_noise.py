"""Label noise of the literature: corruptions of training labels alone, each pure in its key.

A corruption is a function `(key, dataset, level, *, options) -> Dataset`. `level` in [0, 1] is the probability with
which each training label is hit, independently. For one key, the labels that are hit at 0.2 are also hit at 0.4, and
in the same way. At level 0 no label is wrong. Images, and the test split, stay as they are.

Keys are split as in `random_labels`: one half says which labels are hit, the other what they become. So for one key
all these corruptions hit the same examples. Every draw names its type, so JAX_ENABLE_X64 does not change it.

The result knows the true labels: `true_train_labels(dataset)`. That matters where the number of examples changes.
"""

import os
from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from rethink_gen.data import cifar10n, transitions
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.errors import UsageError, unknown

Key = jax.Array
Corruption = Callable[..., Dataset]


def uniform_wrong(key: Key, dataset: Dataset, level: float) -> Dataset:
    """Replaces training labels by a random other class ("symmetric noise"), each with probability `level`.

    A label that is hit is always wrong, so a share `level` of the labels is wrong: unlike `random_labels`, whose draws
    may return the true class. At level (K - 1)/K the labels carry no information; above it they do again.

    References:
      Han et al. 2018, "Co-teaching" (symmetry flipping); Patrini et al. 2017.
    """
    k = dataset.num_classes
    if k < 2:
        raise UsageError(f"uniform_wrong needs at least 2 classes; {dataset.name} has {k}")
    labels = dataset.train.labels
    steps = jax.random.randint(_draw_key(key), (len(labels),), 1, k, jnp.int32)
    return _with_hits(key, dataset, level, (labels + np.asarray(steps)) % k)


def pair_flip(key: Key, dataset: Dataset, level: float) -> Dataset:
    """Replaces training labels by the next class, c → c + 1 mod K, each with probability `level`.

    A share `level` of the labels is wrong; the customary level is 0.45. Above 0.5 the next class wins.

    References:
      Han et al. 2018, "Co-teaching" (pair flipping).
    """
    return _with_hits(key, dataset, level, (dataset.train.labels + 1) % dataset.num_classes)


def asymmetric(key: Key, dataset: Dataset, level: float, *, map: str = "cifar10") -> Dataset:  # noqa: A002
    """Replaces training labels of easily confused classes by the class they resemble, each with probability `level`.

    Five of the ten classes flip, so about `level / 2` of all labels are wrong; "40 % asymmetric noise" is level 0.4.

    Args:
      map: "cifar10": truck → automobile (9 → 1), bird → airplane (2 → 0), deer → horse (4 → 7), cat ↔ dog (3 ↔ 5).
        "mnist": 7 → 1, 2 → 7, 3 → 8, 5 ↔ 6.

    Raises:
      UsageError: the data set does not have the classes of the map.

    References:
      Patrini et al. 2017, "Making deep neural networks robust to label noise"; noise.py of giorgiop/loss-correction.
    """
    if map not in FLIPS:
        raise unknown("map of classes", map, FLIPS)
    way_out = "write a matrix of your own and use class_conditional(matrix=FILE)"
    if dataset.num_classes != 10:
        raise UsageError(f"asymmetric maps 10 classes; {dataset.name} has {dataset.num_classes}: {way_out}")
    if dataset.name in FLIPS and dataset.name != map:
        raise UsageError(f"map={map} does not fit {dataset.name}: use map={dataset.name}, or {way_out}")
    table = np.arange(10, dtype=np.int32)
    table[list(FLIPS[map])] = list(FLIPS[map].values())
    return _with_hits(key, dataset, level, table[dataset.train.labels])


def class_conditional(
    key: Key, dataset: Dataset, level: float, *, matrix: str | os.PathLike[str] | None = None
) -> Dataset:
    """Redraws training labels from the row of their class in a matrix that you name, each with probability `level`.

    Level 1 is the noise of the matrix as it is. At lower levels class i becomes j with probability
    `level * matrix[i, j]` where j ≠ i.

    Args:
      matrix: a .csv or .npy file, K × K: row = true class, column = given class. Rows sum to 1, or hold counts. What
        identifies a run is `transitions.matrix_sha256(matrix)`, not the path. Or a name of `transitions.COUNTS`, such
        as cifar10n_worst: then the corruption is called `class_conditional_cifar10n`, and no file counts.

    Raises:
      UsageError: no matrix is named, or the file does not hold one; the line names the file.
    """
    if matrix is None:
        raise UsageError("class_conditional needs matrix=FILE: a .csv or .npy, row = true class, column = given class")
    rows, labels = transitions.read_matrix(matrix, dataset.num_classes), dataset.train.labels
    uniforms = np.asarray(jax.random.uniform(_draw_key(key), (len(labels),), jnp.float32))
    return _with_hits(key, dataset, level, transitions.draw_from_rows(rows, labels, uniforms))


def human(key: Key, dataset: Dataset, level: float, *, set: str = "worst") -> Dataset:  # noqa: A002
    """Replaces training labels of CIFAR-10 by labels that people gave (CIFAR-10N), each with probability `level`.

    At level 1 the labels are those of the set, whatever the key. Wrong, in per cent of all labels: aggregate 9.01,
    random1 17.23, random2 18.12, random3 17.64, worst 40.21; at lower levels, in proportion.

    Args:
      set: "random1", "random2", "random3": one person each; "aggregate": what most of the three say; "worst": a wrong
        label wherever one of the three is wrong.

    Raises:
      UsageError: the data set is not cifar10, or there is no such set.
      DataError: the files of CIFAR-10N are missing or altered; the line says where to get them.

    References:
      Wei et al. 2022, "Learning with noisy labels revisited: a study using real-world human annotations".
    """
    labels = cifar10n.human_labels(dataset.name, true_train_labels(dataset), set, skipped=dataset.skipped)
    return _with_hits(key, dataset, level, labels)


def extra_noisy_copies(key: Key, dataset: Dataset, level: float, *, alpha: int = 1) -> Dataset:
    """Adds α copies of every training image, whose labels are drawn over all classes with probability `level`.

    The first N examples are the training set as it is, with its labels; then come the N images again, α times. Copy j
    has the labels of `random_labels` under the key `fold_in(key, j)`: a draw may return the true class. So at level 1
    a share `α/(1 + α) * (1 - 1/K)` of the labels is wrong, and the true class still leads by 1 label in 1 + α. For one
    key, the copies of α = 2 begin with those of α = 1. At level 0 all copies have their true labels.

    Args:
      alpha: α ≥ 0. The images take 1 + α times the memory: 4.8 GB for MNIST at α = 100.

    Raises:
      UsageError: alpha is negative, or no whole number.

    References:
      Rolnick et al. 2017, "Deep learning is robust to massive label noise" (uniform label noise).
    """
    if not isinstance(alpha, int) or isinstance(alpha, bool) or alpha < 0:
        raise UsageError(f"alpha must be a whole number, 0 or more, got {alpha!r}")
    labels, k = dataset.train.labels, dataset.num_classes
    noisy = [_uniform(jax.random.fold_in(key, j), labels, k, level) for j in range(1, 1 + alpha)]
    images = np.concatenate([dataset.train.images] * (1 + alpha)) if alpha else dataset.train.images
    true = np.tile(true_train_labels(dataset), 1 + alpha)
    return _with_train(dataset, Split(images, np.concatenate([labels, *noisy])), true)


def true_train_labels(dataset: Dataset) -> np.ndarray:
    """int32[N]: the true label of each training example, whatever was done to it."""
    return dataset.train.labels if dataset.true_labels is None else dataset.true_labels


def _changed_train_labels(dataset: Dataset) -> np.ndarray:
    """bool[N]: which training labels are not the true ones."""
    return dataset.train.labels != true_train_labels(dataset)


def _with_hits(key: Key, dataset: Dataset, level: float, new_labels: np.ndarray) -> Dataset:
    """The data set with `new_labels`, int32[N], where they are hit."""
    hit = _hits(key, len(new_labels), level)
    labels = np.where(hit, new_labels, dataset.train.labels)
    return _with_train(dataset, dataset.train._replace(labels=labels), true_train_labels(dataset))


def _uniform(key: Key, labels: np.ndarray, num_classes: int, level: float) -> np.ndarray:
    """int32[N]: `labels`, and uniform draws over all classes where they are hit: what `random_labels` makes of them."""
    drawn = np.asarray(jax.random.randint(_draw_key(key), labels.shape, 0, num_classes, jnp.int32))
    return np.where(_hits(key, len(labels), level), drawn, labels)


def _hits(key: Key, n: int, level: float) -> np.ndarray:
    """bool[n]: true with probability `level` each; for one key, growing with `level`."""
    hit_key, _ = jax.random.split(key)
    return np.asarray(jax.random.uniform(hit_key, (n,), jnp.float32)) < np.float32(level)


def _draw_key(key: Key) -> Key:
    """The half of a key that says what labels become."""
    _, draw_key = jax.random.split(key)
    return draw_key


def _with_train(dataset: Dataset, train: Split, true_labels: np.ndarray) -> Dataset:
    """The data set with another training split, whose true labels, int32[N], are these."""
    return replace(dataset, train=train, true_labels=true_labels)


# Class → the class it is taken for, by number.
FLIPS: dict[str, dict[int, int]] = {
    "cifar10": {9: 1, 2: 0, 4: 7, 3: 5, 5: 3},
    "mnist": {7: 1, 2: 7, 3: 8, 5: 6, 6: 5},
}
