"""Data that are streamed: the same examples, labels and steps as from memory, in any order, on one device or four."""

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from PIL import Image

from rethink_gen import experiment, registry
from rethink_gen.data import augmentations, corruptions, datasets, download
from rethink_gen.data.dataset import Dataset, Split
from rethink_gen.data.streaming import Stream
from rethink_gen.errors import DataError, Interrupted, UsageError
from rethink_gen.execution import requests, scheduler
from rethink_gen.results import store
from rethink_gen.runs import KernelRun, Run
from rethink_gen.training import collectives

N, TEST = 50, 20
RUN = Run(
    dataset=datasets.GENERATED, train_size=N, test_size=TEST, crop_size=28, whitening=False, batch_size=8, epochs=2,
    corruption="random_labels", corruption_level=0.5, learning_rate=0.01, model="tiny",
)  # fmt: skip


class Tiny(nn.Module):
    """A layer after batch norm: it compiles in a second."""

    num_classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.BatchNorm(not train, momentum=0.9)(x[:, ::4, ::4].reshape(len(x), -1))
        return nn.Dense(self.num_classes)(x)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache folder of this module's own, in which the generated set is made once; and a model."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.COMPONENTS["model"], "tiny", registry.Component("model", "tiny", Tiny))
        patch.setenv("RETHINK_GEN_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def source(cache):
    return datasets.find(datasets.GENERATED)


def true(n):
    return np.full(n, -1, np.int32)


def examples(source, split, n, side):
    """The first examples of a split, read and resized without `streaming`."""
    import tensorflow_datasets as tfds

    records: Any = tfds.builder_from_directory(source.folder).as_data_source(split)
    rows = [records[i] for i in range(n)]
    resize = lambda image: Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
    return Split(np.stack([resize(row["image"]) for row in rows]), np.array([row["label"] for row in rows], np.int32))


# The generated set.


def test_the_generated_set_is_kept_as_imagenet_is(source):
    """The features that tfds 4.9 declares for imagenet2012, without their pythonClassName."""
    features = json.loads((source.folder / "features.json").read_text())["featuresDict"]["features"]
    image = {"shape": {"dimensions": ["-1", "-1", "3"]}, "dtype": "uint8", "encodingFormat": "jpeg"}
    assert {name: {**feature, "pythonClassName": None} for name, feature in features.items()} == {
        "image": {"image": image, "pythonClassName": None},
        "label": {"classLabel": {"numClasses": "20"}, "pythonClassName": None},
        "file_name": {"text": {}, "pythonClassName": None},
    }
    assert (source.streamed, source.train, source.test, source.test_split) == (True, 160, 40, "validation")
    assert "tensorflow" not in sys.modules


def test_generated_pictures_are_large_of_many_sizes_and_the_same_each_time():
    pictures = [download._picture(i % 20, np.random.default_rng(i)) for i in range(40)]
    sizes = {Image.open(io.BytesIO(picture)).size for picture in pictures}
    assert len(sizes) > 30
    assert min(min(size) for size in sizes) >= 299
    assert pictures[7] == download._picture(7, np.random.default_rng(7))


# Examples.


def test_a_batch_is_what_its_indices_name_whatever_was_asked_before(source):
    expected = examples(source, "train", 20, 32)
    order = np.random.default_rng(0).permutation(20).reshape(5, 4)
    stream = Stream(source, "train", true(20), crop_size=28)
    for row in (0, 1, 2, 3, 4, 2, 0):
        batch = stream.batch(order, row)
        np.testing.assert_array_equal(batch.images, expected.images[order[row]])
        np.testing.assert_array_equal(batch.labels, expected.labels[order[row]])
        np.testing.assert_array_equal(batch.other, batch.labels)
        assert list(stream.ahead) == [rows.tobytes() for rows in order[row + 1 : row + 3]]
    assert stream.images.shape == (20, 32, 32, 3)
    again = stream.batch(np.array([[3, 3, 19]]), 0)
    np.testing.assert_array_equal(again.labels, expected.labels[[3, 3, 19]])


def test_the_central_crop_is_the_one_of_tensorflows_package(source):
    """There the central 7/8 of the image are cut out and then resized, here it is the other way round."""
    image = Stream(source, "train", true(1), crop_size=299).batch(np.array([[0]]), 0).images
    import tensorflow_datasets as tfds

    records: Any = tfds.builder_from_directory(source.folder).as_data_source("train")
    whole = Image.fromarray(records[0]["image"])
    width, height = whole.size
    box = (width / 16, height / 16, width * 15 / 16, height * 15 / 16)
    theirs = np.asarray(whole.resize((299, 299), Image.Resampling.BILINEAR, box=box), float)
    ours = augmentations.center_crop(image, 299)[0]
    assert ours.shape == (299, 299, 3)
    blocks = lambda image: image.reshape(23, 13, 23, 13, 3).mean((1, 3))  # without the noise of single pixels
    assert np.abs(blocks(ours) - blocks(theirs)).max() < 4  # of 255: the places differ by less than a pixel
    assert np.ptp(blocks(theirs)) > 60


def test_labels_are_corrupted_as_those_of_data_in_memory(source):
    """Bit for bit, for one key and level, in any order, by a second stream as by the first."""
    split = examples(source, "train", N, 32)
    clean = Dataset("memory", split, split, 20, "")
    key = jax.random.key(3)
    for level in (0.0, 0.3, 1.0):
        expected = corruptions.random_labels(key, clean, level).train.labels
        for seed in (0, 1):
            order = np.random.default_rng(seed).permutation(N).reshape(5, 10)
            stream = Stream(source, "train", corruptions.drawn_labels(key, N, 20, level), crop_size=28)
            for row in range(5):
                batch = stream.batch(order, row)
                np.testing.assert_array_equal(batch.labels, expected[order[row]])
                np.testing.assert_array_equal(batch.other, split.labels[order[row]])


# Runs.


def finish(run, **options):
    [outcome] = scheduler.execute([run], **options)
    assert isinstance(outcome, store.Result), outcome
    return outcome


@pytest.fixture(scope="module")
def finished(source):
    return finish(RUN)


def test_a_streamed_run_is_that_of_the_same_data_in_memory(finished, source, monkeypatch):
    train, test = examples(source, "train", N, 32), examples(source, "validation", TEST, 32)
    monkeypatch.setattr(datasets, "load", lambda name: Dataset(name, train, test, 20, ""))
    monkeypatch.setattr(datasets, "find", lambda name: replace(source, shape=(32, 32, 3)))
    resident = finish(RUN)
    assert finished.curves.keys() == resident.curves.keys()
    resident.curves["test_accuracy_noisy_labels"] = [None] * 3  # a stream has no noisy test labels
    for name, values in finished.curves.items():
        expected = np.array(resident.curves[name], float)
        np.testing.assert_allclose(np.array(values, float), expected, rtol=2e-5, err_msg=name)  # float32 sums


def test_top_5_accuracy_is_measured_where_there_are_many_classes(finished):
    for split in ("train", "test"):
        first, fifth = (np.array(finished.curves[f"{split}{name}_accuracy"]) for name in ("", "_top5"))
        assert (fifth >= first).all()
        assert (fifth > first).any()
    assert finished.summary["best_test_top5_accuracy"] == max(finished.curves["test_top5_accuracy"])


def test_an_interrupted_streamed_run_continues_with_the_same_numbers(finished, tmp_path):
    seen = []

    def stop_twice(progress):
        seen.append(progress.step)
        if progress.step in (3, 8) and seen.count(progress.step) == 1:
            os.kill(os.getpid(), 15)

    for _ in range(2):
        with pytest.raises(Interrupted):
            list(scheduler.execute([RUN], work=tmp_path, report=stop_twice))
    resumed = finish(RUN, work=tmp_path, report=stop_twice)
    assert seen == [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 8, 9, 10, 11, 12]  # each begins by saying where it goes on
    assert resumed.curves == finished.curves


ON_FOUR_DEVICES = """if True:
    import json, test_streaming as ours
    from rethink_gen import registry
    from rethink_gen.execution import scheduler
    from rethink_gen.training import compilation, core, collectives, preparation
    registry.add("model", "tiny", ours.Tiny)
    _, train, *_ = preparation.prepare([ours.RUN])
    images = collectives.read_batch(train, ours.np.arange(8)[None], 0).images
    [result] = scheduler.execute([ours.RUN])
    step = compilation.jit(core.train_batch, convolves=True)
    print(json.dumps([result.curves, len(images.devices()), *images.sharding.spec, step._cache_size()]))
"""


def test_four_devices_share_a_batch_and_agree_with_one(finished):
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path])
    command = [sys.executable, "-c", ON_FOUR_DEVICES]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    curves, devices, axis, compilations = json.loads(shown.stdout)
    assert (devices, axis) == (4, "data")
    assert compilations == 1, "the state stays where it is, so that a long compilation is not repeated"
    for name, values in finished.curves.items():
        # float32 sums in another order, over 12 steps; batch norm's are over all four parts
        np.testing.assert_allclose(np.array(curves[name], float), np.array(values, float), rtol=1e-3, err_msg=name)


