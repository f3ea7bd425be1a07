"""Schedule many runs in one process: order them, lock them, train or solve them, handle stop signals."""

import importlib
import time
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import jax

from rethink_gen import digests
from rethink_gen.data import pipeline, randomness
from rethink_gen.errors import ComponentError, RethinkError, StorageError, UsageError
from rethink_gen.execution import stopping
from rethink_gen.results import locks, store
from rethink_gen.results.failing import Failure
from rethink_gen.results.result import Result
from rethink_gen.runs import AnyRun, Run
from rethink_gen.training import collectives, compilation, preparation, provenance, trainer
from rethink_gen.training.progress import Progress
from rethink_gen.training.vectorize import width

_SECONDS_BETWEEN_LOOKS = 1.0  # while other processes work on all remaining runs
_DEATHS = 3  # after so many processes crashed while running it, a run comes last; it may use too much memory
_SOLVERS = {  # kind → module
    "kernel": "kernels",
    "expressivity": "theorem1",
    "least_squares": "least_squares",
    "ridge": "ridge",
    "learner": "learner",
    "search": "search",
    "pac_bayes": "pac_bayes",
    "identity": "identity",
    "teacher": "teacher",
}


@randomness.pinned_generator
def execute(
    runs: Iterable[AnyRun],
    *,
    work: Path | None = None,
    force: bool = False,
    keep_weights: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
    fits: Callable[[AnyRun], bool] = lambda run: True,
    others: bool | None = None,
) -> Generator[Result | Failure, None, None]:
    """Trains or solves runs and yields the outcome of each when it ends.

    Runs that share a program follow each other or train side by side. Other processes may work on the same runs: a run
    that another process has locked is tried again later, and skipped if it then has a result. A run during which
    several processes crashed comes last.

    Args:
      runs: to execute.
      work: the folder of results; its .work/ holds checkpoints and locks. None: no checkpoints and no other processes.
      force: whether to execute runs that already have a result.
      keep_weights: whether trained results include their weights; results published without weights are trained again.
      report: called with the progress.
      fits: whether there is time to begin a run; asked when it is its turn. One that does not fit is left out.
      others: whether there are runs besides these, such as those of other processes; None: whether these are several.

    Raises:
      Interrupted, KeyboardInterrupt: after a stop signal, when the current runs have checkpoints.
      DataError, StorageError: errors that every other run would have too. UsageError: the settings of the only run
        cannot be carried out; of several runs, this is the failure of one.
    """
    compilation.use_compile_cache()
    runs = list(runs)
    first = {key: i for i, key in reversed(list(enumerate(map(preparation.program_key, runs))))}
    hard = {run for run in runs if work and locks.deaths(work, run) >= _DEATHS}
    todo = deque(sorted(runs, key=lambda run: (run in hard, first[preparation.program_key(run)])))

    def published(run: AnyRun) -> bool:
        return work is not None and not force and store.done(work, run, weights=keep_weights)

    passed_over = 0  # consecutive runs that other processes work on
    last_work = time.monotonic()
    with stopping.later() as stopped:
        while todo:
            if not fits(todo[0]):
                todo.popleft()
                continue
            chosen = _next_cohort(todo)
            report_runs = partial(_report_progress, report, len(runs) - len(todo) - len(chosen), len(runs))
            with ExitStack() as claims:
                busy = [run for run in chosen if work and not claims.enter_context(locks.claim(work, run.id))]
                todo.extend(busy)
                # Check again under the lock: another process may have just finished the run.
                cohort = [run for run in chosen if run not in busy and not published(run)]
                passed_over = 0 if cohort else passed_over + len(busy)
                try:
                    if cohort:
                        announce(cohort, keep_weights)
                    besides = len(runs) > 1 if others is None else others
                    for outcome in _attempt(cohort, work, report_runs, stopped, keep_weights, others=besides):
                        cohort.remove(outcome.run)
                        yield outcome
                except StorageError:
                    if not any(map(published, cohort)):
                        raise  # otherwise, without locks, another process published it and deleted its files
                last_work = time.monotonic() if len(busy) < len(chosen) else last_work
                todo.extendleft(run for run in reversed(cohort) if not published(run))  # runs at another step
            if passed_over >= len(todo) > 0:
                passed_over = 0
                long = time.monotonic() - last_work > locks.PATIENCE
                holder = locks.holder(locks.lock_file(work, todo[0].id)) if work and long else ""
                report_runs(Progress(todo[0], 0, 1, 0, {}, 0, 1, None, waiting=True, holder=holder))
                stopped()
                time.sleep(_SECONDS_BETWEEN_LOOKS)


