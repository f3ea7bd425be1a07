"""`Dataset`: images and labels of two splits in memory, from a user's own arrays, a folder of images, or a source."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rethink_gen import registry
from rethink_gen.data.tfds import Source, held_out
from rethink_gen.errors import UsageError

CHANNELS = 4  # of images, at most: gray, RGB, RGBA
STANDARDIZED = 30.0  # larger values of images are not in [0, 1], nor deviations from a mean
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


class Split(NamedTuple):
    """Images, uint8[N, H, W, C] as loaded (after some corruptions float32, in the same units), and labels, int32[N]."""

    images: Any
    labels: Any


@dataclass(frozen=True)
class Dataset:
    """An image classification data set in memory. As loaded, its arrays are read-only."""

    name: str
    train: Split
    test: Split
    num_classes: int
    checksum: str  # SHA-256, hex, of the number of classes and of every array's type, shape and bytes
    # int32[N]: the true label of each training example, where a corruption changed labels; None: train.labels.
    true_labels: Any = field(default=None, compare=False)
    skipped: int = 0  # training images of the source that were passed over before the first one

    def __repr__(self) -> str:
        shape = "×".join(map(str, self.train.images.shape[1:]))
        sizes = f"{len(self.train.labels)} + {len(self.test.labels)} images of {shape}"
        return f"Dataset({self.name}: {sizes}, {self.num_classes} classes)"

    @property
    def changed(self) -> np.ndarray:
        """bool[N]: which training labels are not the true ones."""
        true = self.train.labels if self.true_labels is None else self.true_labels
        return np.asarray(self.train.labels != true)

    @staticmethod
    def from_arrays(
        name: str,
        train: tuple[Any, Any],
        test: tuple[Any, Any] | None = None,
        *,
        num_classes: int | None = None,
        scale: float = 255.0,
    ) -> Dataset:
        """A data set of your own arrays, registered under its name: `Run(dataset=data)` and `--dataset NAME` find it.

        Args:
          name: letters, digits, '_' and '.'; not the name of a built-in data set.
          train: images and labels. Images [N, H, W, C], [N, H, W] or feature vectors [N, D], which become [N, 1, 1, D]:
            uint8 as they are; floats are multiplied by `scale` and kept as float32. Labels: whole numbers 0 … K - 1.
            Runs on feature vectors usually want `whitening=False`.
          test: the same for the test split; None: every fifth example of a fixed permutation of `train` is held out,
            and the others, in their order, are the training examples.
          num_classes: K; None: one more than the largest label.
          scale: 255 for floats in [0, 1] or standardized ones, 1 for floats in [0, 255]. Runs divide by 255 again.

        Raises:
          UsageError: the arrays do not fit together, or the name is taken; the line says what is wrong.
        """
        for split in (train, test):
            if split is not None and not (isinstance(split, tuple | list) and len(split) == 2):
                raise UsageError(f"{name}: give each split as (images, labels)")
        splits = [_split(name, *train, scale)]
        splits += [_split(name, *test, scale)] if test is not None else []
        if test is None:
            images, labels = splits[0]
            if len(labels) == 1:
                raise UsageError(f"{name}: of one example none can be held out for testing; give test=(images, labels)")
            held = held_out(len(labels))
            splits = [(images[~held], labels[~held]), (images[held], labels[held])]
        (images, labels), (test_images, test_labels) = splits
        if images.shape[1:] != test_images.shape[1:]:
            raise UsageError(f"{name}: training images are {images.shape[1:]}, test images {test_images.shape[1:]}")
        if images.dtype != test_images.dtype:
            raise UsageError(f"{name}: training images are {images.dtype}, test images {test_images.dtype}")
        largest = int(max(labels.max(), test_labels.max()))
        if num_classes is not None and largest >= num_classes:
            raise UsageError(
                f"{name}: label {largest} is out of range for {num_classes} classes, 0 to {num_classes - 1}"
            )
        absent = sorted({*range(largest + 1)} - {*np.unique(labels).tolist()}) if num_classes is None else []
        if absent and test is None and absent[0] in test_labels:
            held_out_ones = f"{name}: all examples of label {absent[0]} are in the fifth that is held out for testing"
            raise UsageError(f"{held_out_ones}; give test=(images, labels), or say num_classes={largest + 1}")
        if absent:
            raise UsageError(
                f"{name}: no training example has label {absent[0]}, and the largest is {largest}; "
                f"count labels from 0, or say num_classes={largest + 1}"
            )
        source = Source(name, "", images.shape[1:], num_classes or largest + 1, len(labels), len(test_labels))
        dataset = freeze(source, images, labels, test_images, test_labels)
        if name in PUBLISHED:
            raise UsageError(f"data set {name!r} is built in; give yours another name")
        registry.add("dataset", name, dataset)
        return dataset

    def resized(self, name: str, size: int | tuple[int, int]) -> Dataset:
        """This data set with smaller or larger images, registered under another name: `data.resized("small", 32)`.

        Each image is resized whole by bilinear interpolation with antialiasing, so its aspect ratio may change.

        Args:
          name: of the new data set.
          size: pixels of a side, or (height, width).
        """
        height, width = (size, size) if isinstance(size, int) else size
        splits = [(_resize(images, height, width), labels) for images, labels in (self.train, self.test)]
        return Dataset.from_arrays(name, *splits, num_classes=self.num_classes, scale=1)

    @staticmethod
    def from_folder(
        name: str,
        folder: str | os.PathLike[str],
        *,
        size: int | tuple[int, int] = 32,
        channels: int = 3,
    ) -> Dataset:
        """A data set of image files, one subfolder per class, registered under its name.

        The classes are the subfolders in the order of their names. Each image is resized whole to `size` by bilinear
        interpolation, so its aspect ratio may change. Where the folder has the subfolders `train` and `test`, those
        hold the classes; otherwise every fifth image of a fixed permutation is held out for testing.

        Args:
          size: pixels of a side, or (height, width).
          channels: 1 for gray, 3 for RGB.

        Raises:
          UsageError: there are no images, or one cannot be read; the line names the file.
        """
        root = Path(folder).expanduser()
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise UsageError(f"{name}: size must be 1 pixel or more, got {size}")
        if not root.is_dir():
            raise UsageError(f"{root}: no such folder{f', from {Path.cwd()}' * (not root.is_absolute())}")
        parts = [root / "train", root / "test"] if (root / "train").is_dir() and (root / "test").is_dir() else [root]
        classes = sorted({path.name for part in parts for path in part.iterdir() if _is_class(path)})
        if not classes:
            raise UsageError(f"{root}: no subfolders; put the images of each class in a folder of its own")
        splits = [_read_images(part, classes, (height, width), channels) for part in parts]
        if empty := [each for label, each in enumerate(classes) if label not in splits[0][1]]:
            raise UsageError(f"{parts[0] / empty[0]}: no images; each subfolder is a class, so fill it or move it away")
        return Dataset.from_arrays(name, *splits, num_classes=len(classes))


def freeze(source: Source, *arrays: np.ndarray) -> Dataset:
    """The data set of these four arrays with its checksum; the arrays become read-only."""
    digest = hashlib.sha256(f"{source.num_classes} classes".encode())
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
        array.setflags(write=False)
    train_images, train_labels, test_images, test_labels = arrays
    train, test = Split(train_images, train_labels), Split(test_images, test_labels)
    return Dataset(source.name, train, test, source.num_classes, digest.hexdigest())


def _split(name: str, images: Any, labels: Any, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """uint8 or float32[N, H, W, C] and int32[N], as copies in C order."""
    try:
        images, labels = np.asarray(images), np.asarray(labels)
    except (TypeError, ValueError) as error:  # NumPy's arrays are of one shape
        raise UsageError(f"{name}: images or labels differ in shape among themselves; make all of one size") from error
    if images.ndim and not len(images):
        raise UsageError(f"{name}: a split without examples; give one at least")
    if images.ndim not in (2, 3, 4) or 0 in images.shape:
        raise UsageError(f"{name}: images must be [N, H, W, C], [N, H, W] or [N, D], got shape {images.shape}")
    if images.dtype != np.uint8 and images.dtype.kind not in "bf":
        raise UsageError(f"{name}: images must be uint8 or floats, got {images.dtype}; convert them with astype")
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] > CHANNELS:
        raise UsageError(f"{name}: {images.shape} is channels first; give images.transpose(0, 2, 3, 1)")
    if labels.dtype.kind not in "biuf":
        raise UsageError(f"{name}: labels must be whole numbers; give np.unique(labels, return_inverse=True)[1]")
    if labels.shape != (len(images),) or (labels.dtype.kind not in "iu" and not np.array_equal(labels, labels // 1)):
        way_out = f"; give labels.{'ravel()' if labels.shape[1] == 1 else 'argmax(1)'}" if labels.ndim == 2 else ""
        raise UsageError(
            f"{name}: labels must be {len(images)} whole numbers, got {labels.dtype} {labels.shape}{way_out}"
        )
    if labels.min() < 0:
        raise UsageError(f"{name}: labels must be 0 to K - 1, got {labels.min()}")
    if images.dtype.kind == "f" and (bad := ~np.isfinite(images)).any():
        first = int(bad.reshape(len(images), -1).any(1).argmax())
        way_out = "leave such examples out, or give np.nan_to_num(images)"
        raise UsageError(f"{name}: images[{first}] holds NaN or inf; {way_out}")
    if images.ndim > 2 and images.dtype.kind == "f" and scale > 1 and np.abs(images).max() > STANDARDIZED:
        raise UsageError(f"{name}: images hold {np.abs(images).max():g}; where they are in [0, 255], pass scale=1")
    if images.ndim < 4:
        images = images.reshape(len(images), 1, 1, -1) if images.ndim == 2 else images[..., None]
    if images.dtype != np.uint8:
        wide = images.astype(np.promote_types(images.dtype, np.float32))  # float16 has 11 bits, and ends at 65,504
        images = (wide * scale).astype(np.float32)
        if not np.isfinite(images).all():
            raise UsageError(f"{name}: images hold values beyond float32; give them in a smaller unit")
    return np.array(images, order="C"), labels.astype(np.int32)


def _resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Images [N, H, W, C] as [N, height, width, C], of the same dtype."""
    from PIL import Image

    resized = np.empty((len(images), height, width, images.shape[3]), images.dtype)
    for i, image in enumerate(images):
        for channel in range(images.shape[3]):  # Pillow has uint8 and float32 of one channel
            picture = Image.fromarray(np.ascontiguousarray(image[..., channel]))
            resized[i, ..., channel] = picture.resize((width, height), Image.Resampling.BILINEAR)
    return resized


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")  # such as .ipynb_checkpoints


