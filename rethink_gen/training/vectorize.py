"""Train many runs side by side: map a function of one run over the runs of a cohort and over devices.

A lane is the place of one run. Each lane has its own state, labels and hyperparameters. Lanes share the images if all
runs have the same images. The number of lanes depends only on the model and the kind of device, not on the number of
runs: surplus runs wait, and surplus lanes repeat the last run. So the results of a run are bitwise identical whatever
runs train beside it, and also after an interrupted cohort continues without the runs that have ended.
"""

import math
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rethink_gen.data import corruptions, datasets
from rethink_gen.runs import Run
from rethink_gen.training import collectives
from rethink_gen.training.core import DATA, EACH, SAME, STATIC
from rethink_gen.training.program import Data

T = TypeVar("T")
# How many runs one device trains side by side, by platform and model; 1 if not listed. CPUs gain nothing, convolutional
# networks gain little or nothing. On an H200, four small Inceptions are slower side by side than one after another (22
# against 34 thousand images/s), eight small AlexNets are about as fast (244 against 224), and 16 MLPs are 2.7 times as
# fast (5.1 million images/s).
_SIDE_BY_SIDE: dict[str, dict[str, int]] = {"gpu": {"mlp_1x512": 16, "mlp_3x512": 16}}


def width(run: Run) -> int:
    """The number of lanes for runs like this one: see _SIDE_BY_SIDE; fewer if their images would not fit."""
    if datasets.find(run.dataset).streamed or run.pretrain_epochs:
        return 1
    most = _SIDE_BY_SIDE.get(jax.default_backend(), {}).get(run.model, 1)
    if most == 1 and jax.default_backend() == "cpu" and jax.process_count() == 1:
        return 1  # several CPU devices are one CPU, which XLA was told to divide
    return min(most, _room(run) if most > 1 else 1) * jax.device_count()


def _room(run: Run) -> int:
    """How many runs like this one can have their own images; together these fill at most half of a device's memory.

    There is no limit if only the labels differ: then all runs share the images, and the networks themselves are small.
    """
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")  # None on CPU
    if limit is None or run.corruption in corruptions.OF_LABELS:
        return sys.maxsize
    source = datasets.find(run.dataset)
    values = sum(source.cut(run.train_size, run.test_size)) * math.prod(source.shape)
    return max(1, limit // 2 // (4 * values))  # float32, like the images of `gaussian`


class Lanes(NamedTuple):
    """The lanes of a program. With one lane, all methods return their arguments unchanged: there is nothing to map."""

    number: int = 1  # of lanes
    devices: int = 1  # each has the same number of lanes
    shared: bool = True  # whether all runs have the same images

    def fill(self, runs: Sequence[T]) -> list[T]:
        """Returns a run for each lane; the last run is repeated."""
        return [*runs, *[runs[-1]] * (self.number - len(runs))]

    def stack(self, trees: Sequence[T]) -> T:
        """Stacks one tree per lane into one tree; each leaf gets a leading axis of lanes."""
        if self.number == 1:
            return trees[0]
        return self.put(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), EACH)

    def unstack(self, tree: T) -> list[T]:
        """Splits a tree into one tree per lane, with arrays on the host."""
        if self.number == 1:
            return [tree]
        tree = collectives.fetch(tree)
        return [jax.tree.map(lambda leaf: leaf[lane], tree) for lane in range(self.number)]  # noqa: B023

    def data(self, splits: Sequence[Data]) -> Data:
        """Puts the splits of all lanes on their devices; shared images only once per device."""
        if self.number == 1:
            return jax.tree.map(jnp.asarray, splits[0])

        def column(name: str) -> Any:
            return np.stack([getattr(split, name) for split in splits])

        images = splits[0].images if self.shared else column("images")
        return self.put(Data(images, column("labels"), column("other")), DATA)

    def one(self, data: Data, lane: int) -> Data:
        """The split of one lane, with arrays on the host."""
        data = collectives.fetch(data)
        if self.number == 1:
            return data
        return Data(data.images if self.shared else data.images[lane], data.labels[lane], data.other[lane])

    def put(self, tree: Any, kind: str) -> Any:
        """Puts arrays on the devices of their lanes.

        Args:
          kind: EACH, SAME or DATA, see core.py.
        """
        if self.devices == 1:
            return jax.tree.map(jnp.asarray, tree)

        def place(spec: PartitionSpec) -> NamedSharding:
            return NamedSharding(_mesh(self.devices), spec)

        return collectives.place(tree, jax.tree.map(place, self.specs(kind)))

    def axes(self, kind: str) -> Any:
        """The axis of lanes in an argument of this kind, for `jax.vmap`."""
        return {EACH: 0, SAME: None, DATA: Data(None if self.shared else 0, 0, 0)}[kind]  # type: ignore[arg-type]

    def specs(self, kind: str) -> Any:
        """The sharding of an argument of this kind, for `jax.shard_map`."""

        def spec(axis: int | None) -> PartitionSpec:
            return PartitionSpec() if axis is None else PartitionSpec("run")

        return jax.tree.map(spec, self.axes(kind), is_leaf=lambda axis: axis is None)

    def over(self, function: Callable[..., Any], kinds: Sequence[str]) -> Callable[..., Any]:
        """Maps a function of one run over all lanes.

        Args:
          function: takes positional arguments only.
          kinds: the kind of each argument, see core.py.
        """
        if self.number == 1:
            return function
        traced = [i for i, kind in enumerate(kinds) if kind != STATIC]

        def everywhere(*arguments: Any) -> Any:
            def one(*values: Any) -> Any:
                given = dict(zip(traced, values, strict=True))
                return function(*(given.get(i, argument) for i, argument in enumerate(arguments)))

            mapped = jax.vmap(one, in_axes=tuple(self.axes(kinds[i]) for i in traced))
            if self.devices > 1:
                specs = tuple(self.specs(kinds[i]) for i in traced)
                mapped = jax.shard_map(
                    mapped, mesh=_mesh(self.devices), in_specs=specs, out_specs=PartitionSpec("run"), check_vma=False
                )
            return mapped(*(arguments[i] for i in traced))

        return everywhere


ONE = Lanes()


@cache
def _mesh(count: int) -> Mesh:
    """A mesh of the first `count` devices, each with its own lanes."""
    return jax.make_mesh((count,), ("run",), (AxisType.Auto,), devices=jax.devices()[:count])
