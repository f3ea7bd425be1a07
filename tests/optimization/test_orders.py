"""Orders: the laws that each one keeps, a buffer simulated element by element, and how often an echo repeats."""

from collections import Counter
from fractions import Fraction
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rethink_gen import registry
from rethink_gen.optimization.orders import _through_buffer

ORDERS = {name: each.load() for name, each in registry.COMPONENTS["order"].items()}

SIZE, BATCH = 23, 4  # five steps an epoch; three examples are left over
STEPS, USED = 5, 20
KEY = jax.random.key(7, impl="threefry2x32")
CASES = {
    "reshuffle": ("reshuffle", {}),
    "shuffle_once": ("shuffle_once", {}),
    "stored": ("stored", {}),
    "with_replacement": ("with_replacement", {}),
    "buffer": ("buffer", {"capacity": 6}),
    "large_buffer": ("buffer", {}),
    "echo_batch": ("echo", {"times": 3}),
    "echo_example": ("echo", {"times": 3, "of": "example"}),
    "subset": ("subset", {"share": 0.4}),
}


@cache
def compiled(name: str, **options: Any) -> Any:
    return jax.jit(partial(ORDERS[name], **{"size": SIZE, "batch_size": BATCH, **options}))


def order(name: str, epoch: int = 0, key: Any = KEY, **options: Any) -> np.ndarray:
    """The order of an epoch. A program that draws takes half a second to compile: one serves any `times`."""
    numbers = {"times": jnp.int32(options.pop("times"))} if "times" in options else {}
    return np.asarray(compiled(name, **options)(key, jnp.int32(epoch), **numbers))


def epochs(name: str, count: int, **options: Any) -> np.ndarray:
    return np.stack([order(name, epoch, **options) for epoch in range(count)])


@pytest.mark.parametrize("case", CASES)
def test_every_order_has_the_same_shape(case):
    name, options = CASES[case]
    ours = order(name, 3, **options)
    assert (ours.shape, ours.dtype) == ((STEPS, BATCH), np.int32)
    assert ours.min() >= 0
    assert ours.max() < SIZE
    of_three = jax.eval_shape(partial(ORDERS[name], size=3, batch_size=4, **options), KEY, jnp.int32(3))
    assert of_three.shape == (0, 4)


@pytest.mark.parametrize("case", ["shuffle_once", "stored", "buffer", "echo_example", "subset"])
def test_orders_of_a_batch_of_runs_equal_those_of_runs_alone(case):
    """Also where the epoch is a number of Python's: an order is a function of key and epoch alone."""
    name, options = CASES[case]
    keys = jax.random.split(KEY, 3)
    together = jax.jit(jax.vmap(lambda key: ORDERS[name](key, 2, SIZE, BATCH, **options)))(keys)
    for key, ours in zip(keys, np.asarray(together), strict=True):
        np.testing.assert_array_equal(ours, order(name, 2, key, **options))
    assert (name == "stored") == np.array_equal(together[0], together[1])


@pytest.mark.parametrize(
    ("name", "batch_size"),
    [(name, 4) for name in ("reshuffle", "shuffle_once", "stored", "buffer")]
    + [(name, batch_size) for name in ("reshuffle", "stored") for batch_size in (1, 23)],  # the others are cut as these
)
def test_an_epoch_sees_an_example_at_most_once(name, batch_size):
    for epoch in range(3):
        ours = order(name, epoch, batch_size=batch_size).ravel()
        assert len(set(ours)) == len(ours) == SIZE - SIZE % batch_size


@pytest.mark.parametrize("case", [case for case in CASES if case != "subset"])
def test_every_example_is_seen_in_the_long_run(case):
    """In 60 epochs an order that drops 3 of 23 at random misses an example with probability (3/23)⁶⁰."""
    name, options = CASES[case]
    assert set(epochs(name, 60, **options).ravel()) == set(range(SIZE))


