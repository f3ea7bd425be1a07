"""Decoded images are kept in a cache, which is noticed to be damaged, old, or of other data."""

import contextlib
import os
import pwd
import shutil
import tempfile
import threading

import numpy as np
import pytest
from archives import NAMES, cifar_archive, cifar_members, from_folder, one_line, random_images, write_tar
from conftest import small_disk

from rethink_gen.data import datasets, tfds
from rethink_gen.errors import DataError


def test_the_cache_stands_in_for_its_source(cifar10):
    first = datasets.load("cifar10")
    shutil.rmtree(cifar10)
    second = datasets.load("cifar10")
    assert first.checksum == second.checksum
    for a, b in zip((*first.train, *first.test), (*second.train, *second.test), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype
        with pytest.raises(ValueError, match="read-only"):
            b[0] = 0
    with pytest.raises(DataError, match="is not in"):  # but not where a folder was named
        datasets.load("cifar10", data_dir=cifar10.parents[1])


def test_a_data_set_is_read_once_as_long_as_its_files_are_the_same(cifar10, monkeypatch):
    """Each of many short runs read MNIST again, which took about a fifth of its time."""
    datasets.load("cifar10")  # decoded, which writes the cache
    first = datasets.load("cifar10")
    source, reads = datasets.find("cifar10"), []
    read = lambda source: reads.append(source) or datasets.Dataset(first.name, first.train, first.test, 10, "again")
    monkeypatch.setattr(datasets, "read", read)
    monkeypatch.setattr(datasets, "_as_published", lambda dataset, where: dataset)
    assert datasets.load("cifar10") is first
    os.utime(source.cache)
    assert datasets.load("cifar10").checksum == "again"
    assert len(reads) == 1


def test_the_checksum_covers_every_array_and_the_number_of_classes():
    def checksum(change=None, num_classes=10):
        arrays = [random_images(3), np.arange(3, dtype=np.int32), random_images(2), np.arange(2, dtype=np.int32)]
        if change is not None:
            arrays[change].flat[-1] ^= 1
        return datasets.freeze(tfds.Source("x", "", (32, 32, 3), num_classes, 3, 2), *arrays).checksum

    assert len({checksum(), checksum(0), checksum(1), checksum(2), checksum(3), checksum(num_classes=11)}) == 6
    assert checksum() == checksum()


def test_a_flipped_bit_in_the_cache_is_noticed_or_harmless(cifar10):
    dataset = datasets.load("cifar10")
    source = datasets.find("cifar10")
    data, rng = source.cache.read_bytes(), np.random.default_rng(0)
    edges = [*range(0, 700, 7), *range(len(data) - 700, len(data), 7)]  # the headers, and zip's directory
    for position in [*edges, *rng.integers(0, len(data), 100)]:
        altered = bytearray(data)
        altered[position] ^= 1 << rng.integers(8)
        source.cache.write_bytes(altered)
        with contextlib.suppress(DataError):
            assert datasets.read(source).checksum == dataset.checksum


def test_a_truncated_cache_is_noticed_and_decoded_again(cifar10, caplog):
    dataset = datasets.load("cifar10")
    source = datasets.find("cifar10")
    data = source.cache.read_bytes()
    for length in np.linspace(0, len(data) - 1, 20).astype(int):
        source.cache.write_bytes(data[:length])
        with pytest.raises(DataError) as error:
            datasets.read(source)
        one_line(error, source.cache, "delete it")
    assert datasets.load("cifar10").checksum == dataset.checksum
    assert f"{source.cache} is damaged" in caplog.text
    assert datasets.read(source).checksum == dataset.checksum


def test_a_damaged_cache_without_its_source_is_an_error(cifar10):
    datasets.load("cifar10")
    cache = datasets.find("cifar10").cache
    shutil.rmtree(cifar10)
    for data in (
        cache.read_bytes()[:-1000],
        cache.read_bytes().replace(random_images(20)[0].tobytes()[:50], bytes(50)),
    ):
        cache.write_bytes(data)
        with pytest.raises(DataError) as error:
            datasets.load("cifar10")
        one_line(error, cache, "delete it", "rethink-gen data prepare cifar10")


def test_a_cache_that_would_run_code_does_not(cifar10, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    datasets.load("cifar10")
    cache = datasets.find("cifar10").cache
    shutil.rmtree(cifar10)
    np.savez(cache, about=np.array(Hostile(), dtype=object), train_images=np.array([Hostile()], dtype=object))
    with pytest.raises(DataError) as error:
        datasets.load("cifar10")
    one_line(error, cache)
    assert not (tmp_path / "pwned").exists()


def test_a_source_that_was_prepared_anew_is_decoded_anew(cifar10, tmp_path):
    old = datasets.load("cifar10")
    shutil.rmtree(cifar10)
    cifar_archive(tmp_path / "cifar-10-binary.tar.gz", "cifar10", n=25, seed=1)
    datasets.prepare("cifar10", fetch=from_folder(tmp_path))
    new = datasets.load("cifar10")
    assert len(new.train.labels) == 20
    assert new.checksum != old.checksum
    assert datasets.load("cifar10").checksum == new.checksum


def test_other_labels_in_files_of_the_same_names_and_sizes_are_decoded_anew(cifar10, tmp_path):
    """array_record pads files: only their content tells two builds apart."""
    old, before = datasets.load("cifar10"), tfds.describe("cifar10", cifar10)
    fingerprint = before.fingerprint
    shutil.rmtree(cifar10)
    members = {name: bytearray(data) for name, data in cifar_members("cifar10", 20, 0).items()}
    for name in (name for name in members if name.endswith(".bin")):
        for start in range(0, len(members[name]), 1 + 3072):
            members[name][start] = (members[name][start] + 1) % 10
    write_tar(tmp_path / "cifar-10-binary.tar.gz", {f"{NAMES['cifar10']}/{k}": bytes(v) for k, v in members.items()})
    datasets.prepare("cifar10", fetch=from_folder(tmp_path))
    assert tfds.describe("cifar10", cifar10).files == before.files
    assert tfds.describe("cifar10", cifar10).fingerprint != fingerprint
    new = datasets.load("cifar10")
    np.testing.assert_array_equal(new.train.images, old.train.images)
    np.testing.assert_array_equal(new.train.labels, (old.train.labels + 1) % 10)
    assert not datasets.holds(before.cache, old.checksum)
    assert datasets.holds(before.cache, new.checksum)


def test_an_interrupted_write_leaves_no_cache(cifar10, caplog):
    with small_disk():
        datasets.load("cifar10")
    said = caplog.records[-1].getMessage()
    assert all(part in said for part in (str(tfds.cache_folder()), "make room", "RETHINK_GEN_CACHE"))
    assert os.listdir(tfds.cache_folder()) == []


def test_a_cache_folder_that_cannot_be_is_no_reason_to_fail(cifar10, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path / "file"))
    assert len(datasets.load("cifar10").train.labels) == 16
    [said] = [record.getMessage() for record in caplog.records]
    assert str(tmp_path / "file") in said
    assert "RETHINK_GEN_CACHE" in said
    assert said.endswith("until then it is decoded again each time")


def test_digits_are_there_for_a_user_without_a_name_and_a_home(monkeypatch):
    """As in a container that is started with a number as its user."""

    def no_such_user(number):
        raise KeyError(number)

    for name in ("HOME", "RETHINK_GEN_CACHE", "TFDS_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_such_user)
    assert datasets.cache_folder().is_relative_to(tempfile.gettempdir())
    assert datasets.data_root().is_relative_to(tempfile.gettempdir())
    assert datasets.find("digits").train == 1500
    assert "digits" in datasets.names()
    with pytest.raises(DataError, match="cifar10 is not in"):
        datasets.find("cifar10")


def test_many_may_decode_at_once(cifar10):
    checksums = []
    threads = [threading.Thread(target=lambda: checksums.append(datasets.load("cifar10").checksum)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(checksums) == 6
    assert len(set(checksums)) == 1
    assert os.listdir(tfds.cache_folder()) == ["cifar10-3.0.2.npz"]