def _read_images(
    folder: Path, classes: Sequence[str], size: tuple[int, int], channels: int
) -> tuple[np.ndarray, np.ndarray]:
    from PIL import Image

    images, labels = [], []
    for label, name in enumerate(classes):
        for path in sorted(p for p in (folder / name).glob("*") if p.suffix.lower() in IMAGES):
            try:
                with Image.open(path) as picture:
                    picture = picture.convert("L" if channels == 1 else "RGB")
                    picture = picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
                    images.append(np.asarray(picture).reshape(*size, channels))
            except (OSError, ValueError) as error:
                raise UsageError(f"{path}: cannot be read as an image ({error})") from error
            labels.append(label)
    if not images:
        raise UsageError(f"{folder}: no images ({', '.join(IMAGES)}) in the subfolders {', '.join(classes[:5])}")
    return np.stack(images), np.array(labels)


# The checksums of what the world knows by these names; `load` refuses anything else under them.
PUBLISHED = {
    "cifar10": "b1f386758d2b6ed29c9a0216a30cb88db8bb5b8675ce532634320a1b29d21995",
    "digits": "1540aa56481a8a6b439fd4b381fbb03ed92eea7e9886384a343598a58220feff",
    "modular_addition": "37787e78bfc6b5aed699f534e048dc5cfb81b5c54b6ccae77198974dc735defe",
    "mnist": "f35cb6df2cda26985580997e5ef0e7a6d13ad6ff73e3ed5d87d8164906e8239e",
}

