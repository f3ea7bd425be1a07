"""Many runs: order them so that equal programs follow each other, prepare their data, train or solve, report.

Devices, compiler options and stop signals are mentioned here alone, and in `lanes` and `hosts`. Each call of a compiled
function takes about two seconds at most, so that a stop signal is answered in time.
"""

import ctypes
import importlib
import math
import mmap
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import rethink_gen
from rethink_gen import corruptions, datasets, estimates, hosts, models, results, training, workers
from rethink_gen.datasets import Dataset
from rethink_gen.errors import Interrupted, RethinkError, StorageError, UsageError, unknown
from rethink_gen.experiment import AnyRun, Run
from rethink_gen.lanes import DATA, EACH, ONE, SAME, STATIC, Lanes
from rethink_gen.progress import Progress
from rethink_gen.results import Failure, Result
from rethink_gen.streaming import Stream
from rethink_gen.training import Data, Hparams, Program, State
from rethink_gen.transforms import CROPS, center_crop

CHECKPOINT_SECONDS = 60.0
CHEAP_SECONDS = 3.0  # for a checkpoint; where it takes longer they are rarer, so that they cost 5 % of the time at most
SECONDS_BETWEEN_LOOKS = 1.0  # at runs that other processes are at
DEATHS = 3  # of processes, after which a run comes last: it may be what kills them, for lack of memory say
EVALUATION_BATCH = 1000
STREAMED_EVALUATION = 50_000  # the first training images of a stream are evaluated: as many as ImageNet's test split
STEPS_PER_CALL = 100  # in a compiled loop; a call stays under about two seconds
STREAMED_STEPS_PER_CALL = 10  # on an accelerator; meanwhile the next batches are sent
# On CPU, XLA's newer library takes convolutions 2.5 times slower than Eigen, and maps from element to element up to 20
# times slower than XLA's own loops: only sums and products of matrices stay with it.
CPU_CONVOLUTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": ",".join(
        f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("REDUCE", "INDIVIDUAL_DOT")
    )
}
# Of glibc's mallopt: all blocks from one heap (M_MMAP_MAX, M_ARENA_MAX) that does not shrink (M_TRIM_THRESHOLD).
ONE_HEAP = {-4: 0, -8: 1, -1: -1}
HEAP_BYTES, HUGE_PAGE = 4 << 30, 2 << 20  # of address space, which is no memory until it is used
FEW_CLASSES = 10  # with more, top-5 accuracy is measured too
STREAMED_CORRUPTIONS = ("true_labels", "random_labels")
# How many runs one device trains side by side, by platform and model; of others one. CPUs gain nothing from it, and
# networks that convolve little or nothing: on an H200 four small Inceptions are slower together than in turn (22 and 34
# thousand images/s), eight small AlexNets as fast (244 and 224), but 16 MLPs 2.7 times as fast (5.1 million).
SIDE_BY_SIDE: dict[str, dict[str, int]] = {"gpu": {"mlp_1x512": 16, "mlp_3x512": 16}}
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
    keep_memory()
    use_compile_cache()
    runs = list(runs)
    first = {key: i for i, key in reversed(list(enumerate(map(program_key, runs))))}
    hard = {run for run in runs if work and results.deaths(work, run) >= DEATHS}
    todo = deque(sorted(runs, key=lambda run: (run in hard, first[program_key(run)])))
    published = lambda run: work is not None and not force and results.done(work, run, weights=keep_weights)
    passed_over = 0  # runs in a row that other processes are at
    with stop_signals() as stopped:
        while todo:
            chosen = next_cohort(todo)
            report_runs = partial(report_progress, report, len(runs) - len(todo) - len(chosen), len(runs))
            with ExitStack() as claims:
                busy = [run for run in chosen if work and not claims.enter_context(results.claim(work, run.id))]
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
    keep_memory()
    use_compile_cache()
    with stop_signals() as stopped:
        cohort, keep_weights = announce([])
        while cohort:
            for _ in attempt(cohort, work, lambda progress: None, stopped, keep_weights):
                pass
            cohort, keep_weights = announce([])


def program_key(run: AnyRun) -> AnyRun:
    """What runs of one compiled program have in common: all but numbers, and what was done to labels."""
    of_labels = isinstance(run, Run) and run.corruption in corruptions.OF_LABELS
    return replace(run.recipe, corruption="true_labels") if of_labels else run.recipe


