"""Several processes, one on each host, that compute as one: what the first knows, what any says, arrays over all.

Each of them calls these functions at the same points, for they wait for each other. In one process they change nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from rethink_gen.errors import Interrupted
from rethink_gen.training import checkpointing

Checkpoint = tuple[dict[str, np.ndarray], dict[str, Any]]  # arrays, and notes that JSON can hold


def first() -> bool:
    """Whether this process is the one that claims runs, writes files and speaks."""
    return jax.process_index() == 0


def anywhere(flag: bool) -> bool:
    """Whether it is so on any host."""
    return flag if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(flag)).any())


def together(stopped: Callable[[], None]) -> Callable[[], None]:
    """`stopped` for all of them: a stop signal to one stops each at the same step."""
    if jax.process_count() == 1:
        return stopped

    def stopped_anywhere() -> None:
        signal: BaseException | None = None
        try:
            stopped()
        except (Interrupted, KeyboardInterrupt) as received:
            signal = received
        if anywhere(signal is not None):
            raise signal or Interrupted("another host was stopped; the same command on all continues")

    return stopped_anywhere


def from_first(make: Callable[[], Checkpoint | None]) -> Checkpoint | None:
    """What the first process makes; no other calls `make`."""
    if jax.process_count() == 1:
        return make()
    made = make() if first() else None
    content = np.frombuffer(checkpointing.pack(*made) if made else b"", np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.uint32(len(content))))
    if not size:
        return None
    sent = multihost_utils.broadcast_one_to_all(content if first() else np.zeros(size, np.uint8))
    return checkpointing.unpack(sent.tobytes())


def place(tree: Any, shardings: Any) -> Any:
    """Arrays that each host has whole, on devices of all: `jax.device_put`, which would compare them over the network.

    Args:
      shardings: one for all of the tree, or a tree of them that is its beginning.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)

    def one(leaf: Any, sharding: NamedSharding) -> jax.Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                one(jax.random.key_data(leaf), sharding), impl=str(jax.random.key_impl(leaf))
            )
        whole = np.asarray(leaf)
        return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])

    return jax.tree.map(lambda sharding, part: jax.tree.map(lambda leaf: one(leaf, sharding), part), shardings, tree)


def fetch(tree: Any) -> Any:
    """The arrays on the host, also what lies on devices of the others."""

    def one(leaf: Any) -> Any:
        elsewhere = isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
        return multihost_utils.process_allgather(leaf, tiled=True) if elsewhere else jax.device_get(leaf)

    return jax.device_get(tree) if jax.process_count() == 1 else jax.tree.map(one, tree)