def test_a_batch_that_devices_cannot_share_equally_is_for_fewer_of_them():
    assert collectives.batch_mesh(7).shape == {"data": 1}
    assert collectives.batch_mesh(7).axis_names == ("data",)


# What cannot be done.


def one_line(error, *parts):
    text = str(error.value)
    assert "\n" not in text
    assert all(str(part) in text for part in parts), text


def test_pixels_of_a_stream_cannot_be_corrupted(source):
    with pytest.raises(UsageError) as error:
        list(scheduler.execute([replace(RUN, corruption="shuffled_pixels")]))
    one_line(error, "shuffled_pixels", datasets.GENERATED, "random_labels")


def test_what_needs_all_images_at_once_says_so(source):
    with pytest.raises(UsageError) as error:
        list(scheduler.execute([KernelRun(dataset=datasets.GENERATED)]))
    one_line(error, datasets.GENERATED, "streamed")
    assert len(datasets.verify(datasets.GENERATED)) == 1
    assert datasets.prepare(datasets.GENERATED).train == 160


def test_a_picture_that_is_damaged_is_named(own_data, monkeypatch):
    good = download._picture
    monkeypatch.setattr(download, "_SIZES", {"train": 3, "validation": 1})
    monkeypatch.setattr(download, "_picture", lambda label, rng: good(label, rng)[: 500 if label == 1 else None])
    stream = Stream(datasets.find(datasets.GENERATED), "train", true(3), crop_size=28)
    damaged = []
    for i in range(3):
        try:
            stream.batch(np.array([[i]]), 0)
        except DataError as error:
            damaged.append(str(error))
    [line] = damaged
    assert "\n" not in line
    assert "of the train split of generated_imagenet" in line
    assert "prepare it again" in line


