"""Many runs: order them so that equal programs follow each other, prepare their data, train or solve, report.

The only module that mentions devices, compiler options and stop signals. Runs go one after the other on the default
device; each call of a compiled function takes about two seconds at most, so that a stop signal is answered in time.
"""

import importlib
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import rethink_gen
from rethink_gen import corruptions, datasets, models, results, training
from rethink_gen.datasets import Dataset
from rethink_gen.errors import Interrupted, RethinkError, unknown
from rethink_gen.experiment import AnyRun, Run
from rethink_gen.results import Result
from rethink_gen.training import Data, Hparams, Program, State
from rethink_gen.transforms import center_crop

CHECKPOINT_SECONDS = 60.0
EVALUATION_BATCH = 1000
STEPS_PER_CALL = 100  # in a compiled loop; a call stays under about two seconds
# On CPU, XLA's newer library takes convolutions 2.5 times slower than Eigen; all but convolutions stay with it.
CPU_CONVOLUTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": ",".join(
        f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("DOT", "ELTWISE", "REDUCE", "INDIVIDUAL_DOT")
    )
}
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


class Failure(NamedTuple):
    """A run that raised: the others go on."""

    run: AnyRun
    reason: str


def execute(
    runs: Iterable[AnyRun], *, work: Path | None = None, report: Callable[[Progress], None] = lambda progress: None
) -> Iterator[Result | Failure]:
    """Trains or solves runs and yields each as it ends, those that share a program one after the other.

    Args:
      work: the folder whose .work/ holds checkpoints, so that interrupted runs resume; None: no checkpoints.

    Raises:
      Interrupted, KeyboardInterrupt: after a stop signal, once the run under way has been checkpointed.
      DataError, StorageError, UsageError: what no other run would escape either.
    """
    use_compile_cache()
    runs = list(runs)
    order = {recipe: i for i, recipe in reversed(list(enumerate(run.recipe for run in runs)))}
    with stop_signals() as stopped:
        for done, run in enumerate(sorted(runs, key=lambda run: order[run.recipe])):
            counted = lambda progress, done=done: report(progress._replace(done_runs=done, total_runs=len(runs)))
            try:
                if isinstance(run, Run):
                    yield train(run, work=work and results.work_folder(work, run), report=counted, stopped=stopped)
                else:
                    yield solve(run, report=counted, stopped=stopped)
            except RethinkError:
                raise
            except Exception as error:  # out of memory, say: this run's own trouble
                yield Failure(run, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def train(run: Run, *, work: Path | None, report: Callable[[Progress], None], stopped: Callable[[], None]) -> Result:
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
    if work and (found := results.load_checkpoint(work)):
        state, curves, spent = restore(state, found[0]), found[1]["curves"], found[1]["seconds"]
    step = int(state.step)
    saved = time.monotonic()
    first_call: tuple[float, int] | None = None  # when it was over, and the step it reached: it had to compile

    def checkpoint() -> None:
        if work:
            seconds = spent + time.monotonic() - started
            results.save_checkpoint(work, flatten(state), {"curves": curves, "seconds": seconds, "run": run.id})

    if not curves:
        append(curves, measure(program, state, train_data, test_data, step=0, epoch=0))
    while step < run.epochs * steps_per_epoch and not ended(run, curves):
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
            total = run.epochs * steps_per_epoch
            since, steps = time.monotonic() - first_call[0], step - first_call[1]
            metrics = {name: values[-1] for name, values in curves.items()}
            left = since / steps * (total - step) if steps else None
            report(Progress(run, step, total, len(curves["epoch"]) - 1, metrics, 0, 1, left))
            try:
                stopped()
            except (Interrupted, KeyboardInterrupt):
                checkpoint()
                raise
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                checkpoint()
                saved = time.monotonic()

    seconds = spent + time.monotonic() - started
    compile_seconds = clock() - compiled
    return Result(
        run=run,
        status="diverged" if curves["train_loss"][-1] is None else "finished",
        curves=curves,
        provenance={
            **origin,
            "data_sha256": checksum,
            "num_train": len(train_data.labels),
            "num_test": len(test_data.labels),
            "steps_per_epoch": steps_per_epoch,
            "steps_per_call": steps_per_call,
            "seconds_compile": round(compile_seconds, 1),
            "seconds_train": round(seconds - compile_seconds, 1),
        },
    )


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
    if isinstance(run, Run) and "random_crop" not in run.augmentations:
        crop = partial(center_crop, size=run.crop_size)
    cut = lambda split, size: split._replace(images=crop(split.images[:size]), labels=split.labels[:size])
    clean = replace(dataset, train=cut(dataset.train, run.train_size), test=cut(dataset.test, run.test_size))
    key = training.stream(training.root_key(run.seed), "corrupt")
    return corruptions.CORRUPTIONS[run.corruption](key, clean, run.corruption_level), clean


def prepare(run: Run) -> tuple[Program, Data, Data, str]:
    """The program of a training run, and its data on the device, with their checksum before corruption."""
    corrupted, clean = load(run)
    model = models.create(run.model, corrupted.num_classes, run.dropout)
    batch_size = min(run.batch_size, len(clean.train.labels))
    program = Program(model, run.augmentations, run.crop_size, run.whitening, batch_size)
    device = lambda split, true: Data(*map(jnp.asarray, (split.images, split.labels, split.labels != true.labels)))
    return program, device(corrupted.train, clean.train), device(corrupted.test, clean.test), clean.checksum


compiled_order = jax.jit(training.epoch_order, static_argnums=(2, 3))
compiled_norm = jax.jit(training.weight_norm)


def stepper(program: Program, data: Data) -> tuple[Callable[..., State], int]:
    """The compiled training function, `(hparams, data, order, state, count) -> state`, and how many steps a call takes.

    On CPU a convolution inside a compiled loop is up to six times slower: networks that convolve take one step a call.
    """
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
    donated = 4 if function in (training.train_step, training.train_steps) else ()
    static = (0, 4) if function is training.evaluate else 0
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
    program: Program, state: State, train: Data, test: Data, *, step: int, epoch: int
) -> dict[str, float | None]:
    """One row of a run's curves: both splits whole, at fixed weights, and the sums over the epoch's minibatches."""
    evaluate = jit(training.evaluate, convolves=convolves(program.model, train.images.shape[1:]))

    def total(data: Data) -> training.Sums:
        size = min(EVALUATION_BATCH, len(data.labels))
        parts = [evaluate(program, state, data, start, size) for start in range(0, len(data.labels), size)]
        return training.Sums(*(sum(map(float, column)) for column in zip(*jax.device_get(parts), strict=True)))

    train_sums, test_sums = total(train), total(test)
    running = training.Sums(*map(float, jax.device_get(state.running)))
    untouched = train_sums.count - train_sums.changed
    return {
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
    }


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
