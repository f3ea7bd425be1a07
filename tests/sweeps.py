"""Small runs, trained once or in an experiment of two, a result, and bits that are flipped."""

import json

import flax.linen as nn
import numpy as np
import pytest
from frames import own_experiment

import rethink_gen as rg
from rethink_gen.models import inception
from rethink_gen.results import store
from rethink_gen.runs import Run
from rethink_gen.training import trainer

SMALL = Run(
    dataset="digits", train_size=96, test_size=50, batch_size=32, epochs=2, corruption="random_labels",
    corruption_level=0.5, augmentations=("flip",), weight_decay=1e-3,
)  # fmt: skip

# Two runs of an epoch.
EXPERIMENT = own_experiment(
    "train_size=64, test_size=50, batch_size=32, epochs=1, learning_rate=0.1",
    'corruption=("true_labels", "random_labels")',
    "corruption",
)


class TinyBatchNorm(nn.Module):
    """A convolution with batch norm, and a linear layer: compiles in a second."""

    num_classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train=False):
        x = inception.ConvModule(4, 3)(x, train=train)
        return nn.Dense(self.num_classes)(x.mean((1, 2)))


def result(run=SMALL, accuracy=0.5):
    curves = {name: [0.1, accuracy] for name in ("train_accuracy", "test_accuracy", "train_loss", "test_loss")}
    about = {"device": "cpu", "num_train": 96, "num_test": 50, "seconds_train": 1.0, "seconds_compile": 0.0}
    return store.Result(run, "finished", {"epoch": [0, 1], "step": [0, 2], **curves}, about)


def train(run, work, stopped=lambda: None):
    return next(trainer.train({run: work}, report=lambda progress: None, stopped=stopped))


def trained_once(run):
    """Two fixtures of a module: a folder of results in which a run is trained, with its weights, and its result."""

    @pytest.fixture(scope="module")
    def folder(tmp_path_factory):
        folder = tmp_path_factory.mktemp("results")
        rg.train(run, results=folder, keep_weights=True)
        return folder

    @pytest.fixture(scope="module")
    def result(folder):
        return rg.train(run, results=folder, keep_weights=True)

    return folder, result


def snapshot(folder):
    """Every path below a folder with what it holds and when it changed."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")}


def flips(content, count, seed=0):
    """The content with one bit flipped, so many times."""
    rng = np.random.default_rng(seed)
    for place, bit in zip(rng.integers(0, len(content), count), rng.integers(0, 8, count), strict=True):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(bit)
        yield bytes(flipped)


def last_line(capsys):
    return capsys.readouterr().err.splitlines()[-1]


def falsify(path, content):
    """Writes a result with a checksum that is right."""
    content.pop("sha256", None)
    path.write_text(json.dumps({**content, "sha256": store._digest(content)}))
