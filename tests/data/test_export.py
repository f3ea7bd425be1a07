"""Exported data sets: what the file holds, that NumPy alone reads it, and that no damage goes unnoticed."""

import doctest
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

import rethink_gen
from rethink_gen.data import corruptions, label_noise, randomness
from rethink_gen.data import export as module
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.data.export import ARRAYS, Provenance, export, read_export
from rethink_gen.errors import DataError, StorageError, UsageError

KEY = randomness.stream(randomness.root_key(3), "corrupt")
PROVENANCE = Provenance("pair_flip", 0.5, 3)


def clean_dataset():
    """40 training and 20 test images, 3×2 with one channel."""
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 2, 1)).astype(np.uint8)
    labels = np.arange(60, dtype=np.int32) % 5
    return Dataset("synthetic", Split(images[:40], labels[:40]), Split(images[40:], labels[40:]), 5, "c0ffee")


def exported(path, corruption=label_noise.pair_flip, level=0.5, provenance=PROVENANCE):
    corrupted = corruption(KEY, clean_dataset(), level)
    export(corrupted, clean_dataset(), path, provenance)
    return corrupted


def test_what_was_exported_is_read(tmp_path):
    corrupted, clean = exported(tmp_path / "data.npz"), clean_dataset()
    data = read_export(tmp_path / "data.npz")
    expected = (*corrupted.train, clean.train.labels, corrupted.train.labels != clean.train.labels, *clean.test)
    for array, wanted in zip(data[:-1], expected, strict=True):
        assert array.dtype == wanted.dtype
        assert np.array_equal(array, wanted)
    assert data._fields == (*ARRAYS, "about")
    assert data.changed.dtype == bool
    assert data.changed.any()


def test_a_file_says_how_its_data_came_about(tmp_path):
    exported(tmp_path / "data.npz", provenance=PROVENANCE._replace(file_sha256={"matrix": "ab12"}))
    about = read_export(tmp_path / "data.npz").about
    assert len(about.pop("sha256")) == 64
    assert about == {
        "dataset": "synthetic",
        "num_classes": 5,
        "clean_checksum": "c0ffee",
        "corruption": "pair_flip",
        "level": 0.5,
        "seed": 3,
        "file_sha256": {"matrix": "ab12"},
        "versions": {"jax": jax.__version__, "numpy": np.__version__, "rethink-gen": rethink_gen.__version__},
    }


def test_copies_are_exported_with_their_true_labels(tmp_path):
    corrupted = exported(tmp_path / "data.npz", label_noise.extra_noisy_copies, 1.0)
    data = read_export(tmp_path / "data.npz")
    assert len(data.train_images) == len(data.changed) == 80
    assert np.array_equal(data.true_train_labels, np.arange(80) % 5)
    assert np.array_equal(data.changed, label_noise._changed_train_labels(corrupted))


def test_images_of_noise_are_exported_as_they_are(tmp_path):
    """Corruptions of images do not say what the true labels are: the clean data set does."""
    corrupted = exported(tmp_path / "data.npz", corruptions.gaussian_pixels, 1.0)
    data = read_export(tmp_path / "data.npz")
    assert data.train_images.dtype == np.float32
    assert np.array_equal(data.train_images, corrupted.train.images)
    assert np.array_equal(data.test_images, corrupted.test.images)
    assert not data.changed.any()


