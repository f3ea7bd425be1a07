"""Many runs: order them so that equal programs follow each other, share them with others, train or solve, stop."""

import importlib
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax

from rethink_gen import digests
from rethink_gen.data import pipeline
from rethink_gen.errors import Interrupted, RethinkError, StorageError
from rethink_gen.execution import machine
from rethink_gen.results import locks, store
from rethink_gen.results.store import Failure, Result
from rethink_gen.runs import AnyRun, Run
from rethink_gen.training import collectives, compilation, preparation, provenance, trainer
from rethink_gen.training.progress import Progress
from rethink_gen.training.vectorize import width

_SECONDS_BETWEEN_LOOKS = 1.0  # at runs that other processes are at
_DEATHS = 3  # of processes, after which a run comes last: it may be what kills them, for lack of memory say
_SOLVERS = {"kernel": "kernels", "expressivity": "theorem1", "least_squares": "least_squares"}  # kind → module


def execute(
    runs: Iterable[AnyRun],
    *,
    work: Path | None = None,
    force: bool = False,
    keep_weights: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[Result | Failure]:
    """Trains or solves runs and yields each as it ends; those that share a program go side by side, or in turn.

    Other processes may do the same: a run that one of them is at is left for later, and passed over once it has a
    result. A run that was the end of several processes comes last, so that the others have theirs first.

    Args:
      work: the folder of results, whose .work/ holds checkpoints and locks; None: no checkpoints, no other processes.
      force: also runs that have a result by now.
      keep_weights: results of trained runs have their weights; those that were published without are trained again.

    Raises:
      Interrupted, KeyboardInterrupt: after a stop signal, once the runs under way have been checkpointed.
      DataError, StorageError, UsageError: what no other run would escape either.
    """
    machine.keep_memory()
    compilation.use_compile_cache()
    runs = list(runs)
    first = {key: i for i, key in reversed(list(enumerate(map(preparation.program_key, runs))))}
    hard = {run for run in runs if work and locks.deaths(work, run) >= _DEATHS}
    todo = deque(sorted(runs, key=lambda run: (run in hard, first[preparation.program_key(run)])))

    def published(run):
        return work is not None and not force and store.done(work, run, weights=keep_weights)

    passed_over = 0  # runs in a row that other processes are at
    with _stop_signals() as stopped:
        while todo:
            chosen = _next_cohort(todo)
            report_runs = partial(_report_progress, report, len(runs) - len(todo) - len(chosen), len(runs))
            with ExitStack() as claims:
                busy = [run for run in chosen if work and not claims.enter_context(locks.claim(work, run.id))]
                todo.extend(busy)
                # What another process has just finished is passed over: a lock without this look would do it again.
                cohort = [run for run in chosen if run not in busy and not published(run)]
                passed_over = 0 if cohort else passed_over + len(busy)
                try:
                    if cohort:
                        announce(cohort, keep_weights)
                    for outcome in _attempt(cohort, work, report_runs, stopped, keep_weights):
                        cohort.remove(outcome.run)
                        yield outcome
                except StorageError:
                    if not any(map(published, cohort)):
                        raise  # else, where there are no locks, another process has published it and tidied up
                todo.extendleft(run for run in reversed(cohort) if not published(run))  # those left at another step
            if passed_over >= len(todo) > 0:
                passed_over = 0
                report_runs(Progress(todo[0], 0, 1, 0, {}, 0, 1, None, waiting=True))
                stopped()
                time.sleep(_SECONDS_BETWEEN_LOOKS)


def announce(cohort: Sequence[AnyRun], keep_weights: bool = False) -> tuple[list[Run], bool]:
    """What the first of several processes is about to train, and how, for all of them; no runs: it has no more."""
    if jax.process_count() == 1:
        return [], False
    told = collectives.from_first(lambda: ({}, {"runs": [asdict(run) for run in cohort], "keep_weights": keep_weights}))
    assert told is not None
    return [Run(**fields) for fields in told[1]["runs"]], told[1]["keep_weights"]


def follow(work: Path) -> None:
    """Takes part in what the first of several processes trains, until it has no more."""
    machine.keep_memory()
    compilation.use_compile_cache()
    with _stop_signals() as stopped:
        cohort, keep_weights = announce([])
        while cohort:
            for _ in _attempt(cohort, work, lambda progress: None, stopped, keep_weights):
                pass
            cohort, keep_weights = announce([])


def _next_cohort(todo: deque[AnyRun]) -> list[AnyRun]:
    """Takes from the queue the next runs that share a program, as many as go side by side."""
    cohort = [todo.popleft()]
    most = width(cohort[0]) if isinstance(cohort[0], Run) else 1
    while todo and len(cohort) < most and preparation.program_key(todo[0]) == preparation.program_key(cohort[0]):
        cohort.append(todo.popleft())
    return cohort


def _report_progress(report: Callable[[Progress], None], done: int, total: int, progress: Progress) -> None:
    """Reports the progress of a run, and how many of all runs are done."""
    report(progress._replace(done_runs=done + progress.done_runs, total_runs=total))


def _attempt(
    cohort: Iterable[AnyRun],
    work: Path | None,
    report: Callable[[Progress], None],
    stopped: Callable[[], None],
    keep_weights: bool,
) -> Iterator[Result | Failure]:
    """The results of runs that go side by side, or why they have none where that is their own trouble."""
    left = list(cohort)
    try:
        folders = {run: work and locks.work_folder(work, run) for run in left if isinstance(run, Run)}
        together = collectives.together(stopped)
        train = partial(trainer.train, report=report, stopped=together, keep_weights=keep_weights)
        for result in train(folders) if folders else map(partial(_solve, report, stopped), left):
            left.remove(result.run)
            yield result
    except (RethinkError, OSError):
        raise
    except Exception as error:
        if jax.process_count() > 1:
            raise  # the others do not know of it, and cannot go on
        lines = str(error).splitlines() or [""]
        reason = f"{type(error).__name__}: {lines[0]}"
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in lines[0]:
            reason = f"out of memory, try fewer examples or a smaller batch ({lines[0][:200]})"
        yield from [Failure(run, reason) for run in left]


def _solve(report: Callable[[Progress], None], stopped: Callable[[], None], run: AnyRun) -> Result:
    """One run of a kind that is not trained; interrupted, it starts anew."""
    started = time.monotonic()
    origin = provenance.provenance()
    clock = compilation.compile_clock()
    compiled = clock()
    dataset, _ = pipeline.load(run)

    def tick(step: int, steps: int, metrics: dict[str, float | None]) -> None:
        epoch = step * getattr(run, "epochs", 0) // steps
        left = (time.monotonic() - started) / step * (steps - step) if step else None
        report(Progress(run, step, steps, epoch, metrics, 0, 1, left))
        stopped()

    curves, facts = importlib.import_module(f"rethink_gen.solvers.{_SOLVERS[run.kind]}").solve(run, dataset, tick)
    compile_seconds = clock() - compiled
    return Result(
        run=run,
        status="finished",
        curves=curves,
        provenance={
            **origin,
            "data_sha256": dataset.checksum,
            **({"code": code} if (code := digests.of_run(run)) else {}),
            "num_train": len(dataset.train.labels),
            "num_test": len(dataset.test.labels),
            **facts,
            "seconds_compile": round(compile_seconds, 1),
            "seconds_train": round(time.monotonic() - started - compile_seconds, 1),
        },
    )


@contextmanager
def _stop_signals() -> Iterator[Callable[[], None]]:
    """Within, SIGTERM and Ctrl-C wait for the call under way; the function yielded raises what they stand for."""
    received: list[int] = []

    def raise_if_stopped() -> None:
        if signal.SIGINT in received:
            raise KeyboardInterrupt
        if received:
            raise Interrupted("stopped by SIGTERM; the same command continues where it left off")

    def receive(number: int, _: Any) -> None:
        if number in received and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C leaves at once
        received.append(number)

    try:
        before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals go where they went
        before = {}
    try:
        yield raise_if_stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
