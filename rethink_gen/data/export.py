"""Corrupted data sets as files that NumPy alone reads: for those who train in PyTorch, or anywhere else."""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rethink_gen import atomic
from rethink_gen.data.dataset import Dataset
from rethink_gen.errors import DataError, UsageError
from rethink_gen.version import __version__


class Provenance(NamedTuple):
    """What made a corrupted data set from the clean one."""

    corruption: str  # canonical text, with its options: extra_noisy_copies(alpha=10)
    level: float  # in [0, 1]
    seed: int
    file_sha256: Mapping[str, str] | None = None  # option → SHA-256, hex, of the file it names; None: names none


class Export(NamedTuple):
    """What a file holds: N training and M test examples, and how they came about."""

    train_images: np.ndarray  # uint8[N, H, W, C]; float32 where Gaussian noise replaced them
    train_labels: np.ndarray  # int32[N]
    true_train_labels: np.ndarray  # int32[N]
    changed: np.ndarray  # bool[N]: the label is not the true one
    test_images: np.ndarray  # as train_images, [M, H, W, C]
    test_labels: np.ndarray  # int32[M]: the true ones
    about: dict[str, Any]


def export(dataset: Dataset, clean: Dataset, path: str | os.PathLike[str], provenance: Provenance) -> None:
    """Writes a corrupted data set, its true labels and its provenance to one .npz file, atomically.

    NumPy alone reads it; neither this package nor pickle is needed:

    >>> import json, numpy as np
    >>> data = np.load("corrupted.npz")  # for torch: torch.from_numpy(data["train_images"])
    >>> images, labels, about = data["train_images"], data["train_labels"], json.loads(str(data["about"]))

    Images are [N, H, W, C] in the units of the data set, 0 to 255: torch wants [N, C, H, W]. One data set and one
    provenance give one file, bit by bit.

    Args:
      dataset: what a corruption made of `clean`.
      clean: the data before it, cut to the same size; its training labels are the true ones where `dataset` does not
        say otherwise.
      path: of the file; a file that is there is replaced.
      provenance: goes into the file, and under its checksum.

    Raises:
      UsageError: `dataset` does not come from `clean`.
      StorageError: the file cannot be written.
    """
    arrays = _arrays(dataset, clean)
    about = {
        "dataset": clean.name,
        "num_classes": clean.num_classes,
        "clean_checksum": clean.checksum,
        "corruption": provenance.corruption,
        "level": float(provenance.level),
        "seed": int(provenance.seed),
        "file_sha256": dict(provenance.file_sha256 or {}),
        "versions": {
            "jax": importlib.metadata.version("jax"),
            "numpy": np.__version__,
            "rethink-gen": __version__,
        },
    }
    about["sha256"] = _sha256(arrays, about)
    members = {"about": np.array(json.dumps(about)), **arrays}
    atomic.write(Path(path), partial(np.savez, allow_pickle=False, **members))  # type: ignore[arg-type]


def read_export(path: str | os.PathLike[str]) -> Export:
    """The content of a file that `export` wrote, once its checksum is found right.

    Raises:
      DataError: it is missing, damaged, or another kind of file; the line names it.
    """
    try:
        with Path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays, about = {name: file[name] for name in ARRAYS}, json.loads(str(file["about"]))
        if about["sha256"] != _sha256(arrays, about):
            raise ValueError("its checksum is wrong")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Exception as error:  # NumPy and zipfile raise whatever they like on damaged bytes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is damaged, or no exported data set ({reason}); export it again") from error
    return Export(**arrays, about=about)


def _arrays(dataset: Dataset, clean: Dataset) -> dict[str, np.ndarray]:
    """The arrays of the file by name, in the order of ARRAYS."""
    if (dataset.name, dataset.checksum) != (clean.name, clean.checksum):
        raise UsageError(f"the corrupted data set comes from {dataset.name}, the clean one is another: {clean.name}")
    kept = dataset.true_labels
    labels, true_labels = dataset.train.labels, clean.train.labels if kept is None else kept
    if len(labels) != len(true_labels):
        raise UsageError(
            f"{len(labels)} training examples have {len(true_labels)} true labels; cut both data sets alike"
        )
    train = (dataset.train.images, labels, true_labels, labels != true_labels)
    return dict(zip(ARRAYS, map(np.ascontiguousarray, (*train, *dataset.test)), strict=True))


def _sha256(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str:
    """SHA-256, hex, of what `about` says and of every array's name, type, shape and bytes."""
    said = {name: value for name, value in about.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name, array in arrays.items():
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()


ARRAYS = ("train_images", "train_labels", "true_train_labels", "changed", "test_images", "test_labels")
