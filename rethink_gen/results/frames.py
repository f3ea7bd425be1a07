"""Convert results to one tidy data frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from rethink_gen import registry
from rethink_gen.results.result import FATES, METRICS, TOP5, Curves, Result
from rethink_gen.runs import AFRESH, KINDS, AnyRun, components

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def frame(results: Iterable[Result]) -> pd.DataFrame:
    """Builds a frame with one row per (run, epoch).

    Columns are the kind and the fields of the run, its curves at that epoch, its summary (repeated), and these:

    * last: whether this is the final epoch of the run;
    * train_error, test_error, generalization_gap: derived from the accuracies;
    * train_confused: the share of corrupted examples classified neither as given nor as they truly are.

    True labels have `corruption_level` 0. `augmentations` are joined by "+". Options have
    columns of their own, such as `model.hidden`. A run without a model has its kind as
    `model`.
    """
    import numpy as np
    import pandas as pd

    alike: dict[Any, list[tuple[int, dict[str, Any], dict[str, np.ndarray]]]] = {}  # by columns and types
    for i, result in enumerate(results):
        facts, columns = about(result), result.columns
        kind = (*columns, *facts, *map(type, facts.values()))
        alike.setdefault(kind, []).append((i, facts, columns))
    blocks = []
    for group in alike.values():
        places, facts, columns = zip(*group, strict=True)
        curves = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
        runs = pd.DataFrame({name: [each[name] for each in facts] for name in facts[0]})
        blocks.append(Block(np.array(places), np.array([len(each["epoch"]) for each in columns]), runs, curves))
    return assemble(blocks)


def with_last(curves: Curves, values: Mapping[str, float | None]) -> Curves:
    """Curves, with values of the last epoch; what they have of such a name at the epochs before stays."""
    nothing = [None] * len(curves["epoch"])
    return {**curves, **{name: [*curves.get(name, nothing)[:-1], value] for name, value in values.items()}}


class Block(NamedTuple):
    """A group of R runs that have the same columns, with values of the same types."""

    places: np.ndarray  # int[R]: the position of each run among all runs
    lengths: np.ndarray  # int[R]: the number of rows of its curves
    runs: pd.DataFrame  # R rows, see `about`
    curves: dict[str, np.ndarray]  # metric → the curves of all runs, concatenated


def assemble(blocks: list[Block]) -> pd.DataFrame:
    """Combines blocks into the frame of all their runs, ordered by place."""
    import numpy as np
    import pandas as pd

    if not blocks:
        return _empty().copy()
    tables = []
    for block in blocks:
        runs = block.runs.take(np.repeat(np.arange(len(block.runs)), block.lengths)).reset_index(drop=True)
        last = np.zeros(len(runs), bool)
        last[np.cumsum(block.lengths) - 1] = True
        tables.append(pd.concat([pd.DataFrame(block.curves), runs.assign(last=last)], axis=1))
    everything = pd.concat(tables, ignore_index=True)
    places = np.concatenate([np.repeat(block.places, block.lengths) for block in blocks])
    if (np.diff(places) < 0).any():
        everything = everything.take(np.argsort(places, kind="stable")).reset_index(drop=True)
    missing = {"step", "train_accuracy", "test_accuracy", *FATES, *TOP5} - {*everything}
    # A copy, because pandas keeps columns of different origin apart, and warns of many.
    everything = everything.reindex(columns=[*everything, *sorted(missing)]).copy()
    everything = everything.assign(**_defaults(everything))
    whole = {name: everything[name].astype(int) for name in ("epoch", "step") if everything[name].notna().all()}
    return everything.assign(
        **whole,
        train_error=1 - everything["train_accuracy"],
        test_error=1 - everything["test_accuracy"],
        generalization_gap=everything["train_accuracy"] - everything["test_accuracy"],
        train_confused=1 - everything["train_accuracy_corrupted"] - everything["train_recovered"],
    )


@cache
def _empty() -> pd.DataFrame:
    """The frame of no results: it has the columns of a run of each kind."""
    nothing: Curves = {name: [0.0] for name in METRICS}
    return frame([Result(kind(), "finished", nothing, {}) for kind in KINDS.values()])[:0]


def about(result: Result) -> dict[str, Any]:
    """The columns of a frame that are constant for a run: its fields, summary, costs and device."""
    fields = result.fields
    fields = {"kind": fields["kind"], "model": fields["kind"], **fields}
    fields = {name: "+".join(value) if isinstance(value, tuple | list) else value for name, value in fields.items()}
    if fields["corruption"] == "true_labels":
        fields["corruption_level"] = 0.0
    fields |= _options(result.run)
    keys = (
        *("best_epoch", "best_test_accuracy", "best_test_top5_accuracy", "epochs_to_fit", "steps_to_fit"),
        *("validated_epoch", "validated_test_accuracy"),
    )
    summary = {key: math.nan if value is None else value for key, value in result.summary.items() if key in keys}
    origin = result.provenance
    costs = {key: origin.get(key) for key in ("num_train", "num_test", "seconds_compile", "seconds_train")}
    costs["num_params"] = origin.get("num_params", math.nan)
    costs["num_classes"] = origin.get("num_classes", math.nan)
    device = origin.get("device", "unknown")
    return {**fields, "run": result.id, "status": result.status, **summary, **costs, "device": device}


def _options(run: AnyRun) -> dict[str, Any]:
    """The options that a run's components are given, as columns such as `model.hidden`; not those of pre-training."""
    if getattr(run, "pretrain_epochs", 0):
        run = replace(run, **AFRESH)
    return {
        f"{kind}.{option}": _plain(value)
        for kind, text in components(run)
        if "(" in text and kind != "measure"  # a measure with its options is a column itself
        for option, value in registry.options_of(kind, text).items()
    }


def _defaults(runs: pd.DataFrame) -> dict[str, pd.Series]:
    """The columns of options, with the defaults of runs that do not spell them beside the values of runs that do."""
    filled = {}
    for column in filter(is_option, runs):
        kind, _, option = column.partition(".")
        if kind in runs and runs[column].isna().any():
            of = {text: _plain(registry.options_of(kind, text).get(option)) for text in runs[kind].dropna().unique()}
            values = runs[column].where(runs[column].notna(), runs[kind].map(of))
            whole = values.notna().all() and all(type(each) is int for each in of.values())
            filled[column] = values.astype(int) if whole else values
    return filled


def is_option(column: str) -> bool:
    """Whether a column is an option of a component, such as `model.hidden`, and no metric."""
    return column.partition(".")[0] in registry.COMPONENTS


def _plain(value: Any) -> Any:
    """A value as a column holds it: several numbers are text, joined by "+"."""
    if not isinstance(value, tuple):
        return value
    return value[0] if len(value) == 1 else "+".join(map(str, value))
