"""A user's own component that is wrong is named, with what it must return, before anything is compiled."""

from dataclasses import field, replace
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import rethink_gen as rg
from rethink_gen import registry
from rethink_gen.errors import UsageError

SMALL = rg.Run(dataset="digits", train_size=64, test_size=32, batch_size=32, epochs=1, model="mlp(hidden=8)")


class Logits(nn.Module):
    num_classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes)(x.reshape(len(x), -1))


class OneTooMany(Logits):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_classes + 1)(x.reshape(len(x), -1))


class OfWidths(Logits):
    widths: Any = field(default_factory=lambda: [8])


class NoClasses(nn.Module):
    def __call__(self, x):
        return x


def in_place(key, dataset, level):
    dataset.train.labels[:] = 0
    return dataset


def fractions(key, dataset, level):
    return replace(dataset, train=dataset.train._replace(labels=dataset.train.labels / 2))


WRONG = {
    "one logit too many": ("model", OneTooMany, "a logit for each image and class: shape (32, 10), not (32, 11)"),
    "no num_classes": ("model", NoClasses, "needs a field `num_classes: int`"),
    "a number as optimizer": ("optimizer", lambda learning_rate: 3, "an optax.GradientTransformation, not int"),
    "a scalar loss": ("loss", lambda logits, targets: jnp.float32(1), "a loss for each example: shape (32,), not ()"),
    "no loss": ("loss", lambda logits, targets: None, "a loss for each example: shape (32,), not NoneType"),
    "no factor": (
        "schedule",
        lambda step, steps_per_epoch, epochs: None,
        "one number, the factor of the learning rate",
    ),
    "a branch on a traced step": (
        "schedule",
        lambda step, steps_per_epoch, epochs: 1.0 if step < 3 else 0.1,
        "failed: TracerBoolConversionError",
    ),
    "indices beyond the data": (
        "order",
        lambda key, epoch, size, batch_size: jnp.full((size // batch_size, batch_size), size),
        "indices of examples, 0 to 63, not 64 to 64",
    ),
    "one batch alone": (
        "order",
        lambda key, epoch, size, batch_size: jnp.arange(batch_size),
        "indices of examples, 0 to 63: shape (2, 32), not (32,)",
    ),
    "no images": ("augmentation", lambda key, images: None, "images of the same size"),
    "smaller images": ("augmentation", lambda key, images: images[:, 1:], "images of the same size"),
    "images without targets": (
        "augmentation",
        lambda key, images, targets: images,
        "a pair: images of the same size, and a row of",
    ),
    "targets of too few": (
        "augmentation",
        lambda key, images, targets: (images, targets[1:]),
        "a row of targets for each image: shape (32, 10), not (31, 10)",
    ),
    "a loss without its memory": (
        "loss",
        lambda logits, targets, memory: logits.sum(-1),
        "a pair: a loss for each example",
    ),
    "no module": ("model", lambda num_classes: len, "must make a flax.linen module with the field num_classes"),
    "a module that does not tell its classes": (
        "model",
        lambda num_classes: nn.Dense(num_classes),
        "must make a flax.linen module with the field num_classes",
    ),
    "a module that holds a list": ("model", OfWidths, "holds what has no hash, such as a list: make it a tuple"),
    "labels written in place": ("corruption", in_place, "failed: ValueError: assignment destination is read-only"),
    "fractions as labels": ("corruption", fractions, "they must be whole numbers"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_component_is_named_and_the_other_runs_go_on(wrong, tmp_path, capsys):
    kind, target, says = WRONG[wrong]
    registry.add(kind, "mine", target)
    run = replace(SMALL, **{"augmentations": ("mine",)} if kind == "augmentation" else {kind: "mine"})
    study = rg.run([run, SMALL], results=tmp_path, workers=1)
    (failure,) = study.failures
    assert failure.reason.startswith(f"{kind} 'mine' ")
    assert says in failure.reason
    assert [result.run for result in study.results] == [SMALL]
    assert f"{run.id} failed: {failure.reason}" in capsys.readouterr().err.splitlines()


def test_a_failing_component_is_named_with_its_line(tmp_path):
    registry.add("schedule", "mine", lambda step, steps_per_epoch, epochs: 1 / 0)
    study = rg.run([replace(SMALL, schedule="mine"), SMALL], results=tmp_path, workers=1)
    assert "ZeroDivisionError" in study.failures[0].reason
    assert "test_contracts.py, line " in study.failures[0].reason


def test_a_model_needs_neither_dropout_nor_train(tmp_path):
    registry.add("model", "mine", Logits)
    study = rg.run(replace(SMALL, model="mine"), results=tmp_path, workers=1)
    assert [result.status for result in study.results] == ["finished"]
    with pytest.raises(UsageError, match="has no dropout"):
        rg.run(replace(SMALL, model="mine", dropout=0.5), results=tmp_path, workers=1)


def test_a_model_that_must_be_told_whether_it_trains_is_told(tmp_path):
    class Told(Logits):
        @nn.compact
        def __call__(self, x, train):
            x = nn.BatchNorm(use_running_average=not train)(x.reshape(len(x), -1))
            return nn.Dense(self.num_classes)(x)

    registry.add("model", "mine", Told)
    study = rg.run(replace(SMALL, model="mine"), results=tmp_path, workers=1)
    assert [result.status for result in study.results] == ["finished"]


def test_module_of_nnx_trains_inside_one_of_linen_and_is_told_whether_it_trains(tmp_path):
    """Its dropout could not be made: the first weights were drawn without a key for it."""

    class Net(nnx.Module):
        def __init__(self, num_classes, *, rngs):
            self.norm, self.dropout = nnx.BatchNorm(64, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
            self.logits = nnx.Linear(64, num_classes, rngs=rngs)

        def __call__(self, x, train):
            x = self.norm(x.reshape(len(x), -1), use_running_average=not train)
            return self.logits(self.dropout(x, deterministic=not train))

    class OfNnx(Logits):
        @nn.compact
        def __call__(self, x, train):
            return nnx.bridge.to_linen(Net, self.num_classes)(x, train)

    registry.add("model", "mine", OfNnx)
    result = rg.train(replace(SMALL, model="mine"), results=tmp_path, keep_weights=True)
    images = np.random.default_rng(0).uniform(0, 255, (8, 8, 8, 1)).astype(np.float32)
    np.testing.assert_array_equal(result.predict(images), result.predict(images), "no dropout")
    np.testing.assert_allclose(result.predict(images)[:1], result.predict(images[:1]), rtol=1e-4, atol=1e-4)
