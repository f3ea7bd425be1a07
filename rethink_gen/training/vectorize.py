"""Many runs side by side: a function of one run becomes one of all runs of a cohort, mapped and spread over devices.

A lane is one run's place. Every lane has a state, labels and numbers of its own; images are shared where all runs see
the same. How many lanes a program has depends on the model and the kind of device alone, never on how many runs there
are: those that are too many wait, and lanes that are left over repeat the last run. So a run has the same bits beside
any others, and those of an interrupted cohort are the same when it goes on without the runs that have ended.
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
from rethink_gen.training.core import DATA, EACH, SAME, STATIC, Data

T = TypeVar("T")
# How many runs one device trains side by side, by platform and model; of others one. CPUs gain nothing from it, and
# networks that convolve little or nothing: on an H200 four small Inceptions are slower together than in turn (22 and 34
# thousand images/s), eight small AlexNets as fast (244 and 224), but 16 MLPs 2.7 times as fast (5.1 million).
_SIDE_BY_SIDE: dict[str, dict[str, int]] = {"gpu": {"mlp_1x512": 16, "mlp_3x512": 16}}


def width(run: Run) -> int:
    """How many runs of this program go side by side: see _SIDE_BY_SIDE; fewer, where their images would not fit."""
    if datasets.find(run.dataset).streamed:
        return 1
    most = _SIDE_BY_SIDE.get(jax.default_backend(), {}).get(run.model, 1)
    return min(most, _room(run) if most > 1 else 1) * jax.device_count()


def _room(run: Run) -> int:
    """How many runs like this one may bring images of their own: together these take half of a device's memory at most.

    Where only labels differ all see the same images, and the networks that go side by side are small.
    """
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")  # of a CPU there is none
    if limit is None or run.corruption in corruptions.OF_LABELS:
        return sys.maxsize
    source = datasets.find(run.dataset)
    values = sum(source.cut(run.train_size, run.test_size)) * math.prod(source.shape)
    return max(1, limit // 2 // (4 * values))  # float32, as those of `gaussian` are


class Lanes(NamedTuple):
    """The lanes of a program. With one lane all below leaves things as they are: there is nothing to map."""

    number: int = 1
    devices: int = 1  # over which they are spread, as many on each
    shared: bool = True  # whether all runs see the same images

    def fill(self, runs: Sequence[T]) -> list[T]:
        """A run for each lane: the last one is repeated."""
        return [*runs, *[runs[-1]] * (self.number - len(runs))]

    def stack(self, trees: Sequence[T]) -> T:
        """One tree for all lanes, each leaf with an axis of lanes in front."""
        if self.number == 1:
            return trees[0]
        return self.put(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees), EACH)

    def unstack(self, tree: T) -> list[T]:
        """A tree for each lane, of arrays on the host."""
        if self.number == 1:
            return [tree]
        tree = collectives.fetch(tree)
        return [jax.tree.map(lambda leaf: leaf[lane], tree) for lane in range(self.number)]  # noqa: B023

    def data(self, splits: Sequence[Data]) -> Data:
        """The data of all lanes on their devices, images once if they are shared."""
        if self.number == 1:
            return jax.tree.map(jnp.asarray, splits[0])

        def column(name):
            return np.stack([getattr(split, name) for split in splits])

        images = splits[0].images if self.shared else column("images")
        return self.put(Data(images, column("labels"), column("changed")), DATA)

    def put(self, tree: Any, kind: str) -> Any:
        """The arrays on the devices of their lanes."""
        if self.devices == 1:
            return jax.tree.map(jnp.asarray, tree)

        def place(spec):
            return NamedSharding(_mesh(self.devices), spec)

        return collectives.place(tree, jax.tree.map(place, self.specs(kind)))

    def axes(self, kind: str) -> Any:
        """Which axis of an argument is that of the lanes, as `jax.vmap` asks for it."""
        return {EACH: 0, SAME: None, DATA: Data(None if self.shared else 0, 0, 0)}[kind]  # type: ignore[arg-type]

    def specs(self, kind: str) -> Any:
        """The same, as `jax.shard_map` asks for it."""

        def spec(axis):
            return PartitionSpec() if axis is None else PartitionSpec("run")

        return jax.tree.map(spec, self.axes(kind), is_leaf=lambda axis: axis is None)

    def over(self, function: Callable[..., Any], kinds: Sequence[str]) -> Callable[..., Any]:
        """The function for all lanes: `kinds` says of each argument what it is to them."""
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
    """The first devices, each with lanes of its own."""
    return jax.make_mesh((count,), ("run",), (AxisType.Auto,), devices=jax.devices()[:count])
