"""Data parallelism: several devices share each batch of a streamed data set."""

import math
from functools import cache

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rethink_gen.data.streaming import Stream
from rethink_gen.errors import UsageError
from rethink_gen.training.core import Data


@cache
def mesh(batch_size: int) -> Mesh:
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


def read(data: Stream, rows: np.ndarray, row: int) -> Data:
    """Reads one batch of a stream onto its devices. Each host decodes only the part of its own devices.

    Args:
      data: the stream.
      rows: int[S, B], the order of the epoch.
      row: which row of it to read.
    """
    batch_size = rows.shape[1]
    sharding = NamedSharding(mesh(batch_size), PartitionSpec("data"))
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    here = np.sort(np.concatenate([np.arange(batch_size)[part] for part in parts]))
    return jax.make_array_from_process_local_data(sharding, Data(*data.batch(rows[:, here], row)))
