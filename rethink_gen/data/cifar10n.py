"""CIFAR-10N: the labels that people gave to the training images of CIFAR-10, read without torch.

The authors publish them as a file of `torch.save`: a zip that holds a pickle. A pickle can run code. So the unpickler
here has stand-ins for the four names that int64 arrays need, and refuses every other name. NumPy is not called before
the bytes of an array are in hand.

The license is CC BY-NC 4.0: the files are not part of this project; each user downloads them.

References:
  Wei et al. 2022, "Learning with noisy labels revisited: a study using real-world human annotations".
"""

import hashlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from rethink_gen.data.tfds import Folder, data_root
from rethink_gen.errors import DataError, UsageError, unknown

HUMAN_FILE, ORDER_FILE = "CIFAR-10_human.pt", "image_order_c10.npy"
NUM_IMAGES, NUM_CLASSES = 50_000, 10
MAX_BYTES = 16_000_000  # of the pickle; the published one has 2.4 MB


def human_labels(name: str, true_labels: np.ndarray, label_set: str, *, skipped: int = 0) -> np.ndarray:
    """int32[N]: the labels that people gave to N training images of CIFAR-10 in a row, in the order of tfds.

    Args:
      name: of the data set; only cifar10 has human labels.
      true_labels: int32[N], N ≤ 50,000: must be those that CIFAR-10N calls clean.
      label_set: one of SETS.
      skipped: how many training images come before these.

    Raises:
      UsageError: another data set, or an unknown set.
      DataError: the files are missing or altered, or belong to other images.
    """
    if label_set not in SETS:
        raise unknown("set of human labels", label_set, SETS)
    if name != "cifar10":
        raise UsageError(f"human labels exist for cifar10 only, not for {name}")
    labels, rows = _read_human_labels(), slice(skipped, skipped + len(true_labels))
    if not np.array_equal(labels["clean"][rows], true_labels):
        raise DataError(
            f"the true labels of {name} are not those of CIFAR-10N in {folder()}; "
            f"human labels need training images of tfds's cifar10, in their order"
        )
    return labels[label_set][rows]


def folder() -> Path:
    """The folder of the two files: $RETHINK_GEN_CIFAR10N, else where tfds keeps what users download themselves."""
    named = os.environ.get("RETHINK_GEN_CIFAR10N")
    return Path(named).expanduser().absolute() if named else data_root() / "downloads" / "manual" / "cifar10n"


def _read_human_labels(data_dir: Folder = None) -> dict[str, np.ndarray]:
    """Name → int32[50000] in the order of tfds: the five sets of SETS, and "clean", the true labels.

    Args:
      data_dir: the folder of the two files; default: `folder()`.

    Raises:
      DataError: a file is missing, damaged, or not the published one; the line says where to get it.
    """
    root = Path(data_dir) if data_dir else folder()
    human, order = root / HUMAN_FILE, root / ORDER_FILE
    missing = [path.name for path in (human, order) if not path.is_file()]
    if missing:
        raise DataError(f"no {' and no '.join(missing)} in {root}; {_way_out(root)}")
    arrays, rows = _read_pickled_arrays(human), _read_order(order)
    try:
        labels = {name: _as_labels(arrays[member])[rows] for name, member in MEMBERS.items()}
    except (KeyError, ValueError) as error:
        raise _refused(human, error) from error
    if (checksum := _content_sha256(labels)) != PUBLISHED:
        differ = ValueError(f"its content has SHA-256 {checksum[:8]}…, not {PUBLISHED[:8]}…")
        raise _refused(human, differ)
    return labels


