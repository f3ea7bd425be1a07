"""Runs on a Ray cluster: what `scheduler.execute` does on one machine.

The driver is the process of the command. It alone reads and writes the folder of results, and it locks runs as any
process does. A task gets some runs with their newest checkpoints and trains them in a temporary folder. It sends
progress, checkpoints and outcomes to an actor, the `Desk`. When a worker or node dies, another task gets its runs with
the checkpoints that had arrived. The driver loads no jax.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, chdir, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from rethink_gen import atomic, registry
from rethink_gen.data import datasets
from rethink_gen.errors import RethinkError, StorageError, UsageError
from rethink_gen.execution import costs, shipping
from rethink_gen.results import locks, packs, store
from rethink_gen.results.failing import Failure
from rethink_gen.results.result import Result
from rethink_gen.runs import AnyRun
from rethink_gen.training.progress import Progress

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_BETWEEN_REPORTS = 1.0  # of one task
DEATHS = 3  # workers or nodes that may die while they run it; then the run has failed
PASSED_ON = ("JAX_", "XLA_")  # environment variables that tasks get, too
FOLDERS = ("RETHINK_GEN_CACHE", "TFDS_DATA_DIR")  # environment variables that name folders
Checkpoints = dict[str, dict[str, bytes]]  # run id → path of a file in the folder of the run → what it holds
Message = tuple[str, str, Any]  # what it is, the id of its run, and what it holds


class Needs(NamedTuple):
    """The resources of one task. The number of cores changes last bits: XLA splits its sums by it."""

    cpus: int
    gpus: float = 0.0  # a fraction shares one
    tpus: int = 0

    @property
    def resources(self) -> dict[str, float]:
        return {"CPU": self.cpus, "GPU": self.gpus, "TPU": self.tpus}

    def room(self, nodes: Iterable[dict[str, Any]]) -> int:
        """How many such tasks fit on the nodes at a time."""
        has = lambda node: [int(node["Resources"].get(name, 0) / x) for name, x in self.resources.items() if x]
        return sum(min(has(node)) for node in nodes if node["Alive"])


class Task(NamedTuple):
    """Runs that are trained one after the other, and how many workers or nodes died while they did."""

    runs: list[AnyRun]
    deaths: int = 0


class Desk:
    """An actor on the driver's node that collects the messages of tasks."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def put(self, *messages: Message) -> None:
        self.messages += messages

    def take(self) -> list[Message]:
        taken, self.messages = self.messages, []
        return taken


def execute(
    runs: Iterable[AnyRun],
    *,
    work: Path,
    force: bool = False,
    report: Callable[[Any], None] = lambda progress: None,
    needs: Needs,
    address: str | None = None,
    runs_per_task: int = 1,
) -> Iterator[Result | Failure]:
    """Trains or solves runs and yields each as it ends.

    Args:
      work, force, report: as in `scheduler.execute`.
      needs: the resources of each task.
      address: of a cluster; by default RAY_ADDRESS, or the cluster of this machine, or a new one here.
      runs_per_task: runs of one recipe that share a task; their program is compiled once.

    Raises:
      DataError, StorageError, UsageError: errors that every other run would meet, too.
    """
    runs = list(runs)
    todo, busy = deque(Task(part) for part in parts(runs, runs_per_task)), []  # busy: other processes are at them
    left = {run.id: run for run in runs}
    components = shipping.pack(runs)
    claims: dict[str, ExitStack] = {}
    flying: dict[Any, Task] = {}
    with _cluster(address, needs) as ray, ExitStack() as at_the_end:
        desk, train, placed = _start(ray, needs)
        at_the_end.callback(lambda: [stack.close() for stack in claims.values()])
        at_the_end.callback(lambda: [ray.cancel(task, force=True) for task in flying])
        while todo or flying or busy:
            while todo and len(flying) < 2 * needs.room(ray.nodes()):  # as many again wait for a place
                task = todo.popleft()
                mine = [run for run in task.runs if run.id in claims or _claim(run, work, force, claims, left, busy)]
                if mine:
                    given = {run.id: _checkpoints(work, run) for run in mine}
                    data = placed({run.dataset for run in mine})
                    sized = train.options(memory=_memory(mine, ray.nodes()))
                    flying[sized.remote(mine, given, data, desk, sys.argv, components)] = Task(mine, task.deaths)
            ended = look(ray, list(flying))
            for what, name, content in ray.get(desk.take.remote()):
                if name in left and what == "checkpoint":
                    _keep(locks.work_folder(work, left[name]), *content)
                elif name in left and what == "progress":
                    report(Progress(**{**content, "done_runs": len(runs) - len(left), "total_runs": len(runs)}))
                elif name in left:
                    yield content
                    del left[name]
                    claims.pop(name).close()
            for reference in ended:
                task = flying.pop(reference)
                lost = [run for run in task.runs if run.id in left]
                if not _died(ray, reference):
                    assert not lost, "a task that ended well has left the outcome of each run on the desk"
                elif task.deaths + 1 < DEATHS:
                    todo.appendleft(Task(lost, task.deaths + 1))
                else:
                    for run in lost:
                        yield Failure(
                            run, f"{DEATHS} workers or nodes crashed while running it; possibly out of memory"
                        )
                        del left[run.id]
                        claims.pop(run.id).close()
            if busy and not todo and not flying:
                report(Progress(busy[0], 0, 1, 0, {}, len(runs) - len(left), len(runs), None, waiting=True))
                time.sleep(1.0)
                todo.extend(Task([run]) for run in busy)
                busy.clear()


