"""What a network that kept its weights answers: logits of any images, and every example of its own data."""

from __future__ import annotations

import typing
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from rethink_gen.data import datasets, randomness
from rethink_gen.errors import UsageError
from rethink_gen.results.result import Result
from rethink_gen.runs import Run
from rethink_gen.training import compilation, core, measurement, preparation
from rethink_gen.training.program import Data, Program

BATCH = 1000  # images whose answers are computed at once


class Examples(NamedTuple):
    """Every example of a split, N of them, at the end of a run, without augmentation."""

    logits: np.ndarray  # float32[N, K]
    labels: np.ndarray  # int32[N], as the network was given them
    true_labels: np.ndarray  # int32[N]
    loss: np.ndarray  # float32[N], cross-entropy of `labels` in nats

    @property
    def predictions(self) -> np.ndarray:
        """int[N]: the class of the largest logit."""
        return self.logits.argmax(-1)

    @property
    def correct(self) -> np.ndarray:
        """bool[N]: the prediction is the given label."""
        return self.predictions == self.labels


@randomness.pinned()
def logits(result: Result, images: Any) -> np.ndarray:
    """float32[N, K]: what the network returns for images as they are in its data set.

    Args:
      result: of a training whose weights were kept.
      images: [N, H, W, C] of the size of the data set, or already cropped; uint8 or floats in [0, 255].

    Raises:
      UsageError: the weights were not kept, or the images are not of that size.
    """
    run, weights = _run_of(result), _weights_of(result)
    source, images = datasets.find(run.dataset), np.asarray(images)
    _check_images(run, source.shape, images)
    program = preparation.program_of(run, source.num_classes, run.batch_size)
    return _logits(program, weights, images)


def _check_images(run: Run, shape: tuple[int, ...], images: np.ndarray) -> None:
    """Refuses images of another size than the network was trained on.

    Args:
      shape: (height, width, channels) of the data set; -1 where it varies.
    """
    if -1 in shape:
        shape = (run.crop_size, run.crop_size, shape[2])
    cropped = (min(run.crop_size, shape[0]), min(run.crop_size, shape[1]), shape[2])
    if images.ndim != 4 or images.shape[1:] not in (shape, cropped):
        sizes = " or ".join(dict.fromkeys("×".join(map(str, size)) for size in (shape, cropped)))
        raise UsageError(f"images must be [N, H, W, C] of {sizes}, as for {run.dataset}; got shape {images.shape}")
    if images.dtype.kind not in "buif":
        raise UsageError(f"images must be uint8, or floats in [0, 255], got {images.dtype}")


@randomness.pinned()
def examples(result: Result, split: str = "train") -> Examples:
    """The examples of "train", "test" or "validation" as the run saw them: its corruption is applied again.

    Raises:
      UsageError: the weights were not kept, there is no such split, or the data are no longer those that the run was
        trained on.
    """
    run, weights = _run_of(result), _weights_of(result)
    if split not in (splits := ("train", "test", *(["validation"] if run.validation_size else []))):
        raise UsageError(f"split must be {' or '.join(splits)}, got {split!r}")
    prepared = _prepared(result, run)
    data: Data = getattr(prepared, split)
    found = _logits(prepared.program, weights, np.asarray(data.images))
    labels = np.asarray(data.labels)
    stable = found - found.max(-1, keepdims=True)
    loss = np.log(np.exp(stable).sum(-1)) - stable[np.arange(len(labels)), labels]
    return Examples(found, labels, labels if split == "test" else np.asarray(data.other), loss)


@randomness.pinned()
def measures(result: Result, texts: Iterable[str]) -> dict[str, float | None]:
    """Text → value of each measure, of the kept weights; one that does not go with this network has no value.

    Raises:
      UsageError: the weights were not kept, or the data are no longer those that the run was trained on.
    """
    compilation.use_compile_cache()
    run, weights = _run_of(result), _weights_of(result)
    prepared = _prepared(result, run)
    train, test = typing.cast(tuple[Data, Data], (prepared.train, prepared.test))  # no stream: see `_prepared`
    of = measurement.network(run, prepared.program, weights["params"], weights.get("batch_stats", {}), train, test)
    return measurement.compute_all(of, texts)


def _prepared(result: Result, run: Run) -> preparation.Prepared:
    """The data and the program of a run, once more."""
    prepared = preparation.prepare([run], number=1)
    if isinstance(prepared.train, preparation.Stream) or isinstance(prepared.test, preparation.Stream):
        raise UsageError(f"{run.dataset} is streamed: this needs images in memory")
    if prepared.checksum != result.provenance["data_sha256"]:
        raise UsageError(f"{run.id} was trained on other data than the {run.dataset} that is here")
    return prepared


def _logits(program: Program, weights: dict[str, Any], images: np.ndarray) -> np.ndarray:
    compilation.use_compile_cache()
    params, batch_stats = jax.device_put((weights["params"], weights.get("batch_stats", {})))

    @jax.jit
    def answer(params: Any, batch_stats: Any, images: jax.Array) -> jax.Array:
        found: Any = core.apply(program, params, batch_stats, core.inputs(program, images))
        return found.astype(np.float32)

    parts = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    return np.concatenate([np.asarray(answer(params, batch_stats, part)) for part in parts])


def _run_of(result: Result) -> Run:
    if not isinstance(result.run, Run):
        raise UsageError(f"{result.run.id} is of kind {result.run.kind}: only trained networks predict")
    return result.run


def _weights_of(result: Result) -> dict[str, Any]:
    if not result.weights:
        raise UsageError(f"{result.run.id} kept no weights; train it again with keep_weights=True or --keep-weights")
    return unflatten_dict(result.weights, sep="/")
