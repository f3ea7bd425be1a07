"""Read data sets that tensorflow-datasets (tfds) has prepared: metadata, records and decoded arrays."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rethink_gen.errors import DataError

Folder = str | os.PathLike[str] | None
GENERATED = "generated_imagenet"  # a small replacement for ImageNet, which download.py makes on first use
MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # number of channels → mode in Pillow
_END = 1 << 16  # bytes
_HIDDEN_TEST_LABELS = ("imagenet2012",)  # the validation split is used as the test split, as in the paper
HELD_OUT = 5  # see `held_out`


@dataclass(frozen=True)
class Source:
    """A data set on disk, as its metadata describe it."""

    name: str
    version: str
    shape: tuple[int, ...]  # of one image: height, width, channels; -1 if it varies
    num_classes: int
    train: int  # number of images
    test: int
    test_split: str = "test"  # "validation" if there is no test split; "" if the test images are held out of train
    features: tuple[str, str] = ("image", "label")  # names of the image and the label in tfds
    files: tuple[tuple[str, int], ...] = ()  # names and sizes
    folder: Path | None = None  # where tfds prepared it; None: bundled, or only the cache remains

    @property
    def streamed(self) -> bool:
        """Whether its images have various sizes, as in ImageNet. Then they are decoded while a run trains."""
        return -1 in self.shape

    def cut(self, train_size: int | None, test_size: int | None) -> tuple[int, int]:
        """The numbers of train and test images of a run that asks for at most these sizes; None means all."""
        return min(self.train, train_size or self.train), min(self.test, test_size or self.test)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the metadata and of both ends of each file, in hex.

        It replaces the checksum of streamed data, which would take hours. Of the generated data set, which nobody
        prepares, the metadata are enough.
        """
        about = repr((self.name, self.version, self.num_classes, self.files))
        ends = "" if self.folder is None or self.name == GENERATED else self.content(_END)
        return hashlib.sha256((about + ends).encode()).hexdigest()

    def content(self, most: int | None = None) -> str:
        """SHA-256 of the files as they are on disk, in hex: array_record pads files, so other labels may have one size.

        Args:
          most: bytes to read at both ends of a file; None: the whole file, 0.3 s for CIFAR-10.

        Raises:
          DataError: a file cannot be read.
        """
        assert self.folder
        digest = hashlib.sha256()
        for name, size in self.files:
            try:
                with (self.folder / name).open("rb") as file:
                    digest.update(f"{name} {size} ".encode())
                    if most is None or size <= 2 * most:
                        digest.update(hashlib.file_digest(file, "sha256").digest())
                        continue
                    digest.update(file.read(most))
                    file.seek(-most, os.SEEK_END)
                    digest.update(file.read())
            except OSError as error:
                raise DataError(f"{self.folder / name} cannot be read ({error.strerror})") from error
        return digest.hexdigest()

    @property
    def cache(self) -> Path:
        """The path of the cached file of decoded arrays."""
        return cache_folder() / f"{self.name}-{self.version}.npz"


def data_root(data_dir: Folder = None) -> Path:
    """The folder of tfds: `data_dir`, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return _in_home(Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"))


def cache_folder() -> Path:
    """The folder for caches: datasets/ in $RETHINK_GEN_CACHE, else in the user's cache folder."""
    import platformdirs

    if chosen := os.environ.get("RETHINK_GEN_CACHE"):
        return _in_home(Path(chosen)) / "datasets"
    try:
        return platformdirs.user_cache_path("rethink-gen").absolute() / "datasets"
    except RuntimeError:  # no home, see below
        return _in_home(Path("~/datasets"))


def compiled_folder() -> Path | None:
    """The folder for compiled programs, made if it is not there; None where it cannot be had, for it is optional.

    A compiled program is code: the folder must belong to the user, and nobody else can write to it.
    """
    folder = cache_folder() / "compiled"
    with suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if about.st_uid == os.getuid() and not about.st_mode & 0o022 and os.access(folder, os.W_OK):
            return folder
    return None


def _in_home(path: Path) -> Path:
    """The path, absolute; a user without a home, as in some containers, has a folder for temporary files instead."""
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        return Path(tempfile.gettempdir(), f"rethink-gen-{os.getuid()}", *path.parts[1:])


def version(path: Path) -> tuple[int, ...]:
    """Parses the version of a folder 3.0.2 or a file name-3.0.2.npz: (3, 0, 2); () for any other path."""
    match = re.fullmatch(r"(?:.*-)?(\d+)\.(\d+)\.(\d+)(?:\.npz)?", path.name)
    return tuple(map(int, match.groups())) if match else ()


