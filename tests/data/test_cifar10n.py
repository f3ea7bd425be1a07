"""Reading CIFAR-10N: the published labels in the right order, and nothing that a file could make us run."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import needs_real_data
from human_labels import REAL_FILES, needs_human_labels, synthetic_labels, write_files, write_torch_file

from rethink_gen.data import cifar10n, datasets
from rethink_gen.errors import DataError, UsageError

# Wrong labels of 50,000, and how often class i (row) got the label j (column) in the set "worst": counted from the
# authors' file when it was surveyed, not by this code.
WRONG = {"aggregate": 4505, "random1": 8617, "random2": 9061, "random3": 8820, "worst": 20104}
WORST = [
    [3251, 328, 359, 96, 97, 114, 94, 83, 423, 155],
    [215, 2961, 76, 132, 87, 77, 68, 68, 79, 1237],
    [277, 183, 3160, 229, 297, 238, 249, 166, 118, 83],
    [198, 172, 396, 2436, 213, 1028, 235, 119, 106, 97],
    [197, 163, 350, 201, 2441, 532, 195, 758, 105, 58],
    [165, 141, 264, 915, 202, 2901, 137, 147, 61, 67],
    [190, 191, 420, 379, 254, 288, 2968, 143, 102, 65],
    [199, 140, 121, 110, 256, 309, 115, 3608, 87, 55],
    [409, 364, 109, 72, 105, 93, 82, 109, 3417, 240],
    [208, 1410, 87, 103, 88, 88, 60, 72, 131, 2753],
]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder of synthetic labels that counts as the published one."""
    write_files(tmp_path, synthetic_labels())
    monkeypatch.setenv("RETHINK_GEN_CIFAR10N", str(tmp_path))
    monkeypatch.setattr(cifar10n, "PUBLISHED", cifar10n._content_sha256(synthetic_labels()))
    return tmp_path


@needs_human_labels
def test_shares_of_wrong_labels_are_the_published_ones():
    labels = cifar10n._read_human_labels(REAL_FILES)
    assert {name: np.sum(labels[name] != labels["clean"]) for name in cifar10n.SETS} == WRONG


@needs_human_labels
def test_worst_labels_have_the_published_transitions():
    labels = cifar10n._read_human_labels(REAL_FILES)
    counts = np.bincount(labels["clean"] * 10 + labels["worst"], minlength=100).reshape(10, 10)
    assert counts.tolist() == WORST
    assert (counts.sum(1) == 5000).all()


@needs_human_labels
@needs_real_data("cifar10")
def test_clean_labels_are_those_of_tfds_image_by_image(real_data):
    clean = cifar10n._read_human_labels(REAL_FILES)["clean"]
    assert np.array_equal(clean, datasets.load("cifar10").train.labels)


def test_labels_come_in_the_order_of_tfds(files):
    labels = cifar10n._read_human_labels()
    for name, expected in synthetic_labels().items():
        assert labels[name].dtype == np.int32
        assert np.array_equal(labels[name], expected)


def test_first_images_have_the_first_labels(files):
    expected = synthetic_labels()
    labels = cifar10n.human_labels("cifar10", expected["clean"][:700], "random2")
    assert np.array_equal(labels, expected["random2"][:700])


def test_true_labels_of_other_images_are_refused(files):
    others = synthetic_labels()["clean"].copy()
    others[123] += 1
    for true_labels in (others, np.resize(others, 50_001)):
        with pytest.raises(DataError, match="not those of CIFAR-10N"):
            cifar10n.human_labels("cifar10", true_labels, "worst")


def test_other_data_sets_and_unknown_sets_are_refused_before_any_file_is_read(monkeypatch, tmp_path):
    monkeypatch.setenv("RETHINK_GEN_CIFAR10N", str(tmp_path / "nowhere"))
    true_labels = synthetic_labels()["clean"]
    with pytest.raises(UsageError, match="for cifar10 only, not for digits"):
        cifar10n.human_labels("digits", true_labels, "worst")
    with pytest.raises(UsageError, match="did you mean 'worst'"):
        cifar10n.human_labels("cifar10", true_labels, "wurst")


