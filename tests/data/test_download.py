"""Data sets are fetched, checked and prepared without TensorFlow, whatever the archives of strangers hold."""

import gzip
import hashlib
import os
import shutil
import sys
import tarfile
from pathlib import Path

import pytest
from archives import (
    NAMES,
    cifar_archive,
    cifar_members,
    from_folder,
    idx_archives,
    idx_bytes,
    one_line,
    random_images,
    rows,
    write_tar,
)
from conftest import small_disk

from rethink_gen.data import datasets, download
from rethink_gen.data.dataset import sums
from rethink_gen.errors import DataError, UsageError

# --- preparing ---


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_prepared_without_tensorflow(name, own_data, tmp_path, monkeypatch):
    monkeypatch.delitem(datasets.PUBLISHED, name, raising=False)
    monkeypatch.delitem(datasets.PUBLISHED_SUMS, name, raising=False)
    cifar_archive(tmp_path / f"{name.replace('r', 'r-')}-binary.tar.gz", name)
    datasets.prepare(name, fetch=from_folder(tmp_path))
    dataset = datasets.load(name)
    images, labels = random_images(20), range(20)  # the labels count up to 10, or to 100
    expected = [(image.tobytes(), label % dataset.num_classes) for image, label in zip(images, labels, strict=True)]
    assert rows(dataset.train) == sorted(expected[:16])
    assert rows(dataset.test) == sorted(expected[16:])
    assert dataset.num_classes == int(name.removeprefix("cifar"))
    assert "tensorflow" not in sys.modules
    labels = next(own_data.glob(f"{name}/*/label.labels.txt")).read_text().split()
    assert labels[:2] == (["a", "b"] if name == "cifar10" else ["fine0", "fine1"])


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_idx_files_are_prepared_without_tensorflow(name, own_data, tmp_path, monkeypatch):
    monkeypatch.delitem(datasets.PUBLISHED, name, raising=False)
    monkeypatch.delitem(datasets.PUBLISHED_SUMS, name, raising=False)
    datasets.prepare(name, fetch=from_folder(idx_archives(tmp_path / "idx")))
    dataset = datasets.load(name)
    expected = [(image.tobytes(), i % 10) for i, image in enumerate(random_images(20, (28, 28)))]
    assert rows(dataset.train) == sorted(expected)
    assert dataset.test.images.shape == (5, 28, 28, 1)
    assert "tensorflow" not in sys.modules


def test_every_reader_knows_the_files_that_tfds_publishes_checksums_of():
    import tensorflow_datasets as tfds

    for name, read in download.READERS.items():
        files = {info.filename for info in (tfds.builder_cls(name).url_infos or {}).values()}
        assert len(files) == (4 if read is download._idx else 1), name


def test_what_is_prepared_is_not_fetched_again(cifar10):
    def fetch(address, sha256, path):
        raise AssertionError(address)

    assert datasets.prepare("cifar10", fetch=fetch).train == 16
    assert datasets.prepare("digits", fetch=fetch).num_classes == 10


def test_another_set_under_a_published_name_is_refused(tiny, own_data):
    shutil.copytree(tiny, own_data)
    with pytest.raises(DataError) as error:
        datasets.load("cifar10")
    one_line(error, own_data / "cifar10", "not the published data set", "delete it")


def test_mnist_under_the_name_of_a_set_whose_sums_are_published_is_refused(own_data, tmp_path):
    archives = idx_archives(tmp_path / "idx")
    with pytest.raises(DataError) as error:
        datasets.prepare("fashion_mnist", fetch=from_folder(archives))
    total = int(random_images(20, (28, 28)).sum())
    said = "not the published data set (its training pixels sum to"
    one_line(error, own_data / "fashion_mnist", said, total, 3431114169, "prepare it again")