def next_cohort(todo: deque[AnyRun]) -> list[AnyRun]:
    """Takes from the queue the next runs that share a program, as many as go side by side."""
    cohort = [todo.popleft()]
    most = width(cohort[0]) if isinstance(cohort[0], Run) else 1
    while todo and len(cohort) < most and program_key(todo[0]) == program_key(cohort[0]):
        cohort.append(todo.popleft())
    return cohort


def width(run: Run) -> int:
    """How many runs of this program go side by side: see SIDE_BY_SIDE; fewer, where their images would not fit."""
    if streamed(run):
        return 1
    most = SIDE_BY_SIDE.get(jax.default_backend(), {}).get(run.model, 1)
    return min(most, room(run) if most > 1 else 1) * jax.device_count()


def room(run: Run) -> int:
    """How many runs like this one may bring images of their own: together these take half of a device's memory at most.

    Where only labels differ all see the same images, and the networks that go side by side are small.
    """
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")  # of a CPU there is none
    if limit is None or run.corruption in corruptions.OF_LABELS:
        return sys.maxsize
    return max(1, limit // 2 // (4 * math.prod(estimates.shape(run))))  # float32, as those of `gaussian` are


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
        folders = {run: work and results.work_folder(work, run) for run in left if isinstance(run, Run)}
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
    origin = provenance()
    clock = compile_clock()
    compiled = clock()
    load_checkpoint = lambda folder: hosts.from_first(lambda: folder and results.load_checkpoint(folder))
    checkpoints = {run: load_checkpoint(folder) for run, folder in folders.items()}
    reached = {run: int(found[0][".step"]) if found else 0 for run, found in checkpoints.items()}
    step = next(iter(reached.values()))
    cohort = [run for run in folders if reached[run] == step]
    program, train_data, test_data, checksum, lanes = prepare(cohort)
    step_function, steps_per_call = stepper(program, train_data, lanes)
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
        state = hosts.place(state, NamedSharding(mesh(program.batch_size), PartitionSpec()))  # all of it on each
    left = list(cohort)
    saved, cost = time.monotonic(), 0.0  # when the last checkpoint was done, and the seconds it took
    first_call: tuple[float, int] | None = None  # when it was over, and the step it reached: it had to compile
    seconds = lambda: spent + (time.monotonic() - started) / len(cohort)  # a run's share of the time

    def checkpoint() -> None:
        for run, of_run in zip(cohort, lanes.unstack(state), strict=False):
            if run in left and (folder := folders[run]) and hosts.first():
                notes = {"curves": curves[run], "seconds": seconds(), "made_by": {"run": run.id, **made_by}}
                results.save_checkpoint(folder, flatten(of_run), notes)
        hosts.anywhere(False)  # the others wait: none leaves before it is on disk

    def tell(seconds_left: float | None) -> None:
        metrics = {name: values[-1] for name, values in curves[left[0]].items()}
        epoch, done = len(curves[left[0]]["epoch"]) - 1, len(cohort) - len(left)
        report(Progress(left[0], step, end, epoch, metrics, done, 1, seconds_left, beside=len(left) - 1))

    def measured(epoch: int) -> None:
        rows = measure(program, state, train_data, test_data, lanes, step=step, epoch=epoch)
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
        order = jit(training.epoch_order, lanes)(hparams, epoch, train_data.labels.shape[-1], program.batch_size)
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
    origin = provenance()
    clock = compile_clock()
    compiled = clock()
    dataset, _ = load(run)

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


def load(run: AnyRun) -> tuple[Dataset, Dataset]:
    """The data of a run, on the host: cut to size, cropped where nothing random does it, corrupted; and before that."""
    clean = cut(run)
    return corrupt(run, clean), clean


def corrupt(run: AnyRun, clean: Dataset) -> Dataset:
    """What a run makes of data that are already cut."""
    if run.corruption not in corruptions.CORRUPTIONS:
        raise unknown("corruption", run.corruption, corruptions.CORRUPTIONS)
    key = training.stream(training.root_key(run.seed), "corrupt")
    return corruptions.CORRUPTIONS[run.corruption](key, clean, run.corruption_level)


def cut(run: AnyRun) -> Dataset:
    """The data of a run before corruption: as many as it asks for, cropped where nothing random does it."""
    dataset = datasets.load(run.dataset)
    crop = lambda images: images
    if isinstance(run, Run) and not set(CROPS) & set(run.augmentations):
        crop = partial(center_crop, size=run.crop_size)
    part = lambda split, size: split._replace(images=crop(split.images[:size]), labels=split.labels[:size])
    return replace(dataset, train=part(dataset.train, run.train_size), test=part(dataset.test, run.test_size))


def streamed(run: Run) -> datasets.Source | None:
    """The source of the images that a run streams; None if they are in memory."""
    source = datasets.find(run.dataset)
    return source if source.streamed else None


def prepare(
    cohort: Sequence[Run], number: int | None = None
) -> tuple[Program, Data | Stream, Data | Stream, str, Lanes]:
    """The program of training runs that share one, their data, on the devices or streamed, and the lanes they go in.

    Fourth comes the checksum of the data before corruption. There are as many lanes as `width` says, if not `number`.
    """
    run = cohort[0]
    if source := streamed(run):
        train, test = streams(run, source)
        num_classes, checksum, lanes = source.num_classes, source.fingerprint, ONE
    else:
        clean = cut(run)
        corrupted = {each: corrupt(each, clean) for each in cohort}
        shared = all(dataset.train.images is clean.train.images for dataset in corrupted.values())
        number = number or width(run)
        lanes = Lanes(number, jax.device_count() if number > 1 else 1, shared)
        data = lambda split, true: Data(split.images, split.labels, split.labels != true.labels)
        every = lanes.fill([*corrupted.values()])
        train = lanes.data([data(dataset.train, clean.train) for dataset in every])
        test = lanes.data([data(dataset.test, clean.test) for dataset in every])
        num_classes, checksum = clean.num_classes, clean.checksum
    model = models.create(run.model, num_classes, run.dropout)
    batch_size = min(run.batch_size, train.labels.shape[-1])
    program = Program(
        model=model,
        augmentations=run.augmentations,
        crop_size=run.crop_size,
        whitening=run.whitening,
        batch_size=batch_size,
        label_smoothing=run.label_smoothing,
        precision=run.precision,
        top5=num_classes > FEW_CLASSES,
    )
    return program, train, test, checksum, lanes


def streams(run: Run, source: datasets.Source) -> tuple[Stream, Stream]:
    """The two splits of a data set that is streamed; labels can be random, and no more."""
    if run.corruption not in STREAMED_CORRUPTIONS:
        known = " and ".join(STREAMED_CORRUPTIONS)
        raise UsageError(f"corruption {run.corruption} needs images in memory; {run.dataset} is streamed: {known} only")
    sizes = (min(total, cut or total) for total, cut in ((source.train, run.train_size), (source.test, run.test_size)))
    train_labels, test_labels = (np.full(size, -1, np.int32) for size in sizes)
    if run.corruption == "random_labels":
        key = training.stream(training.root_key(run.seed), "corrupt")
        train_labels = corruptions.drawn_labels(key, len(train_labels), source.num_classes, run.corruption_level)
    return (
        Stream(source, "train", train_labels, run.crop_size),
        Stream(source, source.test_split, test_labels, run.crop_size),
    )


@cache
def mesh(batch_size: int) -> Mesh:
    """The devices in a row, as many as share a batch equally; each sees its part of the batch."""
    count = math.gcd(batch_size, jax.device_count())
    if count < jax.device_count() and jax.process_count() > 1:  # some host might have no part at all
        raise UsageError(
            f"batch_size {batch_size} cannot be shared equally by the {jax.device_count()} devices of all hosts"
        )
    return jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=jax.devices()[:count])