@pytest.mark.parametrize("name", [cifar10n.HUMAN_FILE, cifar10n.ORDER_FILE])
def test_a_missing_file_is_named_with_its_source_its_license_and_its_place(files, name):
    (files / name).unlink()
    with pytest.raises(DataError) as error:
        cifar10n._read_human_labels()
    for part in (f"no {name} in", "UCSC-REAL/cifar-10-100n", "CC BY-NC 4.0", str(files), "RETHINK_GEN_CIFAR10N"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_folder_is_that_of_manual_downloads_where_none_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("RETHINK_GEN_CIFAR10N", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert cifar10n.folder() == tmp_path / "downloads" / "manual" / "cifar10n"
    monkeypatch.setenv("RETHINK_GEN_CIFAR10N", str(tmp_path / "elsewhere"))
    assert cifar10n.folder() == tmp_path / "elsewhere"


def test_labels_that_are_not_the_published_ones_are_refused(files):
    altered = synthetic_labels()
    altered["worst"][0] = (altered["worst"][0] + 1) % 10
    write_files(files, altered)
    with pytest.raises(DataError, match="SHA-256"):
        cifar10n._read_human_labels()


class _Calls:
    """An object whose pickle calls a function when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def malicious(marker: Path) -> dict[str, bytes]:
    """Pickles that would create the file `marker`, if they were read with `pickle.load`; and others out of place."""
    code = f"open({str(marker)!r}, 'w').close()"
    pickled = lambda value: pickle.dumps(value, protocol=2)
    return {
        "os.system": pickled({"clean_label": _Calls(os.system, f"touch {marker}")}),
        "eval": pickled({"clean_label": _Calls(eval, code)}),
        "exec after the arrays": pickled([np.arange(3), _Calls(exec, code)]),
        "a name with dots": b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.",
        "by the older opcode": b"(S'" + f"touch {marker}".encode() + b"'\nios\nsystem\n.",
        "another encoding": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00zlib_\x86R.",
        "an attribute of an encoding": b"\x80\x02c_codecs\nencode\nN}X\x07\x00\x00\x00__new__K\x01s\x86b.",
        "an attribute of an array": b"\x80\x02cnumpy\nndarray\nN}X\x06\x00\x00\x00valuesK\x01s\x86b.",
        "objects": pickled({"clean_label": np.array([_Calls(eval, code)], object)}),
        "another encoding of bytes": pickled({"clean_label": np.zeros(4, np.int64)}).replace(b"latin1", b"utf-16"),
        "another type": pickled({"clean_label": np.zeros(4, np.int16)}),
        "floating point": pickled({"clean_label": np.zeros(4)}),
        "another byte order": pickled({"clean_label": np.zeros(3, ">i8")}),
        "columns first": pickled({"clean_label": np.zeros((3, 2), np.int64, order="F")}),
        "no dictionary": pickled(np.zeros(3, np.int64)),
        "no arrays": pickled({"clean_label": 3}),
        "an array of no type": b"\x80\x03}X\x01\0\0\0acnumpy\nndarray\n)R(K\x01K\x01\x85N\x89C\x0812345678tbs.",
        "persistent objects": b"\x80\x02X\x01\x00\x00\x00aQ.",
        "nothing": b"",
    }


@pytest.mark.parametrize("kind", malicious(Path("marker")))
def test_a_pickle_of_anything_but_arrays_is_refused_and_runs_nothing(tmp_path, kind):
    marker, path = tmp_path / "marker", tmp_path / cifar10n.HUMAN_FILE
    write_torch_file(path, malicious(marker)[kind])
    with pytest.raises(DataError, match="is not a file of CIFAR-10N") as error:
        cifar10n._read_pickled_arrays(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not marker.exists()


@pytest.mark.parametrize(("kind", "name"), [("os.system", "system"), ("eval", "eval")])
def test_the_name_that_a_pickle_asks_for_is_reported(tmp_path, kind, name):
    write_torch_file(tmp_path / "file", malicious(tmp_path / "marker")[kind])
    with pytest.raises(DataError, match=rf"it asks for \w+\.{name}\)"):
        cifar10n._read_pickled_arrays(tmp_path / "file")


def test_the_malicious_pickles_are_malicious(tmp_path):
    for kind in ("os.system", "eval", "exec after the arrays", "by the older opcode"):
        marker = tmp_path / kind.replace(" ", "_")
        pickle.loads(malicious(marker)[kind])
        assert marker.exists()


def test_stand_ins_survive_a_pickle_that_tries_to_change_them(tmp_path, files):
    for kind in ("an attribute of an encoding", "an attribute of an array"):
        write_torch_file(tmp_path / "file", malicious(tmp_path / "marker")[kind])
        with pytest.raises(DataError):
            cifar10n._read_pickled_arrays(tmp_path / "file")
    assert np.array_equal(cifar10n._read_human_labels()["worst"], synthetic_labels()["worst"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_are_read_whatever_the_protocol(tmp_path, protocol):
    """Protocol 5 may write arrays by a function that is not admitted: then it is refused, and not read wrong."""
    array, path = np.arange(-5, 300), tmp_path / "file"
    write_torch_file(path, pickle.dumps({"some": array}, protocol))
    if protocol < 5:
        assert np.array_equal(cifar10n._read_pickled_arrays(path)["some"], array)
    else:
        with pytest.raises(DataError, match="_frombuffer"):
            cifar10n._read_pickled_arrays(path)


def test_damaged_files_are_refused_by_name(files):
    for name in (cifar10n.HUMAN_FILE, cifar10n.ORDER_FILE):
        path, content = files / name, (files / name).read_bytes()
        for damaged in (b"", content[:100], content[: len(content) // 2], content[:-200], b"x" * 5000):
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=name.replace(".", r"\.")):
                cifar10n._read_human_labels()
        path.write_bytes(content)


def test_an_order_that_is_no_permutation_is_refused(files):
    for order in (np.zeros(50_000, np.int64), np.arange(49_999), np.arange(50_000).reshape(2, -1)):
        np.save(files / cifar10n.ORDER_FILE, order)
        with pytest.raises(DataError, match="each of 50000 images once"):
            cifar10n._read_human_labels()


def test_a_pickle_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(cifar10n, "MAX_BYTES", 100)
    write_torch_file(tmp_path / "file", bytes(101))
    with pytest.raises(DataError, match="101 bytes"):
        cifar10n._read_pickled_arrays(tmp_path / "file")
