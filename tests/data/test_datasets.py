"""Data sets are what they are said to be, or there is one line that says what is wrong and what to do."""

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from archives import NAMES, change, from_folder, one_line, write_tar
from conftest import needs_real_data

from rethink_gen.data import datasets, download
from rethink_gen.data.dataset import sums
from rethink_gen.errors import DataError, UsageError

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
