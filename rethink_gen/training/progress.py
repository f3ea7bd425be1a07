"""The progress of a run, as reported while it trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rethink_gen.runs import AnyRun


class Progress(NamedTuple):
    """How far a run is, and how many runs are done."""

    run: AnyRun
    step: int  # steps completed
    steps: int  # steps of the whole run
    epoch: int  # epochs completed
    metrics: dict[str, float | None]  # the newest row of the curves; it changes once per epoch
    done_runs: int
    total_runs: int
    seconds_left: float | None  # for this run
    failed_runs: int = 0  # of `done_runs`
    waiting: bool = False  # whether another process works on this run
    holder: str = ""  # who works on it and how to go on, once that takes long
    beside: int = 0  # number of other runs that train side by side with it
    seconds_compile: float = 0.0  # of this run so far; little where an earlier run has compiled the program
    stage: str = ""  # what comes before the run itself, such as "pre-training, epoch 3/10"; `metrics` are then of that
    done_before: int = 0  # steps of its pre-training that are completed
    steps_before: int = 0  # of the whole pre-training

    @property
    def share(self) -> float:
        """How much of the run and its pre-training is completed, in [0, 1]."""
        return (self.done_before + self.step) / (self.steps_before + self.steps)
