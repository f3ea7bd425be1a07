"""Mean, interval and verdict over seeds. A run that diverged or never fitted is counted, never averaged in silence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from rethink_gen.errors import UsageError
from rethink_gen.runs import SEEDS, fields

if TYPE_CHECKING:
    import pandas as pd


REPRODUCED, CLOSE = 0.01, 0.03  # largest difference from the paper's value, as fractions
TOLERANCE = 1e-9  # 0.5339 - 0.5239 is a point and a rounding error


class Summary(NamedTuple):
    """One metric over the seeds of one setting."""

    mean: float = math.nan
    low: float = math.nan  # of the 95 % interval
    high: float = math.nan
    interval: str = ""  # what it allows for: "seeds" (Student's t), "test images" (Wilson, one run), or nothing
    spread: float = math.nan  # sample standard deviation over seeds
    n: int = 0  # finished runs with a value: the ones averaged
    diverged: int = 0
    censored: int = 0  # finished runs without a value: a threshold that was never reached
    fitted: int = 0  # runs whose training accuracy reached results.FIT_THRESHOLD

    @property
    def runs(self) -> int:
        return self.n + self.diverged + self.censored


def summarize(frame: pd.DataFrame, metric: str) -> Summary:
    """A metric at the last epoch of replicates, which are runs that differ in their seed alone.

    The interval is Student's t over seeds, of width zero when all seeds agree; for a single run and an accuracy or
    error on the test set it is Wilson's, over the test images. Intervals of fractions are clipped to [0, 1].

    Raises:
      UsageError: the runs differ in more than their seed; the message names the fields.
    """
    if names := differing(frame):
        raise UsageError(f"runs that differ in {', '.join(names)} have no common mean; group by it, or select")
    if not len(frame):
        return Summary()
    ends = frame[frame["last"]]
    finished = ends[ends["status"] == "finished"]
    values = finished[metric].dropna().tolist()
    mean, low, high, interval, spread = _interval(values)
    if len(values) == 1 and is_fraction(metric) and "test" in metric:
        low, high, interval = *_wilson(values[0], int(finished["num_test"].iloc[0])), "test images"
    if is_fraction(metric):
        low, high = max(low, -1.0 if "gap" in metric else 0.0), min(high, 1.0)
    return Summary(
        mean=mean,
        low=low,
        high=high,
        interval=interval,
        spread=spread,
        n=len(values),
        diverged=int((ends["status"] == "diverged").sum()),
        censored=len(finished) - len(values),
        fitted=int(ends["epochs_to_fit"].notna().sum()),
    )


def verdict(ours: Summary, paper: float | str, *, same_scale: bool = True, confidence: str = "") -> str:
    """Our mean compared with one value of the paper: reproduced, close, off; or why there is no verdict.

    The paper reports single runs, without intervals. A difference of at most one percentage point is *reproduced*:
    that is the 95 % sampling error of one accuracy near 50 % on 10,000 test images, so a repetition of the paper's own
    run could differ as much. At most three points is *close*, further is *off*, and so is a cell where as many seeds
    diverged as finished. The rule ignores our number of seeds on purpose: a test of significance would call more
    cells off the more seeds we run. A text value says that the network failed to converge: *reproduced* when no seed
    of ours reached results.FIT_THRESHOLD, else off. Values above one, such as norms, are compared relatively, with the
    same two numbers. Without a verdict are cells that are *not run*, runs at *other scale* than the paper's, and
    values of the paper that are quoted from memory: *no verdict*.
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
    difference = abs(ours.mean - paper) / max(1.0, abs(paper)) - TOLERANCE
    return "reproduced" if difference <= REPRODUCED else "close" if difference <= CLOSE else "off"


def same_scale(frame: pd.DataFrame, dataset: str) -> bool:
    """Whether runs can stand beside the paper's: on its data set, in full, and at paper scale where a column says."""
    whole = frame["dataset"].eq(dataset) & frame["train_size"].isna() & frame["test_size"].isna()
    return bool(whole.all()) and ("scale" not in frame or bool(frame["scale"].eq("paper").all()))


def differing(frame: pd.DataFrame) -> list[str]:
    """The fields, other than seeds, in which the runs of a frame differ."""
    constant = [name for name in ("scale", "kind", *fields()) if name in frame and name not in SEEDS]
    return [name for name in constant if frame[name].nunique(dropna=False) > 1]


def is_fraction(metric: str) -> bool:
    """Whether a metric is a fraction: an accuracy or an error in [0, 1], or the gap between two accuracies."""
    return any(word in metric for word in ("accuracy", "error", "gap"))


def _interval(values: list[float]) -> tuple[float, float, float, str, float]:
    """(mean, low, high, interval, spread) with Student's t at 95 %."""
    import numpy as np
    from scipy.special import stdtrit  # scipy.stats takes two seconds to import

    n = len(values)
    if n == 0:
        return math.nan, math.nan, math.nan, "", math.nan
    if n == 1:
        return values[0], math.nan, math.nan, "", math.nan
    if min(values) == max(values):  # not through the arithmetic, which would leave a rounding error
        return values[0], values[0], values[0], "seeds", 0.0
    mean, spread = float(np.mean(values)), float(np.std(values, ddof=1))
    half = float(stdtrit(n - 1, 0.975)) * spread / math.sqrt(n)
    return mean, mean - half, mean + half, "seeds", spread


def _wilson(p: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a proportion p of n."""
    z = 1.959963984540054
    center, scale = p + z * z / (2 * n), 1 + z * z / n
    half = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return (center - half) / scale, (center + half) / scale
