"""Runs → table: our numbers beside the paper's. `rendering` makes text of a table.

A table has one row per setting and metric: key columns, `metric`, the fields of `statistics.Summary`, and
beside the paper also `paper`, `verdict`, `locator`, `confidence`. An experiment declares its table by `declare`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rethink_gen import papers
from rethink_gen.errors import UsageError, unknown
from rethink_gen.results.frames import is_option
from rethink_gen.results.verdicts import Summary, differing, same_scale, summarize, summarize_each, verdict
from rethink_gen.runs import fields
from rethink_gen.words import count

if TYPE_CHECKING:
    import pandas as pd


Row = dict[str, Any]
KEYS = ("model", "corruption", "corruption_level", "augmentations", "weight_decay", "dropout")
MANY_SEEDS = 20  # of which the first and the last are named
MANY_DIVERGED = 5  # of which the first are named
MORE_KEYS = ("dataset", "features", "loss", "batch")  # of an item of the paper in which they differ


def beside_paper(
    frame: pd.DataFrame, item: str, *, metrics: Sequence[str] | None = None, paper: str = "zhang2017"
) -> pd.DataFrame:
    """For each row of an item of the paper, in its order: our runs of the same setting, the paper's value, the verdict.

    A row of which we have no run is kept, as not run.

    Args:
      item: table1, table4, …; see `rethink_gen.papers`.
      metrics: the metrics to show; all that the item has by default.
      paper: the name of its folder in papers/.

    Raises:
      UsageError: the item has no rows of these metrics, or our runs of one row differ in more than their seed.
    """
    import pandas as pd

    values = papers.values(item, paper)
    values = values[values[["model", "corruption", "weight_decay"]].ne("").all(axis=1)]
    if metrics is not None:
        values = values[values["metric"].isin(list(metrics))]
    if not len(values):
        raise UsageError(f"{item} of the paper has no rows to stand beside{f': metrics={metrics}' if metrics else ''}")
    keys = [*(key for key in MORE_KEYS if key in values and values[key].nunique() > 1), *KEYS]
    frame = frame[frame["last"]] if len(frame) else frame
    records = []
    for row in values.itertuples():
        runs = frame[_matches(frame, row, set(values["dataset"]))] if len(frame) else frame
        ours = summarize(runs, row.metric)
        comparable = same_scale(runs, row.dataset, row.train_size) if len(runs) else True
        word = verdict(ours, row.value, same_scale=comparable, confidence=row.confidence)
        if "scale" in runs and runs["scale"].eq("smoke").any():
            word = "smoke scale"
        record = {key: getattr(row, key) for key in keys} | {"metric": row.metric} | ours._asdict()
        record |= {"paper": row.value, "verdict": word}
        records.append(record | {"locator": row.locator, "confidence": row.confidence})
    return pd.DataFrame(records)


def mean_and_interval(frame: pd.DataFrame, by: Sequence[str], metric: str | Sequence[str]) -> pd.DataFrame:
    """One row per setting and metric, at the last epoch of each run, over seeds; in the order of the frame."""
    import pandas as pd

    by, metrics = list(by), [metric] if isinstance(metric, str) else list(metric)
    for name in (*by, *metrics) if len(frame) else ():
        if name not in frame:
            raise unknown("column", name, frame.columns)
    groups = frame[frame["last"]].groupby(by, dropna=False, sort=False) if len(frame) else ()
    records = [
        dict(zip(by, values, strict=True)) | {"metric": name} | summary._asdict()
        for values, runs in groups
        for name, summary in zip(metrics, summarize_each(runs, metrics), strict=True)
    ]
    return pd.DataFrame(records, columns=[*by, "metric", *Summary._fields])


def by_setting(frame: pd.DataFrame, metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """A row per setting and metric for any runs: the fields in which they differ, and what most ask of them.

    Args:
      metrics: columns of numbers of the frame; None: the two accuracies, the best test accuracy and the epochs to fit.

    Raises:
      UsageError: there is no such metric.
    """
    keys = differing(frame[frame["last"]]) if len(frame) else []
    usual = ["train_accuracy", "test_accuracy", "best_test_accuracy", "epochs_to_fit"]
    settings = fields(*frame["kind"].unique())
    numbers = [name for name in frame.select_dtypes("number") if name not in settings and not is_option(name)]
    for name in metrics or ():
        if name not in numbers:
            raise unknown("metric", name, numbers)
    chosen = list(metrics) if metrics else [name for name in usual if name in frame]
    return mean_and_interval(frame, keys or ["model", "corruption"], chosen)


def time_to_fit(frame: pd.DataFrame, by: str, unit: str = "steps") -> pd.Series:
    """Mean steps (or epochs) to fit, least first, by corruption, model, …; infinite where a run never fitted."""
    return frame[frame["last"]].groupby(by)[f"{unit}_to_fit"].agg(lambda x: x.fillna(math.inf).mean()).sort_values()


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction for a reader: 0.99342 is 99.3 %."""
    return f"{100 * fraction:.{digits}f} %"


