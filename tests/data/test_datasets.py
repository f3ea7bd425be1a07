"""Data sets are what they are said to be, or there is one line that says what is wrong and what to do."""

import contextlib
import os
import pwd
import shutil
import tempfile
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from archives import NAMES, change, cifar_archive, cifar_members, from_folder, one_line, random_images, write_tar
from conftest import needs_real_data, small_disk

from rethink_gen.data import datasets, download, tfds
from rethink_gen.data.dataset import sums
from rethink_gen.errors import DataError, UsageError

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
        ("dataset_info.json", lambda i: i["splits"][0].update(name="extra"), "a train and a test split"),
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
        ["cifar10", *datasets.bundled.DATASETS] if message == "labels" else [*datasets.bundled.DATASETS]
    )


def test_a_validation_split_stands_in_for_a_test_split(cifar10):
    expected = datasets.load("cifar10")
    change(cifar10, "dataset_info.json", lambda info: info["splits"][1].update(name="validation"))
    (cifar10 / "cifar10-test.array_record-00000-of-00001").rename(
        cifar10 / "cifar10-validation.array_record-00000-of-00001"
    )
    assert datasets.load("cifar10").checksum == expected.checksum


def test_a_set_with_test_images_alone_says_how_a_network_is_tested_on_it(cifar10):
    change(cifar10, "dataset_info.json", lambda info: info["splits"].pop(0))
    with pytest.raises(DataError, match=r"has a test split alone, and nothing to train on; .*predict\(images\)"):
        datasets.load("cifar10")


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
    assert [source.name for source in datasets.present()] == ["cifar10", *datasets.bundled.DATASETS]
    found = datasets.present()[0]
    assert (found.train, found.test, found.shape, found.num_classes) == (16, 4, (32, 32, 3), 10)
    assert found.folder == cifar10
    assert not found.cache.exists()
    datasets.load("cifar10")
    shutil.rmtree(cifar10)
    assert datasets.present()[0] == replace(found, folder=None)
    found.cache.write_bytes(b"damaged")
    assert [source.name for source in datasets.present()] == [*datasets.bundled.DATASETS]


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


@needs_real_data("mnist")
def test_published_mean_and_deviation_give_mnists_sums(real_data):
    """The sums of other sets were found in this way; both numbers are those that the field prints."""
    n, mean, deviation = 60_000 * 28 * 28, 0.1306604762738429, 0.30810780385646264
    [total], [squares] = sums(datasets.load("mnist").train.images)
    assert total == round(mean * n * 255)
    assert squares == pytest.approx((deviation**2 + mean**2) * n * 255**2, rel=1e-12)


def test_published_sums_give_back_the_deviations_that_are_printed():
    """Those of CIFAR-100 divide by n; a comment said n - 1. A number and its square are both even, or both odd."""
    printed = {
        "cifar100": (50_000 * 32 * 32, (0.2673342858792401, 0.2564384629170883, 0.27615047132568404)),
        "fashion_mnist": (60_000 * 28 * 28, (0.35302424451492237,)),
        "kmnist": (60_000 * 28 * 28, (0.34834283034636876,)),
    }
    for name, (n, deviations) in printed.items():
        totals, squares = datasets.PUBLISHED_SUMS[name]
        assert [total % 2 for total in totals] == [square % 2 for square in squares]
        found = [(n * square - total**2) ** 0.5 / n / 255 for total, square in zip(totals, squares, strict=True)]
        assert found == pytest.approx(deviations, rel=1e-14)


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
