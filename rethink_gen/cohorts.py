"""Many runs: order them so that equal programs follow each other, train or solve, keep checkpoints, report, stop."""

import importlib
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from rethink_gen import hosts, machine, programs, results, storage, training
from rethink_gen.errors import Interrupted, RethinkError, StorageError
from rethink_gen.experiment import AnyRun, Run
from rethink_gen.lanes import width
from rethink_gen.progress import Progress
from rethink_gen.results import Failure, Result
from rethink_gen.streaming import Stream
from rethink_gen.training import Hparams, State

CHECKPOINT_SECONDS = 60.0
CHEAP_SECONDS = 3.0  # for a checkpoint; where it takes longer they are rarer, so that they cost 5 % of the time at most
SECONDS_BETWEEN_LOOKS = 1.0  # at runs that other processes are at
DEATHS = 3  # of processes, after which a run comes last: it may be what kills them, for lack of memory say
SOLVERS = {"kernel": "kernels", "expressivity": "expressivity", "least_squares": "least_squares"}  # kind → module


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
    machine.use_compile_cache()
    runs = list(runs)
    first = {key: i for i, key in reversed(list(enumerate(map(programs.program_key, runs))))}
    hard = {run for run in runs if work and storage.deaths(work, run) >= DEATHS}
    todo = deque(sorted(runs, key=lambda run: (run in hard, first[programs.program_key(run)])))
    published = lambda run: work is not None and not force and results.done(work, run, weights=keep_weights)
    passed_over = 0  # runs in a row that other processes are at
    with stop_signals() as stopped:
        while todo:
            chosen = next_cohort(todo)
            report_runs = partial(report_progress, report, len(runs) - len(todo) - len(chosen), len(runs))
            with ExitStack() as claims:
                busy = [run for run in chosen if work and not claims.enter_context(storage.claim(work, run.id))]
                todo.extend(busy)
                # What another process has just finished is passed over: a lock without this look would do it again.
                cohort = [run for run in chosen if run not in busy and not published(run)]
                passed_over = 0 if cohort else passed_over + len(busy)
                try:
                    if cohort:
                        announce(cohort, keep_weights)
                    for outcome in attempt(cohort, work, report_runs, stopped, keep_weights):
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
                time.sleep(SECONDS_BETWEEN_LOOKS)


def announce(cohort: Sequence[AnyRun], keep_weights: bool = False) -> tuple[list[Run], bool]:
    """What the first of several processes is about to train, and how, for all of them; no runs: it has no more."""
    if jax.process_count() == 1:
        return [], False
    told = hosts.from_first(lambda: ({}, {"runs": [asdict(run) for run in cohort], "keep_weights": keep_weights}))
    assert told is not None
    return [Run(**fields) for fields in told[1]["runs"]], told[1]["keep_weights"]


def follow(work: Path) -> None:
    """Takes part in what the first of several processes trains, until it has no more."""
    machine.keep_memory()
    machine.use_compile_cache()
    with stop_signals() as stopped:
        cohort, keep_weights = announce([])
        while cohort:
            for _ in attempt(cohort, work, lambda progress: None, stopped, keep_weights):
                pass
            cohort, keep_weights = announce([])


def next_cohort(todo: deque[AnyRun]) -> list[AnyRun]:
    """Takes from the queue the next runs that share a program, as many as go side by side."""
    cohort = [todo.popleft()]
    most = width(cohort[0]) if isinstance(cohort[0], Run) else 1
    while todo and len(cohort) < most and programs.program_key(todo[0]) == programs.program_key(cohort[0]):
        cohort.append(todo.popleft())
    return cohort


def report_progress(report: Callable[[Progress], None], done: int, total: int, progress: Progress) -> None:
    """Reports the progress of a run, and how many of all runs are done."""
    report(progress._replace(done_runs=done + progress.done_runs, total_runs=total))


def attempt(
    cohort: Iterable[AnyRun],
    work: Path | None,
    report: Callable[[Progress], None],
    stopped: Callable[[], None],
    keep_weights: bool,
) -> Iterator[Result | Failure]:
    """The results of runs that go side by side, or why they have none where that is their own trouble."""
    left = list(cohort)
    try:
        folders = {run: work and storage.work_folder(work, run) for run in left if isinstance(run, Run)}
        together = hosts.together(stopped)
        trained = train(folders, report=report, stopped=together, keep_weights=keep_weights) if folders else None
        for result in trained or map(partial(solve, report, stopped), left):
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


