"""Transition matrices of label noise, by name or from a CSV or .npy file: row = true class, column = given class."""

import hashlib
import io
import os
import warnings
from pathlib import Path

import numpy as np

from rethink_gen import digests
from rethink_gen.errors import UsageError

TOLERANCE = 1e-3  # of a row's sum: probabilities that are printed with four digits pass


def read_matrix(path: str | os.PathLike[str], num_classes: int) -> np.ndarray:
    """float64[K, K]: the probability of each given class, in columns, for each true class, in rows that sum to 1.

    It holds probabilities, whose rows sum to 1 within TOLERANCE, or counts: whole numbers, with at least one example of
    each class. Either way each row is divided by its sum.

    Args:
      path: a name of COUNTS, or a file: a table of numbers with commas (.csv or any other ending; lines may begin with
        #), or a .npy file.
      num_classes: K.

    Raises:
      UsageError: no such file, or no such matrix in it; the line names the file.
    """
    table, k = _table(path), num_classes
    if table.shape != (k, k):
        raise UsageError(f"{path}: is {_times(table.shape)}, and {k} classes need {k} × {k}")
    if not np.isfinite(table).all() or table.min() < 0:
        row, column = np.argwhere(~(np.isfinite(table) & (table >= 0)))[0]
        value = f"{table[row, column]:g}"
        raise UsageError(f"{path}: row {row}, column {column} (from 0) is {value}, no probability and no count")
    sums = table.sum(axis=1, keepdims=True)
    if (sums == 0).any():
        raise UsageError(f"{path}: row {sums.argmin()} (from 0) is all zeros: nothing says what its class becomes")
    are_counts = (table == np.round(table)).all()
    off = np.abs(sums[:, 0] - 1)
    if not are_counts and off.max() > TOLERANCE:
        turned = "; its columns do: transpose it" if np.abs(table.sum(axis=0) - 1).max() <= TOLERANCE else ""
        raise UsageError(f"{path}: row {off.argmax()} (from 0) sums to {sums[off.argmax(), 0]:.6g}, not to 1{turned}")
    return table / sums


def matrix_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256, hex, of the bytes of a matrix file: what identifies a run, since a path says nothing of the content."""
    return hashlib.sha256(_content(path)).hexdigest()


def draw_from_rows(matrix: np.ndarray, labels: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
    """int32[N]: a class for each label, distributed as the label's row says.

    By inversion: class j where u lies between the sums of the first j and of the first j + 1 probabilities. So what an
    example gets depends on its own label and its own number alone, and a class of probability 0 is never drawn.

    Args:
      matrix: float64[K, K], rows that sum to 1.
      labels: int32[N], in [0, K).
      uniforms: float32[N], in [0, 1).
    """
    upper = np.cumsum(matrix, axis=1)  # float64: it ends within 1e-13 of 1, and float32 u stay below 1 - 5e-8
    drawn = np.empty(len(labels), np.int32)
    for label in range(len(matrix)):
        rows = labels == label
        drawn[rows] = np.searchsorted(upper[label], uniforms[rows].astype(np.float64), side="right")
    return drawn


def _table(path: str | os.PathLike[str]) -> np.ndarray:
    """float64[rows, columns] of that name, or in that file."""
    if str(path) in COUNTS:
        return np.array(COUNTS[str(path)], np.float64)
    return _read_npy(path) if Path(path).suffix == ".npy" else _read_csv(path)


def _read_npy(path: str | os.PathLike[str]) -> np.ndarray:
    """float64[...] of a .npy file of real numbers; a pickle in it is refused."""
    content = io.BytesIO(_content(path))
    try:
        table = np.lib.format.read_array(content, allow_pickle=False)
    except Exception as error:  # NumPy raises whatever it likes on damaged bytes
        raise _unreadable(path, error) from error
    if table.dtype.kind not in "biuf":
        raise UsageError(f"{path}: holds {table.dtype}, no real numbers")
    return table.astype(np.float64)


def _read_csv(path: str | os.PathLike[str]) -> np.ndarray:
    """float64[rows, columns] of a text file."""
    lines = _content(path).decode("utf-8-sig", errors="replace").splitlines()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of an empty file NumPy only warns
            return np.loadtxt(lines, np.float64, delimiter=",", ndmin=2)
    except (ValueError, UserWarning) as error:
        raise _unreadable(path, error) from error


def _content(path: str | os.PathLike[str]) -> bytes:
    """The bytes of the file."""
    try:
        return digests.content(path)
    except OSError as error:
        way_out = "matrix=FILE names a .csv or .npy file"
        raise UsageError(f"{path}: cannot be read ({error.strerror or error}); {way_out}") from error


def _unreadable(path: str | os.PathLike[str], error: Exception) -> UsageError:
    """The error for a file that holds no table of numbers."""
    reason = (str(error).splitlines() or [type(error).__name__])[0].partition(";")[0]
    return UsageError(f"{path}: is no table of numbers ({reason})")


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "a single number"


# Name → how many images of each true class, in rows, were given each class, in columns. Their names shadow files.
COUNTS: dict[str, tuple[tuple[int, ...], ...]] = {
    # The "worst" labels of CIFAR-10N, counted over its 50,000 images, 40.208 % of them wrong (Wei et al. 2022; see
    # cifar10n.py).
    "cifar10n_worst": (
        (3251, 328, 359, 96, 97, 114, 94, 83, 423, 155),
        (215, 2961, 76, 132, 87, 77, 68, 68, 79, 1237),
        (277, 183, 3160, 229, 297, 238, 249, 166, 118, 83),
        (198, 172, 396, 2436, 213, 1028, 235, 119, 106, 97),
        (197, 163, 350, 201, 2441, 532, 195, 758, 105, 58),
        (165, 141, 264, 915, 202, 2901, 137, 147, 61, 67),
        (190, 191, 420, 379, 254, 288, 2968, 143, 102, 65),
        (199, 140, 121, 110, 256, 309, 115, 3608, 87, 55),
        (409, 364, 109, 72, 105, 93, 82, 109, 3417, 240),
        (208, 1410, 87, 103, 88, 88, 60, 72, 131, 2753),
    ),
}