def read(data: Stream, rows: np.ndarray, row: int) -> Data:
    """A batch of a stream on its devices, of which each host decodes what its own devices see."""
    batch_size = rows.shape[1]
    sharding = NamedSharding(mesh(batch_size), PartitionSpec("data"))
    parts = sharding.addressable_devices_indices_map((batch_size,)).values()
    here = np.sort(np.concatenate([np.arange(batch_size)[part] for part in parts]))
    return jax.make_array_from_process_local_data(sharding, Data(*data.batch(rows[:, here], row)))


def stepper(program: Program, data: Data | Stream, lanes: Lanes = ONE) -> tuple[Callable[..., State], int]:
    """The compiled training function, `(hparams, data, order, state, count) -> state`, and how many steps a call takes.

    On CPU a convolution inside a compiled loop is up to six times slower: networks that convolve take one step a call.
    """
    if isinstance(data, Stream):
        step = jit(training.train_batch, convolves=True)

        def steps(hparams: Hparams, data: Stream, order: jax.Array, state: State, count: int) -> State:
            rows, first = np.asarray(order), int(state.step) % len(order)
            for row in range(first, first + count):
                state = step(program, hparams, read(data, rows, row), len(rows), state)
            return state

        return steps, 1 if jax.default_backend() == "cpu" else STREAMED_STEPS_PER_CALL
    if jax.default_backend() == "cpu" and convolves(program.model, data.images.shape[-3:]):
        step = jit(training.train_step, lanes, convolves=True)
        return lambda hparams, data, order, state, count: step(program, hparams, data, order, state), 1
    return partial(jit(training.train_steps, lanes), program), STEPS_PER_CALL


