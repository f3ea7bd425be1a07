"""A result: its run, its curves and what made it; the names of metrics; and whether two results are the same."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rethink_gen.errors import UsageError
from rethink_gen.results import strict_json
from rethink_gen.results.records import Records, from_text
from rethink_gen.runs import AnyRun

if TYPE_CHECKING:
    import numpy as np

# The training accuracy at fixed weights that counts as fitted. Not stated in the paper. The paper's own MLP reaches
# 99.34 % on random labels (Table 1), so a higher threshold would count this network as unable to fit.
FIT_THRESHOLD = 0.99
# The metrics of a training run at each epoch. Accuracies are fractions in [0, 1], losses are in nats. `train_` and
# `test_`: over the whole split at fixed weights; of a stream, `train_` is over its first 50,000 examples. `running_`:
# over the minibatches of the epoch. `untouched` and `corrupted`: over the training examples with their true label, and
# over the others; of these, `train_recovered` are classified as their true class. `noisy_labels`: against test labels
# that are corrupted as those of the training examples. With more than ten classes, the TOP5 metrics are added; with a
# validation_size, the VALIDATION metrics, against labels as given.
METRICS = (
    "epoch",
    "step",
    "train_loss",
    "train_accuracy",
    "train_accuracy_untouched",
    "train_accuracy_corrupted",
    "train_recovered",
    "running_loss",
    "running_accuracy",
    "test_loss",
    "test_accuracy",
    "test_accuracy_noisy_labels",
    "weight_norm",
    "norm_product",
)
# What became of the training examples whose label was corrupted: classified as given, or as they truly are.
FATES = ("train_accuracy_corrupted", "train_recovered")
TOP5 = ("train_top5_accuracy", "test_top5_accuracy", "best_test_top5_accuracy")  # the last one is per run
VALIDATION = ("validation_loss", "validation_accuracy")
Curves = dict[str, list[float | None]]


@dataclass(frozen=True)
class Result:
    """The result of a run that ended."""

    run: AnyRun
    status: str  # "finished", or "diverged" at the last epoch of the curves
    curves: Curves  # metric → one value per epoch; training starts at initialization, a closed form has only epoch 0
    provenance: dict[str, Any]
    # Name → array, such as params/Conv_0/kernel, if the weights were to be kept. They are in a file of their own.
    weights: Mapping[str, np.ndarray] | None = field(default=None, compare=False, repr=False)
    # Split → the records of its examples, if the run asks for them. They are in a file of their own, too.
    records: Mapping[str, Records] | None = field(default=None, compare=False, repr=False)
    # Epoch → the weights after it, named as `weights` are, if the run asks for them. They are in the same file.
    weights_at: Mapping[int, Mapping[str, np.ndarray]] | None = field(default=None, compare=False, repr=False)
    # Split → which of its examples were classified as their label at the end, if the run asks for it; `is_correct`.
    correct: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def setting(self) -> str:
        """The run id without seeds: equal for results that differ only in their seeds."""
        return self.run.setting

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def data(self) -> tuple[str, str]:
        """The name of the data set, and the checksum of its content before corruption; empty if it is not recorded."""
        return self.run.dataset, self.provenance.get("data_sha256") or ""

    @property
    def fields(self) -> dict[str, Any]:
        """The kind of the run and its fields, as plain Python values."""
        return {"kind": self.run.kind, **dataclasses.asdict(self.run)}

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Metric → float64[E], with NaN in place of None."""
        import numpy as np

        return {name: np.array(values, float) for name, values in self.curves.items()}

    @property
    def summary(self) -> dict[str, float | None]:
        """Values per run for tables. `epochs_to_fit` and `steps_to_fit` are None if the run never fitted (censored)."""
        return _summarize(self.curves)

    def is_correct(self, split: str = "train") -> np.ndarray:
        """bool[N]: which examples of a split the network classified as their label at the end.

        Raises:
          UsageError: the run did not record it, or has no such split.
        """
        if split not in self.correct:
            raise UsageError(f"{self.id} has no record of which {split} examples are correct: Run(record='correct')")
        return from_text(self.correct[split], self.provenance[f"num_{split}"])

    def __repr__(self) -> str:
        return f"Result({self.run.id}: {self.status})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{key}</th><td>{value}</td></tr>" for key, value in self.summary.items())
        return f"<table><caption>{self.run.id} ({self.status})</caption>{rows}</table>"


def _summarize(curves: Curves) -> dict[str, float | None]:
    """Summarizes curves: the last value of each metric, the best epoch, and when the run first fitted."""
    last = {name: values[-1] for name, values in curves.items() if name not in ("epoch", "step")}
    train, test = (curves.get(name, [None]) for name in ("train_accuracy", "test_accuracy"))
    fitted = [i for i, accuracy in enumerate(train) if accuracy is not None and accuracy >= FIT_THRESHOLD]
    best = max(range(len(test)), key=lambda i: test[i] or 0.0)
    held_out = curves.get("validation_accuracy")
    chosen = max(range(len(test)), key=lambda i: held_out[i] or 0.0) if held_out else 0
    top5 = [accuracy for accuracy in curves.get("test_top5_accuracy", []) if accuracy is not None]
    return {
        **last,
        **({"best_test_top5_accuracy": max(top5)} if top5 else {}),
        "generalization_gap": _known(train[-1]) - _known(test[-1]),
        "best_epoch": curves["epoch"][best],
        "best_test_accuracy": test[best],
        **({"validated_epoch": curves["epoch"][chosen], "validated_test_accuracy": test[chosen]} if held_out else {}),
        "epochs_to_fit": curves["epoch"][fitted[0]] if fitted else None,
        "steps_to_fit": curves["step"][fitted[0]] if fitted and "step" in curves else None,
    }


def _known(value: float | None) -> float:
    """Gives a recorded value; NaN where none was recorded, since 0.0 is a value."""
    return math.nan if value is None else value


def same_end(one: Result, other: Result) -> bool:
    """Whether two results of a run are the same: status, curves and bits of examples. What one alone has does not
    count, for versions of this package measure different metrics; nor do seconds, which are others each time.
    """

    def alike(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
        both = [name for name in mine.keys() & theirs.keys() if not name.startswith("seconds_")]
        return all(mine[name] == theirs[name] for name in both)

    curves = alike(strict_json.finite(one.curves), strict_json.finite(other.curves))
    return one.status == other.status and curves and alike(one.correct, other.correct)


def different_data(results: Iterable[Any]) -> dict[str, dict[str, list[Any]]]:
    """The data sets whose name stands for different data: name → checksum → the results, or what has their `data`."""
    found: dict[str, dict[str, list[Any]]] = {}
    for result in results:
        name, checksum = result.data
        if checksum:
            found.setdefault(name, {}).setdefault(checksum, []).append(result)
    return {name: parts for name, parts in sorted(found.items()) if len(parts) > 1}