def parts(runs: list[AnyRun], size: int) -> Iterator[list[AnyRun]]:
    """The runs in lists of at most this size, each of one recipe, in the order in which recipes first occur."""
    grouped: dict[AnyRun, list[AnyRun]] = {}
    for run in runs:
        grouped.setdefault(run.recipe, []).append(run)
    for cohort in grouped.values():
        yield from (cohort[i : i + size] for i in range(0, len(cohort), size))


def _memory(runs: Iterable[AnyRun], nodes: Iterable[dict[str, Any]]) -> int | None:
    """Bytes of memory that a task asks for: what `costs` knows of its runs, at most what the largest node has."""
    most = max((int(node["Resources"].get("memory", 0)) for node in nodes if node["Alive"]), default=0)
    return min(max(map(costs.memory, runs)), most) or None


def _claim(
    run: AnyRun,
    work: Path,
    force: bool,
    claims: dict[str, ExitStack],
    left: dict[str, AnyRun],
    busy: list[AnyRun],
) -> bool:
    """Whether this process has locked the run; if not, another one trains it or has finished it."""
    stack = ExitStack()
    if not stack.enter_context(locks.claim(work, run.id)):
        busy.append(run)
    elif not force and packs.exists(store.result_file(work, run)):
        del left[run.id]
    else:
        claims[run.id] = stack
        return True
    stack.close()
    return False


def look(ray: Any, tasks: list[Any]) -> list[Any]:
    """The tasks that have ended, once at least one has, or after a moment."""
    if not tasks:
        return []
    ray.wait(tasks, timeout=SECONDS_BETWEEN_LOOKS)
    return ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]


def _died(ray: Any, reference: Any) -> bool:
    """Whether a task ended because its worker or node died; an error of the task itself is raised."""
    try:
        ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, RethinkError | OSError) else error from None
    except ray.exceptions.RayError:
        return True
    return False


def _checkpoints(work: Path, run: AnyRun) -> dict[str, bytes]:
    """The checkpoints of a run and of its pre-training in the folder of results, by their paths in its own."""
    folder = locks.work_folder(work, run)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("checkpoint-*.npz")}


def _keep(folder: Path, name: str, content: bytes) -> None:
    """Writes a checkpoint that has arrived, of a run or of its pre-training, and keeps the one before it."""
    new = folder / name
    with suppress(OSError):  # `write` says it better
        for each in (folder, new.parent):  # as in `save_checkpoint`
            each.mkdir(exist_ok=True)
    older = sorted(path for path in new.parent.glob("checkpoint-*.npz") if path.name < new.name)
    atomic.write(new, content)
    for path in older[:-1]:
        path.unlink(missing_ok=True)


