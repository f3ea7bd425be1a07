"""Images of any size: augmentations fit them or are refused, and what a run does not see is told."""

from dataclasses import replace

import numpy as np
import pytest

import rethink_gen as rg
from rethink_gen import registry
from rethink_gen.cli import main
from rethink_gen.data import augmentations
from rethink_gen.data.randomness import root_key
from rethink_gen.errors import UsageError
from rethink_gen.execution import requests


def data(height, width, channels, name="own", dtype=np.uint8):
    def split(n):
        images = np.random.default_rng(n).integers(0, 255, (n, height, width, channels))
        return images.astype(dtype), np.arange(n) % 3

    return rg.Dataset.from_arrays(name, split(30), split(12), scale=1)


@pytest.mark.parametrize(("channels", "words"), [(1, "have 1 channel:"), (4, "have 4 channels:")])
def test_color_on_images_without_color_is_refused_before_training(channels, words, tmp_path):
    run = rg.Run(dataset=data(32, 32, channels), augmentations=("flip", "color"))
    with pytest.raises(UsageError, match=f"augmentation color changes the hue of RGB images; those of own {words}"):
        rg.train(run, results=tmp_path)
    assert not list(tmp_path.iterdir())


def test_color_on_digits_is_refused_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["train", "--dataset", "digits", "--augmentations", "color"]) == 2
    assert "those of digits have 1 channel" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [(20, 28), (20, 20), (31, 17), (64, 20), (28, 28), (4, 90), (200, 5)])
@pytest.mark.parametrize("name", ["crop", "random_crop"])
def test_crops_of_small_and_odd_images_have_the_size_of_the_images_tested_on(name, shape):
    """A window of 20×28 was resized to 28×28 for training, and tested at 20×28. Of images 7.5 times as wide as high,
    windows of a tenth of the area reached beyond the image, where all is black.
    """
    images = np.full((2, *shape, 3), 100.0, np.float32)
    cropped = getattr(augmentations, name)(root_key(0), images, 28)
    assert cropped.shape == augmentations.center_crop(images, 28).shape
    np.testing.assert_allclose(cropped, 100, rtol=1e-5)


def test_network_trains_on_odd_images_with_crops(tmp_path):
    run = rg.Run(dataset=data(20, 28, 3), model="mlp(hidden=4)", augmentations=("crop",), batch_size=10, epochs=1)
    assert rg.train(run, results=tmp_path).status == "finished"


@pytest.mark.parametrize(("size", "told"), [(64, True), (96, True), (32, False), (28, False), (8, False)])
def test_cut_of_larger_images_is_told_with_the_two_ways_out(size, told):
    run = rg.Run(dataset=data(size, size, 3))
    lines = requests.cut_images([run, run])
    if told:
        [line] = lines
        assert line.startswith(f"own: of images of {size}×{size}, runs see the central 28×28 pixels; ")
        assert f"--crop-size {size} keeps them whole, rg.Dataset.resized makes them smaller" in line
    assert bool(lines) == told
    assert not requests.cut_images([rg.Run(dataset="own", crop_size=96)])


def test_cut_of_images_is_told_where_augmentations_do_not_crop():
    """A run that flips its images saw 28 of 64 pixels without a word."""
    run = rg.Run(dataset=data(64, 64, 3))
    assert len(requests.cut_images([replace(run, augmentations=("flip", "cutout(side=4)"))])) == 1
    assert not requests.cut_images([replace(run, augmentations=("flip", "random_crop(padding=4)"))])


@pytest.mark.parametrize("shape", [(100, 1), (1, 100)])
def test_cut_of_signals_is_told(shape):
    """Signals are images of one row or one column; of 100 values, runs saw 28 without a word."""
    [line] = requests.cut_images([rg.Run(dataset=data(*shape, 1))])
    assert "--crop-size 100 keeps them whole" in line


def test_crops_that_are_known_are_all_that_take_a_size():
    names = registry.COMPONENTS["augmentation"]
    built_in = [name for name in names if registry.is_built_in("augmentation", name)]
    assert {name for name in built_in if augmentations.crops([name])} == {*requests.CROPS}


def test_feature_vectors_are_no_images_that_are_cut():
    x = np.zeros((30, 100), np.float32)
    assert not requests.cut_images([rg.Run(dataset=rg.Dataset.from_arrays("rows", (x, np.arange(30) % 2)))])


def test_train_says_that_images_are_cut(tmp_path, capsys):
    run = rg.Run(dataset=data(64, 64, 1), model="mlp(hidden=4)", batch_size=10, epochs=1)
    rg.train(run, results=tmp_path)
    assert "own: of images of 64×64, runs see the central 28×28 pixels" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resized_images_are_the_whole_pictures_in_another_size(dtype):
    from PIL import Image

    large = data(64, 48, 3, dtype=dtype)
    small = large.resized("small", (16, 12))
    assert small.train.images.shape == (30, 16, 12, 3)
    assert small.train.images.dtype == dtype
    assert small.num_classes == large.num_classes
    np.testing.assert_array_equal(small.test.labels, large.test.labels)
    channel = Image.fromarray(large.train.images[7][..., 1]).resize((12, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(small.train.images[7][..., 1], channel)
    constant = rg.Dataset.from_arrays("plain", (np.full((5, 9, 9, 1), 77, np.uint8), np.arange(5) % 2))
    assert (constant.resized("plain2", 4).train.images == 77).all()
    assert rg.Run(dataset="small").dataset == "small"