def describe(frame: pd.DataFrame) -> str:
    """How the runs were done, in one line: scale, data, seeds, epochs, number of runs, device."""
    if not len(frame):
        return "no runs yet"
    ends = frame[frame["last"]]
    diverged = ends["run"][ends["status"] == "diverged"].tolist()
    more = " …" if len(diverged) > MANY_DIVERGED else ""
    named = f", {len(diverged)} diverged ({', '.join(diverged[:MANY_DIVERGED])}{more})" if diverged else ""
    seeds, epochs = sorted(ends["seed"].unique()), sorted({int(ends["epoch"].min()), int(ends["epoch"].max())})
    listed = (
        f"{seeds[0]} to {seeds[-1]}, {len(seeds)} of them" if len(seeds) > MANY_SEEDS else ", ".join(map(str, seeds))
    )
    parts = [
        *(f"{scale} scale" for scale in ends["scale"].unique()),
        *_sizes(ends),
        f"{count(ends, 'run')}{named}",
        f"seed{'s' * (len(seeds) > 1)} {listed}",
        "1 epoch" if epochs == [1] else f"{'–'.join(map(str, epochs))} epochs",
        *ends["device"].unique(),
    ]
    return " · ".join(parts)


def _sizes(ends: pd.DataFrame) -> list[str]:
    """Each data set with its sizes; many sizes as a range. Drawn data have no test images."""
    words = []
    for dataset, of_dataset in ends.groupby("dataset", sort=False):
        pairs = of_dataset[["num_train", "num_test"]].drop_duplicates()
        if not pairs["num_test"].any():
            sizes = sorted({pairs["num_train"].min(), pairs["num_train"].max()})
            words.append(f"{papers.label(dataset)}, {' to '.join(f'{size:,}' for size in sizes)} examples")
        else:
            name = papers.label(dataset)
            words += [f"{name}, {d.num_train:,} train, {d.num_test:,} test images" for d in pairs.itertuples()]
    return words


def _matches(frame: pd.DataFrame, row: Any, datasets: set[str]) -> pd.Series:
    """Which rows of a frame are of the setting of a row of the paper; on data of its own (digits), of any data set."""
    keep = frame["model"].eq(row.model) & (frame["dataset"].eq(row.dataset) | ~frame["dataset"].isin(datasets))
    keep &= frame["corruption_level"].eq(row.corruption_level)
    for key in ("features", "loss", "batch", "corruption", "augmentations"):
        if key in frame and hasattr(row, key):
            keep &= frame[key].fillna("").eq(getattr(row, key))
    for key in ("weight_decay", "dropout"):
        if key in frame and getattr(row, key) in ("on", "off"):
            keep &= frame[key].gt(0) == (getattr(row, key) == "on")
    return keep