def test_missing_imagenet_is_one_line_with_its_size_and_the_way_out(own_data):
    for act in (datasets.find, datasets.load, datasets.prepare):
        with pytest.raises(DataError) as error:
            act("imagenet2012")
        one_line(error, "ILSVRC2012_img_train.tar (138 GB)", own_data / "downloads" / "manual", "data prepare imagenet")
    requests.check_names([Run(dataset="imagenet2012")])  # a name that is known
    manual = own_data / download._MANUAL
    manual.mkdir(parents=True)
    for file in download.BY_HAND["imagenet2012"]:
        (manual / file.split()[0]).touch()
    with pytest.raises(DataError, match="preparing imagenet2012 needs TensorFlow"):
        datasets.prepare("imagenet2012")


def test_the_test_split_of_imagenet_is_its_validation_split(source, tmp_path):
    """The labels of the split that is called test are not public."""
    info = json.loads((source.folder / "dataset_info.json").read_text())
    info["splits"].append({**info["splits"][0], "name": "test"})
    for name in ("features.json", *(path.name for path in source.folder.glob("*array_record*"))):
        (tmp_path / name).write_bytes((source.folder / name).read_bytes())
    (tmp_path / "x.array_record-00000-of-00001").touch()
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    found = datasets.describe("imagenet2012", tmp_path)
    assert (found.test_split, found.test) == ("validation", 40)
    assert datasets.describe("other", tmp_path).test_split == "test"


def test_at_smoke_scale_generated_pictures_stand_in_for_imagenet():
    [run] = experiment._smoke((Run(dataset="imagenet2012", crop_size=299, batch_size=256),))
    assert (run.dataset, run.crop_size, run.train_size) == (datasets.GENERATED, 299, 8)
    requests.check_data([run])  # it need not be there yet


@pytest.mark.slow
def test_inception_v3_trains_on_streamed_pictures(source):
    run = experiment.find("table2_imagenet").at("smoke").runs[0]
    result = finish(replace(run, precision="float32"))
    assert result.status == "finished"
    assert result.curves["running_loss"][1] < 2 * np.log(20)
