"""Transition matrices from files: what is accepted, what is refused and in which words, and draws from their rows."""

import hashlib
import pickle

import numpy as np
import pytest

from rethink_gen.data.transitions import COUNTS, draw_from_rows, matrix_sha256, read_matrix
from rethink_gen.errors import UsageError


def saved(path, matrix):
    np.save(path, matrix) if path.suffix == ".npy" else np.savetxt(path, matrix, delimiter=",")
    return path


@pytest.mark.parametrize("name", ["matrix.csv", "matrix.npy", "matrix.txt"])
def test_probabilities_are_read_from_text_and_from_npy(tmp_path, name):
    matrix = np.array([[0.9, 0.1, 0.0], [0.0, 0.25, 0.75], [0.5, 0.0, 0.5]])
    assert np.allclose(read_matrix(saved(tmp_path / name, matrix), 3), matrix, rtol=0, atol=1e-15)


def test_comments_spaces_and_a_byte_order_mark_do_not_disturb(tmp_path):
    path = tmp_path / "matrix.csv"
    path.write_text("\ufeff# true class 0, then 1\n 0.75, 0.25\n\n0.5 ,0.5  # the second\n", encoding="utf-8")
    assert read_matrix(path, 2).tolist() == [[0.75, 0.25], [0.5, 0.5]]


def test_rounded_probabilities_are_scaled_to_sum_to_1(tmp_path):
    matrix = read_matrix(saved(tmp_path / "matrix.csv", [[0.333, 0.333, 0.3335]] * 3), 3)  # sums to 0.9995
    assert np.allclose(matrix.sum(1), 1, rtol=0, atol=1e-15)
    assert np.allclose(matrix[:, 0], 0.333 / 0.9995, rtol=0, atol=1e-15)


def test_counts_are_divided_by_their_row_sums(tmp_path):
    for counts in ([[3, 1], [2, 6]], np.array([[3, 1], [2, 6]], np.int32)):
        assert read_matrix(saved(tmp_path / "counts.npy", counts), 2).tolist() == [[0.75, 0.25], [0.25, 0.75]]


def test_the_published_counts_of_cifar10n_are_known_by_name():
    """Of 5,000 images of each class, 40.208 % have a wrong worst label: the rate that the authors publish."""
    counts = np.array(COUNTS["cifar10n_worst"])
    assert counts.sum(axis=1).tolist() == [5000] * 10
    assert 1 - counts.trace() / counts.sum() == pytest.approx(0.40208)
    assert np.array_equal(read_matrix("cifar10n_worst", 10), counts / 5000)
    with pytest.raises(UsageError, match="cifar10n_worst: is 10 × 10, and 3 classes need 3 × 3"):
        read_matrix("cifar10n_worst", 3)


REFUSED = {
    "a row that sums to 0.9": ([[0.5, 0.4], [0.5, 0.5]], r"row 0 \(from 0\) sums to 0\.9, not to 1$"),
    "a row of zeros": ([[3, 1], [0, 0]], r"row 1 \(from 0\) is all zeros"),
    "fractions that are no counts": ([[1.5, 0.5], [1, 1]], "row 0 .* sums to 2, not"),
    "columns that sum to 1": ([[0.9, 0.2], [0.1, 0.8]], "row 0 .* its columns do: transpose it"),
    "a negative entry": ([[0.5, 0.5], [1.2, -0.2]], r"row 1, column 1 \(from 0\) is -0\.2"),
    "no number": ([[0.5, 0.5], [np.nan, 1]], "row 1, column 0 .* is nan"),
    "an infinite one": ([[np.inf, 0.5], [0, 1]], "row 0, column 0 .* is inf"),
    "more columns": ([[0.5, 0.5, 0], [0, 0.5, 0.5]], "is 2 × 3, and 2 classes need 2 × 2"),
    "one row": ([[0.5, 0.5]], "is 1 × 2, and 2 classes need 2 × 2"),
}


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_transition_matrix_is_refused_by_name(tmp_path, kind, suffix):
    matrix, words = REFUSED[kind]
    path = saved(tmp_path / f"matrix{suffix}", matrix)
    with pytest.raises(UsageError, match=words) as error:
        read_matrix(path, 2)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


NO_TABLES = (b"", b"true,given\n0.5,0.5\n", b"1,0\n1\n", b"\xff\xfe\x00", b"0.5;0.5\n0.5;0.5\n")


@pytest.mark.parametrize("content", NO_TABLES)
def test_text_that_is_no_table_of_numbers_is_refused(tmp_path, content):
    (tmp_path / "matrix.csv").write_bytes(content)
    with pytest.raises(UsageError, match=r"matrix\.csv: is no table of numbers"):
        read_matrix(tmp_path / "matrix.csv", 2)


def test_a_npy_file_with_a_pickle_in_it_is_refused_unread(tmp_path):
    path = tmp_path / "matrix.npy"
    np.save(path, np.array([[1, None], [0, 1]], object), allow_pickle=True)
    for content in (path.read_bytes(), pickle.dumps([[1, 0], [0, 1]]), b"", path.read_bytes()[:40]):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=r"matrix\.npy: is no table of numbers"):
            read_matrix(path, 2)
    for other in (np.array([["1", "0"], ["0", "1"]]), np.eye(2) * 1j):
        np.save(path, other)
        with pytest.raises(UsageError, match=r"matrix\.npy: holds .*, no real numbers"):
            read_matrix(path, 2)


def test_a_file_that_is_not_there_is_named(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path / "none.npy", tmp_path):
        for function in (matrix_sha256, lambda path: read_matrix(path, 2)):
            with pytest.raises(UsageError, match=f"{path.name}: cannot be read .*; matrix=FILE names"):
                function(path)


def test_identity_of_a_file_is_that_of_its_content(tmp_path):
    one, same, other = (tmp_path / name for name in ("a.csv", "b.csv", "c.csv"))
    one.write_text("1,0\n0,1\n")
    same.write_text("1,0\n0,1\n")
    other.write_text("0,1\n1,0\n")
    assert matrix_sha256(one) == matrix_sha256(same) == hashlib.sha256(b"1,0\n0,1\n").hexdigest()
    assert matrix_sha256(other) != matrix_sha256(one)


def test_draws_are_the_inverse_of_the_cumulated_row():
    """Row 0: class 0 below 0.25, class 2 from there on. Row 1: always class 1. Row 2: a third each."""
    matrix = np.array([[0.25, 0, 0.75], [0, 1, 0], [1 / 3, 1 / 3, 1 / 3]])
    uniforms = np.array([0, 0.2499, 0.25, 0.9999, 0, 0.5, 0.9999, 0.333, 0.334, 0.667], np.float32)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2], np.int32)
    drawn = draw_from_rows(matrix, labels, uniforms)
    assert drawn.dtype == np.int32
    assert drawn.tolist() == [0, 0, 2, 2, 1, 1, 1, 0, 1, 2]


def test_largest_uniform_number_draws_a_class_of_positive_probability():
    """Ten times 0.1 in floating point is a little less than 1; and here the last class has probability 0."""
    largest = np.nextafter(np.float32(1), np.float32(0))
    matrix = np.zeros((11, 11))
    matrix[:, :10] = 0.1
    drawn = draw_from_rows(matrix, np.arange(11, dtype=np.int32), np.full(11, largest))
    assert (drawn == 9).all()
