"""Named random streams: every key is folded from a seed, the name of a stream and a counter."""

import zlib

import jax

Key = jax.Array


def stream(key: Key, name: str) -> Key:
    """The key of a named stream of randomness; streams of one seed are independent."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def root_key(seed: int) -> Key:
    """The key of a seed. Threefry is named, so that a change of jax's default cannot change a run."""
    return jax.random.key(seed, impl="threefry2x32")
