"""Many runs: order them so that equal programs follow each other, prepare their data, train or solve, report.

The only module that mentions devices, compiler options and stop signals. Runs go one after the other on the default
device; each call of a compiled function takes about two seconds at most, so that a stop signal is answered in time.
"""

import importlib
import math
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

import rethink_gen
from rethink_gen import corruptions, datasets, models, results, streaming, training
from rethink_gen.datasets import Dataset
from rethink_gen.errors import Interrupted, RethinkError, StorageError, UsageError, unknown
from rethink_gen.experiment import AnyRun, Run
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
# On CPU, XLA's newer library takes convolutions 2.5 times slower than Eigen; all but convolutions stay with it.
CPU_CONVOLUTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": ",".join(
        f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("DOT", "ELTWISE", "REDUCE", "INDIVIDUAL_DOT")
    )
}
FEW_CLASSES = 10  # with more, top-5 accuracy is measured too
STREAMED_CORRUPTIONS = ("true_labels", "random_labels")
SOLVERS = {"kernel": "kernels", "expressivity": "expressivity", "least_squares": "least_squares"}  # kind → module


class Progress(NamedTuple):
    """What a run has reached. `metrics` is the newest row of its curves, complete once per epoch."""

    run: AnyRun
    step: int
    steps: int  # of the whole run
    epoch: int  # epochs completed
    metrics: dict[str, float | None]
    done_runs: int
    total_runs: int
    seconds_left: float | None  # of this run
    failed_runs: int = 0  # of those that are done
    waiting: bool = False  # for another process, which is at this run