# The sums of the training pixels and of their squares, by channel, of sets whose checksum is not known here. They are
# whole numbers, found from the means and standard deviations, printed in 16 digits, by which the field normalizes these
# sets. MNIST's mean, 0.1306604762738429, gives in the same way the true sum of MNIST's pixels, 1567298545.
PUBLISHED_SUMS = {
    "cifar100": ((6620373279, 6352382090, 5756623363), (1093977562105, 1007075543166, 901128318593)),
    "fashion_mnist": ((3431114169,), (631470052347,)),
    "kmnist": ((2300225310,), (483639739448,)),
}


def sums(images: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The sums of the pixels and of their squares by channel, of images uint8[N, H, W, C]."""
    channels = np.moveaxis(images, -1, 0)
    counts = np.array([sum(np.bincount(part.ravel(), minlength=256) for part in channel) for channel in channels])
    values = np.arange(256)
    return tuple((counts @ values).tolist()), tuple((counts @ values**2).tolist())


def unlike_published(dataset: Dataset) -> str:
    """What tells a data set from the one whose sums are published; empty where nothing does, or none are."""
    if dataset.name not in PUBLISHED_SUMS:
        return ""
    found, expected = sums(dataset.train.images), PUBLISHED_SUMS[dataset.name]
    if found != expected:
        pixels, squares, *others = ("/".join(map(str, each)) for each in (*found, *expected))
        return f"its training pixels sum to {pixels}, their squares to {squares}, not to {' and '.join(others)}"
    by_class = [np.bincount(labels, minlength=dataset.num_classes) for _, labels in (dataset.train, dataset.test)]
    return "" if all(np.ptp(counts) == 0 for counts in by_class) else "its classes are not of equal size"