@cache
def convolves(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the model, for images of this shape, has a kernel with more than two axes."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    params = jax.eval_shape(model.init, training.root_key(0), images)["params"]
    return any(leaf.ndim > 2 for leaf in jax.tree.leaves(params))


@cache
def jit(function: Callable[..., Any], lanes: Lanes = ONE, *, convolves: bool = False) -> Callable[..., Any]:
    """`function` compiled for the lanes of this device; training updates its state in place."""
    kinds = ARGUMENTS[function]
    static = tuple(i for i, kind in enumerate(kinds) if kind == STATIC)
    donated = 4 if function in (training.train_step, training.train_steps, training.train_batch) else ()
    options = None
    if convolves and jax.default_backend() == "cpu":
        options = cpu_options()
    return jax.jit(lanes.over(function, kinds), static_argnums=static, donate_argnums=donated, compiler_options=options)


# What each argument of a function of one run is to the lanes.
ARGUMENTS: dict[Callable[..., Any], tuple[str, ...]] = {
    training.epoch_order: (EACH, SAME, STATIC, STATIC),
    training.train_step: (STATIC, EACH, DATA, EACH, EACH),
    training.train_steps: (STATIC, EACH, DATA, EACH, EACH, SAME),
    training.train_batch: (STATIC, EACH, DATA, STATIC, EACH),
    training.evaluate: (STATIC, EACH, DATA, SAME, STATIC),
    training.evaluate_batch: (STATIC, EACH, DATA, EACH),
    training.weight_norm: (EACH,),
    training.layer_norms: (EACH,),
}


@cache
def use_compile_cache() -> None:
    """Keeps compiled programs from one process to the next: the small Inception then starts in seconds, not in 20.

    A compiled program is code, so the folder is the user's own and nobody else can write to it.
    """
    folder = datasets.cache_folder() / "compiled"
    with suppress(OSError):  # a cache that cannot be had is no reason to fail
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022:
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@cache
def cpu_options() -> dict[str, str]:
    """CPU_CONVOLUTIONS where this version of XLA knows the option, else none."""
    try:
        jax.jit(lambda: 0, compiler_options=CPU_CONVOLUTIONS)()
    except Exception:  # an option of this version only
        return {}
    return CPU_CONVOLUTIONS


@cache
def keep_memory() -> None:
    """On CPU lets the process keep the memory that it frees, for the next step, and have it in pages of 2 MB.

    A step of the small Inception takes and frees about a gigabyte; a fifth of its time went to getting that anew, and
    a sixth to looking up where pages of 4 kB are. To be called before jax has a device, and with it threads, which
    would have heaps of their own. Where the user has told malloc something, it is left at that.
    """
    told = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if told or workers.accelerated():
        return
    with suppress(AttributeError, OSError, TypeError):  # not Linux, not glibc, or no room
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        for option, value in ONE_HEAP.items():
            libc.mallopt(option, value)
        heap = libc.malloc(ctypes.c_size_t(HEAP_BYTES))
        start = -(-heap // HUGE_PAGE) * HUGE_PAGE
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(HEAP_BYTES - HUGE_PAGE), mmap.MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(heap))  # and all that is allocated from now on is there


def measure(
    program: Program, state: State, train: Data | Stream, test: Data | Stream, lanes: Lanes, *, step: int, epoch: int
) -> list[dict[str, float | None]]:
    """A row of the curves of each lane: both splits at fixed weights, and the sums over the epoch's minibatches."""
    whole = [total(program, state, data, lanes) for data in (train, test)]
    norms = [jit(norm, lanes)(state) for norm in (training.weight_norm, training.layer_norms)]
    rows = []
    everything: tuple[Any, ...] = (*whole, *hosts.fetch((state.running, *norms)))
    for train_sums, test_sums, running, weight_norm, layer_norms in lanes.unstack(everything):
        untouched = train_sums.count - train_sums.changed
        row = {
            "epoch": epoch,
            "step": step,
            "train_loss": ratio(train_sums.loss, train_sums.count),
            "train_accuracy": ratio(train_sums.correct, train_sums.count),
            "train_accuracy_untouched": ratio(train_sums.correct - train_sums.correct_changed, untouched),
            "train_accuracy_corrupted": ratio(train_sums.correct_changed, train_sums.changed),
            "running_loss": ratio(running.loss, running.count),
            "running_accuracy": ratio(running.correct, running.count),
            "test_loss": ratio(test_sums.loss, test_sums.count),
            "test_accuracy": ratio(test_sums.correct, test_sums.count),
            "weight_norm": ratio(float(weight_norm), 1.0),
            "norm_product": ratio(math.prod(map(float, layer_norms)), 1.0),
        }
        if train_sums.correct_top5 is not None:
            row["train_top5_accuracy"] = ratio(train_sums.correct_top5, train_sums.count)
            row["test_top5_accuracy"] = ratio(test_sums.correct_top5, test_sums.count)
        rows.append(row)
    return rows


def total(program: Program, state: State, data: Data | Stream, lanes: Lanes) -> training.Sums:
    """Sums over a split, whole; of a stream, over its first STREAMED_EVALUATION examples."""
    if isinstance(data, Stream):
        evaluate, size = jit(training.evaluate_batch, convolves=True), min(len(data.labels), STREAMED_EVALUATION)
        order = np.arange(-(-size // program.batch_size) * program.batch_size).reshape(-1, program.batch_size)
        rows = order.clip(max=size - 1)  # the last batch is filled up with examples of weight 0
        weights = (order < size).astype(np.float32)
        parts = [evaluate(program, state, read(data, rows, i), weights[i]) for i in range(len(rows))]
    else:
        evaluate = jit(training.evaluate, lanes, convolves=convolves(program.model, data.images.shape[-3:]))
        count = data.labels.shape[-1]
        size = min(EVALUATION_BATCH, count)
        parts = [evaluate(program, state, data, start, size) for start in range(0, count, size)]
    exact: Any = lambda *column: sum(np.asarray(part, np.float64) for part in column)
    return jax.tree.map(exact, *hosts.fetch(parts))


def ratio(total: float, count: float) -> float | None:
    """total / count; None where it is not a finite number (nothing counted, or the run diverged)."""
    value = float(total) / float(count) if count else float("nan")
    return value if np.isfinite(value) else None


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


@cache
def compile_clock() -> Callable[[], float]:
    """Seconds this process has spent tracing and compiling so far."""
    seconds = [0.0]

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            seconds[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    return lambda: seconds[0]


@cache
def provenance() -> dict[str, Any]:
    """What made a result: versions, device, precision, commit and command."""
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = os.environ.get("NPROC", cores)  # as XLA counts them: sums are split by their number
    return {
        "versions": {
            "rethink-gen": rethink_gen.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "device": f"{device.device_kind} ({cores} cores)" if device.platform == "cpu" else device.device_kind,
        "platform": device.platform,
        "precision": "float32",
        "commit": commit(),
        "command": shlex.join(["rethink-gen", *sys.argv[1:]]),
    }


def commit() -> str | None:
    """The commit of the checkout this code runs from, with "+" if it has been changed since; None outside of one."""
    git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    try:
        head = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        return head + ("+" if git(["git", "status", "--porcelain", "--", ".", "../experiments"]).stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None
