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
    """Trains runs of one program side by side, and yields each as it ends; see `Cohort`.

    Raises:
      Interrupted, KeyboardInterrupt: what `stopped` raises between two calls, once all are checkpointed.
    """
    cohort = Cohort(folders)
    if not cohort.measured:
        cohort.measure()
    report(cohort.progress())
    while True:
        for run in cohort.ended():
            yield cohort.result(run, keep_weights)
            cohort.left.remove(run)
        if not cohort.left:
            return
        for _ in cohort.epoch():
            report(cohort.progress())
            try:
                stopped()
            except (Interrupted, KeyboardInterrupt):
                cohort.save()
                raise
            cohort.save_if_due()


class Cohort:
    """Runs of one program that are trained side by side, from their start or their checkpoints on.

    Of the runs given, those that were interrupted at another step than the first are left for another time.

    Args:
      folders: for each run the folder of its checkpoints; None: it leaves none.

    Raises:
      StorageError: a checkpoint is of another run, or was made with other data, another jax or on another device.
    """

    def __init__(self, folders: Mapping[Run, Path | None]) -> None:
        self.started = time.monotonic()
        self.origin = machine.provenance()
        self.clock = machine.compile_clock()
        self.compiled = self.clock()
        self.folders = folders
        load_checkpoint = lambda folder: hosts.from_first(lambda: folder and storage.load_checkpoint(folder))
        checkpoints = {run: load_checkpoint(folder) for run, folder in folders.items()}
        reached = {run: int(found[0][".step"]) if found else 0 for run, found in checkpoints.items()}
        self.step = next(iter(reached.values()))
        self.runs = [run for run in folders if reached[run] == self.step]
        self.left = list(self.runs)  # those that have not come to their end
        self.curves: dict[Run, results.Curves] = {run: {} for run in self.runs}
        self.spent = 0.0  # a run's share of the seconds until its checkpoint
        self.program, self.train_data, self.test_data, self.checksum, self.lanes = programs.prepare(self.runs)
        self.step_function, self.steps_per_call = programs.stepper(self.program, self.train_data, self.lanes)
        self.num_train = self.train_data.labels.shape[-1]
        self.steps_per_epoch = self.num_train // self.program.batch_size
        self.end = self.runs[0].epochs * self.steps_per_epoch
        device = jax.devices()[0].device_kind
        self.made_by = {"data": self.checksum, "jax": self.origin["versions"]["jax"], "device": device}
        if (side_by_side := self.lanes.number // self.lanes.devices) > 1:
            self.made_by["lanes"] = str(side_by_side)
        self.hparams, self.state = self.begin(checkpoints)
        self.saved, self.cost = time.monotonic(), 0.0  # when the last checkpoint was done, and the seconds it took
        self.first_call: tuple[float, int] | None = None  # when it was over, and the step it reached: it had to compile

    def begin(self, checkpoints: Mapping[Run, hosts.Checkpoint | None]) -> tuple[Hparams, State]:
        """For each lane its run's settings, and its state as drawn or as in the checkpoint."""
        images = self.train_data.images
        if self.lanes.number > 1 and not self.lanes.shared:
            images = images[0]
        hparams, states = [], []
        for run in self.lanes.fill(self.runs):
            numbers = (run.learning_rate, run.learning_rate_decay, run.momentum, run.weight_decay)
            hparams.append(Hparams(training.root_key(run.seed), *(jnp.float32(number) for number in numbers)))
            state = training.init(self.program, hparams[-1], images)
            if (found := checkpoints[run]) and (folder := self.folders[run]):
                arrays, notes = found
                check_same(notes.get("made_by", {}), {"run": run.id, **self.made_by}, folder)
                state, self.curves[run], self.spent = restore(state, arrays), notes["curves"], notes["seconds"]
            states.append(state)
        state = self.lanes.stack(states)
        if isinstance(self.train_data, Stream):
            on_each = NamedSharding(programs.mesh(self.program.batch_size), PartitionSpec())  # all of it
            state = hosts.place(state, on_each)
        return self.lanes.stack(hparams), state

    @property
    def measured(self) -> int:
        """How many points the curves have: one before the first epoch, and one after each."""
        return len(self.curves[self.left[0]].get("epoch", []))

    def measure(self) -> None:
        """Adds the epoch that has just ended to the curves of the runs that are left."""
        epoch = self.step // self.steps_per_epoch
        rows = programs.measure(
            self.program, self.state, self.train_data, self.test_data, self.lanes, step=self.step, epoch=epoch
        )
        for run, row in zip(self.runs, rows, strict=False):
            if run in self.left:
                for name, value in row.items():
                    self.curves[run].setdefault(name, []).append(value)

    def epoch(self) -> Iterator[None]:
        """Trains to the end of an epoch, and measures it; comes back after each call of the device."""
        epoch = self.step // self.steps_per_epoch
        end = (epoch + 1) * self.steps_per_epoch
        draw_order = programs.jit(training.epoch_order, self.lanes)
        order = draw_order(self.hparams, epoch, self.num_train, self.program.batch_size)
        while self.step < end:
            count = min(self.steps_per_call, end - self.step)
            self.state = self.step_function(self.hparams, self.train_data, order, self.state, count)
            self.step += count
            jax.block_until_ready(self.state.step)
            if self.step == end:
                self.measure()
            self.first_call = self.first_call or (time.monotonic(), self.step)
            yield

    def ended(self) -> list[Run]:
        """The runs that are over: at their last epoch, or as they diverged or reached the accuracy to stop at."""

        def over(run: Run) -> bool:
            loss, accuracy = (self.curves[run][name][-1] for name in ("train_loss", "train_accuracy"))
            goal = run.stop_at_train_accuracy
            return self.step == self.end or loss is None or (goal is not None and (accuracy or 0) >= goal)

        return [run for run in self.left if over(run)]

    def progress(self) -> Progress:
        """How far the first of the runs that are left has come."""
        run, seconds_left = self.left[0], None
        if self.first_call and (steps := self.step - self.first_call[1]):
            seconds_left = (time.monotonic() - self.first_call[0]) / steps * (self.end - self.step)
        metrics = {name: values[-1] for name, values in self.curves[run].items()}
        done, beside = len(self.runs) - len(self.left), len(self.left) - 1
        return Progress(run, self.step, self.end, self.measured - 1, metrics, done, 1, seconds_left, beside=beside)

    def seconds(self) -> float:
        """A run's share of the time."""
        return self.spent + (time.monotonic() - self.started) / len(self.runs)

    def save(self) -> None:
        """Leaves a checkpoint of each run that has a folder."""
        for run, state in zip(self.runs, self.lanes.unstack(self.state), strict=False):
            if run in self.left and (folder := self.folders[run]) and hosts.first():
                made_by = {"run": run.id, **self.made_by}
                notes = {"curves": self.curves[run], "seconds": self.seconds(), "made_by": made_by}
                storage.save_checkpoint(folder, flatten(state), notes)
        hosts.anywhere(False)  # the others wait: none leaves before it is on disk

    def save_if_due(self) -> None:
        """The same, if the last checkpoints are a minute old, or as much older as they are slow."""
        due = (now := time.monotonic()) - self.saved > CHECKPOINT_SECONDS * max(1.0, self.cost / CHEAP_SECONDS)
        if hosts.anywhere(due):
            self.save()
            self.saved, self.cost = time.monotonic(), time.monotonic() - now

    def result(self, run: Run, keep_weights: bool) -> Result:
        """Of a run that has ended."""
        seconds_compile = (self.clock() - self.compiled) / len(self.runs)
        return Result(
            run=run,
            status="diverged" if self.curves[run]["train_loss"][-1] is None else "finished",
            curves=self.curves[run],
            provenance={
                **self.origin,
                "precision": run.precision,
                "data_sha256": self.checksum,
                "num_train": self.num_train,
                "num_test": self.test_data.labels.shape[-1],
                "steps_per_epoch": self.steps_per_epoch,
                "steps_per_call": self.steps_per_call,
                **({"lanes": self.lanes.number} if self.lanes.number > 1 else {}),
                **({"processes": jax.process_count()} if jax.process_count() > 1 else {}),
                "seconds_compile": round(seconds_compile, 1),
                "seconds_train": round(self.seconds() - seconds_compile, 1),
            },
            weights=learned(self.lanes.unstack(self.state)[self.runs.index(run)]) if keep_weights else None,
        )


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