def train(
    folders: Mapping[Run, Path | None],
    *,
    report: Callable[[Progress], None],
    stopped: Callable[[], None],
    keep_weights: bool = False,
) -> Iterator[Result]:
    """Trains runs of one program side by side, from their start or their checkpoints on, and yields each as it ends.

    Runs that were interrupted at another step than the first are left for another time.

    Args:
      folders: for each run the folder of its checkpoints; None: it leaves none.
    """
    started = time.monotonic()
    origin = machine.provenance()
    clock = machine.compile_clock()
    compiled = clock()
    load_checkpoint = lambda folder: hosts.from_first(lambda: folder and storage.load_checkpoint(folder))
    checkpoints = {run: load_checkpoint(folder) for run, folder in folders.items()}
    reached = {run: int(found[0][".step"]) if found else 0 for run, found in checkpoints.items()}
    step = next(iter(reached.values()))
    cohort = [run for run in folders if reached[run] == step]
    program, train_data, test_data, checksum, lanes = programs.prepare(cohort)
    step_function, steps_per_call = programs.stepper(program, train_data, lanes)
    steps_per_epoch = train_data.labels.shape[-1] // program.batch_size
    end = cohort[0].epochs * steps_per_epoch
    made_by = {"data": checksum, "jax": origin["versions"]["jax"], "device": jax.devices()[0].device_kind}
    side_by_side = lanes.number // lanes.devices
    made_by |= {"lanes": str(side_by_side)} if side_by_side > 1 else {}
    own_images = lanes.number > 1 and not lanes.shared
    curves: dict[Run, results.Curves] = {run: {} for run in cohort}
    hparams, states, spent = [], [], 0.0
    for run in lanes.fill(cohort):
        numbers = (run.learning_rate, run.learning_rate_decay, run.momentum, run.weight_decay)
        hparams.append(Hparams(training.root_key(run.seed), *(jnp.float32(number) for number in numbers)))
        state = training.init(program, hparams[-1], train_data.images[0] if own_images else train_data.images)
        if (found := checkpoints[run]) and (folder := folders[run]):
            arrays, notes = found
            check_same(notes.get("made_by", {}), {"run": run.id, **made_by}, folder)
            state, curves[run], spent = restore(state, arrays), notes["curves"], notes["seconds"]
        states.append(state)
    hparams, state = lanes.stack(hparams), lanes.stack(states)
    if isinstance(train_data, Stream):
        on_each = NamedSharding(programs.mesh(program.batch_size), PartitionSpec())  # all of it
        state = hosts.place(state, on_each)
    left = list(cohort)
    saved, cost = time.monotonic(), 0.0  # when the last checkpoint was done, and the seconds it took
    first_call: tuple[float, int] | None = None  # when it was over, and the step it reached: it had to compile
    seconds = lambda: spent + (time.monotonic() - started) / len(cohort)  # a run's share of the time

    def checkpoint() -> None:
        for run, of_run in zip(cohort, lanes.unstack(state), strict=False):
            if run in left and (folder := folders[run]) and hosts.first():
                notes = {"curves": curves[run], "seconds": seconds(), "made_by": {"run": run.id, **made_by}}
                storage.save_checkpoint(folder, flatten(of_run), notes)
        hosts.anywhere(False)  # the others wait: none leaves before it is on disk

    def tell(seconds_left: float | None) -> None:
        metrics = {name: values[-1] for name, values in curves[left[0]].items()}
        epoch, done = len(curves[left[0]]["epoch"]) - 1, len(cohort) - len(left)
        report(Progress(left[0], step, end, epoch, metrics, done, 1, seconds_left, beside=len(left) - 1))

    def measured(epoch: int) -> None:
        rows = programs.measure(program, state, train_data, test_data, lanes, step=step, epoch=epoch)
        for run, row in zip(cohort, rows, strict=False):
            if run in left:
                append(curves[run], row)

    if not curves[left[0]]:
        measured(epoch=0)
    tell(None)
    while True:
        for run in [run for run in left if step == end or ended(run, curves[run])]:
            yield Result(
                run=run,
                status="diverged" if curves[run]["train_loss"][-1] is None else "finished",
                curves=curves[run],
                provenance={
                    **origin,
                    "precision": run.precision,
                    "data_sha256": checksum,
                    "num_train": train_data.labels.shape[-1],
                    "num_test": test_data.labels.shape[-1],
                    "steps_per_epoch": steps_per_epoch,
                    "steps_per_call": steps_per_call,
                    **({"lanes": lanes.number} if lanes.number > 1 else {}),
                    **({"processes": jax.process_count()} if jax.process_count() > 1 else {}),
                    "seconds_compile": round((clock() - compiled) / len(cohort), 1),
                    "seconds_train": round(seconds() - (clock() - compiled) / len(cohort), 1),
                },
                weights=learned(lanes.unstack(state)[cohort.index(run)]) if keep_weights else None,
            )
            left.remove(run)
        if not left:
            return
        epoch = step // steps_per_epoch
        size = train_data.labels.shape[-1]
        order = programs.jit(training.epoch_order, lanes)(hparams, epoch, size, program.batch_size)
        while step < (epoch + 1) * steps_per_epoch:
            count = min(steps_per_call, (epoch + 1) * steps_per_epoch - step)
            state = step_function(hparams, train_data, order, state, count)
            step += count
            jax.block_until_ready(state.step)
            if step == (epoch + 1) * steps_per_epoch:
                measured(epoch=epoch + 1)
            first_call = first_call or (time.monotonic(), step)
            since, steps = time.monotonic() - first_call[0], step - first_call[1]
            tell(since / steps * (end - step) if steps else None)
            try:
                stopped()
            except (Interrupted, KeyboardInterrupt):
                checkpoint()
                raise
            due = (now := time.monotonic()) - saved > CHECKPOINT_SECONDS * max(1.0, cost / CHEAP_SECONDS)
            if hosts.anywhere(due):
                checkpoint()
                saved, cost = time.monotonic(), time.monotonic() - now


