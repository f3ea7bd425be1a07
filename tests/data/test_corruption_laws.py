"""Laws that every corruption keeps, a newcomer's too: pure in its key, nothing at level 0, more with its level."""

import itertools
from dataclasses import replace

import jax
import numpy as np
import pytest
from samples import NAMES, corrupt_key, differs, equal, small

from rethink_gen import registry
from rethink_gen.data import corruptions, pipeline
from rethink_gen.errors import ComponentError

every_corruption = pytest.mark.parametrize("name", NAMES)


@every_corruption
def test_level_0_is_the_identity(name):
    assert equal(registry.resolve("corruption", name)(corrupt_key(0), small(), 0.0), small())


@every_corruption
def test_the_labels_of_the_test_split_are_never_touched(name):
    for level in (0.3, 1.0):
        corrupted = registry.resolve("corruption", name)(corrupt_key(0), small(), level)
        assert np.array_equal(corrupted.test.labels, np.arange(30) % 10)
        assert np.array_equal(small().test.labels, np.arange(30) % 10)


@every_corruption
def test_a_corruption_is_a_function_of_its_key(name):
    one, same, other = (registry.resolve("corruption", name)(corrupt_key(seed), small(), 0.5) for seed in (0, 0, 1))
    assert equal(one, same)
    assert not equal(one, other) or name == "true_labels"


@every_corruption
def test_a_corruption_keeps_what_a_data_set_is(name):
    for level in (0.3, 1.0):
        corrupted = registry.resolve("corruption", name)(corrupt_key(0), small(), level)
        assert replace(corrupted, train=small().train, test=small().test) == small()  # all but the splits
        for split, before in ((corrupted.train, small().train), (corrupted.test, small().test)):
            assert split.images.shape == before.images.shape
            assert split.images.dtype in (np.uint8, np.float32)
            assert np.isfinite(split.images).all()
            assert split.labels.shape == before.labels.shape
            assert split.labels.dtype == np.int32
            assert set(split.labels) <= set(range(10))


@every_corruption
def test_examples_that_are_hit_are_hit_at_higher_levels_too(name):
    """And in the same way: an example is at every level what it was, or what it is at level 1."""
    levels = (0.2, 0.4, 0.6, 0.8, 1.0)
    corrupted = [registry.resolve("corruption", name)(corrupt_key(0), small(), level) for level in levels]
    for split in ("train", "test"):
        clean, *partly = (getattr(dataset, split) for dataset in (small(), *corrupted))
        changed = [differs(some, clean) for some in partly]
        assert not any((before & ~after).any() for before, after in itertools.pairwise(changed))
        assert not any((differs(some, clean) & differs(some, partly[-1])).any() for some in partly)


LAWS = (
    test_level_0_is_the_identity,
    test_the_labels_of_the_test_split_are_never_touched,
    test_a_corruption_is_a_function_of_its_key,
    test_a_corruption_keeps_what_a_data_set_is,
    test_examples_that_are_hit_are_hit_at_higher_levels_too,
)


def next_class(key, dataset, level):
    """A corruption as one would add it: each label that is hit becomes the next class."""
    hit = corruptions._hits(key, len(dataset.train.labels), level)
    labels = (dataset.train.labels + hit.astype(np.int32)) % dataset.num_classes
    return replace(dataset, train=dataset.train._replace(labels=labels))


def too_much(key, dataset, level):
    return next_class(key, dataset, max(level, 0.3))


def of_both_splits(key, dataset, level):
    """As in the code released with the paper: the test labels become random too."""
    test = next_class(key, replace(dataset, train=dataset.test), level).train
    return replace(next_class(key, dataset, level), test=test)


def impure(key, dataset, level, calls=itertools.count()):  # noqa: B008 (that it is shared is the point)
    return next_class(jax.random.fold_in(key, next(calls)), dataset, level)


def out_of_range(key, dataset, level):
    return next_class(key, replace(dataset, num_classes=11), level)


def not_nested(key, dataset, level):
    return next_class(jax.random.fold_in(key, int(10 * level)), dataset, level)


def test_a_newcomer_is_held_to_the_laws(monkeypatch):
    monkeypatch.setitem(
        registry.COMPONENTS["corruption"], "newcomer", registry.Component("corruption", "newcomer", next_class)
    )
    for law in LAWS:
        law("newcomer")
    for law, breach in zip(LAWS, (too_much, of_both_splits, impure, out_of_range, not_nested), strict=True):
        monkeypatch.setitem(
            registry.COMPONENTS["corruption"], "newcomer", registry.Component("corruption", "newcomer", breach)
        )
        with pytest.raises(AssertionError):
            law("newcomer")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_newcomer_that_returns_no_number_is_named_and_not_taken_for_a_run_that_diverges(value):
    def broken(key, dataset, level):
        images = dataset.train.images.astype(np.float32)
        images[1, 0, 0, 0] = value
        return replace(dataset, train=dataset.train._replace(images=images))

    registry.add("corruption", "broken", broken)
    with pytest.raises(ComponentError, match="corruption 'broken' returns images that hold NaN or inf"):
        pipeline.corrupted("digits", "broken", train_size=3)
