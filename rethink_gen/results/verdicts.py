"""Mean, interval and verdict over seeds. Runs that diverged or never fitted are counted and not averaged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from rethink_gen.errors import UsageError
from rethink_gen.runs import SEEDS, fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd


REPRODUCED, CLOSE = 0.01, 0.03  # largest difference from the paper's value, as fractions
_TOLERANCE = 1e-9  # 0.5339 - 0.5239 is one percentage point plus a rounding error, and 1 - 0.9 - 0.1 is below 0


class Summary(NamedTuple):
    """One metric over the seeds of one setting."""

    mean: float = math.nan
    low: float = math.nan  # of the 95 % interval
    high: float = math.nan
    interval: str = ""  # its source of variation: "seeds" (Student's t), "test images" (Wilson, one run), or ""
    spread: float = math.nan  # sample standard deviation over seeds
    n: int = 0  # finished runs with a value; these are averaged
    diverged: int = 0  # runs
    censored: int = 0  # finished runs without a value, because they never reached a threshold
    fitted: int = 0  # runs whose training accuracy reached FIT_THRESHOLD

    @property
    def runs(self) -> int:
        return self.n + self.diverged + self.censored


def summarize(frame: pd.DataFrame, metric: str) -> Summary:
    """Summarizes a metric at the last epoch over replicates; see `summarize_each`."""
    return summarize_each(frame, [metric])[0]


def summarize_each(frame: pd.DataFrame, metrics: Sequence[str]) -> list[Summary]:
    """Summarizes metrics at the last epoch over replicates: runs that differ only in their seed.

    The 95 % interval is Student's t over seeds; its width is zero if all seeds agree. For a single run and an accuracy
    or error on the test set it is Wilson's interval over the test images. Intervals of fractions are clipped to [0, 1].

    Raises:
      UsageError: the runs differ in more than their seed; the message names the fields.
    """
    import numpy as np

    if names := differing(frame):
        raise UsageError(f"cannot average runs that differ in {', '.join(names)}; group by it, or select one value")
    if not len(frame):
        return [Summary()] * len(metrics)
    ended = frame["last"].to_numpy(bool)
    status = frame["status"].to_numpy(object)[ended]
    finished = status == "finished"
    counted = {
        "diverged": int((status == "diverged").sum()),
        "fitted": int(frame["epochs_to_fit"].notna().to_numpy()[ended].sum()),
    }
    summaries = []
    for metric in metrics:
        of_finished = frame[metric].to_numpy(float, na_value=math.nan)[ended][finished]
        values = of_finished[~np.isnan(of_finished)].tolist()
        summary = _interval(values)
        lowest = -1.0 if "gap" in metric else 0.0
        # An error of one's own may be above 1.
        inside = all(lowest - _TOLERANCE <= value <= 1 + _TOLERANCE for value in values)
        fraction = is_fraction(metric) and inside
        if len(values) == 1 and fraction and "test" in metric and "gap" not in metric:
            low, high = _wilson(min(max(values[0], 0.0), 1.0), int(frame["num_test"].to_numpy()[ended][finished][0]))
            summary = summary._replace(low=low, high=high, interval="test images")
        if fraction:
            summary = summary._replace(low=max(summary.low, lowest), high=min(summary.high, 1.0))
        censored = int(finished.sum()) - len(values)
        summaries.append(summary._replace(n=len(values), censored=censored, **counted))
    return summaries


def verdict(ours: Summary, paper: float | str, *, same_scale: bool = True, confidence: str = "") -> str:
    """Compares our mean with a value of the paper.

    * not run: there is no run.
    * other scale: our runs are not at the paper's scale.
    * no verdict: the value is quoted from memory and not checked against a source.
    * reproduced: the difference is at most one percentage point. This is the 95 % sampling error of one accuracy near
      50 % on 10,000 test images, so a repetition of the paper's own run could differ as much.
    * close: the difference is at most three percentage points.
    * off: the difference is larger, or at least as many seeds diverged as finished.

    Values above one, such as norms, are compared relatively, with the same two thresholds. The paper reports single
    runs without intervals. The rule does not depend on our number of seeds, on purpose: with a significance test, more
    seeds would make more cells off.

    Args:
      ours: the summary of our runs.
      paper: the paper's value. A text says that the network failed to converge. Then the verdict is *reproduced* if no
        seed reached FIT_THRESHOLD, else *off*.
      same_scale: whether our runs are at the paper's scale.
      confidence: how the value is known, see `papers`.
    """
    if ours.runs == 0:
        return "not run"
    if not same_scale:
        return "other scale"
    if confidence == "memory":
        return "no verdict"
    if isinstance(paper, str):
        return "off" if ours.fitted else "reproduced"
    if ours.n == 0 or ours.diverged >= ours.n:
        return "off"
    difference = abs(ours.mean - paper) / max(1.0, abs(paper)) - _TOLERANCE
    return "reproduced" if difference <= REPRODUCED else "close" if difference <= CLOSE else "off"


def same_scale(frame: pd.DataFrame, dataset: str, train_size: float = math.nan) -> bool:
    """Whether runs are comparable with the paper's: its data, and paper scale if there is such a column.

    Args:
      train_size: how many of the training examples the paper uses; NaN: all.
    """
    sizes = frame["train_size"]
    whole = frame["dataset"].eq(dataset) & frame["test_size"].isna()
    whole &= sizes.isna() if math.isnan(train_size) else sizes.eq(train_size)
    return bool(whole.all()) and ("scale" not in frame or bool(frame["scale"].eq("paper").all()))


def differing(frame: pd.DataFrame) -> list[str]:
    """The fields, other than seeds, in which the runs of a frame differ."""
    if len(frame) < 2:
        return []
    there = fields(*frame["kind"].unique()) if "kind" in frame else fields()
    names = [name for name in ("scale", "kind", *there) if name in frame and name not in SEEDS]
    if not names:
        return []
    chosen = frame[names]
    values = chosen.to_numpy(object, copy=True)  # in one array: column by column takes ten times as long
    values[chosen.isna().to_numpy()] = None  # nan is no number that equals itself
    differ = values != values[0]
    return [name for name, differs in zip(names, differ.any(axis=0), strict=True) if differs]


def is_fraction(metric: str) -> bool:
    """Whether a metric is a fraction: an accuracy, an error, the gap between two accuracies, or a share of examples."""
    if "_error_to_" in metric:  # mean squared errors of an IdentityRun
        return False
    return any(word in metric for word in ("accuracy", "error", "gap", "recovered", "confused", "never_forgotten"))


def _interval(values: list[float]) -> Summary:
    """Mean, spread and Student's 95 % interval over seeds; the counts are left at 0."""
    import numpy as np
    from scipy.special import stdtrit  # scipy.stats takes two seconds to import

    n = len(values)
    if n == 0:
        return Summary()
    if n == 1:
        return Summary(mean=values[0])
    if min(values) == max(values):  # the formula would add a rounding error
        return Summary(values[0], values[0], values[0], "seeds", 0.0)
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stdtrit(n - 1, 0.975)) * spread / math.sqrt(n)
    return Summary(mean, mean - half, mean + half, "seeds", spread)


def _wilson(p: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a proportion p of n."""
    z = 1.959963984540054
    center, scale = p + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return (center - half) / scale, (center + half) / scale
