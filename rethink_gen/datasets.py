"""Name → `Dataset` of uint8 arrays: with prepare.py, the only module that knows tensorflow-datasets and scikit-learn's data.

What tensorflow-datasets (tfds) has prepared is decoded once, in its stored order, into one cache file that is checked
against its checksum each time it is opened. tfds is imported to decode, not to open the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import logging
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rethink_gen import prepare as preparation
from rethink_gen.errors import DataError, UsageError, unknown
from rethink_gen.experiment import NAME

logger = logging.getLogger(__name__)
Folder = str | os.PathLike[str] | None


class Split(NamedTuple):
    """Images, uint8[N, H, W, C] as loaded (float32 in the same 0..255 units after some corruptions), and labels int32[N]."""

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


@dataclass(frozen=True)
class Source:
    """A data set that is present, as its metadata describe it."""

    name: str
    version: str
    shape: tuple[int, ...]  # of one image: height, width, channels
    num_classes: int
    train: int  # number of images
    test: int
    test_split: str = "test"  # "validation" where there is no test split
    features: tuple[str, str] = ("image", "label")  # what tfds calls the image and its label
    files: tuple[tuple[str, int], ...] = ()  # name and size: they change when the data set is prepared anew
    folder: Path | None = None  # where tfds prepared it; None: bundled, or only the cache is left

    @property
    def cache(self) -> Path:
        """Where the decoded arrays are, or will be."""
        return cache_folder() / f"{self.name}-{self.version}.npz"


def load(name: str, *, data_dir: Folder = None) -> Dataset:
    """The data set of that name: bundled, or from the cache, or decoded from what tfds prepared in `data_dir`.

    A damaged cache file is no loss while its source is there: it is decoded again, with a warning.

    Args:
      name: as tfds has it, with a dot before the configuration, where there is one: `emnist.letters`.
      data_dir: default: the environment variable TFDS_DATA_DIR, else ~/tensorflow_datasets.

    Raises:
      UsageError: there is no data set of that name.
      DataError: it is not there, or damaged, or not an image classification data set; the line says what to do.
    """
    if name in BUNDLED:
        return as_published(BUNDLED[name](), "scikit-learn's copy")
    source = find(name, data_dir)
    if source.folder is None:
        return as_published(read(source), source.cache)
    if source.cache.exists():
        try:
            if cached_source(source.cache) == replace(source, folder=None):
                return as_published(read(source), source.cache)
            logger.info("%s has changed since it was cached", source.folder)
        except DataError as error:
            logger.warning("%s; decoding %s again", error, source.folder)
    dataset = as_published(decode(source), source.folder)
    write(source, dataset)
    return dataset


def prepare(name: str, *, data_dir: Folder = None, fetch: preparation.Fetch = preparation.download) -> Dataset:
    """Fetches, prepares and decodes a data set of tfds, as far as that is still to be done, and loads it.

    Raises:
      UsageError: there is no data set of that name.
      DataError: no network, no space, a wrong checksum, TensorFlow needed but not installed; the line says what to do.
    """
    if name not in BUNDLED:
        check_name(name)
        preparation.build(name, data_root(data_dir), fetch)
    return load(name, data_dir=data_dir)


def present(data_dir: Folder = None) -> list[Source]:
    """Every data set that can be loaded without a network, by name; nothing is decoded."""
    found = {name: bundled_source(name) for name in BUNDLED}
    for path in sorted(cache_folder().glob("*.npz")):
        try:
            found[path.name.rpartition("-")[0]] = cached_source(path)
        except DataError as error:
            logger.warning("%s", error)
    root = data_root(data_dir)
    for path in (*root.glob("*/*/dataset_info.json"), *root.glob("*/*/*/dataset_info.json")):
        name = ".".join(path.relative_to(root).parts[:-2])
        try:
            found[name] = find(name, data_dir)
        except (DataError, UsageError):
            continue  # text, audio, … or prepared in another format: nothing that `load` would open
    return [found[name] for name in sorted(found)]


def verify(name: str, *, data_dir: Folder = None) -> list[str]:
    """Reads all there is of a data set anew, and says in a line each what was found equal to what.

    Raises:
      DataError: something differs; the line names it.
    """
    if name in BUNDLED:
        return [f"{name}: as published, {load(name).checksum}"]
    source = find(name, data_dir)
    lines, cached = [], read(source) if source.cache.exists() else None
    if cached:
        lines.append(f"{source.cache}: matches its checksum, {cached.checksum}")
    if source.folder:
        decoded = decode(source)
        if cached and decoded.checksum != cached.checksum:
            raise DataError(f"{source.folder} and {source.cache} differ; delete the one you do not trust")
        lines.append(f"{source.folder}: decoded again, {'equal to the cache' if cached else decoded.checksum}")
        cached = decoded
    if cached and as_published(cached, source.folder or source.cache).name in PUBLISHED:
        lines.append(f"{name}: as published")
    return lines


def find(name: str, data_dir: Folder = None) -> Source:
    """The newest version of a data set in `data_dir`, or else in the cache."""
    check_name(name)
    root = data_root(data_dir)
    folders = [path.parent for path in root.joinpath(*name.split(".")).glob("*/dataset_info.json")]
    folders = [folder for folder in folders if version(folder)]  # tfds writes to incomplete.…, then renames
    if folders:
        return describe(name, max(folders, key=version))
    caches = [] if data_dir else list(cache_folder().glob(f"{name}-*.npz"))
    if caches:
        return cached_source(max(caches, key=version))
    configs = [f"{name}.{path.parts[-3]}" for path in root.joinpath(name).glob("*/*/dataset_info.json")]
    if configs:
        raise UsageError(f"{name} comes in several configurations: name one of {', '.join(sorted(set(configs)))}")
    if name in preparation.READERS:
        raise DataError(f"{name} is not in {root}; run: rethink-gen data prepare {name}, or set TFDS_DATA_DIR")
    error = unknown("dataset", name, names())
    raise UsageError(f"{error}; any other image data set of tensorflow-datasets: rethink-gen data prepare NAME")


def names() -> list[str]:
    """The data sets that can be named without further ado: bundled, present, or prepared without TensorFlow."""
    return sorted({*preparation.READERS, *(source.name for source in present())})


def check_name(name: str) -> None:
    """Refuses what is no name, and so what could be a path."""
    if not NAME.fullmatch(name) or not all(name.split(".")):
        raise unknown("dataset", name, names())


def version(path: Path) -> list[int]:
    """[3, 0, 2] for a folder 3.0.2 or a file name-3.0.2.npz; empty where there is none."""
    match = re.fullmatch(r"(?:.*-)?(\d+)\.(\d+)\.(\d+)(?:\.npz)?", path.name)
    return [int(number) for number in match.groups()] if match else []


def data_root(data_dir: Folder = None) -> Path:
    """Where tfds keeps what it has prepared."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser().absolute()