def execute(
    runs: Iterable[AnyRun],
    *,
    work: Path | None = None,
    force: bool = False,
    keep_weights: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Iterator[Result | Failure]:
    """Trains or solves runs and yields each as it ends, those that share a program one after the other.

    Other processes may do the same: a run that one of them is at is left for later, and passed over once it has a
    result. A run that was the end of several processes comes last, so that the others have theirs first.

    Args:
      work: the folder of results, whose .work/ holds checkpoints and locks; None: no checkpoints, no other processes.
      force: also runs that have a result by now.
      keep_weights: results of trained runs have their weights; those that were published without are trained again.

    Raises:
      Interrupted, KeyboardInterrupt: after a stop signal, once the run under way has been checkpointed.
      DataError, StorageError, UsageError: what no other run would escape either.
    """
    use_compile_cache()
    runs = list(runs)
    recipes = {recipe: i for i, recipe in reversed(list(enumerate(run.recipe for run in runs)))}
    hard = {run for run in runs if work and results.deaths(work, run) >= DEATHS}
    todo = deque(sorted(runs, key=lambda run: (run in hard, recipes[run.recipe])))
    passed_over = 0  # runs in a row that other processes are at
    with stop_signals() as stopped:
        while todo:
            run = todo.popleft()
            report_run = partial(report_progress, report, len(runs) - len(todo) - 1, len(runs))
            with results.claim(work, run.id) if work else nullcontext(True) as ours:
                if not ours:
                    todo.append(run)
                    passed_over += 1
                elif work and not force and results.done(work, run, weights=keep_weights):
                    continue  # another process has finished it: a lock without this second look would do it again
                else:
                    passed_over = 0
                    try:
                        outcome = attempt(run, work, report_run, stopped, keep_weights)
                    except StorageError:
                        if not work or force or not results.result_file(work, run).exists():
                            raise
                        continue  # where there are no locks, another process has published it and tidied up
                    yield outcome
            if passed_over >= len(todo) > 0:
                passed_over = 0
                report_run(Progress(run, 0, 1, 0, {}, 0, 1, None, waiting=True))
                stopped()
                time.sleep(SECONDS_BETWEEN_LOOKS)


def report_progress(report: Callable[[Progress], None], done: int, total: int, progress: Progress) -> None:
    """Reports the progress of a run, and how many of all runs are done."""
    report(progress._replace(done_runs=done, total_runs=total))


def attempt(
    run: AnyRun,
    work: Path | None,
    report: Callable[[Progress], None],
    stopped: Callable[[], None],
    keep_weights: bool,
) -> Result | Failure:
    """The result of a run, or why it has none where that is the run's own trouble."""
    try:
        if isinstance(run, Run):
            folder = work and results.work_folder(work, run)
            return train(run, work=folder, report=report, stopped=stopped, keep_weights=keep_weights)
        return solve(run, report=report, stopped=stopped)
    except (RethinkError, OSError):
        raise
    except Exception as error:
        lines = str(error).splitlines() or [""]
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in lines[0]:
            return Failure(run, f"out of memory, try fewer examples or a smaller batch ({lines[0][:200]})")
        return Failure(run, f"{type(error).__name__}: {lines[0]}")


def train(
    run: Run,
    *,
    work: Path | None,
    report: Callable[[Progress], None],
    stopped: Callable[[], None],
    keep_weights: bool = False,
) -> Result:
    """One run from its start, or from its newest checkpoint, to its end."""
    started = time.monotonic()
    origin = provenance()
    clock = compile_clock()
    compiled = clock()
    program, train_data, test_data, checksum = prepare(run)
    step_function, steps_per_call = stepper(program, train_data)
    numbers = (run.learning_rate, run.learning_rate_decay, run.momentum, run.weight_decay)
    hparams = Hparams(training.root_key(run.seed), *(jnp.float32(number) for number in numbers))
    state = training.init(program, hparams, train_data.images)
    steps_per_epoch = len(train_data.labels) // program.batch_size
    curves: results.Curves = {}
    spent = 0.0
    made_by = {
        "run": run.id,
        "data": checksum,
        "jax": origin["versions"]["jax"],
        "device": jax.devices()[0].device_kind,
    }
    if work and (found := results.load_checkpoint(work)):
        arrays, notes = found
        check_same(notes.get("made_by", {}), made_by, work)
        state, curves, spent = restore(state, arrays), notes["curves"], notes["seconds"]
    if isinstance(train_data, Stream):
        state = jax.device_put(state, NamedSharding(mesh(program.batch_size), PartitionSpec()))  # all of it on each
    step, end = int(state.step), run.epochs * steps_per_epoch
    saved, cost = time.monotonic(), 0.0  # when the last checkpoint was done, and the seconds it took
    first_call: tuple[float, int] | None = None  # when it was over, and the step it reached: it had to compile

    def checkpoint() -> None:
        if work:
            seconds = spent + time.monotonic() - started
            results.save_checkpoint(work, flatten(state), {"curves": curves, "seconds": seconds, "made_by": made_by})

    def tell(seconds_left: float | None) -> None:
        metrics = {name: values[-1] for name, values in curves.items()}
        report(Progress(run, step, end, len(curves["epoch"]) - 1, metrics, 0, 1, seconds_left))

    if not curves:
        append(curves, measure(program, state, train_data, test_data, step=0, epoch=0))
    tell(None)
    while step < end and not ended(run, curves):
        epoch = step // steps_per_epoch
        order = compiled_order(hparams, epoch, len(train_data.labels), program.batch_size)
        while step < (epoch + 1) * steps_per_epoch:
            count = min(steps_per_call, (epoch + 1) * steps_per_epoch - step)
            state = step_function(hparams, train_data, order, state, count)
            step += count
            jax.block_until_ready(state.step)
            if step == (epoch + 1) * steps_per_epoch:
                append(curves, measure(program, state, train_data, test_data, step=step, epoch=epoch + 1))
            first_call = first_call or (time.monotonic(), step)
            since, steps = time.monotonic() - first_call[0], step - first_call[1]
            tell(since / steps * (end - step) if steps else None)
            try:
                stopped()
            except (Interrupted, KeyboardInterrupt):
                checkpoint()
                raise
            if (now := time.monotonic()) - saved > CHECKPOINT_SECONDS * max(1.0, cost / CHEAP_SECONDS):
                checkpoint()
                saved, cost = time.monotonic(), time.monotonic() - now

    seconds = spent + time.monotonic() - started
    compile_seconds = clock() - compiled
    return Result(
        run=run,
        status="diverged" if curves["train_loss"][-1] is None else "finished",
        curves=curves,
        provenance={
            **origin,
            "precision": run.precision,
            "data_sha256": checksum,
            "num_train": len(train_data.labels),
            "num_test": len(test_data.labels),
            "steps_per_epoch": steps_per_epoch,
            "steps_per_call": steps_per_call,
            "seconds_compile": round(compile_seconds, 1),
            "seconds_train": round(seconds - compile_seconds, 1),
        },
        weights=learned(state) if keep_weights else None,
    )


def check_same(then: dict[str, str], now: dict[str, str], work: Path) -> None:
    """Refuses to go on with what another run, other data, another version of jax or another device began."""
    differ = [f"{name} {then.get(name)}, here {now[name]}" for name in now if then.get(name) != now[name]]
    if differ:
        way_out = "continue it there, or remove that folder to begin again"
        raise StorageError(f"{work}: its checkpoint was made with {'; '.join(differ)}; {way_out}")


def solve(run: AnyRun, *, report: Callable[[Progress], None], stopped: Callable[[], None]) -> Result:
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
    if run.corruption not in corruptions.CORRUPTIONS:
        raise unknown("corruption", run.corruption, corruptions.CORRUPTIONS)
    dataset = datasets.load(run.dataset)
    crop = lambda images: images
    if isinstance(run, Run) and not set(CROPS) & set(run.augmentations):
        crop = partial(center_crop, size=run.crop_size)
    cut = lambda split, size: split._replace(images=crop(split.images[:size]), labels=split.labels[:size])
    clean = replace(dataset, train=cut(dataset.train, run.train_size), test=cut(dataset.test, run.test_size))
    key = training.stream(training.root_key(run.seed), "corrupt")
    return corruptions.CORRUPTIONS[run.corruption](key, clean, run.corruption_level), clean


def prepare(run: Run) -> tuple[Program, Data | Stream, Data | Stream, str]:
    """The program of a training run, and its data, on the device or streamed, with their checksum before corruption."""
    if run.dataset not in datasets.BUNDLED and (source := datasets.find(run.dataset)).streamed:
        train, test = streams(run, source)
        num_classes, checksum = source.num_classes, source.fingerprint
    else:
        corrupted, clean = load(run)
        device = lambda split, true: Data(*map(jnp.asarray, (split.images, split.labels, split.labels != true.labels)))
        train, test = device(corrupted.train, clean.train), device(corrupted.test, clean.test)
        num_classes, checksum = clean.num_classes, clean.checksum
    model = models.create(run.model, num_classes, run.dropout)
    batch_size = min(run.batch_size, len(train.labels))
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
    return program, train, test, checksum


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
    """The devices of this process in a row, as many as share a batch equally; each sees its part of the batch."""
    count = math.gcd(batch_size, jax.local_device_count())
    return jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=jax.local_devices()[:count])