@pytest.mark.parametrize(("n", "balanced"), [(40, True), (20, False)])  # with 10 and with 5 test images
def test_published_sums_with_classes_of_another_size_are_refused(n, balanced, own_data, tmp_path, monkeypatch):
    monkeypatch.setitem(datasets.PUBLISHED_SUMS, "kmnist", sums(random_images(n, (28, 28))[..., None]))
    fetch = from_folder(idx_archives(tmp_path / "idx", n))
    if balanced:
        datasets.prepare("kmnist", fetch=fetch)
        assert [line.split(",")[0] for line in datasets.verify("kmnist")] == ["kmnist: as published"] * 2
    else:
        with pytest.raises(DataError, match="classes are not of equal size"):
            datasets.prepare("kmnist", fetch=fetch)


def test_sums_of_pixels_are_exact_and_by_channel():
    images = random_images(3, (5, 4, 2))
    exact = images.astype(object)
    assert sums(images) == (tuple(exact.sum((0, 1, 2))), tuple((exact**2).sum((0, 1, 2))))


def test_a_set_that_needs_tensorflow_says_so(own_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if it were not installed
    with pytest.raises(DataError) as error:
        datasets.prepare("food101")
    one_line(error, "food101", "pip install 'tensorflow>=2.20'")


def test_a_set_that_tfds_does_not_have_cannot_be_prepared(own_data):
    with pytest.raises(UsageError) as error:
        datasets.prepare("cifar11")
    one_line(error, "no dataset named 'cifar11'")


# --- archives from strangers ---


def link(name, kind, target="/etc/passwd"):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def plain(name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info, data


TEST_BATCH = "cifar-10-batches-bin/test_batch.bin"
HOSTILE = {
    "symbolic link": link(TEST_BATCH, tarfile.SYMTYPE),
    "hard link": link(TEST_BATCH, tarfile.LNKTYPE, "cifar-10-batches-bin/data_batch_1.bin"),
    "device": link(TEST_BATCH, tarfile.CHRTYPE),
    "fifo": link(TEST_BATCH, tarfile.FIFOTYPE),
    "folder": link(TEST_BATCH, tarfile.DIRTYPE),
    "half an image": plain(TEST_BATCH, b"\0" * 1000),
    "nothing": None,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_member_that_is_no_plain_file_is_refused(kind, own_data, tmp_path):
    members = {f"{NAMES['cifar10']}/{file}": data for file, data in cifar_members("cifar10", 20).items()}
    del members[TEST_BATCH]
    extra = [HOSTILE[kind]] if HOSTILE[kind] else []
    write_tar(tmp_path / "cifar-10-binary.tar.gz", members, extra=extra)
    with pytest.raises(DataError) as error:
        datasets.prepare("cifar10", fetch=from_folder(tmp_path))
    one_line(error, own_data / "downloads" / "cifar10", "try again")
    assert not list(own_data.glob("cifar10/*/*"))


def test_a_member_that_is_there_twice_or_is_too_large_is_refused(own_data, tmp_path, monkeypatch):
    for data in (b"", b"\0" * (1 << 20)):
        cifar_archive(tmp_path / "cifar-10-binary.tar.gz", "cifar10", extra=[plain(TEST_BATCH, data)])
        with pytest.raises(DataError, match="twice"):
            datasets.prepare("cifar10", fetch=from_folder(tmp_path))
    monkeypatch.setattr(download, "_LIMIT", 3072)
    cifar_archive(tmp_path / "cifar-10-binary.tar.gz", "cifar10")
    with pytest.raises(DataError, match="too large"):
        datasets.prepare("cifar10", fetch=from_folder(tmp_path))


def test_members_that_were_not_asked_for_are_not_written_anywhere(own_data, tmp_path, monkeypatch):
    monkeypatch.delitem(datasets.PUBLISHED, "cifar10")
    strangers = [
        plain(name, b"x") for name in ("../escaped", "/tmp/escaped_rethink_gen", f"{TEST_BATCH}/../../../escaped")
    ]
    cifar_archive(tmp_path / "cifar-10-binary.tar.gz", "cifar10", extra=strangers)
    datasets.prepare("cifar10", fetch=from_folder(tmp_path))
    assert not list(tmp_path.parent.rglob("*escaped*"))
    assert not Path("/tmp/escaped_rethink_gen").exists()


NO_ARCHIVE = gzip.compress(b"no archive", mtime=0)  # with the time, it has another name in each process of the tests


@pytest.mark.parametrize("data", [b"", b"<html>moved</html>", NO_ARCHIVE, "half", "flipped"])
def test_what_is_no_archive_is_refused(data, own_data, tmp_path):
    path = cifar_archive(tmp_path / "cifar-10-binary.tar.gz", "cifar10")
    whole, middle = path.read_bytes(), path.stat().st_size // 2
    if data == "half":
        data = whole[:middle]
    elif data == "flipped":
        data = whole[:middle] + bytes(500) + whole[middle + 500 :]
    path.write_bytes(data)
    with pytest.raises(DataError) as error:
        datasets.prepare("cifar10", fetch=from_folder(tmp_path))
    one_line(error, own_data / "downloads" / "cifar10")


IDX = idx_bytes(random_images(20, (28, 28)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        IDX[:3],
        IDX[:-1],
        IDX + b"x",
        b"\0\0\x0d" + IDX[3:],
        IDX[:4] + b"\xff" * 12 + IDX[16:],
        idx_bytes(random_images(9, (28, 28))),
    ],
)
def test_what_is_no_idx_file_is_refused(data, own_data, tmp_path):
    folder = idx_archives(tmp_path / "idx")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(data))
    with pytest.raises(DataError) as error:
        datasets.prepare("mnist", fetch=from_folder(folder))
    one_line(error, own_data / "downloads" / "mnist")


# --- fetching ---


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_a_file_is_fetched_once_whole(tmp_path):
    source, path = tmp_path / "source", tmp_path / "downloads" / "file"
    source.write_bytes(b"data" * 1000)
    download.download(source.as_uri(), sha256(b"data" * 1000), path)
    assert path.read_bytes() == source.read_bytes()
    source.unlink()
    download.download(source.as_uri(), sha256(b"data" * 1000), path)  # it is there: nothing is fetched
    assert os.listdir(path.parent) == ["file"]


def test_a_file_with_another_checksum_is_not_taken(tmp_path):
    source, path = tmp_path / "source", tmp_path / "downloads" / "file"
    source.write_bytes(b"<html>moved</html>")
    with pytest.raises(DataError) as error:
        download.download(source.as_uri(), sha256(b"data"), path)
    one_line(error, source.as_uri(), f"put it at {path}")
    assert os.listdir(path.parent) == []
    path.write_bytes(b"by hand, but wrong")
    with pytest.raises(DataError) as error:
        download.download(source.as_uri(), sha256(b"data"), path)
    one_line(error, path, "delete it")
    assert path.read_bytes() == b"by hand, but wrong"


@pytest.mark.parametrize("address", ["file:///no/such/file", "http://127.0.0.1:9/file"])
def test_no_network_is_one_line_with_the_way_out(address, tmp_path):
    with pytest.raises(DataError) as error:
        download.download(address, sha256(b""), tmp_path / "downloads" / "file")
    one_line(error, address, f"put it at {tmp_path / 'downloads' / 'file'}")
    assert os.listdir(tmp_path / "downloads") == []


def test_no_space_for_a_download_is_one_line_with_the_way_out(tmp_path):
    source, path = tmp_path / "source", tmp_path / "downloads" / "file"
    source.write_bytes(b"data" * 10_000)
    with small_disk(), pytest.raises(DataError) as error:
        download.download(source.as_uri(), sha256(source.read_bytes()), path)
    one_line(error, path, "free disk space")
    assert os.listdir(path.parent) == []
