"""Named random streams: each key is folded from a seed, the name of a stream and a counter."""

import zlib

import jax

Key = jax.Array


def stream(key: Key, name: str) -> Key:
    """The key of a named random stream. Streams of one seed are independent."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def root_key(seed: int) -> Key:
    """The root key of a seed. It names threefry, so that a new default of jax does not change runs."""
    return jax.random.key(seed, impl="threefry2x32")
