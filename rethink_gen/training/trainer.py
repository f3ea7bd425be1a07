"""Train the runs of a cohort side by side: their state on the devices, their curves and their checkpoints.

core.py defines a step, compilation.py compiles it, vectorize.py spreads it over runs and devices, and
execution/scheduler.py decides which runs form a cohort.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from jax.sharding import NamedSharding, PartitionSpec

from rethink_gen import digests
from rethink_gen.data import randomness
from rethink_gen.data.streaming import Stream
from rethink_gen.errors import Interrupted
from rethink_gen.models import transfer
from rethink_gen.results import frames
from rethink_gen.results.result import Curves, Result
from rethink_gen.runs import CORRECT, MEASURES, OF_EXAMPLES, WEIGHTS, Run
from rethink_gen.training import (
    checkpointing,
    collectives,
    compilation,
    core,
    measurement,
    preparation,
    provenance,
    recording,
)
from rethink_gen.training.checkpointing import check_same, flatten, restore
from rethink_gen.training.program import Data, Hparams, State, num_classes
from rethink_gen.training.progress import Progress

logger = logging.getLogger(__name__)
_CHECKPOINT_SECONDS = 60.0  # between checkpoints
_CHEAP_SECONDS = 3.0  # if a checkpoint takes longer, checkpoints are rarer, so that they cost 5 % of the time at most


def train(
    folders: Mapping[Run, Path | None],
    *,
    report: Callable[[Progress], None],
    stopped: Callable[[], None],
    keep_weights: bool = False,
) -> Iterator[Result]:
    """Trains runs of one program side by side and yields the result of each when it ends.

    If some runs have checkpoints at another step than the first run, they are left out; call `train` again for them.

    Args:
      folders: for each run, the folder for its checkpoints; None: no checkpoints.
      report: called with the progress after each call of the device; after an epoch, with that of each run.
      stopped: raises Interrupted or KeyboardInterrupt after a stop signal.
      keep_weights: whether results hold the learned weights.

    Raises:
      Interrupted, KeyboardInterrupt: raised by `stopped`, after checkpoints of all runs are written.
      StorageError: a checkpoint belongs to another run, or was made with other data, flags, cores or code, or on
        another version of jax or another device.
    """
    cohort, pretrain = None, partial(_pretrain, report=report, stopped=stopped)
    with suppress(_Unlike):
        cohort = _Cohort(folders, pretrain)
    # After `suppress`: the other one and its data are gone.
    cohort = cohort or _Cohort(folders, pretrain, prolong=False)
    cohort.measure()
    cohort.tell(report)
    while True:
        ended = cohort.ended()
        if any(run.measures for run in ended):
            cohort.save()  # they may take longer than a stop signal waits
        for run in ended:
            yield cohort.result(run, keep_weights)
            cohort.left.remove(run)
        if not cohort.left:
            return
        for _ in cohort.epoch():
            cohort.tell(report)
            try:
                stopped()
            except (Interrupted, KeyboardInterrupt):
                cohort.save()
                raise
            cohort.save_if_due()


def _pretrain(
    run: Run, folder: Path | None, steps: int, *, report: Callable[[Progress], None], stopped: Callable[[], None]
) -> Result:
    """The result of the training before a run, with its weights.

    Args:
      folder: for checkpoints of the run; those of its pre-training are in a folder inside.
      steps: of the run itself.
      report, stopped: see `train`.
    """
    before = run.pretraining
    assert before is not None

    def tell(now: Progress) -> None:
        stage = f"pre-training, epoch {now.epoch}/{before.epochs}"
        own = now._replace(run=run, step=0, steps=steps, seconds_left=None, stage=stage)
        report(own._replace(done_before=now.step, steps_before=now.steps))

    [ended] = train({before: folder and folder / "pretraining"}, report=tell, stopped=stopped, keep_weights=True)
    if ended.status != "finished":
        logger.warning("%s begins where its pre-training ended, and that has diverged", run.id)
    return ended


class _Unlike(Exception):
    """The shorter run at whose end a run was to begin was made by something else."""


class _Cohort:
    """Runs of one program that train side by side, from their start or from their checkpoints; see `train`.

    Args:
      pretrain: from a run, its folder and its steps, the result of the training before it; see `_pretrain`.
      prolong: whether they may begin where shorter ones ended.
    """

    def __init__(
        self,
        folders: Mapping[Run, Path | None],
        pretrain: Callable[[Run, Path | None, int], Result],
        *,
        prolong: bool = True,
    ) -> None:
        self.started = time.monotonic()
        self.origin = provenance.provenance()
        self.clock = compilation.compile_clock()
        self.compiled = self.clock()
        self.folders, self.pretrain = folders, pretrain
        checkpoints = {
            run: collectives.from_first(partial(checkpointing.to_continue, run, folder, prolong=prolong))
            for run, folder in folders.items()
        }
        reached = {
            run: checkpointing.step_of(found[0], folders[run]) if found else 0 for run, found in checkpoints.items()
        }
        self.step = next(iter(reached.values()))
        self.runs = [run for run in folders if reached[run] == self.step]
        self.left = list(self.runs)  # runs that have not ended
        self.curves: dict[Run, Curves] = {run: {} for run in self.runs}
        self.rows: dict[Run, recording.Rows] = {run: {} for run in self.runs}
        self.spent, self.steps_before = 0.0, 0  # seconds per run before its checkpoint; steps of a pre-training
        prepared = preparation.prepare(self.runs)
        self.program, self.train_data, self.test_data, self.checksum, self.lanes, self.validation = prepared
        if self.runs[0].measures:
            with self.apart():
                measurement.try_measures(self.runs[0], self.program, lambda: self.splits(self.runs[0]))
        self.guess = measurement.constant_guess(self.program)
        self.step_function, self.steps_per_call = compilation.stepper(self.program, self.train_data, self.lanes)
        self.num_train = self.train_data.labels.shape[-1]
        self.steps_per_epoch = self.num_train // self.program.batch_size
        self.end = self.runs[0].epochs * self.steps_per_epoch
        self.made_by = provenance.makers(self.origin, self.checksum, self.lanes.number // self.lanes.devices)
        notes = {run: found[1] for run, found in checkpoints.items() if found and run in self.runs}
        self.continues = {run: note["continues"] for run, note in notes.items() if "continues" in note}
        self.hparams, self.state = self.begin(checkpoints)
        for run, shorter in self.continues.items():
            if "saved" not in notes[run]:
                logger.warning("%s goes on where %s ended; it has the numbers of a run from the start", run.id, shorter)
        self.saved, self.cost = time.monotonic(), 0.0  # end of the last checkpoint, and the seconds it took
        self.first_call: tuple[float, int] | None = None  # its end and its last step; it is slow because it compiles

    def begin(self, checkpoints: Mapping[Run, checkpointing.Checkpoint | None]) -> tuple[Hparams, State]:
        """The hyperparameters and the state of each lane, from its run and its checkpoint if there is one."""
        images = self.train_data.images
        if self.lanes.number > 1 and not self.lanes.shared:
            images = images[0]
        hparams, states = [], []
        for run in self.lanes.fill(self.runs):
            numbers = (run.learning_rate, run.learning_rate_decay, run.momentum, run.weight_decay)
            order_key = randomness.root_key(run.seed_of("order"))
            hparams.append(Hparams(randomness.root_key(run.seed), *map(jnp.float32, numbers), order_key=order_key))
            init = partial(core.init, self.program, hparams[-1], images, randomness.root_key(run.seed_of("init")))
            state = init()
            if WEIGHTS in run.record:
                recording.check_size(run, checkpointing.weights_of(state))  # before a pre-training
            if run.pretraining and not checkpoints[run]:
                state = init(self.pretrained(run, images))
            if (found := checkpoints[run]) and (folder := self.folders[run]):
                (arrays, self.rows[run]), notes = recording.split(found[0]), found[1]
                then, now = notes.get("made_by", {}), {"run": run.id, **self.made_by}
                if "continues" in notes and "saved" not in notes and {**then, "code": {}} != {**now, "code": {}}:
                    raise _Unlike
                check_same(then, now, folder)
                checkpointing.check_fits(state, arrays, folder)
                state, self.curves[run], self.spent = restore(state, arrays), notes["curves"], notes["seconds"]
            states.append(state)
        state = self.lanes.stack(states)
        if isinstance(self.train_data, Stream):
            replicated = NamedSharding(collectives.batch_mesh(self.program.batch_size), PartitionSpec())
            state = collectives.place(state, replicated)
        return self.lanes.stack(hparams), state

    def pretrained(self, run: Run, images: jax.Array) -> Callable[[Any], Any]:
        """What makes first weights of those that are drawn, after the training before the run, which takes its time.

        Weights alone are taken from there: momentum and the statistics of batch norm begin anew.
        """
        order = transfer.layers(self.program.model, core.example(self.program, images))
        fresh = transfer.after(order, run.pretrain_layers)
        with self.apart():
            before = self.pretrain(run, self.folders[run], self.end)
        assert before.weights is not None
        self.steps_before = run.pretrain_epochs * before.provenance["steps_per_epoch"]
        self.spent += before.provenance["seconds_train"] + before.provenance["seconds_compile"]
        self.compiled -= before.provenance["seconds_compile"]
        learned = unflatten_dict(before.weights, sep="/")["params"]
        return partial(transfer.begun, learned=learned, fresh=fresh, rescale=run.pretrain_rescale)

    def measure(self) -> None:
        """Adds a row to the curves of the runs that lack it, before the first epoch and after each that is measured."""
        epoch, more = divmod(self.step, self.steps_per_epoch)
        due = not more and epoch in self.runs[0].measured_epochs
        lacking = [run for run in self.left if due and epoch not in self.curves[run].get("epoch", [])]
        if not lacking:
            return
        if MEASURES in self.runs[0].record:
            self.save()  # measures may take longer than a stop signal waits; without the row, they are taken again
        measured = measurement.measure(
            self.program,
            self.state,
            self.train_data,
            self.test_data,
            self.lanes,
            step=self.step,
            epoch=epoch,
            validation=self.validation,
            each=bool({*self.runs[0].record} & {*OF_EXAMPLES}),
        )
        states = self.lanes.unstack(self.state) if WEIGHTS in self.runs[0].record else [None] * len(self.runs)
        for run, (row, answers), state in zip(self.runs, measured, states, strict=False):
            if run in lacking:
                recording.add(self.rows[run], answers, run)
                if state is not None:
                    recording.add_weights(self.rows[run], checkpointing.weights_of(state))
                row |= self.measures(run) if MEASURES in run.record else {}
                for name, value in row.items():
                    self.curves[run].setdefault(name, []).append(value)

    def epoch(self) -> Iterator[None]:
        """Trains to the end of the epoch, and measures it if its runs ask for that. Yields after each device call."""
        epoch = self.step // self.steps_per_epoch
        end = (epoch + 1) * self.steps_per_epoch
        draw_order = compilation.jit(core.epoch_order, self.lanes)
        order = draw_order(self.program, self.hparams, epoch, self.num_train, self.program.batch_size)
        if CORRECT in self.runs[0].record:
            for run, own in zip(self.runs, self.lanes.unstack(order), strict=False):
                recording.add_seen(self.rows[run], own, self.num_train)
        while self.step < end:
            count = min(self.steps_per_call, end - self.step)
            self.state = self.step_function(self.hparams, self.train_data, order, self.state, count)
            self.step += count
            jax.block_until_ready(self.state.step)
            self.measure()
            self.first_call = self.first_call or (time.monotonic(), self.step)
            yield

    def ended(self) -> list[Run]:
        """The runs that end now: at their last epoch, diverged, or at the accuracy to stop at."""

        def is_over(run: Run) -> bool:
            losses, accuracy = self.curves[run]["train_loss"], self.curves[run]["train_accuracy"][-1]
            goal = run.stop_at_train_accuracy
            over = self.step == self.end or measurement.diverged(losses, self.guess, ended=False)
            return over or (goal is not None and (accuracy or 0) >= goal)

        return [run for run in self.left if is_over(run)]

    def tell(self, report: Callable[[Progress], None]) -> None:
        """Reports the first run that has not ended; after an epoch, the others before it, for they have new metrics."""
        measured = self.step % self.steps_per_epoch == 0
        for run in reversed(self.left if measured else self.left[:1]):
            report(self.progress(run))

    def progress(self, run: Run) -> Progress:
        """The progress of a run that has not ended."""
        seconds_left = None
        if self.first_call and (steps := self.step - self.first_call[1]):
            seconds_left = (time.monotonic() - self.first_call[0]) / steps * (self.end - self.step)
        metrics = {name: values[-1] for name, values in self.curves[run].items()}
        done, beside = len(self.runs) - len(self.left), len(self.left) - 1
        epoch = self.step // self.steps_per_epoch
        compiled = self.seconds_compile()
        now = Progress(
            run, self.step, self.end, epoch, metrics, done, 1, seconds_left, beside=beside, seconds_compile=compiled
        )
        return now._replace(done_before=self.steps_before, steps_before=self.steps_before)

    def seconds_compile(self) -> float:
        """Seconds per run spent on tracing and compiling so far; part of `seconds`."""
        return (self.clock() - self.compiled) / len(self.runs)

    def seconds(self) -> float:
        """Seconds per run so far: the time of the cohort divided by its runs."""
        return self.spent + (time.monotonic() - self.started) / len(self.runs)

    def save(self) -> None:
        """Writes a checkpoint of each run that has a folder."""
        for run, state in zip(self.runs, self.lanes.unstack(self.state), strict=False):
            if run in self.left and (folder := self.folders[run]) and collectives.first():
                notes = {"curves": self.curves[run], "seconds": self.seconds(), "made_by": self.made(run)}
                notes |= {"continues": self.continues[run], "saved": True} if run in self.continues else {}
                arrays = {**flatten(state), **recording.to_arrays(self.rows[run])}
                checkpointing.save_checkpoint(folder, arrays, notes)
        collectives.anywhere(False)  # all processes wait until the checkpoints are on disk

    def save_if_due(self) -> None:
        """Saves checkpoints if the last ones are _CHECKPOINT_SECONDS old, or older if saving is slow."""
        due = (now := time.monotonic()) - self.saved > _CHECKPOINT_SECONDS * max(1.0, self.cost / _CHEAP_SECONDS)
        if collectives.anywhere(due):
            self.save()
            self.saved, self.cost = time.monotonic(), time.monotonic() - now

    def made(self, run: Run) -> dict[str, Any]:
        """What makes the state of a run: facts of this process, and the user's code."""
        return {"run": run.id, **self.made_by, "code": digests.of_run(run)}

    def state_of(self, run: Run) -> State:
        """The training state of one run."""
        return self.lanes.unstack(self.state)[self.runs.index(run)]

    def splits(self, run: Run) -> tuple[Data, Data]:
        """The training and the test examples of a run, on the host; no stream."""
        both = (data for data in (self.train_data, self.test_data) if isinstance(data, Data))
        train, test = (self.lanes.one(data, self.runs.index(run)) for data in both)
        return train, test

    def measures(self, run: Run) -> dict[str, float | None]:
        """The values of the measures that a run names."""
        if not run.measures:
            return {}
        with self.apart():
            state = self.state_of(run)
            of = measurement.network(run, self.program, state.params, state.batch_stats, *self.splits(run))
            return measurement.compute_all(of, run.measures)

    @contextmanager
    def apart(self) -> Iterator[None]:
        """What is done inside counts neither as training nor as compilation, from which costs are estimated."""
        begun, compiled = time.monotonic(), self.clock()
        yield
        self.started += time.monotonic() - begun
        self.compiled += self.clock() - compiled

    def result(self, run: Run, keep_weights: bool) -> Result:
        """The result of a run that has ended."""
        splits = {"train": self.train_data, "test": self.test_data, "validation": self.validation}
        lane = self.runs.index(run) if self.lanes.number > 1 else None
        labels = recording.labels(splits, lane) if run.record else {}
        records = recording.records(self.rows[run], self.curves[run]["epoch"], labels, run)
        diverged = measurement.diverged(self.curves[run]["train_loss"], self.guess, ended=True)
        curves = recording.with_scores(self.curves[run], records)
        if diverged or MEASURES not in run.record:
            curves = frames.with_last(curves, dict.fromkeys(run.measures) if diverged else self.measures(run))
        seconds_compile = self.seconds_compile()
        return Result(
            run=run,
            status="diverged" if diverged else "finished",
            curves=curves,
            provenance={
                **self.origin,
                "precision": run.precision,
                "data_sha256": self.checksum,
                **({"code": code} if (code := digests.of_run(run)) else {}),
                **({"continues": self.continues[run]} if run in self.continues else {}),
                "num_train": self.num_train,
                "num_test": self.test_data.labels.shape[-1],
                **({"num_validation": self.validation.labels.shape[-1]} if self.validation else {}),
                "num_classes": num_classes(self.program),
                "num_params": sum(leaf.size for leaf in jax.tree.leaves(self.state.params)) // self.lanes.number,
                **({"batch_size": self.program.batch_size} if self.program.batch_size < run.batch_size else {}),
                "steps_per_epoch": self.steps_per_epoch,
                "steps_per_call": self.steps_per_call,
                **({"lanes": self.lanes.number} if self.lanes.number > 1 else {}),
                **({"processes": jax.process_count()} if jax.process_count() > 1 else {}),
                "seconds_compile": round(seconds_compile, 1),
                "seconds_train": round(self.seconds() - seconds_compile, 1),
            },
            weights=checkpointing.last_state(self.state_of(run), self.made(run)) if keep_weights else None,
            records=records,
            weights_at=recording.weights(self.rows[run], self.curves[run]["epoch"], run),
            correct=recording.correct(self.rows[run], labels, run),
        )
