"""What runs will cost on this machine: minutes, memory and disk.

`calibrate` times a few steps of each program, in a process of its own that has the cores of a run, and keeps the
numbers in the user's cache. `cost` multiplies them, without jax. `estimate` uses finished results instead, on whatever
device they were made.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from rethink_gen import atomic, registry
from rethink_gen.catalog.solvers import FILTERS_OF_A_BLOCK, WAVES_OF_A_BLOCK
from rethink_gen.errors import RethinkError
from rethink_gen.execution import machine, shipping
from rethink_gen.execution.requests import check_data
from rethink_gen.memory import of_kernel_machine, of_whole_kernel
from rethink_gen.results.result import Result
from rethink_gen.runs import AFRESH, AnyRun, KernelRun, Run, as_dict, from_dict

SECONDS = 2.0  # of steps that are timed, or one call of them where it takes longer
START = 5.0  # seconds until a process has loaded jax
RESULT_BYTES = 20_000  # of a result's file, about
PROCESS_BYTES = 400_000_000  # of a process that has solved a small kernel run: 364 to 415 MB were measured on CPU


class Speed(NamedTuple):
    """What was measured of a program: seconds of a step, of an evaluated image, and of compiling; bytes."""

    step: float
    image: float
    compile: float
    memory: int  # of the process, at its peak
    state: int  # of a checkpoint


class Cost(NamedTuple):
    """What runs take: seconds on the clock, bytes of memory at a time, and of disk, with two checkpoints each."""

    seconds: float
    memory: int
    disk: int


def _of_any_length(run: AnyRun) -> AnyRun:
    """The run without what neither its program nor the seconds of an epoch depend on."""
    fields = {"epochs": 1, "stop_at_train_accuracy": None, "corruption": "true_labels", "train_skip": 0, **AFRESH}
    return replace(run.recipe, **{name: value for name, value in fields.items() if hasattr(run, name)})


def _of_any_size(run: Run) -> AnyRun:
    """The same, without the number of images: what the seconds of a step depend on."""
    return replace(_of_any_length(run), train_size=None, test_size=None)


def cost(runs: Sequence[AnyRun], known: Iterable[Result], processes: int) -> Cost | None:
    """What runs cost in so many processes; None if one of their programs was not measured here, or is not trained.

    Args:
      known: finished results, which tell when runs stop early; read only if the programs were measured.
    """
    speeds = _load()
    trained = [run for run in runs if isinstance(run, Run)]
    keys = {run: _key(run, processes) for run in trained}
    if len(trained) < len(runs) or not all(each in speeds for each in keys.values()):
        return None
    known = list(known)

    def seconds_of(run: Run | None, speed: Speed) -> float:
        if run is None:
            return 0.0
        train, test = _sizes(run)
        epochs = _expected_epochs(run, known)
        steps = epochs * (train // min(run.batch_size, train))
        measured = sum(epoch <= epochs for epoch in run.measured_epochs)
        before = seconds_of(run.pretraining, speed)  # of the same program
        return before + steps * speed.step + measured * (train + test) * speed.image

    seconds = [seconds_of(run, speeds[keys[run]]) for run in trained]
    compiled = sum(speeds[each].compile for each in set(keys.values()))
    longest, share = max(seconds, default=0.0), (sum(seconds) + compiled) / processes
    memory = processes * max((speeds[each].memory for each in keys.values()), default=0)
    disk = len(trained) * RESULT_BYTES + 2 * processes * max((speeds[each].state for each in keys.values()), default=0)
    return Cost(START + max(longest, share), memory, disk)


Timings = dict[str, dict[AnyRun, list[float]]]  # device → recipe of any length → seconds per epoch, of each result


def timings(results: Iterable[Result]) -> Timings:
    """What results say about the time that others will take, for `estimate`; of thousands it takes half a second."""
    found: Timings = {}
    for result in results:
        epochs = _with_pretraining(result.run, result.curves["epoch"][-1] if hasattr(result.run, "epochs") else 1)
        taken, device = (result.provenance.get(name) for name in ("seconds_train", "device"))
        if epochs and taken is not None and device:
            found.setdefault(device, {}).setdefault(_of_any_length(result.run), []).append(taken / epochs)
    return found


def estimate(runs: Iterable[AnyRun], timed: Timings) -> dict[str, float]:
    """Device → seconds that the runs take there at most, one after the other, from results of the same recipes.

    A device on which one of the recipes was never timed is left out.
    """
    asked = [(_of_any_length(run), _with_pretraining(run, getattr(run, "epochs", 1))) for run in runs]
    return {
        device: sum(median(known[recipe]) * epochs for recipe, epochs in asked)
        for device, known in timed.items()
        if all(recipe in known for recipe, _ in asked)
    }


def _with_pretraining(run: AnyRun, epochs: float | None) -> float:
    """Epochs of a run and of its pre-training, the latter as epochs on as many images as the run has."""
    before = run.pretraining if isinstance(run, Run) else None
    more = before.epochs * (before.train_size or 1) / (run.train_size or 1) if before else 0
    return (epochs or 0) + more


def memory(run: AnyRun) -> int:
    """Bytes of memory that a process needs for a run: measured here, or computed for a kernel; 0 if it is not known."""
    if isinstance(run, Run):
        like = json.dumps(_of_any_size(run).changes, sort_keys=True)
        return max((each.memory for name, each in _load().items() if name.startswith(f"[{like}, ")), default=0)
    return PROCESS_BYTES + _of_kernel(run) if isinstance(run, KernelRun) else 0


def _of_kernel(run: KernelRun) -> int:
    """Bytes of a kernel run without its features, which are few beside its pairs of images."""
    n, num_test = _sizes(run)
    itemsize = 8 if run.precision == "float64" else 4
    if run.iterations:
        return of_whole_kernel(n, num_test, itemsize)
    needed = of_kernel_machine(n, num_test, itemsize, kept=_keeps_products(run))
    return needed.get(run.solver, needed["cholesky"])


def _keeps_products(run: KernelRun) -> bool:
    """Whether inner products stay in memory beside the solver: features come in several blocks, or may do so."""
    name = registry.parse(run.features)[0]
    if name == "random_convolutions":
        return run.num_filters > FILTERS_OF_A_BLOCK
    if name == "fourier":
        return registry.options_of("features", run.features)["count"] > WAVES_OF_A_BLOCK
    return not registry.is_built_in("features", run.features)


def _expected_epochs(run: Run, known: Iterable[Result]) -> float:
    """How many epochs a run will take.

    A run that stops early takes as many as finished runs that differ in seed or level alone, those of the nearest level
    first. Without such runs it is taken to need all its epochs.
    """
    if run.stop_at_train_accuracy is None:
        return run.epochs

    def setting(other: AnyRun) -> AnyRun:
        return replace(other, seed=0, corruption_level=1.0)

    def distance(result: Result) -> float:
        return abs(result.run.corruption_level - run.corruption_level)

    alike = [result for result in known if setting(result.run) == setting(run)]
    nearest = min(map(distance, alike), default=0.0)
    taken = [result.curves["epoch"][-1] or 0.0 for result in alike if distance(result) == nearest]
    return median(taken) if taken else run.epochs


def _sizes(run: AnyRun) -> tuple[int, int]:
    """How many images a run trains on, and is tested on."""
    from rethink_gen.data import datasets

    source, skip = datasets.find(run.dataset), getattr(run, "train_skip", 0)
    train, test = source.cut(run.train_size, run.test_size)
    return min(train, source.train - skip), test


def calibrate(runs: Iterable[AnyRun], processes: int) -> None:
    """Measures the programs of runs that have not been measured here, each with a core's share of this machine."""
    speeds = _load()
    missing = {_key(run, processes): run for run in runs if isinstance(run, Run)}
    missing = {name: run for name, run in missing.items() if name not in speeds}
    check_data(missing.values())
    cores = machine.cores()[: len(machine.cores()) // processes]
    for name, run in missing.items():
        order = json.dumps({"run": as_dict(run), "cores": cores, "components": shipping.pack()})
        environment = {**os.environ, "NPROC": str(len(cores))}
        done = subprocess.run(
            [sys.executable, "-P", "-c", "from rethink_gen.execution import costs; costs.main()"],
            input=order,
            capture_output=True,
            text=True,
            env=environment,
        )
        if done.returncode:
            raise RethinkError(f"{run.model} on {run.dataset} cannot be measured ({done.stderr.splitlines()[-1:]})")
        speeds[name] = Speed(*json.loads(done.stdout))
        atomic.make_folder(_path().parent)
        atomic.write(_path(), json.dumps({**_everything(), name: speeds[name]}, indent=1).encode())


def _key(run: Run, processes: int) -> str:
    """A program, this machine, and the share of its cores that a run has, as the cache names them."""
    changes = _of_any_size(run).changes
    here = [platform.machine(), len(machine.cores()) // processes, machine.accelerated()]
    return json.dumps([changes, *here, version("jax")], sort_keys=True)


def _load() -> dict[str, Speed]:
    """What was measured here before."""
    return {name: Speed(*values) for name, values in _everything().items()}


def _everything() -> dict[str, Any]:
    """What the cache holds; nothing, if it cannot be read: it is measured again."""
    with suppress(OSError, ValueError):
        content = json.loads(_path().read_text())
        return {name: values for name, values in content.items() if len(values) == len(Speed._fields)}
    return {}


def _path() -> Path:
    """The file of the cache."""
    from rethink_gen.data.tfds import cache_folder  # loads NumPy, which other commands need not wait for

    return cache_folder() / "speed.json"


def _measure(run: Run) -> Speed:
    """The speed of a program on the cores of this process."""
    import resource

    import jax
    import numpy as np

    from rethink_gen.data import randomness
    from rethink_gen.execution import machine
    from rethink_gen.training import checkpointing, compilation, core, measurement, preparation
    from rethink_gen.training.program import Hparams

    machine.keep_memory()
    compilation.use_compile_cache()
    clock = compilation.compile_clock()
    program, train, test, *_ = preparation.prepare([run], number=1)
    step_function, most = compilation.stepper(program, train)
    numbers = (run.learning_rate, run.learning_rate_decay, run.momentum, run.weight_decay)
    hparams = Hparams(randomness.root_key(0), *map(np.float32, numbers))  # type: ignore[arg-type]
    state = core.init(program, hparams, train.images)
    size = train.labels.shape[-1]
    order = compilation.jit(core.epoch_order)(program, hparams, 0, size, program.batch_size)
    count = min(most, size // program.batch_size)
    state = jax.block_until_ready(step_function(hparams, train, order, state, count))
    steps, calls = [], 0
    while sum(steps) < SECONDS and calls < 20:
        before = time.monotonic()
        state = jax.block_until_ready(step_function(hparams, train, order, state, count))
        steps.append(time.monotonic() - before)
        calls += 1
    evaluated = []
    for _ in range(2):  # the first compiles
        before = time.monotonic()
        measurement.total(program, state, test, preparation.ONE)
        evaluated.append(time.monotonic() - before)
    return Speed(
        step=median(steps) / count,
        image=evaluated[-1] / test.labels.shape[-1],
        compile=clock(),
        memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        state=sum(leaf.nbytes for leaf in checkpointing.flatten(state).values()),
    )


def main() -> None:
    """Measures the run on standard input; for `calibrate`, which starts a process of its own."""
    order = json.loads(sys.stdin.read())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, order["cores"])
    shipping.unpack(order["components"])
    run = from_dict(order["run"])
    assert isinstance(run, Run)
    print(json.dumps(_measure(run)))
