"""Prepare runs of one program: their data, on devices or streamed, their program, and their lanes."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np

from rethink_gen import digests, registry
from rethink_gen.data import corruptions, datasets, randomness
from rethink_gen.data.dataset import Dataset
from rethink_gen.data.pipeline import corrupt, corrupted_test_labels, cut
from rethink_gen.data.streaming import Stream
from rethink_gen.errors import UsageError
from rethink_gen.models import create
from rethink_gen.optimization import orders
from rethink_gen.runs import OF_EXAMPLES, AnyRun, Run
from rethink_gen.training import contracts
from rethink_gen.training.program import Data, Program, full_batch, mixes, remembers
from rethink_gen.training.vectorize import ONE, Lanes, width

logger = logging.getLogger(__name__)
FEW_CLASSES = 10  # with more, top-5 accuracy is measured too
STREAMED_CORRUPTIONS = ("true_labels", "random_labels")


def program_key(run: AnyRun) -> AnyRun:
    """The run without what its compiled program does not depend on: numbers, seeds and label noise."""
    of_labels = isinstance(run, Run) and registry.parse(run.corruption)[0] in corruptions.OF_LABELS
    return replace(run.recipe, corruption="true_labels") if of_labels else run.recipe


def _streamed(run: Run) -> datasets.Source | None:
    """The source of the images that a run streams; None if they are in memory."""
    source = datasets.find(run.dataset)
    return source if source.streamed else None


class Prepared(NamedTuple):
    """What training runs of one program share."""

    program: Program
    train: Data | Stream  # on the devices, or streamed
    test: Data | Stream
    checksum: str  # of the data before corruption
    lanes: Lanes
    validation: Data | None = None  # what is held out of the training examples


def prepare(cohort: Sequence[Run], number: int | None = None) -> Prepared:
    """The program of training runs that share one, their data, and the lanes they go in.

    There are as many lanes as `width` says, if not `number`.

    Raises:
      UsageError: the optimizer needs the whole training set as its batch, and the batch is smaller; no examples can be
        held out; or the loss remembers examples that are mixed or streamed.
      ComponentError: a component of the user's own is wrong.
    """
    run, validation = cohort[0], None
    if source := _streamed(run):
        train, test = _streams(run, source)
        num_classes, checksum, lanes = source.num_classes, source.fingerprint, ONE
    else:
        clean = cut(run)
        corrupted = {each: corrupt(each, clean) for each in cohort}
        shared = all(dataset.train.images is clean.train.images for dataset in corrupted.values())
        number = number or width(run)
        lanes = Lanes(number, jax.device_count() if number > 1 else 1, shared)
        every = lanes.fill([*corrupted.values()])
        noisy = {each: corrupted_test_labels(each, clean) for each in cohort}
        held_out = _held_out(run, clean, every[0])
        whole = [Data(*dataset.train, dataset.true_labels) for dataset in every]
        train = lanes.data([_part(data, slice(None, -held_out or None)) for data in whole])
        if held_out:
            validation = lanes.data([_part(data, slice(-held_out, None)) for data in whole])
        test = lanes.data(
            [Data(*dataset.test, labels) for dataset, labels in zip(every, lanes.fill([*noisy.values()]), strict=True)]
        )
        num_classes, checksum = clean.num_classes, clean.checksum
    num_train = train.labels.shape[-1]
    if run.batch_size > num_train:
        all_of_them = f"each epoch is one step on all {num_train} training images of {run.dataset}"
        logger.warning("batch_size %d is more than there are: %s", run.batch_size, all_of_them)
    program = program_of(run, num_classes, min(run.batch_size, num_train))
    if isinstance(train, Data):
        contracts.check(run, program, train.images, num_classes, num_train)
    if remembers(program) and (other := _forgetful(run, program, train)):
        raise UsageError(f"loss {run.loss} remembers each example: it does not go with {other}")
    if full_batch(program) and program.batch_size < num_train:
        raise UsageError(
            f"optimizer {run.optimizer} needs the whole training set in a batch: set batch_size={num_train}"
        )
    return Prepared(program, train, test, checksum, lanes, validation)


def _forgetful(run: Run, program: Program, train: Data | Stream) -> str:
    """What a loss that remembers each example does not go with; empty if there is nothing of the kind."""
    if mixes(program):
        return "mixing augmentations"
    if isinstance(train, Stream):
        return f"{run.dataset}, which is streamed"
    repeats = registry.parse(run.order)[0] in orders.REPEATING
    return f"order {run.order}, which can have an example twice in a batch" if repeats else ""


def _held_out(run: Run, clean: Dataset, corrupted: Dataset) -> int:
    """How many of the last training examples are for validation.

    Raises:
      UsageError: nothing would be left to train on, or the corruption adds examples, so that copies of those held out
        would be trained on.
    """
    size, there = run.validation_size or 0, len(clean.train.labels)
    if size >= there:
        raise UsageError(f"validation_size={size} leaves nothing of {there} training examples; set a smaller one")
    if size and len(corrupted.train.labels) != there:
        raise UsageError(f"corruption {run.corruption} changes the number of examples: leave validation_size away")
    return size


def _part(data: Data, rows: slice) -> Data:
    return Data(*(column[rows] for column in data))


def program_of(run: Run, num_classes: int, batch_size: int) -> Program:
    """The static facts of a run's program."""
    model = create.create(run.model, num_classes, run.dropout)
    return Program(
        model=model,
        augmentations=run.augmentations,
        crop_size=run.crop_size,
        whitening=run.whitening,
        batch_size=batch_size,
        label_smoothing=run.label_smoothing,
        precision=run.precision,
        top5=num_classes > FEW_CLASSES,
        optimizer=run.optimizer,
        schedule=run.schedule,
        loss=run.loss,
        order=run.order,
        max_gradient_norm=run.max_gradient_norm,
        epochs=0 if run.schedule == "exponential" else run.epochs,  # the paper's does not depend on it
        code=digests.of_program(run),
    )


def _streams(run: Run, source: datasets.Source) -> tuple[Stream, Stream]:
    """The two splits of a streamed data set; random labels are the only corruption."""
    if run.validation_size:
        raise UsageError(f"{run.dataset} is streamed: examples are held out in memory only; leave validation_size away")
    if {*run.record} & {*OF_EXAMPLES}:
        raise UsageError(f"{run.dataset} is streamed: examples are recorded in memory only; leave record away")
    if run.train_skip or run.pretrain_epochs:
        way_out = "leave train_skip and pretrain_epochs away"
        raise UsageError(f"{run.dataset} is streamed: images are passed over in memory only; {way_out}")
    if run.measures:
        raise UsageError(f"{run.dataset} is streamed: measures need images in memory; leave measures away")
    if run.corruption not in STREAMED_CORRUPTIONS:
        known = " and ".join(STREAMED_CORRUPTIONS)
        raise UsageError(f"corruption {run.corruption} needs images in memory; {run.dataset} is streamed: {known} only")
    sizes = source.cut(run.train_size, run.test_size)
    train_labels, test_labels = (np.full(size, -1, np.int32) for size in sizes)
    if run.corruption == "random_labels":
        key = randomness.stream(randomness.root_key(run.seed_of("corruption")), "corrupt")
        train_labels = corruptions.drawn_labels(key, len(train_labels), source.num_classes, run.corruption_level)
    return (
        Stream(source, "train", train_labels, run.crop_size),
        Stream(source, source.test_split, test_labels, run.crop_size),
    )
