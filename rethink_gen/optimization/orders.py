"""Orders by name: `name(key, epoch, size, batch_size, *, ...)` returns the examples that the steps of one epoch see.

* `key`: the key of the stream `order` of the run. `epoch`: int32, from 0; may be traced. `size`, `batch_size`: ints.
* The order: int32[S, B] with values in [0, size), where S = size // batch_size for every order. So an epoch has the
  same number of steps, and the same number of gradients, under all orders.

An order is a function of the key and the epoch alone, so a resumed run sees the examples of an uninterrupted one.
If the batch size does not divide the size, some examples remain; each order says what happens to them.
"""

import jax
import jax.numpy as jnp

Key = jax.Array
# Orders that can have an example twice in a batch.
REPEATING = ("with_replacement", "echo", "subset")


def reshuffle(key: Key, epoch: jax.Array, size: int, batch_size: int) -> jax.Array:
    """A new uniform permutation of all examples in each epoch: sampling without replacement.

    The last size % batch_size examples of the permutation are dropped. They differ from epoch to epoch.

    References:
      Bottou 2009, "Curiously fast convergence of some stochastic gradient descent algorithms" (faster than drawing with
      replacement, in experiments). HaoChen & Sra 2019, "Random shuffling beats SGD after finite epochs" (theory).
    """
    order = jax.random.permutation(jax.random.fold_in(key, epoch), size)
    return _batches(order, batch_size)


def shuffle_once(key: Key, epoch: jax.Array, size: int, batch_size: int) -> jax.Array:
    """One uniform permutation for the whole run, the one of `reshuffle` in epoch 0, repeated without a gap.

    Examples at the end of the permutation that do not fill a batch start the next epoch, before the permutation starts
    again. So all examples are seen equally often. If batch_size divides size, all epochs are equal. This is the order
    of `shuffle(size, reshuffle_each_iteration=False).repeat().batch(batch_size)` in tf.data.

    References:
      Bottou 2009, as above ("cycle").
    """
    order = jax.random.permutation(jax.random.fold_in(key, 0), size)
    return _cycle(order, epoch, batch_size)


def stored(key: Key, epoch: jax.Array, size: int, batch_size: int) -> jax.Array:
    """The order in which the data are stored, 0, 1, 2, …, repeated without a gap, as in `shuffle_once`.

    The key is not used, so all seeds have the same order. Data that are stored by class come class by class.
    """
    return _cycle(jnp.arange(size), epoch, batch_size)


