"""Data sets that ship with a dependency or are computed: digits, and modular addition."""

import csv
import gzip
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from archives import rows

from rethink_gen.data import datasets


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
    assert datasets.bundled.digits().checksum == datasets.PUBLISHED["digits"]


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


def test_modular_addition_has_every_pair_once_and_its_sum():
    found = datasets.load("modular_addition")
    images = np.concatenate([found.train.images, found.test.images]).reshape(-1, 2, 97)
    assert set(np.unique(images)) == {0, 255}
    assert (images > 0).sum(2).tolist() == [[1, 1]] * 97**2
    pairs = images.argmax(2)
    assert len({*map(tuple, pairs.tolist())}) == 97**2
    assert np.concatenate([found.train.labels, found.test.labels]).tolist() == (pairs.sum(1) % 97).tolist()
    assert (len(found.train.labels), len(found.test.labels)) == (4704, 4705)
