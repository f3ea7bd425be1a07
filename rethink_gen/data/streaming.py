"""Stream data that do not fit in memory, such as ImageNet, from disk while a run trains.

An example depends only on its index. Its image is decoded, resized to a square and kept as uint8. Its label is the true
label, or the label that was drawn for this index. Augmentation runs later on the device, as for data in memory. Threads
decode the next batches; results do not depend on their timing.

Our choice: the whole image is resized to the square, so that its central 7/8 are the pixels that TensorFlow's Inception
package evaluates on. The package takes the windows of `crop` from the original image. There, small windows are sharper.
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

_CENTER = 7 / 8  # fraction of a side that the center crop keeps
_AHEAD = 2  # batches to decode ahead; a batch of 256 images takes 90 MB


class _Batch(NamedTuple):
    """Examples on the host, with the fields of `training.program.Data`."""

    images: Any  # uint8[B, S, S, C]
    labels: Any  # int32[B]
    other: Any  # int32[B]: the true label


class Stream:
    """The first N examples of a split, decoded on demand.

    Args:
      source: the data set.
      split: its name in tfds.
      labels: int32[N], the label drawn for each example, or -1 to keep the true label.
      crop_size: pixels per side to which runs crop the images; the decoded images are larger by 8/7.
    """

    def __init__(self, source: Source, split: str, labels: np.ndarray, crop_size: int):
        side = round(crop_size / _CENTER)
        self.source, self.split, self.labels = source, split, labels
        shape = (len(labels), side, side, source.shape[2])
        self.images: Any = np.broadcast_to(np.uint8(0), shape)  # only for its shape and dtype
        self.records = records(source, split)
        self.ahead: dict[bytes, list[Future[tuple[np.ndarray, int]]]] = {}

    def batch(self, order: np.ndarray, row: int) -> _Batch:
        """Returns the examples order[row] and starts to decode the next rows.

        Args:
          order: int[S, B], the indices of each batch.
          row: in [0, S).

        Raises:
          DataError: an example cannot be read.
        """
        rows = {indices.tobytes(): indices for indices in order[row : row + 1 + _AHEAD]}
        for key in self.ahead.keys() - rows.keys():  # batches of an earlier order that are no longer needed
            for future in self.ahead.pop(key):
                future.cancel()
        for key, indices in rows.items():
            if key not in self.ahead:
                self.ahead[key] = [_decoders().submit(self.example, int(index)) for index in indices]
        examples = [future.result() for future in self.ahead.pop(order[row].tobytes())]
        true = np.array([label for _, label in examples], np.int32)
        drawn = self.labels[order[row]]
        labels = np.where(drawn < 0, true, drawn)
        return _Batch(np.stack([image for image, _ in examples]), labels, true)

    def example(self, index: int) -> tuple[np.ndarray, int]:
        """Decodes an example: its image uint8[S, S, C] and its true label.

        Raises:
          DataError: it cannot be read.
        """
        from PIL import Image

        image, label = self.source.features
        try:
            record, shape = self.records[index], self.images.shape[1:]
            picture = Image.open(io.BytesIO(record[image])).convert(MODES[shape[2]])
            pixels = np.asarray(picture.resize(shape[:2], Image.Resampling.BILINEAR)).reshape(shape)
            if not 0 <= record[label] < self.source.num_classes:
                raise ValueError(f"its label {record[label]} is hidden or out of range")
        except Exception as error:  # the readers raise many kinds of errors on damaged bytes
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            where = f"example {index} of the {self.split} split of {self.source.name} in {self.source.folder}"
            raise DataError(f"{where} cannot be read ({reason}); delete that folder and prepare it again") from error
        return pixels, int(record[label])


@cache
def _decoders() -> ThreadPoolExecutor:
    """The decoder threads. Pillow decodes and resizes without holding Python's GIL, so threads are enough."""
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decoder")