def with_replacement(key: Key, epoch: jax.Array, size: int, batch_size: int) -> jax.Array:
    """Sampling with replacement: each example is drawn uniformly from all, independently. Most SGD theory assumes it.

    An epoch is S · B draws. It misses a fraction of about 1/e = 0.37 of the examples.
    """
    return jax.random.randint(jax.random.fold_in(key, epoch), (size // batch_size, batch_size), 0, size, jnp.int32)


def buffer(key: Key, epoch: jax.Array, size: int, batch_size: int, *, capacity: int = 1000) -> jax.Array:
    """A shuffle buffer over the stored order, refilled from the start in each epoch.

    The buffer holds the first `capacity` examples. Each draw emits a uniformly chosen example of the buffer and puts
    the next stored example into its place; when none is left, the rest of the buffer comes out in uniform order. So
    example i comes out at position i − capacity + 1 of the epoch or later. With capacity 1 the order is the stored one;
    with capacity ≥ size it is a uniform permutation (different from that of `reshuffle`). The last size % batch_size
    examples that come out are dropped. They differ from epoch to epoch, but are more often examples stored last.

    Args:
      capacity: number of examples that the buffer holds; 1 or more.

    References:
      `tf.data.Dataset.shuffle(buffer_size=capacity, reshuffle_each_iteration=True)`; equal in distribution.
    """
    capacity = min(capacity, size)
    draw_key, rest_key = jax.random.split(jax.random.fold_in(key, epoch))
    draws = jax.random.randint(draw_key, (size - capacity,), 0, capacity, jnp.int32)
    emitted, rest = _through_buffer(draws, capacity)
    return _batches(jnp.concatenate([emitted, jax.random.permutation(rest_key, rest)]), batch_size)


def _through_buffer(draws: jax.Array, capacity: int) -> tuple[jax.Array, jax.Array]:
    """Simulates a shuffle buffer: the examples that it emits, and the examples in its slots after all draws.

    Draw t emits the example in slot draws[t]. Example i enters slot i if i < capacity, else the slot that draw
    i - capacity emptied. So that draw emits the last example before i in the same slot. A stable sort by slot makes
    these two neighbors.
    """
    # A sort, not a loop over draws: a GPU would need microseconds for each of the 50,000 small steps of a loop.
    slots = jnp.concatenate([jnp.arange(capacity, dtype=jnp.int32), draws])
    by_slot = jnp.argsort(slots, stable=True).astype(jnp.int32)
    before = jnp.zeros_like(by_slot).at[by_slot[1:]].set(by_slot[:-1])
    last = jnp.searchsorted(slots[by_slot], jnp.arange(capacity), side="right") - 1
    return before[capacity:], by_slot[last]


def echo(key: Key, epoch: jax.Array, size: int, batch_size: int, *, times: int = 2, of: str = "batch") -> jax.Array:
    """Data echoing: each batch or example that is read is used `times` times.

    So an epoch reads about 1 / times of the examples. One pass over the data, in the order of `reshuffle`, takes
    exactly `times` epochs; each pass has a new order. The remainder of a pass is dropped as in `reshuffle`. With times
    = 1, batch echoing is bitwise identical to `reshuffle`.

    Each use of an image draws a new augmentation: echoing before augmentation.

    Args:
      times: the echoing factor, 1 or more.
      of: "batch": each batch is used in `times` consecutive steps, also across the end of an epoch. "example": each
        example is repeated `times` times, then the epoch is shuffled, so repeats usually lie in different batches.

    Raises:
      ValueError: if `of` is neither "batch" nor "example".

    References:
      Choi, Passos, Shallue, Dahl 2019, "Faster neural network training with data echoing". The shuffle buffer for
      example echoing is theirs; its size, one epoch, is ours.
    """
    if of not in ("batch", "example"):
        raise ValueError(f"echo repeats a batch or an example, not {of!r}; known: batch, example")
    return (_echo_batches if of == "batch" else _echo_examples)(key, epoch, size, batch_size, times)


def _echo_batches(key: Key, epoch: jax.Array, size: int, batch_size: int, times: int) -> jax.Array:
    steps = size // batch_size
    one_pass = reshuffle(key, epoch // times, size, batch_size)
    return one_pass[(epoch % times * steps + jnp.arange(steps)) // times]


def _echo_examples(key: Key, epoch: jax.Array, size: int, batch_size: int, times: int) -> jax.Array:
    pass_key, mix_key = jax.random.split(key)
    used = size - size % batch_size
    one_pass = reshuffle(pass_key, epoch // times, size, batch_size).reshape(-1)
    echoed = one_pass[(epoch % times * used + jnp.arange(used)) // times]
    return _batches(jax.random.permutation(jax.random.fold_in(mix_key, epoch), echoed), batch_size)


def subset(key: Key, epoch: jax.Array, size: int, batch_size: int, *, share: float = 0.7) -> jax.Array:
    """A random part of the examples, drawn once for each key; the run never trains on the others.

    The part has round(share · size) examples, at least one. It is seen in passes, each in a new uniform permutation,
    one after the other without a gap. An epoch has as many draws as under the other orders, so it is about 1 / share
    passes: with share 0.7, seven epochs are ten passes.

    Args:
      share: of the examples, in (0, 1].

    References:
      Feldman & Zhang 2020, Section 2 (memorization and influence from random subsets).
    """
    part_key, pass_key = jax.random.split(key)
    count, draws = max(1, round(share * size)), size - size % batch_size
    part = jax.random.permutation(part_key, size)[:count]
    first = epoch * draws
    passes = first // count + jnp.arange(1 + -(-draws // count))  # an epoch may begin and end within a pass
    orders = jax.vmap(lambda number: jax.random.permutation(jax.random.fold_in(pass_key, number), count))(passes)
    places = orders.reshape(-1)[first % count + jnp.arange(draws)]
    return part[places].reshape(-1, batch_size)


def _batches(order: jax.Array, batch_size: int) -> jax.Array:
    """Cuts an order into whole batches int32[S, B]; the remainder is dropped."""
    size = len(order)
    return order[: size - size % batch_size].reshape(-1, batch_size)


def _cycle(order: jax.Array, epoch: jax.Array, batch_size: int) -> jax.Array:
    """The batches int32[S, B] of an epoch, when the order is repeated without a gap."""
    # If each epoch started again at 0, examples at the end would never be trained on and could not be fitted.
    return _batches(jnp.roll(order, epoch * (len(order) % batch_size)), batch_size)
