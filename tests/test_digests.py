"""A result knows the code and the data it came from."""

import hashlib
import importlib.util
import shutil
import subprocess
import sys

import numpy as np
import pytest

import rethink_gen as rg
from rethink_gen import digests, plugins, registry
from rethink_gen.errors import Interrupted, UsageError
from rethink_gen.execution import shipping
from rethink_gen.training import trainer

CODE = """
from dataclasses import replace
import numpy as np
import rethink_gen as rg

STEP = 1  # how far


def moved(labels, k):
    return (labels + STEP) % k


@rg.register.corruption
def next_class(key, dataset, level):
    labels = moved(dataset.train.labels, dataset.num_classes)
    return replace(dataset, train=dataset.train._replace(labels=labels))
"""
SMALL = {"dataset": "digits", "train_size": 64, "test_size": 32, "batch_size": 32, "epochs": 1, "learning_rate": 0.01}


@pytest.fixture
def load(tmp_path):
    """Loads a module of this code, as a user's edited file is loaded in a new process."""
    count = iter(range(100))

    def load(code):
        name = f"users_{next(count)}"
        path = tmp_path / f"{name}.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    return load


def digest_of(load, code):
    return digests.of_code(load(code).next_class)


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("labels = moved(dataset.train.labels, dataset", "labels = moved(dataset.test.labels, dataset", False),
        ("(labels + STEP) % k", "(labels - STEP) % k", False),  # in what it calls
        ("STEP = 1", "STEP = 2", False),  # a constant of what it calls
        ("# how far", "# how far it goes", True),
        ("def moved(labels, k):", "# a comment\ndef moved(labels,  k):", True),
        ("import numpy as np", "import numpy as np\n\nUNUSED = 3", True),
    ],
)
def test_what_changes_the_function_changes_the_digest_and_nothing_else(load, old, new, same):
    assert old in CODE
    before, after = (digest_of(load, code) for code in (CODE, CODE.replace(old, new)))
    assert (before == after) is same


HIDDEN = """
import dataclasses
from types import MappingProxyType, SimpleNamespace
import flax.linen as nn

VALUE = 1
NAMESPACE = SimpleNamespace(by=VALUE)
MAPPING = MappingProxyType({"by": [VALUE]})


class Settings:
    by = VALUE

    def __init__(self):
        self.of_the_object = VALUE


SETTINGS = [Settings()]


def default(key, dataset, level, *, by=VALUE):
    return by


def in_a_namespace(key, dataset, level):
    return NAMESPACE.by


def in_a_mapping(key, dataset, level):
    return MAPPING["by"]


def in_a_list(key, dataset, level):
    return SETTINGS[0].by


def of_a_class(key, dataset, level):
    return Settings.by


class FieldOfAModel(nn.Module):
    num_classes: int
    width: int = VALUE


class AttributeOfAModel(nn.Module):
    num_classes: int
    _width = VALUE


class FactoryOfAModel(nn.Module):
    num_classes: int
    widths: tuple = dataclasses.field(default_factory=lambda: (VALUE,))
"""


@pytest.mark.parametrize(
    "name",
    [
        "default",
        "in_a_namespace",
        "in_a_mapping",
        "in_a_list",
        "of_a_class",
        "FieldOfAModel",
        "AttributeOfAModel",
        "FactoryOfAModel",
    ],
)
def test_a_constant_behind_a_default_an_attribute_or_an_object_counts(load, name):
    texts = [HIDDEN, HIDDEN.replace("VALUE = 1", "VALUE = 1  # the same"), HIDDEN.replace("VALUE = 1", "VALUE = 2")]
    first, same, other = (digests.of_code(getattr(load(text), name)) for text in texts)
    assert first == same != other


def test_a_model_has_the_same_digest_before_and_after_its_first_use(load):
    model = load(HIDDEN.replace("_width = VALUE", "_width = VALUE\n\n    def __call__(self, x): return x"))
    before = digests.of_code(model.AttributeOfAModel)
    model.AttributeOfAModel(num_classes=2).init({}, np.zeros(3))
    digests._source.cache_clear()
    assert digests.of_code(model.AttributeOfAModel) == before


def test_built_in_runs_have_no_digests():
    assert digests.of_run(rg.Run()) == {}
    assert digests.of_program(rg.Run(optimizer="adamw")) == ""


@pytest.mark.parametrize("file", ["training/core.py", "models/families/vit.py"])
def test_an_edit_of_the_code_for_training_changes_the_digest_that_checkpoints_are_tied_to(file, tmp_path, monkeypatch):
    """That of models in a folder of their own, too, which the digest left out."""
    shutil.copytree(digests.PACKAGE, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests, "PACKAGE", str(tmp_path / "copy"))
    before = digests.of_package.__wrapped__()
    with (tmp_path / "copy" / file).open("a") as module:
        module.write("\n\nEDITED = 1\n")
    assert digests.of_package.__wrapped__() != before


MODEL = """
import flax.linen as nn
import rethink_gen as rg


@rg.register.model
class Mine(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(nn.relu(nn.Dense(16)(x.reshape(len(x), -1))))
"""


def test_a_checkpoint_is_not_continued_over_edited_code(load, tmp_path):
    """The run begins again: half of it by one network and half by another would be a result of neither."""
    stops = iter((False, False, True))

    def stopped():
        if next(stops, False):
            raise Interrupted("stopped")

    load(MODEL)
    run = rg.Run(**{**SMALL, "epochs": 4}, model="Mine")
    options = {"report": lambda progress: None, "stopped": stopped}
    with pytest.raises(Interrupted):
        list(trainer.train({run: tmp_path}, **options))
    assert list(tmp_path.glob("checkpoint-*"))
    load(MODEL.replace("relu", "tanh"))
    [continued] = trainer.train({run: tmp_path}, **options)
    [undisturbed] = trainer.train({run: None}, **options)
    assert continued.curves == undisturbed.curves