def shard(batch: streaming.Batch) -> Data:
    """A batch of a stream on its devices."""
    return jax.device_put(Data(*batch), NamedSharding(mesh(len(batch.labels)), PartitionSpec("data")))


compiled_order = jax.jit(training.epoch_order, static_argnums=(2, 3))
compiled_norm = jax.jit(training.weight_norm)
compiled_layer_norms = jax.jit(training.layer_norms)


def stepper(program: Program, data: Data | Stream) -> tuple[Callable[..., State], int]:
    """The compiled training function, `(hparams, data, order, state, count) -> state`, and how many steps a call takes.

    On CPU a convolution inside a compiled loop is up to six times slower: networks that convolve take one step a call.
    """
    if isinstance(data, Stream):
        step = jit(training.train_batch, convolves=True)

        def steps(hparams: Hparams, data: Stream, order: jax.Array, state: State, count: int) -> State:
            rows, first = np.asarray(order), int(state.step) % len(order)
            for row in range(first, first + count):
                state = step(program, hparams, shard(data.batch(rows, row)), len(rows), state)
            return state

        return steps, 1 if jax.default_backend() == "cpu" else STREAMED_STEPS_PER_CALL
    if jax.default_backend() == "cpu" and convolves(program.model, data.images.shape[1:]):
        step = jit(training.train_step, convolves=True)
        return lambda hparams, data, order, state, count: step(program, hparams, data, order, state), 1
    return partial(jit(training.train_steps), program), STEPS_PER_CALL


@cache
def convolves(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether the model, for images of this shape, has a kernel with more than two axes."""
    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    params = jax.eval_shape(model.init, training.root_key(0), images)["params"]
    return any(leaf.ndim > 2 for leaf in jax.tree.leaves(params))


@cache
def jit(function: Callable[..., Any], *, convolves: bool = False) -> Callable[..., Any]:
    """`function` compiled for this device, its first argument static; training updates its state in place."""
    donated = 4 if function in (training.train_step, training.train_steps, training.train_batch) else ()
    static = {training.evaluate: (0, 4), training.train_batch: (0, 3)}.get(function, 0)
    options = cpu_options() if convolves and jax.default_backend() == "cpu" else None
    return jax.jit(function, static_argnums=static, donate_argnums=donated, compiler_options=options)


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


def measure(
    program: Program, state: State, train: Data | Stream, test: Data | Stream, *, step: int, epoch: int
) -> dict[str, float | None]:
    """One row of a run's curves: both splits at fixed weights, and the sums over the epoch's minibatches."""
    train_sums, test_sums = total(program, state, train), total(program, state, test)
    running = jax.tree.map(float, jax.device_get(state.running))
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
        "weight_norm": ratio(float(compiled_norm(state)), 1.0),
        "norm_product": ratio(math.prod(map(float, compiled_layer_norms(state))), 1.0),
    }
    if train_sums.correct_top5 is not None:
        row["train_top5_accuracy"] = ratio(train_sums.correct_top5, train_sums.count)
        row["test_top5_accuracy"] = ratio(test_sums.correct_top5, test_sums.count)
    return row


def total(program: Program, state: State, data: Data | Stream) -> training.Sums:
    """Sums over a split, whole; of a stream, over its first STREAMED_EVALUATION examples."""
    if isinstance(data, Stream):
        evaluate, size = jit(training.evaluate_batch, convolves=True), min(len(data.labels), STREAMED_EVALUATION)
        order = np.arange(-(-size // program.batch_size) * program.batch_size).reshape(-1, program.batch_size)
        rows = order.clip(max=size - 1)  # the last batch is filled up with examples of weight 0
        weights = (order < size).astype(np.float32)
        parts = [evaluate(program, state, shard(data.batch(rows, i)), weights[i]) for i in range(len(rows))]
    else:
        evaluate = jit(training.evaluate, convolves=convolves(program.model, data.images.shape[1:]))
        size = min(EVALUATION_BATCH, len(data.labels))
        parts = [evaluate(program, state, data, start, size) for start in range(0, len(data.labels), size)]
    return jax.tree.map(lambda *column: sum(map(float, column)), *jax.device_get(parts))


def ratio(total: float, count: float) -> float | None:
    """total / count; None where it is not a finite number (nothing counted, or the run diverged)."""
    value = total / count if count else float("nan")
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
