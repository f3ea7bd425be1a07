"""A result whose weights were kept can be asked: its answers to images, to each of its examples, and its measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen.errors import UsageError, unknown
from rethink_gen.results import store
from rethink_gen.results.kept import suffix
from rethink_gen.results.result import Result
from rethink_gen.study.studies import Folder, open_folder

if TYPE_CHECKING:
    import numpy as np

    from rethink_gen.training.prediction import Examples


class TrainedResult(Result):
    """A `Result` that answers questions, where its weights were kept."""

    def predict(self, images: Any) -> np.ndarray:
        """float32[N, K]: the logits of images [N, H, W, C], as they are in the data set."""
        from rethink_gen.training import prediction

        return prediction.logits(self, images)

    def examples(self, split: str = "train") -> Examples:
        """The answers to each example of "train", "test" or "validation", in the order of the data set.

        Returns:
          Arrays with one row for each example: `logits`, `labels` (as the run was given them), `true_labels`, `loss`;
          and from these `predictions` and `correct`.
        """
        from rethink_gen.training import prediction

        return prediction.examples(self, split)

    def measure(self, *measures: str) -> dict[str, float | None]:
        """Measure → its value for this network: `result.measure("margin", "sharpness(epsilon=5e-4)")`.

        A measure that does not go with the network has the value None, and a warning says why.
        """
        from rethink_gen.training import prediction

        return prediction.measures(self, measures)

    def at(self, epoch: int) -> TrainedResult:
        """The same with the weights after an epoch: it predicts, and is measured, as the network was then.

        Raises:
          UsageError: the run did not record its weights, or not those of this epoch.
        """
        if not self.weights_at:
            raise UsageError(f"{self.id} has no record of its weights: Run(record='weights')")
        if epoch not in self.weights_at:
            there = ", ".join(map(str, self.weights_at))
            raise UsageError(f"{self.id} has the weights of epochs {there}, not of {epoch}; see measurements")
        return dataclasses.replace(self, weights=self.weights_at[epoch])


def read(path: Path) -> TrainedResult:
    """The result in a file, with its weights and records where they were kept."""
    found = store.whole(path)
    return TrainedResult(**{each.name: getattr(found, each.name) for each in dataclasses.fields(found)})


def kept(chosen: Iterable[str] = (), *, results: Folder = "results") -> list[TrainedResult]:
    """The runs that kept their weights, with them: those whose ids begin so; if none is named, the only one.

    Raises:
      UsageError: there is none, or more than one begins so.
    """
    end = suffix("weights")
    found = {path.name.removesuffix(end): path for path in open_folder(results).rglob(f"*{end}")}
    names = tuple(chosen) or ("",)
    if not found:
        raise UsageError(f"no run in {results} kept its weights; a run or train with --keep-weights does")
    matches = {name: [name] if name in found else sorted(k for k in found if k.startswith(name)) for name in names}
    for name, ids in matches.items():
        if not ids:
            raise unknown("run that kept its weights", name, found)
        if len(ids) > 1:
            raise UsageError(f"{len(ids)} runs kept their weights, name some: {', '.join(ids)}")
    return [read(found[run].with_name(f"{run}.json")) for [run] in matches.values()]
