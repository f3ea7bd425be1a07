"""Several hosts and devices: broadcast, any, placement and gathering of arrays, and the batches that they share.

All processes, one on each host, must call these functions at the same points, because the functions wait for each
other. In a single process they do nothing special.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rethink_gen.data.streaming import Stream
from rethink_gen.errors import Interrupted, UsageError
from rethink_gen.training import checkpointing
from rethink_gen.training.program import Data


def first() -> bool:
    """Whether this is the first process, which claims runs, writes files and prints."""
    return jax.process_index() == 0


def anywhere(flag: bool) -> bool:
    """Whether `flag` is true on any host."""
    return flag if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(flag)).any())


def together(stopped: Callable[[], None]) -> Callable[[], None]:
    """Makes `stopped` collective: a stop signal to one process stops all of them at the same step.

    Args:
      stopped: raises Interrupted or KeyboardInterrupt after a stop signal.
    """
    if jax.process_count() == 1:
        return stopped

    def stopped_anywhere() -> None:
        signal: BaseException | None = None
        try:
            stopped()
        except (Interrupted, KeyboardInterrupt) as received:
            signal = received
        if anywhere(signal is not None):
            raise signal or Interrupted("another host was stopped; run the same command on all hosts to continue")

    return stopped_anywhere


def from_first(make: Callable[[], checkpointing.Checkpoint | None]) -> checkpointing.Checkpoint | None:
    """Calls `make` in the first process only and sends its result to all processes."""
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
    """Puts arrays that each host holds completely onto the devices of all hosts.

    `jax.device_put` would compare the arrays over the network; this function does not.

    Args:
      tree: a tree of arrays, the same on every host.
      shardings: one sharding for the whole tree, or a prefix tree of shardings.
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
    """Copies arrays to the host, including shards on devices of other hosts."""

    def one(leaf: Any) -> Any:
        elsewhere = isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated)
        return multihost_utils.process_allgather(leaf, tiled=True) if elsewhere else jax.device_get(leaf)

    return jax.device_get(tree) if jax.process_count() == 1 else jax.tree.map(one, tree)


@cache
def batch_mesh(batch_size: int) -> Mesh:
    """A mesh of the devices that share a batch equally.

    On one host this is the largest number of devices that divides `batch_size` and the number of devices.

    Raises:
      UsageError: there are several hosts, and their devices cannot share a batch equally.
    """
    count = math.gcd(batch_size, jax.device_count())
    if count < jax.device_count() and jax.process_count() > 1:  # a host could end up without any part
        raise UsageError(
            f"batch_size {batch_size} cannot be shared equally by the {jax.device_count()} devices of all hosts"
        )
    return jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=jax.devices()[:count])


def read_batch(data: Stream, rows: np.ndarray, row: int) -> Data:
    """Reads one batch of a stream onto its devices. Each host decodes only the part of its own devices.

    Args:
      data: the stream.
      rows: int[S, B], the order of the epoch.
      row: which row of it to read.
    """
    batch_size = rows.shape[1]
    sharding = NamedSharding(batch_mesh(batch_size), PartitionSpec("data"))
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    here = np.sort(np.concatenate([np.arange(batch_size)[part] for part in parts]))
    return jax.make_array_from_process_local_data(sharding, Data(*data.batch(rows[:, here], row)))
