"""TODO"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rethink_gen import atomic
from rethink_gen.errors import RethinkError
from rethink_gen.execution import machine, shipping
from rethink_gen.execution.requests import check_data
from rethink_gen.results.store import Failure, Result
from rethink_gen.runs import AnyRun, as_dict, from_dict

if TYPE_CHECKING:
    from rethink_gen.training.progress import Progress

    Report = Callable[[Progress], None]
    Execute = Callable[..., Iterable[Result | Failure]]
    Folder = str | Path

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rethink_gen.runs import KernelRun, Run

if TYPE_CHECKING:
    from rethink_gen.results.store import Result


def estimate(runs: Iterable[AnyRun], timed: Iterable[Result]) -> dict[str, float]:
    """Device → seconds that the runs take there at most, one after the other, by the results of the same recipes.

    A device on which one of the recipes was never timed is left out.
    """
    length = {"epochs": 1, "stop_at_train_accuracy": None, "corruption": "true_labels"}

    def program(run: AnyRun) -> AnyRun:
        return replace(run.recipe, **{name: value for name, value in length.items() if hasattr(run, name)})

    seconds: dict[str, dict[AnyRun, list[float]]] = {}
    for result in timed:
        epochs = result.curves["epoch"][-1] if hasattr(result.run, "epochs") else 1
        if epochs:
            times = seconds.setdefault(result.provenance["device"], {}).setdefault(program(result.run), [])
            times.append(result.provenance["seconds_train"] / epochs)
    return {
        device: sum(median(known[program(run)]) * getattr(run, "epochs", 1) for run in runs)
        for device, known in seconds.items()
        if all(program(run) in known for run in runs)
    }


SECONDS = 2.0  # of steps that are timed, or one call of them where it takes longer
START = 5.0  # seconds until a process has loaded jax
RESULT_BYTES = 20_000  # of a result's file, about
BYTES_OF_A_PAIR = 2.6  # of training images, in half a kernel matrix as it is allocated; see kernels.plan
# What a program does not depend on, or its speed does not.
ANY: dict[str, Any] = {"epochs": 1, "stop_at_train_accuracy": None, "corruption": "true_labels", "train_size": None}
ANY["test_size"] = None


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


def program(run: Run) -> Run:
    """A run without what its speed does not depend on."""
    return replace(run.recipe, **ANY)


def cost(runs: Sequence[AnyRun], known: Iterable[Result], processes: int) -> Cost | None:
    """What runs cost in so many processes; None where a program has not been measured here, or none is trained."""
    speeds, known = load(), list(known)
    trained = [run for run in runs if isinstance(run, Run)]
    keys = {run: key(run, processes) for run in trained}
    if len(trained) < len(runs) or not all(each in speeds for each in keys.values()):
        return None
    seconds, compiled = [], 0.0
    for run in trained:
        speed, (train, test) = speeds[keys[run]], sizes(run)
        epochs = expected_epochs(run, known)
        steps = epochs * (train // min(run.batch_size, train))
        seconds.append(steps * speed.step + (epochs + 1) * (train + test) * speed.image)
    compiled = sum(speeds[each].compile for each in set(keys.values()))
    longest, share = max(seconds, default=0.0), (sum(seconds) + compiled) / processes
    memory = processes * max((speeds[each].memory for each in keys.values()), default=0)
    disk = len(trained) * RESULT_BYTES + 2 * processes * max((speeds[each].state for each in keys.values()), default=0)
    return Cost(START + max(longest, share), memory, disk)


def memory(run: AnyRun) -> int:
    """Bytes of memory that a process needs for a run: as measured here, of a kernel computed; 0 if it is not known."""
    if isinstance(run, Run):
        like = json.dumps(program(run).changes, sort_keys=True)
        return max((each.memory for name, each in load().items() if name.startswith(f"[{like}, ")), default=0)
    if isinstance(run, KernelRun):
        kept = run.features != "pixels"  # then the inner products stay beside the factor
        return round((1 + kept) * BYTES_OF_A_PAIR * sizes(run)[0] ** 2)
    return 0


def expected_epochs(run: Run, known: Iterable[Result]) -> float:
    """As many as runs took that differ from it in seed or level alone, the nearest levels first; else all it may."""
    if run.stop_at_train_accuracy is None:
        return run.epochs
    same = lambda other: replace(other, seed=0, corruption_level=1.0)
    alike = [result for result in known if same(result.run) == same(run)]
    distance = lambda result: abs(result.run.corruption_level - run.corruption_level)
    nearest = min(map(distance, alike), default=0.0)
    taken = [result.curves["epoch"][-1] or 0.0 for result in alike if distance(result) == nearest]
    return median(taken) if taken else run.epochs


def sizes(run: AnyRun) -> tuple[int, int]:
    """How many images a run trains on, and is tested on."""
    from rethink_gen.data import datasets

    return datasets.find(run.dataset).cut(run.train_size, run.test_size)


def calibrate(runs: Iterable[AnyRun], processes: int) -> None:
    """Measures the programs of runs that have not been measured here, each with a core's share of this machine."""
    speeds = load()
    missing = {key(run, processes): run for run in runs if isinstance(run, Run)}
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
        atomic.make_folder(path().parent)
        atomic.write(path(), json.dumps({**everything(), name: speeds[name]}, indent=1).encode())


def key(run: Run, processes: int) -> str:
    """A program, this machine, and the share of its cores that a run has, as the cache names them."""
    changes = program(run).changes
    here = [platform.machine(), len(machine.cores()) // processes, machine.accelerated()]
    return json.dumps([changes, *here, version("jax")], sort_keys=True)


def load() -> dict[str, Speed]:
    """What was measured here before."""
    return {name: Speed(*values) for name, values in everything().items()}


def everything() -> dict[str, Any]:
    """What the cache holds; nothing, if it cannot be read: it is measured again."""
    with suppress(OSError, ValueError):
        content = json.loads(path().read_text())
        return {name: values for name, values in content.items() if len(values) == len(Speed._fields)}
    return {}


def path() -> Path:
    """The file of the cache; what knows the cache loads NumPy, which no other verb shall wait for."""
    from rethink_gen.data.tfds import cache_folder

    return cache_folder() / "speed.json"


def measure(run: Run) -> Speed:
    """The speed of a program on the cores of this process."""
    import resource

    import jax
    import numpy as np

    from rethink_gen.data import randomness
    from rethink_gen.execution import machine
    from rethink_gen.training import checkpointing, compilation, core, measurement, preparation

    machine.keep_memory()
    compilation.use_compile_cache()
    clock = compilation.compile_clock()
    program, train, test, _, _ = preparation.prepare([run], number=1)
    step_function, most = compilation.stepper(program, train)
    numbers = (run.learning_rate, run.learning_rate_decay, run.momentum, run.weight_decay)
    hparams = core.Hparams(randomness.root_key(0), *map(np.float32, numbers))
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
    order = json.loads(sys.stdin.read())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, order["cores"])
    shipping.unpack(order["components"])
    run = from_dict(order["run"])
    assert isinstance(run, Run)
    print(json.dumps(measure(run)))