def cache_folder() -> Path:
    """Where decoded arrays are kept: $RETHINK_GEN_CACHE, or the user's cache directory."""
    import platformdirs

    return (
        Path(os.environ.get("RETHINK_GEN_CACHE") or platformdirs.user_cache_path("rethink-gen")).absolute() / "datasets"
    )


def describe(name: str, folder: Path) -> Source:
    """What the metadata of a prepared data set say of it, once they show an image classification data set."""
    again = f"delete {folder} and run: rethink-gen data prepare {name}"
    try:
        info = json.loads((folder / "dataset_info.json").read_text())
        features = json.loads((folder / "features.json").read_text()).get("featuresDict", {}).get("features", {})
        sizes = {split["name"]: sum(map(int, split["shardLengths"])) for split in info["splits"]}
        shards = sum(len(split["shardLengths"]) for split in info["splits"])
        files = tuple(sorted((path.name, path.stat().st_size) for path in folder.iterdir()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}: damaged metadata ({type(error).__name__}: {error}); {again}") from error
    pair = [item["featureKey"] for item in ((info.get("supervisedKeys") or {}).get("tuple") or {}).get("items", [])]
    image, label = pair if len(pair) == 2 else ("image", "label")
    if "image" not in features.get(image, {}) or "classLabel" not in features.get(label, {}):
        raise DataError(
            f"{name} in {folder} is not an image classification data set: it needs an image and a class label"
        )
    if info.get("fileFormat") != "array_record":
        raise DataError(f"{folder} holds {info.get('fileFormat')} files, not array_record; {again}")
    if sum(".array_record" in file for file, _ in files) < shards:
        raise DataError(f"{folder} lacks some of its {shards} array_record files; {again}")
    shape = tuple(map(int, features[image]["image"].get("shape", {}).get("dimensions", [])))
    if len(shape) != 3 or min(shape) < 1 or features[image]["image"].get("dtype", "uint8") != "uint8":
        raise DataError(
            f"the images of {name} in {folder} are not uint8 of one size; only such data sets can be loaded"
        )
    test = "test" if "test" in sizes else "validation"
    if not sizes.get("train") or not sizes.get(test):
        raise DataError(f"{name} in {folder} has the splits {', '.join(sizes)}; a train and a test split are needed")
    classes = int(features[label]["classLabel"]["numClasses"])
    return Source(name, folder.name, shape, classes, sizes["train"], sizes[test], test, (image, label), files, folder)


def decode(source: Source) -> Dataset:
    """The arrays of a prepared data set, in its stored order. CIFAR-10 takes about ten seconds."""
    import tensorflow_datasets as tfds
    from PIL import Image

    # Pillow, even where tfds would take OpenCV: JPEG decoders differ in bits, and the checksum should not.
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(source.shape[2])
    image, label = source.features
    logger.info("decoding %s", source.folder)

    def split(name: str, n: int) -> Split:
        images, labels = np.empty((n, *source.shape), np.uint8), np.empty(n, np.int32)
        records = builder.as_data_source(name, decoders={image: tfds.decode.SkipDecoding()})
        for start in range(0, n, 1000):  # by blocks: five times faster than one by one, and little memory
            rows = range(start, min(start + 1000, n))
            for row, record in zip(rows, records.__getitems__(rows), strict=True):
                images[row] = np.asarray(Image.open(io.BytesIO(record[image])).convert(mode)).reshape(source.shape)
                labels[row] = record[label]
        if labels.min() < 0 or labels.max() >= source.num_classes:
            raise ValueError(f"labels of the {name} split are hidden or out of range")
        return Split(images, labels)

    try:
        builder = tfds.builder_from_directory(source.folder)
        train, test = split("train", source.train), split(source.test_split, source.test)
    except Exception as error:  # the readers below raise whatever they like on damaged bytes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{source.folder} cannot be decoded: {reason}; delete it and run: rethink-gen data prepare {source.name}"
        ) from error
    return freeze(source.name, train, test, source.num_classes)


