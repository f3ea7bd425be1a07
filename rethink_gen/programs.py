"""What the runs of a cohort share: data, on their devices or streamed; compiled functions; and how both are measured.

Each call of a compiled function takes about two seconds at most, so that a stop signal is answered in time.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rethink_gen import corruptions, datasets, hosts, machine, models, training
from rethink_gen.datasets import Dataset
from rethink_gen.errors import UsageError, unknown
from rethink_gen.experiment import AnyRun, Run
from rethink_gen.lanes import DATA, EACH, ONE, SAME, STATIC, Lanes, width
from rethink_gen.streaming import Stream
from rethink_gen.training import Data, Hparams, Program, State
from rethink_gen.transforms import CROPS, center_crop

EVALUATION_BATCH = 1000
STREAMED_EVALUATION = 50_000  # the first training images of a stream are evaluated: as many as ImageNet's test split
STEPS_PER_CALL = 100  # in a compiled loop; a call stays under about two seconds
STREAMED_STEPS_PER_CALL = 10  # on an accelerator; meanwhile the next batches are sent
FEW_CLASSES = 10  # with more, top-5 accuracy is measured too
STREAMED_CORRUPTIONS = ("true_labels", "random_labels")


def program_key(run: AnyRun) -> AnyRun:
    """What runs of one compiled program have in common: all but numbers, and what was done to labels."""
    of_labels = isinstance(run, Run) and run.corruption in corruptions.OF_LABELS
    return replace(run.recipe, corruption="true_labels") if of_labels else run.recipe


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
    sizes = source.cut(run.train_size, run.test_size)
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
        options = machine.cpu_options()
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
