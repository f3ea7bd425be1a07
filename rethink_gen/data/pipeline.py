"""Run to data set: loaded, cut to size, cropped and corrupted."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rethink_gen import registry
from rethink_gen.data import corruptions, datasets, randomness
from rethink_gen.data.augmentations import center_crop, crops
from rethink_gen.data.dataset import Dataset
from rethink_gen.errors import ComponentError, UsageError, naming
from rethink_gen.runs import AnyRun, Run


def load(run: AnyRun) -> tuple[Dataset, Dataset]:
    """The data of a run on the host, cut to size, cropped and corrupted; and the same before corruption."""
    clean = cut(run)
    return corrupt(run, clean), clean


@randomness.pinned()
def corrupt(run: AnyRun, clean: Dataset) -> Dataset:
    """Applies the corruption of a run to data that are already cut."""
    key = randomness.stream(randomness.root_key(run.seed_of("corruption")), "corrupt")
    clean = replace(clean, true_labels=clean.train.labels)
    if registry.is_built_in("corruption", run.corruption):
        return registry.resolve("corruption", run.corruption)(key, clean, run.corruption_level)
    with naming("corruption", run.corruption):
        corrupted = registry.resolve("corruption", run.corruption)(key, clean, run.corruption_level)
    _check(run.corruption, corrupted, clean)
    return corrupted


@randomness.pinned()
def corrupted_test_labels(run: AnyRun, clean: Dataset) -> Any:
    """int32[M]: the test labels, corrupted as those of the training examples are, by draws of their own.

    Nothing is trained on them. A noisy test set is what a user has who has no clean one. Only for the built-in
    corruptions that draw labels; else the true ones.
    """
    name = registry.parse(run.corruption)[0]
    if name not in corruptions.OF_LABELS or name in ("true_labels", "human"):
        return clean.test.labels
    key = randomness.stream(randomness.root_key(run.seed_of("corruption")), "corrupt test labels")
    as_training = replace(clean, train=clean.test, true_labels=clean.test.labels)
    return registry.resolve("corruption", run.corruption)(key, as_training, run.corruption_level).train.labels


def cut(run: AnyRun) -> Dataset:
    """The data of a run before corruption: cut to its sizes, and cropped if no augmentation crops."""
    dataset = datasets.load(run.dataset)
    crop = lambda images: images
    if isinstance(run, Run) and not crops(run.augmentations):
        crop = partial(center_crop, size=run.crop_size)
    part = lambda split, rows: split._replace(images=crop(split.images[rows]), labels=split.labels[rows])
    train, test = _rows(run, len(dataset.train.labels)), slice(run.test_size)
    return replace(dataset, train=part(dataset.train, train), test=part(dataset.test, test), skipped=train.start)


def _rows(run: AnyRun, there: int) -> slice:
    """Which of the training images a run uses.

    Raises:
      UsageError: it passes over some, and then there are not as many as it asks for.
    """
    skip = run.train_skip if isinstance(run, Run) else 0
    if skip and skip + (run.train_size or 1) > there:
        raise UsageError(
            f"{run.dataset} has {there:,} training images; {skip:,} are passed over, and {run.train_size or 1:,} more "
            "are asked for: set a smaller train_size, train_skip or pretrain_size"
        )
    return slice(skip, run.train_size and skip + run.train_size)


def _check(name: str, corrupted: Dataset, clean: Dataset) -> None:
    """Refuses what a corruption of a user's own must not return.

    Raises:
      ComponentError: it is no data set, its arrays do not fit together, or its images hold NaN or inf.
    """
    if not isinstance(corrupted, Dataset):
        raise ComponentError(f"corruption {name!r} must return a Dataset, not {type(corrupted).__name__}")
    images, labels = corrupted.train
    sizes = (len(images), len(labels), len(corrupted.true_labels))
    if len(set(sizes)) > 1:
        raise ComponentError(
            f"corruption {name!r} returns {sizes[0]} images, {sizes[1]} labels and {sizes[2]} true_labels; where it "
            "changes the number of examples it must set true_labels, too"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ComponentError(f"corruption {name!r} returns labels {labels.dtype}; they must be whole numbers, int32")
    if labels.min() < 0 or labels.max() >= clean.num_classes:
        raise ComponentError(f"corruption {name!r} returns labels outside of 0 to {clean.num_classes - 1}")
    if np.issubdtype(images.dtype, np.floating) and not np.isfinite(images).all():  # else every run would diverge
        raise ComponentError(f"corruption {name!r} returns images that hold NaN or inf")


def corrupted(
    dataset: str | Dataset,
    corruption: str,
    *,
    level: float = 1.0,
    seed: int = 0,
    train_size: int | None = None,
    test_size: int | None = None,
) -> Dataset:
    """The very data that a run with these settings sees, whole images: arrays, true labels and what was changed.

    Args:
      dataset: a name or a Dataset; it must fit in memory.
      corruption: a name, with options or without: "random_labels", "asymmetric(map=mnist)".
      level: in [0, 1].
      seed: decides what is hit and what it becomes.
      train_size, test_size: the first n examples; None: all.

    Returns:
      A Dataset: train.images uint8 or float32[N, H, W, C], train.labels int32[N], test alike, true_labels int32[N],
      changed bool[N].

    Raises:
      UsageError: no such data set or corruption; DataError: the data are not there.
    """
    run = AnyRun(
        dataset=dataset,  # type: ignore[arg-type]
        corruption=corruption,
        corruption_level=level,
        seed=seed,
        train_size=train_size,
        test_size=test_size,
    )
    registry.find("corruption", registry.parse(run.corruption)[0])
    return corrupt(run, cut(run))
