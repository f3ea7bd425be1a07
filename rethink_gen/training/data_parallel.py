"""One batch shared by several devices, for data sets that are streamed."""

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
    """The devices in a row, as many as share a batch equally; each sees its part of the batch."""
    count = math.gcd(batch_size, jax.device_count())
    if count < jax.device_count() and jax.process_count() > 1:  # some host might have no part at all
        raise UsageError(
            f"batch_size {batch_size} cannot be shared equally by the {jax.device_count()} devices of all hosts"
        )
    return jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=jax.devices()[:count])


def read(data: Stream, rows: np.ndarray, row: int) -> Data:
    """A batch of a stream on its devices, of which each host decodes what its own devices see."""
    batch_size = rows.shape[1]
    sharding = NamedSharding(mesh(batch_size), PartitionSpec("data"))
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    here = np.sort(np.concatenate([np.arange(batch_size)[part] for part in parts]))
    return jax.make_array_from_process_local_data(sharding, Data(*data.batch(rows[:, here], row)))
