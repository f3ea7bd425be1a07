"""Any folder under TFDS_DATA_DIR: what can be named is found, the rest is passed over, and hints are right."""

import json
import os
import shutil

import pytest
from archives import change

from rethink_gen.cli import main
from rethink_gen.data import datasets
from rethink_gen.errors import DataError, UsageError
from rethink_gen.runs import Run


@pytest.fixture
def root(cifar10):
    """A folder of tfds with a data set in it."""
    return cifar10.parents[1]


@pytest.mark.parametrize(
    "folder", ["imagenet_v2/matched-frequency/3.0.0", "odd name/x/1.0.0", "ü/1.0.0", "a/b/c", "name/no-version"]
)
def test_folder_with_a_name_that_is_none_is_passed_over(folder, root, capsys):
    """Each ended in a RecursionError: the name was not known, and the hint looked for all names again."""
    (root / folder).mkdir(parents=True)
    (root / folder / "dataset_info.json").write_text("{}")
    assert [source.name for source in datasets.present()] == ["cifar10", *datasets.bundled.DATASETS]
    for line in (["data"], ["list", "datasets"]):
        assert main.main(line) == 0
    assert main.main(["train", "--dataset", "cifr10"]) == 2
    assert "did you mean 'cifar10'" in capsys.readouterr().err


def test_data_set_with_a_hyphen_is_found_cached_and_named_by_a_run(root, monkeypatch):
    shutil.copytree(root / "cifar10" / "3.0.2", root / "imagenet_v2" / "matched-frequency" / "3.0.0")
    name = "imagenet_v2.matched-frequency"
    assert datasets.find(name).folder == root / "imagenet_v2" / "matched-frequency" / "3.0.0"
    assert len(datasets.load(name).train.labels) == 16
    assert Run(dataset="imagenet_v2/matched-frequency").dataset == name
    shutil.rmtree(root)
    assert datasets.find(name).cache.exists()
    assert len(datasets.load(name).train.labels) == 16, "from the cache alone"
    with pytest.raises(UsageError):
        datasets.find("imagenet_v2.matched")  # whose files in the cache would begin alike


def test_tfds_own_spelling_of_a_configuration_names_the_same_run(root):
    shutil.copytree(root / "cifar10" / "3.0.2", root / "emnist" / "letters" / "3.1.0")
    assert Run(dataset="emnist/letters") == Run(dataset="emnist.letters")
    for name in ("emnist/letters", "emnist.letters"):
        assert datasets.find(name).name == "emnist.letters"
        assert datasets.load(name).name == "emnist.letters"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CIFAR10", "cifar10"),
        ("cifar-10", "cifar10"),
        ("Cifar_100", "cifar100"),
        ("imagenet", "imagenet2012"),
        ("Fashion-MNIST", "fashion_mnist"),
        ("cifr10", "cifar10"),
    ],
)
def test_common_spelling_of_a_data_set_gets_the_right_hint(name, meant, own_data):
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        datasets.find(name)


def test_temporary_file_of_a_decoding_that_was_killed_is_swept_after_a_day(root):
    folder = datasets.cache_folder()
    folder.mkdir(parents=True)
    old, new = folder / ".cifar10-3.0.2.npz-0123456789abcdef", folder / ".mnist-3.0.1.npz-fedcba9876543210"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    datasets.load("cifar10")
    assert not old.exists()
    assert new.exists(), "its process may be at work"


def test_tfrecord_files_are_sound_and_nobody_is_told_to_delete_them(root):
    folder = root / "cifar10" / "3.0.2"
    change(folder, "dataset_info.json", lambda info: info.update(fileFormat="tfrecord"))
    with pytest.raises(DataError) as raised:
        datasets.load("cifar10")
    said = str(raised.value)
    assert f"tfds convert_format --dataset_version_dir={folder} --out_file_format=array_record" in said
    assert said.endswith("--out_dir=NEW/cifar10/3.0.2 and set TFDS_DATA_DIR=NEW")
    assert "delete" not in said


def test_hidden_test_labels_are_no_damage_and_nobody_is_told_to_delete_them(root):
    features = root / "cifar10" / "3.0.2" / "features.json"
    content = json.loads(features.read_text())
    content["featuresDict"]["features"]["label"]["classLabel"]["numClasses"] = "3"  # others are then out of range
    features.write_text(json.dumps(content))
    with pytest.raises(DataError) as raised:
        datasets.load("cifar10")
    assert "labels of the train split are hidden or out of range" in str(raised.value)
    assert "delete" not in str(raised.value)