def check_same(then: dict[str, str], now: dict[str, str], work: Path) -> None:
    """Refuses to go on with what another run, other data, another version of jax or another device began."""
    differ = [f"{name} {then.get(name)}, here {now[name]}" for name in now if then.get(name) != now[name]]
    if differ:
        way_out = "continue it there, or remove that folder to begin again"
        raise StorageError(f"{work}: its checkpoint was made with {'; '.join(differ)}; {way_out}")


def solve(report: Callable[[Progress], None], stopped: Callable[[], None], run: AnyRun) -> Result:
    """One run of a kind that is not trained; interrupted, it starts anew."""
    started = time.monotonic()
    origin = machine.provenance()
    clock = machine.compile_clock()
    compiled = clock()
    dataset, _ = programs.load(run)

    def tick(step: int, steps: int, metrics: dict[str, float | None]) -> None:
        epoch = step * getattr(run, "epochs", 0) // steps
        left = (time.monotonic() - started) / step * (steps - step) if step else None
        report(Progress(run, step, steps, epoch, metrics, 0, 1, left))
        stopped()

    curves, facts = importlib.import_module(f"rethink_gen.{SOLVERS[run.kind]}").solve(run, dataset, tick)
    compile_seconds = clock() - compiled
    return Result(
        run=run,
        status="finished",
        curves=curves,
        provenance={
            **origin,
            "data_sha256": dataset.checksum,
            "num_train": len(dataset.train.labels),
            "num_test": len(dataset.test.labels),
            **facts,
            "seconds_compile": round(compile_seconds, 1),
            "seconds_train": round(time.monotonic() - started - compile_seconds, 1),
        },
    )


def append(curves: results.Curves, row: dict[str, float | None]) -> None:
    """Adds one epoch to the curves."""
    for name, value in row.items():
        curves.setdefault(name, []).append(value)


def ended(run: Run, curves: results.Curves) -> bool:
    """Whether a run is over before its last epoch: it diverged, or reached the accuracy at which it was to stop."""
    loss, accuracy = curves["train_loss"][-1], curves["train_accuracy"][-1]
    return loss is None or (run.stop_at_train_accuracy is not None and (accuracy or 0) >= run.stop_at_train_accuracy)


def flatten(state: State) -> dict[str, np.ndarray]:
    """A state as named arrays on the host."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def learned(state: State) -> dict[str, np.ndarray]:
    """What a network has learned, as named arrays on the host: params/Conv_0/kernel, batch_stats/BatchNorm_0/mean."""
    leaves, _ = jax.tree_util.tree_flatten_with_path({"params": state.params, "batch_stats": state.batch_stats})
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}


def restore(like: State, arrays: dict[str, np.ndarray]) -> State:
    """The state in named arrays, in the structure of `like`."""
    return jax.tree_util.tree_map_with_path(lambda path, leaf: jnp.asarray(arrays[jax.tree_util.keystr(path)]), like)


@contextmanager
def stop_signals() -> Iterator[Callable[[], None]]:
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