def test_reshuffle_is_the_order_of_the_first_version_bit_for_bit():
    for epoch in range(3):
        expected = jax.random.permutation(jax.random.fold_in(KEY, epoch), SIZE)
        expected = expected[: SIZE - SIZE % BATCH].reshape(-1, BATCH)
        np.testing.assert_array_equal(order("reshuffle", epoch), expected)


@pytest.mark.parametrize("case", ["reshuffle", "with_replacement", "buffer", "large_buffer"])
def test_epochs_differ(case):
    name, options = CASES[case]
    first, second = epochs(name, 2, **options)
    assert np.any(first != second)


def test_shuffle_once_begins_as_reshuffle():
    np.testing.assert_array_equal(order("shuffle_once", 0), order("reshuffle", 0))


@pytest.mark.parametrize("name", ["shuffle_once", "stored"])
def test_epochs_are_equal_where_batches_divide_the_data(name):
    first, *others = epochs(name, 4, size=20)
    for other in others:
        np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("name", ["shuffle_once", "stored"])
def test_a_fixed_order_is_repeated_without_a_gap(name):
    read = epochs(name, 30).ravel()
    once = read[:SIZE]
    assert sorted(once) == list(range(SIZE))
    np.testing.assert_array_equal(read, np.resize(once, read.shape))


def test_stored_counts_up():
    np.testing.assert_array_equal(epochs("stored", 2).ravel(), np.arange(40) % SIZE)


def test_draws_with_replacement_are_uniform_and_repeat():
    """A million draws of 100 examples: counts are 10⁴ ± 5 · √10⁴; an epoch misses (1 − 1/100)¹⁰⁰ = 0.366 on average."""
    ours = order("with_replacement", size=1_000_000, batch_size=100) % 100
    assert np.all(np.abs(np.bincount(ours.ravel()) - 10_000) < 500)
    missed = [1 - len(set(row)) / 100 for row in ours]
    assert np.mean(missed) == pytest.approx(0.99**100, abs=0.002)


# The buffer.


def simulated(draws, capacity):
    """What tf.data documents, element by element: emit the drawn slot, put the next element there."""
    slots, emitted = list(range(capacity)), []
    for t, slot in enumerate(draws):
        emitted.append(slots[slot])
        slots[slot] = capacity + t
    return emitted, slots


@pytest.mark.parametrize("capacity", [1, 7, 199, 200])
def test_a_buffer_emits_what_a_simulation_emits(capacity):
    draws = np.random.default_rng(capacity).integers(0, capacity, 200 - capacity).astype(np.int32)
    emitted, rest = jax.jit(_through_buffer, static_argnums=1)(draws, capacity)
    expected, left = simulated(draws, capacity)
    np.testing.assert_array_equal(emitted, expected)
    np.testing.assert_array_equal(rest, left)


def probabilities(size, capacity):
    """The exact distribution of whole orders: a tree of all draws, one element drawn from the buffer at a time."""

    def grow(buffer, waiting, order, chance):
        if not buffer:
            found[order] += chance
        for i in range(len(buffer)):
            rest = buffer[:i] + buffer[i + 1 :] + waiting[:1]
            grow(rest, waiting[1:], (*order, buffer[i]), chance / len(buffer))

    found: Counter = Counter()
    grow(tuple(range(capacity)), tuple(range(capacity, size)), (), Fraction(1))
    return found


@pytest.mark.parametrize("capacity", [2, 5, 1000])
def test_a_buffer_has_the_distribution_of_its_definition(capacity):
    """Frequencies of all orders of five examples, among 40,000 epochs, within five standard deviations."""
    count = 40_000
    ours = jax.jit(jax.vmap(lambda epoch: ORDERS["buffer"](KEY, epoch, 5, 5, capacity=capacity)))(jnp.arange(count))
    frequencies = Counter(tuple(row) for row in np.asarray(ours).reshape(count, 5).tolist())
    expected = probabilities(5, min(capacity, 5))
    assert set(frequencies) <= set(expected)
    for row, chance in expected.items():
        p = float(chance)
        assert abs(frequencies[row] - count * p) < 5 * np.sqrt(count * p * (1 - p)) + 1e-9