def freeze(name: str, train: Split, test: Split, num_classes: int) -> Dataset:
    """The data set with its checksum; from now on its arrays are read-only."""
    digest = hashlib.sha256(f"{num_classes} classes".encode())
    for array in (*train, *test):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array)
        array.setflags(write=False)
    return Dataset(name, train, test, num_classes, digest.hexdigest())


def as_published(dataset: Dataset, where: object) -> Dataset:
    """The same data set, once it is known not to differ from the published one."""
    if dataset.checksum != PUBLISHED.get(dataset.name, dataset.checksum):
        raise DataError(
            f"{dataset.name} in {where} is not the published data set (SHA-256 {dataset.checksum[:12]}…, "
            f"not {PUBLISHED[dataset.name][:12]}…); delete it and run: rethink-gen data prepare {dataset.name}"
        )
    return dataset


ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def write(source: Source, dataset: Dataset) -> None:
    """The cache file is there, whole, for every process: it is renamed into place once it is on disk."""
    path, arrays = source.cache, dict(zip(ARRAYS, (*dataset.train, *dataset.test), strict=True))
    about = json.dumps({"source": asdict(replace(source, folder=None)), "checksum": dataset.checksum})
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            np.savez(file, about=np.array(about), **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; make room there, or set RETHINK_GEN_CACHE to another folder"
        ) from error