def test_the_file_that_an_option_names_counts(tmp_path):
    matrix = tmp_path / "matrix.csv"
    np.savetxt(matrix, np.eye(10), delimiter=",")
    run = rg.Run(**SMALL, corruption=f"class_conditional(matrix={matrix})")
    before = digests.of_run(run)
    np.savetxt(matrix, np.roll(np.eye(10), 1, axis=1), delimiter=",")
    assert digests.of_run(run) != before


def test_a_file_that_an_option_names_travels_to_machines_that_do_not_have_it(tmp_path, monkeypatch):
    matrix = tmp_path / "shift.csv"
    np.savetxt(matrix, np.roll(np.eye(10), 1, axis=1), delimiter=",")
    corruption = f"class_conditional(matrix={matrix})"
    run = rg.Run(**SMALL, corruption=corruption, corruption_level=1)
    here = digests.of_run(run)
    packed = shipping.pack([run])
    matrix.unlink()
    with pytest.raises(UsageError, match=r"shift\.csv: cannot be read"):
        digests.of_run(run)
    monkeypatch.setattr(digests, "BROUGHT", {})
    shipping.unpack(packed)
    assert digests.of_run(run) == here
    noisy = rg.corrupt("digits", corruption, level=1, seed=0)
    assert (noisy.train.labels == (noisy.true_labels + 1) % 10).all()


def test_a_moved_plug_in_is_the_same_code_as_a_module_or_a_file(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    (tmp_path / "here" / "mine.py").write_text(CODE)
    (tmp_path / "elsewhere" / "renamed_and_moved.py").write_text(CODE)
    found = []
    for where in (str(tmp_path / "here" / "mine.py"), "renamed_and_moved"):
        registry.COMPONENTS["corruption"].pop("next_class", None)
        plugins.load(where)
        found.append(digests.of_component(registry.COMPONENTS["corruption"]["next_class"]))
    assert found[0] == found[1]


CELL = """
import functools, jax, optax
import flax.linen as nn
import jax.numpy as jnp
from rethink_gen import digests

LETTERS = {"a", "b", "c", "d"}


def scaled(by):
    def scale(x):
        return x * by
    return scale


double, triple = scaled(2), scaled(3)


@jax.jit
def moved(labels):
    return [x + 1 for x in labels]


class Shift:
    def __init__(self, by):
        self.by = by

    def __call__(self, x):
        return x + self.by


shift = Shift(4)


def corruption(key, dataset, level, *, times=1):
    def inner(x):
        return x in {"e", "f", "g"} or x in LETTERS or -5
    return moved(inner(triple(double(shift(dataset)))))


class Net(nn.Module):
    num_classes: int
    dropout: float = 0.0
    width: int = 16
    scale = 1.5

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(self.num_classes)(nn.relu(x))


optimizer = functools.partial(optax.sgd, momentum=0.9)
print(*map(digests.of_code, (corruption, Net, optimizer, jax.jit(corruption))))
"""


def test_code_without_a_source_has_the_same_digest_in_each_process_and_another_after_each_edit():
    """As in a notebook: classes, and code on standard input, have no source."""
    edits = {  # a change, and which of the four digests it changes
        "scaled(3)": ("scaled(4)", (0, 3)),
        "x + 1 for": ("x + 2 for", (0, 3)),
        "Shift(4)": ("Shift(5)", (0, 3)),
        "x + self.by": ("x - self.by", (0, 3)),
        "or -5": ("or -6", (0, 3)),
        "times=1": ("times=2", (0, 3)),
        '"g"}': ('"h"}', (0, 3)),
        "width: int = 16": ("width: int = 17", (1,)),
        "scale = 1.5": ("scale = 2.5", (1,)),
        "nn.relu": ("nn.tanh", (1,)),
        "momentum=0.9": ("momentum=0.8", (2,)),
        "optax.sgd": ("optax.adam", (2,)),
        "\n\nclass Net": ("\n\n\n# a comment\nclass Net", ()),
    }
    # One process for all edits: importing flax takes seconds. Two, for sets have another order in each.
    program = (
        "import sys, io\nfor code in CODES:\n    exec(compile(code, '<cell>', 'exec'), vars(sys.modules['__main__']))"
    )
    codes = [CELL, *(CELL.replace(old, new) for old, (new, _) in edits.items())]

    def printed():
        done = subprocess.run(
            [sys.executable, "-"], input=f"CODES = {codes!r}\n{program}", capture_output=True, text=True, check=True
        )
        return [line.split() for line in done.stdout.splitlines()]

    first, *others = found = printed()
    assert printed() == found
    for (old, (_, places)), other in zip(edits.items(), others, strict=True):
        assert old in CELL
        assert [i for i in range(4) if first[i] != other[i]] == [*places], old


def test_digest_of_code_does_not_depend_on_the_version_of_python():
    """Python 3.12 knows parameters of types, and 3.13 leaves out empty lists: with either, results went out of date."""
    code = """
class Net(Base):
    \"\"\"A docstring

        with lines.
    \"\"\"
    width: int = 3

    async def f(self, *, a=(1.5, None), **rest):
        return [f"{x!r:>10} {y}" for x, y in g(lambda: {*rest}) if not x[1:]] or {"a": b"", **rest}

@jit
def h(): global k; k = ...
"""
    digest = hashlib.sha256(digests._text(code).encode()).hexdigest()
    assert digest == "b93abed56b946d120f01d1d9c06e2f74329e3ae342b0a1b9730aad67165a6643", "as of Python 3.11"
