"""Data sets are what they are said to be, or there is one line that says what is wrong and what to do."""

import contextlib
import csv
import gzip
import hashlib
import importlib.util
import io
import json
import os
import pwd
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import needs_real_data

from rethink_gen.data import datasets, download, tfds
from rethink_gen.errors import DataError, UsageError

NAMES = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}


def random_images(n, shape=(32, 32, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)


def cifar_members(name, n, seed=0):
    """The files of a CIFAR binary archive with n images, 0.8 n of them to train on; labels count up."""
    images = random_images(n, seed=seed).transpose(0, 3, 1, 2).reshape(n, -1)
    labels = np.arange(n) % int(name.removeprefix("cifar"))
    columns = [labels // 5, labels] if name == "cifar100" else [labels]
    rows = np.column_stack([*columns, images]).astype(np.uint8)
    train, test = rows[: 4 * n // 5], rows[4 * n // 5 :]
    if name == "cifar100":
        return {
            "coarse_label_names.txt": "\n".join(f"coarse{i}" for i in range(20)).encode(),
            "fine_label_names.txt": "\n".join(f"fine{i}" for i in range(100)).encode(),
            "train.bin": train.tobytes(),
            "test.bin": test.tobytes(),
        }
    batches = {f"data_batch_{i + 1}.bin": part.tobytes() for i, part in enumerate(np.array_split(train, 5))}
    return {"batches.meta.txt": "\n".join("abcdefghij").encode(), **batches, "test_batch.bin": test.tobytes()}


def write_tar(path, members, *, extra=()):
    """A tar.gz of {name: bytes}, then of whole TarInfo entries with their bytes."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info, data in extra:
            archive.addfile(info, io.BytesIO(data))
    return path


def cifar_archive(path, name, n=20, seed=0, **options):
    members = {f"{NAMES[name]}/{file}": data for file, data in cifar_members(name, n, seed).items()}
    return write_tar(path, members, **options)


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def idx_archives(folder, n=20):
    """MNIST's four files with n training and n / 4 test images."""
    folder.mkdir(parents=True)
    for prefix, size, seed in (("train", n, 0), ("t10k", n // 4, 1)):
        images, labels = random_images(size, (28, 28), seed), (np.arange(size) % 10).astype(np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    return folder


def from_folder(folder):
    """A way to fetch that takes files from a folder as they are; what `download` checks is tested by itself."""

    def fetch(address, sha256, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / address.rpartition("/")[2], path)

    return fetch


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A folder with a CIFAR-10 of 20 random images, prepared once."""
    root = tmp_path_factory.mktemp("tiny")
    cifar_archive(root / "cifar-10-binary.tar.gz", "cifar10")
    download.build("cifar10", root / "data", from_folder(root))
    return root / "data"


@pytest.fixture
def cifar10(tiny, own_data, monkeypatch):
    """A copy of the tiny CIFAR-10, where `load` finds it and takes it for the published one."""
    monkeypatch.delitem(datasets.PUBLISHED, "cifar10")
    shutil.copytree(tiny, own_data)
    return own_data / "cifar10" / "3.0.2"


def rows(split):
    """A split as a set of (image, label): the stored order is tfds's own."""
    return sorted((image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True))


def one_line(error, *parts):
    """Whether the message is a line that names the parts, and its exit code that of its kind."""
    text = str(error.value)
    assert "\n" not in text
    assert all(str(part) in text for part in parts), text
    assert error.value.exit_code == (2 if isinstance(error.value, UsageError) else 3)


# --- digits ---


def test_digits_are_scikit_learns():
    spec = importlib.util.find_spec("sklearn")
    assert spec
    assert spec.origin
    with gzip.open(Path(spec.origin).with_name("datasets") / "data" / "digits.csv.gz", "rt") as file:
        table = [[int(float(value)) for value in row] for row in csv.reader(file)]
    expected = sorted((bytes(int(level * 255 / 16 + 0.5) for level in row[:-1]), row[-1]) for row in table)
    digits = datasets.load("digits")
    assert sorted(rows(digits.train) + rows(digits.test)) == expected
    assert digits.train.images.shape == (1500, 8, 8, 1)
    assert digits.test.images.shape == (297, 8, 8, 1)
    assert digits.train.images.dtype == np.uint8
    assert digits.train.labels.dtype == np.int32
    assert digits.num_classes == 10
    assert np.bincount(digits.test.labels, minlength=10).min() >= 20  # a fair draw has 30 of each, ± 5


@pytest.mark.slow
def test_digits_are_the_same_through_scikit_learns_own_loader(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "sklearn" else found(name, *rest)
    )
    assert datasets.digits().checksum == datasets.PUBLISHED["digits"]


def test_digits_and_a_cached_set_are_opened_without_their_libraries(cifar10):
    datasets.load("cifar10")
    heavy = "tensorflow_datasets", "tensorflow", "sklearn", "pandas", "jax"
    code = f"""if True:
        import sys
        from rethink_gen.data import datasets
        datasets.PUBLISHED.clear()
        datasets.load("digits"), datasets.load("cifar10"), datasets.present()
        print([name for name in {heavy} if name in sys.modules])"""
    path = {"PYTHONPATH": str(Path(datasets.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | path)
    assert done.stdout.strip() == "[]", done.stderr


# --- preparing ---


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_prepared_without_tensorflow(name, own_data, tmp_path, monkeypatch):
    monkeypatch.delitem(datasets.PUBLISHED, name, raising=False)
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


@pytest.fixture
def small_disk():
    """No file may grow beyond 20,000 bytes, as on a disk that is almost full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_space_for_a_download_is_one_line_with_the_way_out(tmp_path, request):
    source, path = tmp_path / "source", tmp_path / "downloads" / "file"
    source.write_bytes(b"data" * 10_000)
    request.getfixturevalue("small_disk")
    with pytest.raises(DataError) as error:
        download.download(source.as_uri(), sha256(source.read_bytes()), path)
    one_line(error, path, "free disk space")
    assert os.listdir(path.parent) == []


# --- the cache ---


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


def test_an_interrupted_write_leaves_no_cache(cifar10, request, caplog):
    request.getfixturevalue("small_disk")
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


# --- the source ---


def test_a_damaged_source_is_noticed(cifar10):
    shard = cifar10 / "cifar10-train.array_record-00000-of-00001"
    data = shard.read_bytes()
    for altered in (b"", data[: len(data) // 2], data[:500] + bytes(100) + data[600:]):
        shard.write_bytes(altered)
        with pytest.raises(DataError) as error:
            datasets.load("cifar10")
        one_line(error, cifar10, "delete it")
    shard.unlink()
    with pytest.raises(DataError) as error:
        datasets.load("cifar10")
    one_line(error, cifar10, "some array_record files are missing")


@pytest.mark.parametrize("file", ["dataset_info.json", "features.json"])
@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"featuresDict": 7}', "\0"])
def test_damaged_metadata_are_noticed(file, text, cifar10):
    (cifar10 / file).write_text(text)
    with pytest.raises(DataError) as error:
        datasets.load("cifar10")
    one_line(error, cifar10)


def change(folder, file, alter):
    path = folder / file
    content = json.loads(path.read_text())
    alter(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "alter", "message"),
    [
        ("features.json", lambda f: f["featuresDict"]["features"].pop("image"), "not an image classification data set"),
        (
            "features.json",
            lambda f: f["featuresDict"]["features"].update(label={"text": {}}),
            "not an image classification",
        ),
        (
            "features.json",
            lambda f: f["featuresDict"]["features"]["image"]["image"].pop("shape"),
            "uint8 with 1, 3 or 4 channels",
        ),
        (
            "features.json",
            lambda f: f["featuresDict"]["features"]["image"]["image"].update(dtype="uint16"),
            "must be uint8",
        ),
        ("dataset_info.json", lambda i: i["splits"].pop(0), "a train and a test split"),
        ("dataset_info.json", lambda i: i.update(fileFormat="tfrecord"), "has tfrecord files"),
        (
            "features.json",
            lambda f: f["featuresDict"]["features"]["label"]["classLabel"].update(numClasses="3"),
            "labels",
        ),
    ],
)
def test_what_is_no_image_classification_data_set_is_refused(file, alter, message, cifar10):
    change(cifar10, file, alter)
    with pytest.raises(DataError, match=message) as error:
        datasets.load("cifar10")
    one_line(error, cifar10)
    assert [source.name for source in datasets.present()] == (
        ["cifar10", "digits"] if message == "labels" else ["digits"]
    )


def test_a_validation_split_stands_in_for_a_test_split(cifar10):
    expected = datasets.load("cifar10")
    change(cifar10, "dataset_info.json", lambda info: info["splits"][1].update(name="validation"))
    (cifar10 / "cifar10-test.array_record-00000-of-00001").rename(
        cifar10 / "cifar10-validation.array_record-00000-of-00001"
    )
    assert datasets.load("cifar10").checksum == expected.checksum


def test_a_set_with_one_split_has_every_fifth_example_held_out(cifar10):
    """As from_arrays does: of a fixed permutation, so that the split is the same everywhere."""
    whole = datasets.load("cifar10").train
    change(cifar10, "dataset_info.json", lambda info: info["splits"].pop())
    assert (datasets.find("cifar10").train, datasets.find("cifar10").test) == (12, 4)
    parted = datasets.load("cifar10")
    held = np.isin(np.arange(16), np.random.RandomState(0).permutation(16)[::5])
    np.testing.assert_array_equal(parted.test.images, whole.images[held])
    np.testing.assert_array_equal(parted.train.labels, whole.labels[~held])
    assert datasets.load("cifar10").checksum == parted.checksum, "from the cache"
    assert datasets.verify("cifar10")


def test_the_newest_finished_version_is_taken(cifar10):
    shutil.copytree(cifar10, cifar10.with_name("3.0.10"))
    shutil.copytree(cifar10, cifar10.with_name("incomplete.ABC_9.0.0"))
    assert datasets.find("cifar10").version == "3.0.10"


def test_a_configuration_is_named_after_a_dot(cifar10):
    root = cifar10.parents[1]
    shutil.copytree(cifar10, root / "corrupted" / "fog" / "1.0.0")
    assert datasets.find("corrupted.fog").folder == root / "corrupted" / "fog" / "1.0.0"
    assert "corrupted.fog" in datasets.names()
    with pytest.raises(UsageError) as error:
        datasets.find("corrupted")
    one_line(error, "corrupted.fog")


# --- names, and what is there ---


def test_a_name_that_is_not_known_answers_with_the_nearest(own_data):
    with pytest.raises(UsageError) as error:
        datasets.load("cifr10")
    one_line(error, "did you mean 'cifar10'", "digits")


@pytest.mark.parametrize(
    "name", ["", "..", "../x", "/etc", "a/b", "a..b", ".a", "a.", "a\0b", "a\n", "x" * 65, "*", "~"]
)
def test_a_name_is_not_a_path(name, own_data):
    for act in (datasets.load, datasets.prepare, datasets.verify):
        with pytest.raises(UsageError, match="no dataset named"):
            act(name)


def test_a_set_that_is_not_there_says_how_to_get_it(own_data):
    for name in download.READERS:
        with pytest.raises(DataError) as error:
            datasets.load(name)
        one_line(error, own_data, f"rethink-gen data prepare {name}", "TFDS_DATA_DIR")


def test_what_is_there_is_listed_without_decoding(cifar10):
    assert [source.name for source in datasets.present()] == ["cifar10", "digits"]
    found = datasets.present()[0]
    assert (found.train, found.test, found.shape, found.num_classes) == (16, 4, (32, 32, 3), 10)
    assert found.folder == cifar10
    assert not found.cache.exists()
    datasets.load("cifar10")
    shutil.rmtree(cifar10)
    assert datasets.present()[0] == replace(found, folder=None)
    found.cache.write_bytes(b"damaged")
    assert [source.name for source in datasets.present()] == ["digits"]


def test_verifying_compares_the_cache_with_its_source(cifar10, tmp_path):
    assert len(datasets.verify("digits")) == 1
    assert len(datasets.verify("cifar10")) == 1
    dataset = datasets.load("cifar10")
    assert all(dataset.checksum in line for line in datasets.verify("cifar10"))
    assert len(datasets.verify("cifar10")) == 2
    source = datasets.find("cifar10")
    images = dataset.train.images.copy()
    images[0, 0, 0, 0] ^= 1
    arrays = images, dataset.train.labels, dataset.test.images, dataset.test.labels
    datasets.write(source, datasets.freeze(source, *arrays))  # a cache file that is whole, and wrong
    with pytest.raises(DataError) as error:
        datasets.verify("cifar10")
    one_line(error, cifar10, source.cache, "differ")


# --- real data ---


@needs_real_data("cifar10")
def test_real_images_are_as_tfds_decodes_them(real_data):
    import tensorflow_datasets as tfds

    from rethink_gen.data.tfds import decode

    source = replace(datasets.find("cifar10"), train=200, test=100)
    images, labels, _, test_labels = decode(source)
    records: Any = tfds.data_source("cifar10", split="train", data_dir=real_data)
    records = records.__getitems__(range(200))
    np.testing.assert_array_equal(images, np.stack([record["image"] for record in records]))
    np.testing.assert_array_equal(labels, [record["label"] for record in records])
    assert test_labels[:10].tolist() == [7, 0, 6, 9, 5, 1, 7, 0, 3, 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_real_data(name)) for name in ("cifar10", "mnist")])
def test_real_data_are_as_published(name, real_data):
    datasets.load(name)
    assert len(datasets.verify(name)) == 2


@pytest.mark.slow
@needs_real_data("cifar10")
def test_what_is_prepared_here_is_what_tfds_prepares(real_data, tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def batch(split):
        records: Any = tfds.data_source("cifar10", split=split, data_dir=real_data)
        examples = sorted(records.__getitems__(range(len(records))), key=lambda record: record["id"])
        return b"".join(bytes([record["label"]]) + record["image"].transpose(2, 0, 1).tobytes() for record in examples)

    train, size = batch("train"), 10_000 * 3073
    members = {f"data_batch_{i + 1}.bin": train[i * size : (i + 1) * size] for i in range(5)}
    members |= {"test_batch.bin": batch("test"), "batches.meta.txt": b"\n".join(b"%d" % i for i in range(10))}
    write_tar(
        tmp_path / "cifar-10-binary.tar.gz", {f"{NAMES['cifar10']}/{name}": data for name, data in members.items()}
    )
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path / "cache"))
    datasets.prepare("cifar10", data_dir=tmp_path / "data", fetch=from_folder(tmp_path))
    dataset = datasets.load("cifar10", data_dir=tmp_path / "data")
    assert dataset.checksum == datasets.PUBLISHED["cifar10"]
