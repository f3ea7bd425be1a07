"""Download and prepare data sets in the format of tensorflow-datasets (tfds), where possible without TensorFlow.

The builders of tfds for CIFAR and MNIST need TensorFlow to read and encode. The subclasses here read with NumPy and
encode with Pillow. They write the same records in the same order, so the prepared data set is the same.

A small generated replacement for ImageNet, JPEG files of various sizes, is prepared in the same way, in a few seconds.
It tests the code for ImageNet (reading, decoding, corruption, training) without ImageNet. No claim about learning rests
on it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.client
import importlib.util
import io
import logging
import secrets
import sys
import tarfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rethink_gen import atomic
from rethink_gen.data.tfds import GENERATED
from rethink_gen.errors import DataError, UsageError

logger = logging.getLogger(__name__)
_SIZES = {"train": 160, "validation": 40}
_COLORS = {"red": (1, 0.2, 0.2), "green": (0.2, 1, 0.2), "blue": (0.2, 0.2, 1), "grey": (0.7, 0.7, 0.7)}
_ANGLES = (0, 36, 72, 108, 144)  # degrees
_CLASSES = [f"{color}_{angle}" for color in _COLORS for angle in _ANGLES]
_LIMIT = 1 << 28  # most bytes of an unpacked file; the largest one, train.bin of CIFAR-100, has 153,700,000


class _Contents(NamedTuple):
    """The contents of the files of a data set, in the order of the files."""

    train: tuple[np.ndarray, dict[str, np.ndarray]]  # images uint8[N, H, W, C]; feature → labels uint8[N]
    test: tuple[np.ndarray, dict[str, np.ndarray]]
    class_names: dict[str, list[str]]  # feature → names, if the files have them


Fetch = Callable[[str, str, Path], None]  # (address, SHA-256, path): puts this file at this path
_Reader = Callable[[dict[str, Path]], _Contents]  # from {file name: path}


def build(name: str, root: Path, fetch: Fetch) -> None:
    """Prepares a data set under `root`, unless it is there already.

    Args:
      name: of the data set in tfds.
      root: the folder of tfds.
      fetch: downloads a file, see `download`.

    Raises:
      UsageError: tfds has no such data set.
      DataError: it cannot be downloaded or prepared; the message says what to do.
    """
    import tensorflow_datasets as tfds

    builder_class: Any
    base, _, config = name.partition(".")
    try:
        builder_class = _generated() if name == GENERATED else tfds.builder_cls(base)
    except tfds.core.DatasetNotFoundError as error:
        raise UsageError(f"no dataset named {name!r} here or in tensorflow-datasets") from error
    except ImportError:  # some builders import TensorFlow or other packages
        builder_class = None
    if name in BY_HAND and not all((root / _MANUAL / file.split()[0]).exists() for file in BY_HAND[name]):
        raise missing(name, root)
    if name in READERS:
        builder_class = _without_tensorflow(builder_class, READERS[name], fetch, root / "downloads" / name)
    elif name != GENERATED and not (builder_class and importlib.util.find_spec("tensorflow")):
        raise DataError(
            f"preparing {name} needs TensorFlow: pip install 'tensorflow>=2.20', then run the same command again"
        )
    if sys.stderr is None or not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        builder = builder_class(data_dir=root, config=config or None)
        with contextlib.redirect_stdout(sys.stderr):  # tfds prints to standard output
            builder.download_and_prepare(file_format="array_record")
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"cannot prepare {name} in {root}: {error}; free disk space there, or set TFDS_DATA_DIR"
        ) from error
    except Exception as error:  # tfds and TensorFlow raise many kinds of errors
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"tensorflow-datasets cannot prepare {name} in {root}: {reason[0]}") from error


def missing(name: str, root: Path) -> DataError:
    """The error for a data set that this module can prepare but that is not in `root`."""
    way_out = f"run: rethink-gen data prepare {name}, or set TFDS_DATA_DIR"
    if files := " and ".join(BY_HAND.get(name, ())):
        way_out = f"put {files}, which its license does not let us download, in {root / _MANUAL}, then {way_out}"
    return DataError(f"{name} is not in {root}; {way_out}")


def _without_tensorflow(original: Any, read: _Reader, fetch: Fetch, folder: Path) -> Any:
    """Subclasses a tfds builder so that it prepares the same records without TensorFlow."""
    from PIL import Image

    class Prepared(original, skip_registration=True):  # pyright: ignore
        name = original.name
        __module__ = original.__module__  # tfds records it with the data, to find the builder again

        def _split_generators(self, dl_manager):
            paths = {}
            for address, info in self.url_infos.items():
                paths[info.filename] = folder / info.filename
                fetch(address, info.checksum, paths[info.filename])
            try:
                contents = read(paths)
            except (OSError, EOFError, ValueError, LookupError, tarfile.TarError, zlib.error) as error:
                raise DataError(
                    f"the files in {folder} are not {self.name}: {error}; delete them and try again"
                ) from error
            for feature, names in contents.class_names.items():
                self.info.features[feature].names = names
            return {split: self._generate_examples(split, *getattr(contents, split)) for split in ("train", "test")}

        def _generate_examples(self, split, images, labels):
            for i, image in enumerate(images):
                example: dict[str, Any] = {feature: int(values[i]) for feature, values in labels.items()}
                if "id" in self.info.features:
                    example["id"] = f"{split}_{i:05d}"
                yield i, {"image": Image.fromarray(image.squeeze()), **example}

    return Prepared


def download(address: str, sha256: str, path: Path) -> None:
    """Downloads a file to `path` and checks its SHA-256, unless the same file is already there.

    The file appears at `path` only when it is complete.

    Raises:
      DataError: the download failed, or the file has another checksum.
    """
    if path.exists():
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                return
        raise DataError(
            f"{path} is not the file published at {address} (its SHA-256 is not {sha256}); delete it and try again"
        )
    logger.info("downloading %s", address)
    digest, temporary = hashlib.sha256(), path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.sweep(path.parent, ".*.tmp")
        with temporary.open("xb") as file:
            for block in _blocks(address, path):
                file.write(block)
                digest.update(block)
        if digest.hexdigest() != sha256:
            raise DataError(
                f"the download from {address} is not the published file (its SHA-256 is not {sha256}); "
                f"try again, or download it in another way and put it at {path}"
            )
        temporary.replace(path)
    except OSError as error:
        raise DataError(
            f"cannot write {path}: {error.strerror or error}; free disk space there, or set TFDS_DATA_DIR"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _blocks(address: str, path: Path) -> Iterator[bytes]:
    """Yields the bytes at an address, one megabyte at a time."""
    try:
        with urllib.request.urlopen(address, timeout=60) as response:
            while block := response.read(1 << 20):
                yield block
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"cannot download {address} ({reason}); try again, or download the file in another way and put it at {path}"
        ) from error


def _cifar(
    paths: dict[str, Path], *, folder: str, train: list[str], test: list[str], names: dict[str, str]
) -> _Contents:
    """Reads the binary archive of CIFAR: for each image one byte per label, then 3 planes of 32×32 bytes.

    Members are read by name and never unpacked to disk. (The other published archive has pickles.)

    Args:
      names: feature → file of class names, in the order of the label bytes.
    """
    (path,) = paths.values()
    wanted, found = {f"{folder}/{file}" for file in (*train, *test, *names.values())}, {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.name in wanted:
                stream = archive.extractfile(member) if member.isreg() and member.size <= _LIMIT else None
                if stream is None or member.name in found:
                    raise ValueError(
                        f"{member.name} in {path.name} is not a regular file, occurs twice, or is too large"
                    )
                found[member.name] = stream.read()

    def split(files: list[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        data = b"".join(found[f"{folder}/{file}"] for file in files)
        rows = np.frombuffer(data, np.uint8).reshape(-1, len(names) + 3 * 32 * 32)
        images = rows[:, len(names) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return images, {feature: rows[:, column] for column, feature in enumerate(names)}

    texts = {feature: found[f"{folder}/{file}"].decode("ascii").split() for feature, file in names.items()}
    return _Contents(split(train), split(test), texts)


def _idx(paths: dict[str, Path]) -> _Contents:
    """Reads the four files of MNIST: a big-endian header of type, rank and shape, then the values."""

    def array(file: str) -> np.ndarray:
        with gzip.open(paths[file]) as stream:
            data = stream.read(_LIMIT + 1)
        rank = data[3] if data[:3] == b"\0\0\x08" else 0  # 8: unsigned bytes
        shape = np.frombuffer(data, ">u4", rank, offset=4)
        return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)

    def split(prefix: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        images, labels = array(f"{prefix}-images-idx3-ubyte.gz"), array(f"{prefix}-labels-idx1-ubyte.gz")
        if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
            raise ValueError(f"{prefix}: images of shape {images.shape}, labels of shape {labels.shape}")
        return images[..., None], {"label": labels}

    return _Contents(split("train"), split("t10k"), {})


# Data sets that tfds cannot download → the files that it expects.
BY_HAND = {"imagenet2012": ("ILSVRC2012_img_train.tar (138 GB)", "ILSVRC2012_img_val.tar (6 GB)")}


_MANUAL = Path("downloads/manual")


# Data sets that can be prepared without TensorFlow: name in tfds → reader of its files.
READERS: dict[str, _Reader] = {
    "cifar10": partial(
        _cifar,
        folder="cifar-10-batches-bin",
        train=[f"data_batch_{i}.bin" for i in range(1, 6)],
        test=["test_batch.bin"],
        names={"label": "batches.meta.txt"},
    ),
    "cifar100": partial(
        _cifar,
        folder="cifar-100-binary",
        train=["train.bin"],
        test=["test.bin"],
        names={"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"},
    ),
    "fashion_mnist": _idx,
    "kmnist": _idx,
    "mnist": _idx,
}


def _picture(label: int, rng: np.random.Generator) -> bytes:
    """Generates a JPEG file: a grating with the color of its class, and its angle within 10 degrees."""
    from PIL import Image

    height, width = rng.integers(300, 420, 2)
    y, x = np.mgrid[:height, :width]
    angle = np.radians(_ANGLES[label % len(_ANGLES)] + rng.uniform(-10, 10))
    period, phase = rng.uniform(20, 60), rng.uniform(0, 2 * np.pi)
    wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + phase)
    color = [*_COLORS.values()][label // len(_ANGLES)]
    pixels = 128 + 60 * wave[..., None] * color + rng.normal(0, 15, (height, width, 1))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def _generated() -> Any:
    """A tfds builder with the features of `imagenet2012` that does not need TensorFlow."""
    import tensorflow_datasets as tfds

    class GeneratedImagenet(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # pyright: ignore
        name = GENERATED
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=_CLASSES),
                "file_name": tfds.features.Text(),
            }
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split, size) for split, size in _SIZES.items()}

        def _generate_examples(self, split, size):
            for i in range(size):
                name, label = f"{split}_{i:05d}.JPEG", i % len(_CLASSES)
                rng = np.random.default_rng([list(_SIZES).index(split), i])
                yield name, {"image": io.BytesIO(_picture(label, rng)), "label": label, "file_name": name}

    return GeneratedImagenet