def _start(ray: Any, needs: Needs) -> tuple[Any, Any, Callable[[set[str]], dict[str, list[Any]]]]:
    """The desk, the remote `train`, and a function that puts data sets into the cluster: cache file → content."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), False)
    desk = ray.remote(num_cpus=0, scheduling_strategy=here)(Desk).remote()
    options = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "resources": {"TPU": needs.tpus} if needs.tpus else {}}
    remote = ray.remote(**options, max_retries=0, scheduling_strategy="SPREAD")(train)
    known: dict[str, list[Any]] = {}

    def placed(names: set[str]) -> dict[str, list[Any]]:
        files: dict[str, list[Any]] = {}
        for name in names & {*registry.COMPONENTS["dataset"]}:  # a user's own; the others come as code
            dataset = registry.COMPONENTS["dataset"][name].target
            if isinstance(dataset, datasets.Dataset):
                path = datasets.save_arrays(dataset)
                if name not in known:
                    known[name] = [ray.put(path.read_bytes()), dataset.checksum]
                files[str(path.relative_to(datasets.cache_folder()))] = known[name]
        for name in names - {*datasets.bundled.DATASETS, *registry.COMPONENTS["dataset"], datasets.GENERATED}:
            source = datasets.find(name)
            if not source.streamed and name not in known:
                checksum = datasets.load(name).checksum  # afterwards it is in the cache
                known[name] = [ray.put(source.cache.read_bytes()), checksum]
            if name in known:
                files[source.cache.name] = known[name]
        return files

    return desk, remote, placed


def train(
    runs: list[AnyRun], given: Checkpoints, data: dict[str, list[Any]], desk: Any, argv: list[str], components: str = ""
) -> None:
    """A task: trains runs on this node, and sends progress, checkpoints and outcomes to the desk."""
    from rethink_gen.execution import scheduler

    ray: Any = importlib.import_module("ray")

    shipping.unpack(components)
    sys.argv = argv  # for the command in provenance
    cache = datasets.cache_folder()
    for name, [reference, checksum] in data.items():
        if not datasets.holds(cache / name, checksum):  # once per node; it is checked when it is read
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            atomic.write(cache / name, ray.get(reference))
    sent: set[Path] = set()
    last = 0.0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)

        def tell(progress: Any) -> None:
            nonlocal last
            messages: list[Message] = []
            for path in sorted(work.glob(".work/*/**/checkpoint-*.npz")):
                if path not in sent:
                    sent.add(path)
                    name, *inside = path.relative_to(work / ".work").parts
                    messages.append(("checkpoint", name, ("/".join(inside), path.read_bytes())))
            if progress.step == progress.steps or time.monotonic() - last > SECONDS_BETWEEN_REPORTS:
                last = time.monotonic()
                messages.append(("progress", progress.run.id, progress._asdict()))
            if messages:
                desk.put.remote(*messages)

        for run in runs:
            for name, content in given[run.id].items():
                path = locks.work_folder(work, run) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                sent.add(path)
        for attempt in (1, 2):
            try:
                outcomes = scheduler.execute(runs, work=work, force=True, report=tell, others=True)
                left = [desk.put.remote(("outcome", outcome.run.id, outcome)) for outcome in outcomes]
                ray.get(left)  # at the end alone: while a task waits for anything, ray lends its cores to another
                return
            except StorageError:
                if attempt == 2 or not any(given.values()):
                    raise
                shutil.rmtree(work / ".work")  # checkpoints of another device: here the runs begin again


@contextmanager
def _beside_this_package() -> Iterator[None]:
    """In the folder where this package is: Ray has workers import from the folder in which it is started.

    That of the command may hold a stranger's files, or another checkout. What is named from there keeps its place.
    """
    for name in FOLDERS:
        if name in os.environ:
            os.environ[name] = str(Path(os.environ[name]).expanduser().absolute())
    with chdir(Path(registry.__file__).parents[1]):
        yield


@contextmanager
def _cluster(address: str | None, needs: Needs) -> Iterator[Any]:
    """Yields the module ray, connected to a cluster that has room for a task."""
    os.environ |= {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    }  # it tells nobody, ships nothing
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # as it will be; else it warns
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray: Any = importlib.import_module("ray")
        for part in ("exceptions", "util.scheduling_strategies"):
            importlib.import_module(f"ray.{part}")
    except ImportError as error:
        raise UsageError("--engine ray needs ray; install it with: pip install 'ray>=2.50'") from error
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    passed["NPROC"] = os.environ.get("NPROC", str(needs.cpus))
    if 0 < needs.gpus < 1:
        passed.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    options = {"log_to_driver": False, "logging_level": logging.ERROR, "runtime_env": {"env_vars": passed}}
    try:
        with _beside_this_package():
            try:
                ray.init(address or os.environ.get("RAY_ADDRESS") or "auto", **options)
            except ConnectionError as error:
                if address or "RAY_ADDRESS" in os.environ:
                    raise UsageError(f"no Ray cluster answers at {address or os.environ['RAY_ADDRESS']}") from error
                ray.init("local", include_dashboard=False, **options)
        if signal.getsignal(signal.SIGTERM) is not handler:
            signal.signal(signal.SIGTERM, handler)  # ours keeps what is done; ray's ends the process
        if not needs.room(ray.nodes()):
            asked = " and ".join(f"{amount:g} {name}" for name, amount in needs.resources.items() if amount)
            raise UsageError(f"no node of the cluster has {asked}; ask for less with --cpus-per-task, --gpus-per-task")
        yield ray
    except SystemError as error:  # what becomes of a stop signal that comes while ray waits
        raise error.__cause__ or error from None
    finally:
        ray.shutdown()
