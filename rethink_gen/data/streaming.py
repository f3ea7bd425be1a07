"""Data that are read while a run trains, because they do not fit in memory: ImageNet.

An example is a function of its index alone. Its image is decoded, resized to a square and handed on in 8 bits; its
label is the true one, or what was drawn for that index. Augmentation comes later, on the device, as for data in memory.
Threads decode the batches that come next; nothing that is computed depends on how far they are.

Ours: the whole image becomes the square, so that its central 7/8 are what TensorFlow's Inception package evaluates on.
The package takes the windows of `crop` from the image as it is, which is sharper where they are small.
"""

from __future__ import annotations

import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from rethink_gen.data.tfds import MODES, Source, records
from rethink_gen.errors import DataError

_CENTER = 7 / 8  # the share of a side that the central crop keeps
_AHEAD = 2  # batches that are decoded before they are asked for; one of 256 images takes 90 MB


class _Batch(NamedTuple):
    """Examples on the host, with the fields of `training.Data`."""

    images: Any  # uint8[B, S, S, C]
    labels: Any  # int32[B]
    changed: Any  # bool[B]: the label is not the true one


class Stream:
    """A split, or the beginning of one, for runs that crop its images to `crop_size` pixels.

    Args:
      labels: int32[N], what was drawn for the first N examples, and -1 for those that keep their label.
    """

    def __init__(self, source: Source, split: str, labels: np.ndarray, crop_size: int):
        side = round(crop_size / _CENTER)
        self.source, self.split, self.labels = source, split, labels
        shape = (len(labels), side, side, source.shape[2])
        self.images: Any = np.broadcast_to(np.uint8(0), shape)  # stands for their shape and type
        self.records = records(source, split)
        self.ahead: dict[bytes, list[Future[tuple[np.ndarray, int]]]] = {}

    def batch(self, order: np.ndarray, row: int) -> _Batch:
        """The examples of a row of int[steps, B]; those of the next rows are being decoded from now on."""
        rows = {indices.tobytes(): indices for indices in order[row : row + 1 + _AHEAD]}
        for key in self.ahead.keys() - rows.keys():  # of an order that was given up
            for future in self.ahead.pop(key):
                future.cancel()
        for key, indices in rows.items():
            if key not in self.ahead:
                self.ahead[key] = [_decoders().submit(self.example, int(index)) for index in indices]
        examples = [future.result() for future in self.ahead.pop(order[row].tobytes())]
        true = np.array([label for _, label in examples], np.int32)
        drawn = self.labels[order[row]]
        labels = np.where(drawn < 0, true, drawn)
        return _Batch(np.stack([image for image, _ in examples]), labels, labels != true)

    def example(self, index: int) -> tuple[np.ndarray, int]:
        """The image uint8[S, S, C] and true label of an example."""
        from PIL import Image

        image, label = self.source.features
        try:
            record, shape = self.records[index], self.images.shape[1:]
            picture = Image.open(io.BytesIO(record[image])).convert(MODES[shape[2]])
            pixels = np.asarray(picture.resize(shape[:2], Image.Resampling.BILINEAR)).reshape(shape)
            if not 0 <= record[label] < self.source.num_classes:
                raise ValueError(f"its label is {record[label]}, hidden or out of range")
        except Exception as error:  # the readers below raise whatever they like on damaged bytes
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            where = f"example {index} of the {self.split} split of {self.source.name} in {self.source.folder}"
            raise DataError(f"{where} cannot be read ({reason}); delete that folder and prepare it again") from error
        return pixels, int(record[label])


@cache
def _decoders() -> ThreadPoolExecutor:
    """Threads, not processes: Pillow decodes and resizes without Python's lock."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decoder")
