"""Named random streams: each key is folded from a seed, the name of a stream and a counter.

What is drawn depends on the seed alone: not on jax's flags, which `pinned` holds at their defaults, and not on an
offset that jax adds to seeds.
"""

import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

Key = jax.Array
_Parameters = ParamSpec("_Parameters")
_Item = TypeVar("_Item")


def stream(key: Key, name: str) -> Key:
    """The key of a named random stream. Streams of one seed are independent."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def root_key(seed: int) -> Key:
    """The root key of a seed: `jax.random.key(seed)` of threefry, without JAX_RANDOM_SEED_OFFSET."""
    words: Any = np.array([0, seed], np.uint32)
    return jax.random.wrap_key_data(words, impl="threefry2x32")


@contextmanager
def pinned() -> Iterator[None]:
    """Holds the flags of jax that change random draws and types at their defaults, in this thread.

    A notebook may have set JAX_ENABLE_X64, and a cluster JAX_THREEFRY_PARTITIONABLE: runs do not see it.
    """
    with ExitStack() as flags:
        flags.enter_context(jax.enable_x64(False))
        flags.enter_context(jax.threefry_partitionable(True))
        flags.enter_context(jax.numpy_dtype_promotion("standard"))
        yield


def pinned_generator(
    function: Callable[_Parameters, Generator[_Item, None, None]],
) -> Callable[_Parameters, Generator[_Item, None, None]]:
    """Decorates a generator: its own code runs under `pinned`, that of the loop over it does not."""

    @wraps(function)
    def generate(*arguments: _Parameters.args, **options: _Parameters.kwargs) -> Generator[_Item, None, None]:
        end: Any = object()
        with closing(function(*arguments, **options)) as items:
            while True:
                with pinned():
                    item = next(items, end)
                if item is end:
                    return
                yield item

    return generate
