"""What is drawn depends on the seed alone, not on jax's flags."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np
import pytest

from rethink_gen.data import pipeline, randomness
from rethink_gen.execution import scheduler
from rethink_gen.results.result import Result
from rethink_gen.runs import Run

RUN = Run(
    dataset="digits", train_size=96, test_size=32, batch_size=32, epochs=2, crop_size=7, model="mlp(hidden=8)",
    corruption="random_labels", corruption_level=0.5, augmentations=("random_crop",), dropout=0.2, learning_rate=0.01,
)  # fmt: skip
FLAGS = {
    "jax_enable_x64": True,
    "jax_threefry_partitionable": False,
    "jax_random_seed_offset": 7,
    "jax_default_prng_impl": "rbg",
    "jax_numpy_dtype_promotion": "strict",
}


@contextmanager
def flag(name: str) -> Iterator[None]:
    """A flag of jax as a notebook sets it."""
    before = getattr(jax.config, name)
    jax.config.update(name, FLAGS[name])
    try:
        yield
    finally:
        jax.config.update(name, before)


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("corruption", ["random_labels", "random_pixels", "shuffled_pixels", "gaussian", "pair_flip"])
def test_a_flag_of_jax_changes_no_labels_and_no_pixels(name, corruption):
    sizes = {"train_size": 64, "test_size": 16}
    plain = pipeline.corrupted("digits", corruption, level=0.7, seed=3, **sizes)
    with flag(name):
        flagged = pipeline.corrupted("digits", corruption, level=0.7, seed=3, **sizes)
    for one, other in ((plain.train, flagged.train), (plain.test, flagged.test)):
        assert one.images.dtype == other.images.dtype
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)


@pytest.fixture(scope="module")
def curves():
    return trained()


def trained():
    [outcome] = scheduler.execute([RUN])
    assert isinstance(outcome, Result), outcome
    return outcome.curves


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_of_jax_changes_no_run(name, curves):
    """Nor its order, first weights, augmentations and dropout."""
    with flag(name):
        assert trained() == curves


def test_the_root_key_is_that_of_threefry():
    for seed in (0, 1, 2**31 - 1):
        expected = jax.random.key_data(jax.random.key(seed, impl="threefry2x32"))
        np.testing.assert_array_equal(jax.random.key_data(randomness.root_key(seed)), expected)


def test_the_loop_over_pinned_work_keeps_the_flags_of_its_notebook():
    @randomness.pinned_generator
    def types():
        yield np.float64(1) + jax.numpy.ones(())
        yield np.float64(1) + jax.numpy.ones(())

    with flag("jax_enable_x64"):
        for value in types():
            assert value.dtype == np.float32
            assert jax.numpy.ones(()).dtype == np.float64
