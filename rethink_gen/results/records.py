"""Records of a run: what its network answered to every example of its splits, and its weights, at measured epochs.

A run keeps answers if it asks for them, `Run(record="examples")`, as named arrays in <run id>.records.npz. An example
takes 7 bytes an epoch: 50,000 examples and 100 epochs are 35 MB, in memory while the run trains, and on disk.

`Run(record="weights")` keeps the weights in the same file, 4 bytes each and epoch.

`Run(record="correct")` keeps much less: which examples are classified as their label at the end, one bit each. They are
text in the result itself, so that hundreds of runs with their bits are one pack. See `outcomes` for what follows.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rethink_gen.errors import StorageError

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "test", "validation")
_OF_WEIGHTS = "weights/"  # before the names of arrays of weights, which have an axis of epochs
_EPOCH = f"{_OF_WEIGHTS}epoch"
# Beside the bits of splits, where they tell training examples apart: the run was trained on the example; its label is
# not the true one.
SEEN, CHANGED = "seen", "changed"


class Records(NamedTuple):
    """The N examples of a split at E epochs, in the order of the data set, at fixed weights and without augmentation.

    The first epoch is 0, before training. Values beyond the range of float16 are clipped to it.
    """

    epoch: np.ndarray  # int32[E], those that were measured
    label: np.ndarray  # int32[N], as the run was given it
    true_label: np.ndarray  # int32[N]
    prediction: np.ndarray  # uint8[E, N], or uint16: the class of the largest logit
    loss: np.ndarray  # float16[E, N], of the label
    margin: np.ndarray  # float16[E, N]: the logit of the label minus the largest other one
    error: np.ndarray  # float16[E, N]: the norm of probabilities minus the label as one-hot, in [0, √2]

    @property
    def correct(self) -> np.ndarray:
        """bool[E, N]: the example is classified as its label."""
        return self.prediction == self.label

    @property
    def changed(self) -> np.ndarray:
        """bool[N]: the label is not the true one."""
        return self.label != self.true_label

    @property
    def trained(self) -> Records:
        """Without epoch 0."""
        after = self.epoch > 0
        arrays = {name: value[after] for name, value in self._asdict().items() if "label" not in name}
        return self._replace(**arrays)


def to_text(correct: np.ndarray) -> str:
    """bool[N] as text: the bits in base64, the first example in the highest bit of the first byte."""
    import numpy as np

    return base64.b64encode(np.packbits(correct).tobytes()).decode()


def from_text(text: str, count: int) -> np.ndarray:
    """bool[count] from text.

    Raises:
      ValueError: it is not base64, or has not the bits of so many examples.
    """
    import numpy as np

    content = base64.b64decode(text, validate=True)
    if len(content) != (count + 7) // 8:
        raise ValueError(f"{len(content)} bytes are not the bits of {count} examples")
    return np.unpackbits(np.frombuffer(content, np.uint8), count=count).astype(bool)


def to_arrays(
    records: Mapping[str, Records] | None, weights_at: Mapping[int, Mapping[str, np.ndarray]] | None = None
) -> dict[str, np.ndarray]:
    """Split → records and epoch → weights, as named arrays of a file: train/loss, weights/params/Conv_0/kernel, …"""
    import numpy as np

    arrays = {f"{split}/{name}": a for split, each in (records or {}).items() for name, a in each._asdict().items()}
    if not weights_at:
        return arrays
    names = next(iter(weights_at.values()))
    weights = {_OF_WEIGHTS + name: np.stack([each[name] for each in weights_at.values()]) for name in names}
    return {**arrays, **weights, _EPOCH: np.array([*weights_at], np.int32)}


def from_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, Records]:
    """Split → records, from the named arrays of a file.

    Raises:
      StorageError: an array is missing, or the arrays of a split do not fit together; the line names `path`.
    """
    found = {}
    for split in (name for name in SPLITS if f"{name}/label" in arrays):
        try:
            records = Records(*(arrays[f"{split}/{name}"] for name in Records._fields))
        except KeyError as error:
            raise StorageError(f"{path}: holds no {error.args[0]}; delete it and train the run again") from error
        shapes = {array.shape for array in (records.prediction, records.loss, records.margin, records.error)}
        if shapes != {(len(records.epoch), len(records.label))} or records.label.shape != records.true_label.shape:
            raise StorageError(f"{path}: its arrays of {split} do not fit together; delete it and train the run again")
        found[split] = records
    return found


def weights_from_arrays(arrays: Mapping[str, np.ndarray], path: Path) -> dict[int, dict[str, np.ndarray]]:
    """Epoch → weights, from the named arrays of a file; empty if it holds none.

    Raises:
      StorageError: the arrays do not fit together; the line names `path`.
    """
    epochs = arrays.get(_EPOCH)
    named = {name.removeprefix(_OF_WEIGHTS): each for name, each in arrays.items() if name.startswith(_OF_WEIGHTS)}
    named.pop("epoch", None)
    if any(epochs is None or each.shape[:1] != epochs.shape for each in named.values()):
        raise StorageError(f"{path}: its arrays of weights do not fit together; delete it and train the run again")
    of_epochs = [] if epochs is None else epochs.tolist()
    return {epoch: {name: each[i] for name, each in named.items()} for i, epoch in enumerate(of_epochs)}