def read(source: Source) -> Dataset:
    """What the cache file holds, once its checksum is found right: 0.1 to 0.3 s for CIFAR-10, a third of it hashing."""
    path = source.cache
    try:
        with np.load(path, allow_pickle=False) as file:
            checksum = json.loads(str(file["about"]))["checksum"]
            a, b, c, d = (file[name] for name in ARRAYS)
        dataset = freeze(source.name, Split(a, b), Split(c, d), source.num_classes)
        if dataset.checksum != checksum:
            raise ValueError("its checksum is wrong")
    except Exception as error:  # NumPy and zipfile raise whatever they like on damaged bytes
        raise damaged(path, error) from error
    return dataset


def cached_source(path: Path) -> Source:
    """What was decoded into a cache file; reads a few hundred bytes of it."""
    try:
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))["source"]
        source = Source(**{name: as_tuple(value) for name, value in about.items()})
        if source.cache != path:
            raise ValueError(f"it holds {source.name} {source.version}")
    except Exception as error:
        raise damaged(path, error) from error
    return source


def damaged(path: Path, error: Exception) -> DataError:
    """The error for a cache file that cannot be used."""
    name = path.name.rpartition("-")[0]
    return DataError(f"{path} is damaged ({error}); delete it and run: rethink-gen data prepare {name}")


def as_tuple(value: Any) -> Any:
    """A value from JSON as a frozen dataclass holds it."""
    return tuple(map(as_tuple, value)) if isinstance(value, list) else value


def digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8×8: 1,500 to train on and 297 to test on.

    Gray levels 0..16 become 0..255: level × 255/16, rounded half up. The split is drawn once and for all, from a
    stream that NumPy keeps fixed. The stored order would not do: its last 297 images are unlike the others (nearest
    neighbors get 94.6 % of them right, and 98.7 % of those drawn), so the two splits would not be of one distribution.
    """
    spec = importlib.util.find_spec("sklearn")
    paths = [Path(folder, "datasets/data/digits.csv.gz") for folder in (spec and spec.submodule_search_locations) or ()]
    if paths and paths[0].exists():  # importing scikit-learn takes five seconds
        table = np.loadtxt(paths[0], delimiter=",", dtype=np.int64)
    else:
        from sklearn.datasets import load_digits

        bunch = load_digits()
        table = np.column_stack([bunch.data, bunch.target]).astype(np.int64)
    table = table[np.random.RandomState(0).permutation(len(table))]
    images = ((table[:, :-1] * 255 + 8) // 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = table[:, -1].astype(np.int32)
    return freeze("digits", Split(images[:1500], labels[:1500]), Split(images[1500:], labels[1500:]), 10)


def bundled_source(name: str) -> Source:
    """A bundled data set, measured: reading it takes hundredths of a second."""
    dataset = BUNDLED[name]()
    return Source(
        name,
        "",
        dataset.train.images.shape[1:],
        dataset.num_classes,
        len(dataset.train.labels),
        len(dataset.test.labels),
    )


# What ships with a dependency: name → loader.
BUNDLED: dict[str, Callable[[], Dataset]] = {"digits": digits}

# Checksums of what the world knows by that name; `load` refuses anything else under it.
PUBLISHED = {
    "cifar10": "b1f386758d2b6ed29c9a0216a30cb88db8bb5b8675ce532634320a1b29d21995",
    "digits": "1540aa56481a8a6b439fd4b381fbb03ed92eea7e9886384a343598a58220feff",
    "mnist": "f35cb6df2cda26985580997e5ef0e7a6d13ad6ff73e3ed5d87d8164906e8239e",
}
