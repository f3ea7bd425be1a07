"""How far a run has come."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rethink_gen.runs import AnyRun


class Progress(NamedTuple):
    """What a run has reached. `metrics` is the newest row of its curves, complete once per epoch."""

    run: AnyRun
    step: int
    steps: int  # of the whole run
    epoch: int  # epochs completed
    metrics: dict[str, float | None]
    done_runs: int
    total_runs: int
    seconds_left: float | None  # of this run
    failed_runs: int = 0  # of those that are done
    waiting: bool = False  # for another process, which is at this run
    beside: int = 0  # how many more runs are trained side by side with it
