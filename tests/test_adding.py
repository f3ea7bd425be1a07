"""A corruption, a model and an experiment of one's own: each in one place, in at most twenty lines."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

CORRUPTION = '''
def flipped_labels(key: Key, dataset: Dataset, level: float) -> Dataset:
    """Replaces training labels by the next class, each with probability `level`."""
    labels = dataset.train.labels
    flipped = np.where(hits(key, len(labels), level), (labels + 1) % dataset.num_classes, labels)
    return replace(dataset, train=dataset.train._replace(labels=flipped))
'''
CORRUPTION_LINE = '    "flipped_labels": flipped_labels,'

MODEL = '''
class Linear(nn.Module):
    """Softmax regression: the least that can be called a network."""

    num_classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        return nn.Dense(self.num_classes)(x.reshape(len(x), -1))
'''
MODEL_LINE = '    "linear": Linear,'

EXPERIMENT = '''
"""Structured label noise, too, is fitted. 2 runs, seconds on a CPU. Expected: the same as for random labels."""

from rethink_gen import figures, tables
from rethink_gen.experiment import Check, Experiment, Run, grid

RUNS = grid(Run(dataset="digits", train_size=100, epochs=2, corruption="flipped_labels", model="linear"), seed=range(2))

EXPERIMENT = Experiment(
    claim="A network fits any labelling of the training set.",
    locator="Section 2.2",
    runs=RUNS,
    laptop=RUNS,
    table=lambda frame: tables.mean_and_interval(frame, ["model", "corruption"], "train_accuracy"),
    figure=lambda frame: figures.curves(frame, "epoch", "train_accuracy", hue="model"),
    checks=lambda frame: [Check("It fits.", None if not len(frame) else tables.fitted(frame) == 1, "")],
)
'''


def add(path, code, line=None):
    """Puts code before the last table of a module, and a line into that table; a new file if there is no line."""
    assert len(code.strip().splitlines()) + (line is not None) <= 20
    if line is None:
        path.write_text(code.lstrip())
        return
    before, _, table = path.read_text().rpartition("\n\n\n")
    head, _, entries = table.partition("\n")
    path.write_text(f"{before}\n\n{code}\n\n{head}\n{line}\n{entries}")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with one of each added."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "rethink_gen", folder / "rethink_gen", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    add(folder / "rethink_gen" / "corruptions.py", CORRUPTION, CORRUPTION_LINE)
    add(folder / "rethink_gen" / "models.py", MODEL, MODEL_LINE)
    add(folder / "experiments" / "flipped.py", EXPERIMENT)
    return folder


def command(project, *words):
    done = subprocess.run(
        [sys.executable, "-m", "rethink_gen", *words],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("kind", "name"), [("corruptions", "flipped_labels"), ("models", "linear"), ("experiments", "flipped")]
)
def test_what_was_added_is_listed(project, kind, name):
    assert name in command(project, "list", kind)


def test_what_was_added_runs_and_is_tabulated_and_drawn(project):
    assert "2 of 2 runs" in command(project, "run", "flipped", "--results", "results")
    folder = project / "results" / "flipped" / "laptop"
    assert len(list(folder.glob("linear-flipped_labels-*.json"))) == 2
    assert (folder / "table.md").exists()
    assert (folder / "figure.png").exists()