def announce(cohort: Sequence[AnyRun], keep_weights: bool = False) -> tuple[list[Run], bool]:
    """Broadcasts the next cohort from the first process to all processes: (runs, keep_weights).

    No runs means that there are no more. In a single process it does nothing.
    """
    if jax.process_count() == 1:
        return [], False
    told = collectives.from_first(lambda: ({}, {"runs": [asdict(run) for run in cohort], "keep_weights": keep_weights}))
    assert told is not None
    return [Run(**fields) for fields in told[1]["runs"]], told[1]["keep_weights"]


@randomness.pinned()
def follow(work: Path) -> None:
    """Trains the cohorts that the first process announces, until there are no more.

    Args:
      work: the folder of results.
    """
    compilation.use_compile_cache()
    with stopping.later() as stopped:
        cohort, keep_weights = announce([])
        while cohort:
            for _ in _attempt(cohort, work, lambda progress: None, stopped, keep_weights):
                pass
            cohort, keep_weights = announce([])


def _next_cohort(todo: deque[AnyRun]) -> list[AnyRun]:
    """Takes the next runs that share a program from the queue, up to the number that train side by side."""
    cohort = [todo.popleft()]
    most = width(cohort[0]) if isinstance(cohort[0], Run) else 1
    while todo and len(cohort) < most and preparation.program_key(todo[0]) == preparation.program_key(cohort[0]):
        cohort.append(todo.popleft())
    return cohort


def _report_progress(report: Callable[[Progress], None], done: int, total: int, progress: Progress) -> None:
    """Adds the number of runs that are done to the progress of a run, and reports it."""
    report(progress._replace(done_runs=done + progress.done_runs, total_runs=total))


def _attempt(
    cohort: Iterable[AnyRun],
    work: Path | None,
    report: Callable[[Progress], None],
    stopped: Callable[[], None],
    keep_weights: bool,
    others: bool = False,
) -> Iterator[Result | Failure]:
    """Executes a cohort: yields results, and failures for errors that concern only these runs.

    Args:
      others: whether there are other runs, which go on where the settings of these cannot be carried out.
    """
    left = list(cohort)
    try:
        folders = {run: work and locks.work_folder(work, run) for run in left if isinstance(run, Run)}
        together = collectives.together(stopped)
        train = partial(trainer.train, report=report, stopped=together, keep_weights=keep_weights)
        for result in train(folders) if folders else map(partial(_solve, report, stopped), left):
            left.remove(result.run)
            yield result
    except (Exception, SystemExit) as error:
        own = isinstance(error, ComponentError) or (isinstance(error, UsageError) and others)
        if isinstance(error, RethinkError | OSError) and not own:
            raise
        if jax.process_count() > 1:
            raise  # the other processes cannot continue without this one
        lines = str(error).splitlines() or [""]
        kind = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
        reason = f"{kind}{lines[0]}{_where(error.__cause__ or error)}"
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in lines[0]:
            reason = f"out of memory; try fewer examples or a smaller batch ({lines[0][:200]})"
        yield from [Failure(run, reason) for run in left]


def _where(error: BaseException) -> str:
    """The line of a user's own code that an error came from, for the reason of a failure; empty if there is none."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if digests.is_users_file(frame.filename) and not frame.filename.startswith("<frozen"):
            return f" ({Path(frame.filename).name}, line {frame.lineno})"
    return ""


def _solve(report: Callable[[Progress], None], stopped: Callable[[], None], run: AnyRun) -> Result:
    """Solves one run of a kind that is not trained. It has no checkpoints."""
    started = time.monotonic()
    origin = provenance.provenance()
    clock = compilation.compile_clock()
    compiled = clock()
    dataset = None if run.draws_data else pipeline.load(run)[0]

    def tick(step: int, steps: int, metrics: dict[str, float | None]) -> None:
        epoch = step * getattr(run, "epochs", 0) // steps
        left = (time.monotonic() - started) / step * (steps - step) if step else None
        report(Progress(run, step, steps, epoch, metrics, 0, 1, left, seconds_compile=clock() - compiled))
        stopped()

    curves, facts = importlib.import_module(f"rethink_gen.solvers.{_SOLVERS[run.kind]}").solve(run, dataset, tick)
    compile_seconds = clock() - compiled
    return Result(
        run=run,
        status=facts.pop("status", "finished"),
        curves=curves,
        provenance={
            **origin,
            **({"data_sha256": dataset.checksum} if dataset else {}),
            **({"code": code} if (code := digests.of_run(run)) else {}),
            "num_train": len(dataset.train.labels) if dataset else run.train_size,
            "num_test": len(dataset.test.labels) if dataset else 0,
            **facts,
            "seconds_compile": round(compile_seconds, 1),
            "seconds_train": round(time.monotonic() - started - compile_seconds, 1),
        },
    )
