"""Worker processes for a grid on CPU, each with cores of its own. One run barely uses a second core; two runs do.

This process hands out the runs, one at a time. A worker trains its run and publishes the result, as
`publishing.finish` does. Both talk in lines of JSON: orders go in; progress, the end of a run, or an error come out. A
worker ends when this process ends, because its standard input does.

The number of workers follows from the runs that are asked for and from the cores, not from what is left to do. Cores
decide how sums are split, so an interrupted grid continues with the same bits. Set NPROC, a number of cores for XLA, to
keep everything in one process.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rethink_gen import errors
from rethink_gen.errors import Interrupted, RethinkError
from rethink_gen.execution import machine, shipping
from rethink_gen.execution.progress import say
from rethink_gen.results import locks
from rethink_gen.results.failing import Failure
from rethink_gen.runs import AnyRun, IdentityRun, LearnerRun, PacBayesRun, Run, SearchRun, as_dict, from_dict
from rethink_gen.training.progress import Progress

SECONDS_TO_STOP = 8.0  # in which a process that is asked to stop leaves its checkpoint; then it is ended
SECONDS_BETWEEN_LOOKS = 0.2  # for a stop signal of this process


def count(runs: Sequence[AnyRun]) -> int:
    """The number of worker processes for a grid: on CPU as many as there are cores, or runs if these are fewer.

    It is one on an accelerator, and for runs that are solved in closed form: those use all cores and the memory.
    Learners that use several threads each are fewer side by side.
    """
    apart = all(isinstance(run, Run | LearnerRun | SearchRun | PacBayesRun | IdentityRun) for run in runs)
    if len(runs) < 2 or machine.is_told() or machine.accelerated() or not apart:
        return 1
    threads = max(getattr(run, "threads", 1) for run in runs)
    return max(1, min(machine.count_cores() // threads, len(runs)))


def finish(
    runs: Sequence[AnyRun],
    folder: Path,
    report: Callable[[Progress], None] | None,
    *,
    processes: int,
    cores_each: int | None = None,
    force: bool = False,
    keep_weights: bool = False,
    fits: Callable[[AnyRun], bool] = lambda run: True,
) -> list[Failure]:
    """Trains runs in several processes, which publish each result as it ends; the runs that failed.

    Args:
      cores_each: of a process; None: a share of all cores.
      fits: as in `scheduler.execute`.
    """
    from rethink_gen.execution import requests

    if not runs:
        return []
    requests.check_data(runs)
    requests.check_writable(folder)
    todo = [(run, run.recipe) for run in runs]
    all_cores = machine.cores()
    each = cores_each or machine.count_cores() // processes
    # Where a quota allows fewer cores than there are, which ones is the system's business: workers may use all.
    apart = machine.count_cores() == len(all_cores)
    order = {"folder": str(folder.absolute()), "force": force, "keep_weights": keep_weights, "argv": sys.argv}
    order |= {"others": len(runs) > 1, "components": shipping.pack()}
    said: queue.Queue[tuple[Worker, dict[str, Any] | None]] = queue.Queue()
    workers: list[Worker] = []
    failures, ended, died, silent = [], 0, "", 0.0
    try:
        for i in range(min(processes, len(runs))):
            own = all_cores[i * each : (i + 1) * each] if apart else all_cores
            workers.append(Worker({**order, "cores": own, "number": each}, said))
            workers[-1].take(todo, workers, fits)
        while any(worker.run for worker in workers):
            try:
                worker, message = said.get(timeout=SECONDS_BETWEEN_LOOKS)
            except queue.Empty:
                silent += SECONDS_BETWEEN_LOOKS
                if silent - SECONDS_BETWEEN_LOOKS <= locks.PATIENCE < silent:
                    _name_stopped(workers)
                continue
            silent = 0.0
            if message is None:
                if worker.run:  # it died; what it was at is for the others
                    died = f"{worker.run.id}: {_cause_of_death(worker.process.returncode)}"
                    todo.insert(0, (worker.run, worker.run.recipe))
                worker.run = None
                idle = [other for other in workers if not other.run and other.process.poll() is None]
                for other in idle[: len(todo)]:
                    other.take(todo, workers, fits)
            elif "error" in message:
                raise getattr(errors, message["error"])(message["text"])
            elif "ended" in message:
                ended += 1
                if message["ended"]:
                    failures.append(Failure(from_dict(message["run"]), message["ended"]))
                worker.take(todo, workers, fits)
            elif report:
                numbers = {"done_runs": ended, "total_runs": len(runs), "failed_runs": len(failures)}
                numbers["beside"] = sum(other.run is not None for other in workers) - 1
                report(Progress(**{**message, **numbers, "run": worker.run}))
    finally:
        _stop(workers)
    if todo and died:
        raise RethinkError(f"{died}; NPROC={len(machine.cores())} keeps all runs in one process")
    return failures


def _name_stopped(workers: Sequence[Worker]) -> None:
    """Says which workers were stopped by a signal, for this process waits for them."""
    for worker in workers:
        if worker.run and locks.is_stopped(pid := worker.process.pid):
            say(f"waiting for {worker.run.id}: its process {pid} is stopped; kill -CONT {pid} continues it")


def _cause_of_death(code: int) -> str:
    """Why a worker process is gone, as far as its exit code tells."""
    if code == -signal.SIGKILL:
        return "its process was killed, possibly because memory ran out"
    if code < 0:
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process ended with exit code {code}; see the lines above"


class Worker:
    """A process, the run it is at, and a thread that passes on what it says; None is its last word."""

    def __init__(self, order: dict[str, Any], said: queue.Queue[tuple[Worker, dict[str, Any] | None]]) -> None:
        self.run: AnyRun | None = None
        self.recipe: AnyRun | None = None
        # In a session of its own: Ctrl-C on a terminal reaches us alone, and we pass it on. By -m it would warn.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from rethink_gen.execution import processes; processes.main()"],
            env={**os.environ, "NPROC": str(order["number"])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.say(order)
        threading.Thread(target=self.listen, args=(said,), daemon=True).start()

    def say(self, what: dict[str, Any] | None) -> None:
        """Sends a line; None: there is nothing more to do."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died, and `listen` says so
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()

    def listen(self, said: queue.Queue[tuple[Worker, dict[str, Any] | None]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said.put((self, json.loads(line)))
        self.process.stdout.close()
        self.process.wait()
        said.put((self, None))

    def take(
        self, todo: list[tuple[AnyRun, AnyRun]], workers: Sequence[Worker], fits: Callable[[AnyRun], bool]
    ) -> None:
        """Gives it the next run, of the program it has compiled, or of one that no other is at, or any; or none."""
        others = [worker.recipe for worker in workers if worker is not self]
        choices = (lambda recipe: recipe == self.recipe, lambda recipe: recipe not in others, lambda recipe: True)
        found = (item for choice in choices for item in todo if choice(item[1]) and fits(item[0]))
        if item := next(found, None):
            todo.remove(item)
            self.run, self.recipe = item
            self.say(as_dict(self.run))
        else:
            self.run = None


def _stop(workers: Sequence[Worker]) -> None:
    """All have ended, with their checkpoints written if they were still at work."""
    for worker in workers:
        if worker.run:
            worker.process.terminate()
        else:
            worker.say(None)
    for worker in workers:
        try:
            worker.process.wait(SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        with suppress(BrokenPipeError):
            worker.process.stdin.close()  # type: ignore[union-attr]


def main() -> None:
    """What a worker does."""
    machine.end_with_parent()
    order = json.loads(sys.stdin.readline())
    orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_receive, args=(orders,), daemon=True).start()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, order["cores"])
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever else is printed does not belong into the channel
    sys.argv = order["argv"]
    machine.keep_memory()

    def tell(**message: Any) -> None:
        print(json.dumps(message), file=channel)

    def report(now: Progress) -> None:
        tell(**{**now._asdict(), "run": None})

    from rethink_gen.execution import publishing

    try:
        shipping.unpack(order["components"])
        while fields := orders.get():
            run = from_dict(fields)
            options = {name: order[name] for name in ("force", "keep_weights", "others")}
            failures = publishing.finish([run], Path(order["folder"]), report, **options)
            tell(run=fields, ended=failures[0].reason if failures else "")
    except RethinkError as error:
        known = next(kind.__name__ for kind in type(error).__mro__ if hasattr(errors, kind.__name__))
        tell(error=known, text=str(error))
    except (Interrupted, KeyboardInterrupt):
        pass


def _receive(orders: queue.Queue[dict[str, Any] | None]) -> None:
    """Passes orders on. When they end without a last one, the other process is gone, and this one goes as if killed."""
    for line in sys.stdin:
        orders.put(json.loads(line))
        if orders.queue[-1] is None:
            return
    os._exit(1)
