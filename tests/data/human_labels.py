"""The files of CIFAR-10N for tests: where the real ones are, and how to write others like them."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rethink_gen.data import cifar10n

CANDIDATES = (os.environ.get("RETHINK_GEN_CIFAR10N"), Path(__file__).parents[3] / "shared" / "cifar10n")
REAL_FILES = next((Path(path) for path in CANDIDATES if path and Path(path).is_dir()), None)
needs_human_labels = pytest.mark.skipif(REAL_FILES is None, reason="CIFAR-10N is not there: set RETHINK_GEN_CIFAR10N")


def synthetic_labels() -> dict[str, np.ndarray]:
    """int32[50000] each, in the order of tfds: classes in turn; the set number s has every (s + 2)th label wrong."""
    true = np.arange(50_000, dtype=np.int32) % 10
    wrong = lambda step: np.where(np.arange(50_000) % step == 0, (true + 3) % 10, true).astype(np.int32)
    return {"clean": true} | {name: wrong(number + 2) for number, name in enumerate(cifar10n.SETS)}


def write_files(folder: Path, labels: dict[str, np.ndarray]) -> None:
    """The two files as the authors publish theirs, for labels in the order of tfds."""
    order = np.random.default_rng(0).permutation(50_000)
    original = {}
    for name, member in cifar10n.MEMBERS.items():
        original[member] = np.empty(50_000, np.int64)
        original[member][order] = labels[name]
    np.save(folder / cifar10n.ORDER_FILE, order)
    write_torch_file(folder / cifar10n.HUMAN_FILE, pickle.dumps(original, protocol=2))


def write_torch_file(path: Path, content: bytes) -> None:
    """A file of `torch.save` with this pickle in it."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