def describe(name: str, folder: Path) -> Source:
    """Reads the metadata of a prepared data set.

    Args:
      name: of the data set in tfds.
      folder: of one version of it.

    Raises:
      DataError: the metadata are damaged, or do not describe an image classification data set that can be read.
    """
    again = f"delete {folder} and run: rethink-gen data prepare {name}"
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
        features = json.loads((folder / "features.json").read_text()).get("featuresDict", {}).get("features", {})
        shards = {split["name"]: [int(length) for length in split["shardLengths"]] for split in info["splits"]}
        files = tuple(sorted((path.name, path.stat().st_size) for path in folder.iterdir() if path.is_file()))
        supervised = [
            key["featureKey"] for key in ((info.get("supervisedKeys") or {}).get("tuple") or {}).get("items", [])
        ]
        image, label = supervised if len(supervised) == 2 else ("image", "label")
        if "image" not in features.get(image, {}) or "classLabel" not in features.get(label, {}):
            raise DataError(
                f"{name} in {folder} is not an image classification data set: it needs an image and a class label"
            )
        shape = tuple(map(int, features[image]["image"].get("shape", {}).get("dimensions", [])))
        dtype, num_classes = features[image]["image"].get("dtype"), int(features[label]["classLabel"]["numClasses"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder} has damaged metadata ({type(error).__name__}: {error}); {again}") from error
    if len(shape) != 3 or 0 in shape or shape[2] not in MODES or dtype != "uint8":
        raise DataError(f"{name} in {folder} cannot be loaded: its images must be uint8 with 1, 3 or 4 channels")
    test = "test" if "test" in shards and name not in _HIDDEN_TEST_LABELS else "validation"
    alone = sum(shards.get("train", [])) >= HELD_OUT and len(shards) == 1 and -1 not in shape
    if [name for name, lengths in shards.items() if sum(lengths)] == ["test"]:
        ask = "read its images and ask a network that kept its weights: result.predict(images), see docs/adding.md"
        raise DataError(f"{name} in {folder} has a test split alone, and nothing to train on; {ask}")
    if not alone and (not sum(shards.get("train", [])) or not sum(shards.get(test, []))):
        raise DataError(
            f"{name} in {folder} cannot be loaded: it needs a train and a test split, not {', '.join(shards)}"
        )
    if info.get("fileFormat") != "array_record":
        place = Path(*name.split("."), folder.name)
        convert = f"tfds convert_format --dataset_version_dir={folder} --out_file_format=array_record"
        raise DataError(
            f"{folder} has {info.get('fileFormat')} files, but array_record files are needed; leave it, convert it "
            f"with {convert} --out_dir=NEW/{place} and set TFDS_DATA_DIR=NEW"
        )
    if sum(".array_record-" in file for file, _ in files) < sum(map(len, shards.values())):
        raise DataError(f"{folder}: some array_record files are missing; {again}")
    if alone:
        held = int(held_out(sum(shards["train"])).sum())
        sizes, test = (sum(shards["train"]) - held, held), ""
    else:
        sizes = sum(shards["train"]), sum(shards[test])
    return Source(name, folder.name, shape, num_classes, *sizes, test, (image, label), files, folder)


def held_out(n: int) -> np.ndarray:
    """bool[n]: which examples are tested on where there is one split alone: every fifth of a fixed permutation."""
    held = np.zeros(n, bool)
    held[np.random.RandomState(0).permutation(n)[::HELD_OUT]] = True
    return held


def records(source: Source, split: str) -> Any:
    """Opens a split: a sequence of examples, which are dictionaries with encoded images."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(source.folder)
    # Pillow decodes the images, not OpenCV: JPEG decoders differ in the last bits, and checksums would differ too.
    decoders = {source.features[0]: tfds.decode.SkipDecoding()}
    return builder.as_data_source(split, decoders=decoders)  # pyright: ignore[reportCallIssue]


class Decoded(NamedTuple):
    """The decoded arrays of a data set, in its stored order."""

    train_images: np.ndarray  # uint8[N, H, W, C]
    train_labels: np.ndarray  # int32[N]
    test_images: np.ndarray  # uint8[M, H, W, C]
    test_labels: np.ndarray  # int32[M]


def decode(source: Source) -> Decoded:
    """Decodes both splits of a data set. CIFAR-10 takes about ten seconds.

    Raises:
      DataError: the files are damaged, or the labels are hidden.
    """
    from PIL import Image

    assert source.folder
    image, label = source.features

    def split(name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
        images, labels = np.empty((n, *source.shape), np.uint8), np.empty(n, np.int32)
        examples = records(source, name)
        for start in range(0, n, 1000):  # blocks are five times faster than single examples and need little memory
            rows = range(start, min(start + 1000, n))
            for row, record in zip(rows, examples.__getitems__(rows), strict=True):
                pixels = Image.open(io.BytesIO(record[image])).convert(MODES[source.shape[2]])
                images[row] = np.asarray(pixels).reshape(source.shape)
                labels[row] = record[label]
        if labels.min() < 0 or labels.max() >= source.num_classes:
            raise DataError(
                f"{source.folder}: the labels of the {name} split are hidden or out of range, so no accuracy can be "
                "measured on it; choose another data set, or make one of your own of its train split with "
                "rg.Dataset.from_arrays"
            )
        return images, labels

    try:
        if source.test_split:
            return Decoded(*split("train", source.train), *split(source.test_split, source.test))
        images, labels = split("train", source.train + source.test)
        held = held_out(len(labels))
        return Decoded(images[~held], labels[~held], images[held], labels[held])
    except DataError:
        raise
    except Exception as error:  # the readers raise many kinds of errors on damaged bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{source.folder} cannot be decoded ({reason}); delete it and run: rethink-gen data prepare {source.name}"
        ) from error