def test_one_data_set_gives_one_file_bit_by_bit(tmp_path):
    exported(tmp_path / "one.npz")
    exported(tmp_path / "other.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()


def test_lines_of_the_docstring_read_a_file_with_numpy_alone(tmp_path):
    exported(tmp_path / "corrupted.npz")
    lines = [example.source for example in doctest.DocTestParser().get_examples(module.export.__doc__)]
    assert len(lines) == 3
    check = """
    import sys
    assert not {"jax", "rethink_gen"} & set(sys.modules)
    assert images.shape == (40, 3, 2, 1) and labels.shape == (40,) and about["corruption"] == "pair_flip"
    assert labels.sum() == int(sys.argv[1]) and data["changed"].sum() == int(sys.argv[2])
    """
    data = read_export(tmp_path / "corrupted.npz")
    sums = str(data.train_labels.sum()), str(data.changed.sum())
    # -I: neither PYTHONPATH nor the working directory can bring this package in
    command = [sys.executable, "-I", "-c", "".join(lines) + textwrap.dedent(check), *sums]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_flipped_bit_is_noticed_or_changes_nothing(tmp_path):
    """Some bits of a zip say nothing that is read, such as the time of a member; all others must not pass."""
    path = tmp_path / "data.npz"
    exported(path)
    content, before = path.read_bytes(), read_export(path)
    refusals = []
    for bit in np.random.default_rng(0).choice(8 * len(content), 600, replace=False):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << (bit % 8)
        path.write_bytes(flipped)
        try:
            after = read_export(path)
        except DataError as error:
            refusals.append(str(error))
        else:
            assert all(np.array_equal(one, other) for one, other in zip(before[:-1], after[:-1], strict=True))
            assert before.about == after.about
    assert all(line.startswith(f"{path} is damaged") and "\n" not in line for line in refusals)
    assert len(refusals) > 300  # more than half of the bytes are arrays, their headers and the JSON text


def rewritten(path, **changes):
    """The same file with some members replaced, and the zip intact around them; None takes a member away."""
    with np.load(path) as file:
        members = {name: file[name] for name in file.files} | changes
    np.savez(path, **{name: member for name, member in members.items() if member is not None})


@pytest.mark.parametrize("name", ARRAYS)
def test_an_altered_array_is_noticed_though_the_zip_is_intact(tmp_path, name):
    path = tmp_path / "data.npz"
    exported(path)
    array = getattr(read_export(path), name)
    for other in (array[::-1], array.astype(np.float64), array.reshape(2, -1), None):
        rewritten(path, **{name: other})
        with pytest.raises(DataError, match=r"data\.npz is damaged"):
            read_export(path)
        exported(path)


def test_an_altered_provenance_is_noticed(tmp_path):
    path = tmp_path / "data.npz"
    exported(path)
    about = read_export(path).about
    for change in ({"level": 0.25}, {"seed": 4}, {"more": 1}, {"sha256": "0" * 64}):
        rewritten(path, about=np.array(json.dumps(about | change)))
        with pytest.raises(DataError, match="its checksum is wrong"):
            read_export(path)


def test_other_files_are_refused_by_name(tmp_path):
    path = tmp_path / "data.npz"
    exported(path)
    whole = path.read_bytes()
    for content in (b"", b"PK", whole[:200], whole[:-30], b"x" * 1000):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.npz is damaged, or no exported data set .*; export it again"):
            read_export(path)
    np.savez(path, allow_pickle=True, **dict.fromkeys((*ARRAYS, "about"), np.array([None])))
    with pytest.raises(DataError, match="is damaged"):
        read_export(path)
    with pytest.raises(DataError, match=r"none\.npz: no such file"):
        read_export(tmp_path / "none.npz")


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "data.npz"
    exported(path)
    before = path.read_bytes()

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError, match=r"data\.npz: cannot be written \(No space left on device\)"):
        exported(path, level=1.0)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]
    monkeypatch.undo()
    with path.open("rb") as reader:
        exported(path, level=1.0)
        assert reader.read() == before  # who reads the old file goes on with the old one
    assert path.read_bytes() != before
    assert [file.name for file in tmp_path.iterdir()] == ["data.npz"]


def test_a_place_that_takes_no_file_is_named(tmp_path):
    for path in (tmp_path / "nowhere" / "data.npz", Path("/proc/data.npz")):
        with pytest.raises(StorageError, match=r"data\.npz: cannot be written .*; free space or choose another place"):
            exported(path)


def test_data_that_do_not_belong_together_are_refused(tmp_path):
    clean = clean_dataset()
    for other in (replace(clean, name="other"), replace(clean, checksum="0")):
        with pytest.raises(UsageError, match="the clean one is another"):
            export(clean, other, tmp_path / "data.npz", PROVENANCE)
    part = replace(clean, train=Split(clean.train.images[:30], clean.train.labels[:30]))
    with pytest.raises(UsageError, match="30 training examples have 40 true labels; cut both data sets alike"):
        export(part, clean, tmp_path / "data.npz", PROVENANCE)
    assert not list(tmp_path.iterdir())