@pytest.mark.parametrize("capacity", [1, 6, 22])
def test_an_example_comes_out_after_it_entered_the_buffer(capacity):
    for epoch in range(20):
        ours = order("buffer", epoch, capacity=capacity).ravel()
        assert np.all(ours <= np.arange(USED) + capacity - 1)


def test_a_buffer_of_one_keeps_the_stored_order():
    np.testing.assert_array_equal(order("buffer", 3, capacity=1).ravel(), np.arange(USED))


# Echoes.


def test_echoing_once_is_reshuffle():
    np.testing.assert_array_equal(epochs("echo", 3, times=1), epochs("reshuffle", 3))


@pytest.mark.parametrize("times", [2, 3, 7])
def test_a_batch_is_echoed_in_consecutive_steps(times):
    batches = epochs("echo", 2 * times, times=times).reshape(-1, BATCH)
    passes = np.concatenate([order("reshuffle", 0), order("reshuffle", 1)])
    np.testing.assert_array_equal(batches, np.repeat(passes, times, axis=0))


@pytest.mark.parametrize("of", ["batch", "example"])
@pytest.mark.parametrize("times", [1, 2, 3, 7])
def test_a_pass_of_as_many_epochs_uses_each_example_that_often(of, times):
    for start in (0, times):
        one_pass = np.stack([order("echo", start + i, times=times, of=of) for i in range(times)])
        counts = Counter(one_pass.ravel().tolist())
        assert (len(counts), set(counts.values())) == (USED, {times})


@pytest.mark.parametrize(("of", "unit"), [("batch", BATCH), ("example", 1)])
@pytest.mark.parametrize("times", [2, 3, 7])
def test_an_epoch_reads_a_share_of_the_examples(of, unit, times):
    """1 / times of them; and one batch or example more, or two, where repeats go across the ends of the epoch."""
    for epoch in range(2 * times):
        units = len(set(order("echo", epoch, times=times, of=of).ravel())) / unit
        assert USED / unit / times <= units < USED / unit / times + 2


def test_echoed_examples_are_shuffled():
    """Of two uses in a shuffled epoch of 1,000, few are neighbors: 500 pairs, each with probability 2 / 1,000."""
    ours = order("echo", size=1000, batch_size=10, of="example").ravel()
    assert np.count_nonzero(ours[1:] == ours[:-1]) < 8


def test_an_unknown_echo_is_refused():
    with pytest.raises(ValueError, match="known: batch, example"):
        ORDERS["echo"](KEY, 0, SIZE, BATCH, of="epoch")


@pytest.mark.parametrize(("share", "count"), [(0.4, 9), (0.01, 1), (1.0, 23)])
def test_a_subset_is_seen_in_passes_of_its_examples_alone(share, count):
    """9 = round(0.4 · 23); five epochs are 100 draws, which are whole passes and the beginning of one."""
    draws = epochs("subset", 5, share=share).ravel()
    passes = [set(draws[i : i + count].tolist()) for i in range(0, len(draws) - count + 1, count)]
    assert {len(each) for each in passes} == {count}
    assert len(set(map(frozenset, passes))) == 1
    assert set(draws[len(passes) * count :].tolist()) <= passes[0]


def test_subsets_of_keys_are_independent():
    """Each example is in 9 of 23 subsets, within four standard errors; an epoch of 20 draws sees all of a subset."""
    subsets = [order("subset", key=jax.random.key(seed), share=0.4) for seed in range(400)]
    seen = np.stack([np.isin(np.arange(SIZE), each) for each in subsets])
    assert (seen.sum(1) == 9).all()
    np.testing.assert_allclose(seen.mean(0), 9 / 23, atol=4 * (9 / 23 * 14 / 23 / 400) ** 0.5)