def _read_pickled_arrays(path: Path) -> dict[str, np.ndarray]:
    """The int64 arrays that a file of `torch.save` holds, by name; nothing in the file is executed.

    Raises:
      DataError: it is damaged, or holds anything else.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            [member] = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if member.file_size > MAX_BYTES:
                raise ValueError(f"{member.file_size} bytes are too many")
            content = archive.read(member)
        arrays = _Unpickler(io.BytesIO(content)).load()
        return {str(name): array.values for name, array in arrays.items()}
    except Exception as error:  # zipfile and pickle raise whatever they like on damaged bytes
        raise _refused(path, error) from error


def _content_sha256(labels: dict[str, np.ndarray]) -> str:
    """SHA-256, hex, of the names and values of int32 arrays, whatever the byte order of this machine."""
    digest = hashlib.sha256()
    for name in sorted(labels):
        digest.update(f"{name} {len(labels[name])} ".encode())
        digest.update(labels[name].astype("<i4").tobytes())
    return digest.hexdigest()


def _read_order(path: Path) -> np.ndarray:
    """int64[50000]: for each image in the order of tfds, its place in the original files."""
    try:
        with path.open("rb") as file:
            order = np.lib.format.read_array(file, allow_pickle=False)
        if not np.array_equal(np.sort(order), np.arange(NUM_IMAGES)):
            raise ValueError(f"it does not name each of {NUM_IMAGES} images once")
    except Exception as error:  # NumPy raises whatever it likes on damaged bytes
        raise _refused(path, error) from error
    return order


def _as_labels(array: np.ndarray) -> np.ndarray:
    """int32[50000] of a published array, once it is known to hold labels."""
    if array.shape != (NUM_IMAGES,) or array.min() < 0 or array.max() >= NUM_CLASSES:
        raise ValueError(f"not {NUM_IMAGES} labels of {NUM_CLASSES} classes")
    return array.astype(np.int32)


def _refused(path: Path, error: Exception) -> DataError:
    """The error for a file that is there and cannot be used."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"{path} is not a file of CIFAR-10N ({reason}); delete it and {_way_out(path.parent)}")


def _way_out(root: Path) -> str:
    """Where to get the files, and where to put them."""
    return (
        f"download data/{HUMAN_FILE} and {ORDER_FILE} from https://github.com/UCSC-REAL/cifar-10-100n "
        f"(CC BY-NC 4.0) into {root}, or set RETHINK_GEN_CIFAR10N to their folder"
    )


class _Latin1:
    """For `_codecs.encode`: Python 2 has no bytes, so protocol 2 writes them as text in this encoding."""

    def __new__(cls, text: str, encoding: str) -> bytes:  # pyright: ignore[reportInconsistentConstructor]
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"encoding {encoding}")
        return text.encode("latin1")

    def __setstate__(self, state: Any = None) -> None:  # without it, a pickle could set attributes of this class
        raise pickle.UnpicklingError("a state for an encoding")


class _Int64:
    """For `numpy.dtype`: little-endian int64, the only type the file uses."""

    def __init__(self, code: str, *flags: bool) -> None:
        if code != "i8":
            raise pickle.UnpicklingError(f"an array of type {code}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[:2] != (3, "<"):  # the version of the state, and the byte order
            raise pickle.UnpicklingError(f"an int64 of kind {state[:2]}")


class _Array:
    """For `numpy.ndarray` and the function that makes an empty one: becomes an int64 array by its state alone."""

    values: np.ndarray

    def __init__(self, *empty: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, content = state
        if not isinstance(dtype, _Int64) or is_fortran:
            raise pickle.UnpicklingError("an array that is not of int64 in C order")
        self.values = np.frombuffer(content, "<i8").reshape(shape)


class _Unpickler(pickle.Unpickler):
    """Reads int64 arrays in containers, and refuses every name but those of STAND_INS."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return STAND_INS[module, name]


STAND_INS: dict[tuple[str, str], type] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # as NumPy 2 writes it
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Int64,
    ("_codecs", "encode"): _Latin1,
}

# `_content_sha256` of the published files: repository UCSC-REAL/cifar-10-100n at commit 49df7d8a69e3.
PUBLISHED = "bd7cc32b38bd537fab36bddb7cc2d558ee0ad3be0f989bb5e986cb760188d492"

SETS = ("aggregate", "random1", "random2", "random3", "worst")

# Their names here → in the file. "worst" is a wrong label wherever one of three people gave one.
MEMBERS = {
    "clean": "clean_label",
    "aggregate": "aggre_label",
    "random1": "random_label1",
    "random2": "random_label2",
    "random3": "random_label3",
    "worst": "worse_label",
}
