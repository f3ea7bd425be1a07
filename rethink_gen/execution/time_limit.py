"""A time limit for a command: no run begins that cannot end in time, and one that is under way is stopped before."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from rethink_gen.errors import DataError, UsageError
from rethink_gen.execution import costs, machine
from rethink_gen.results import locks, packs, store
from rethink_gen.results.result import Result
from rethink_gen.runs import AnyRun
from rethink_gen.words import cpu, duration

SECONDS_TO_STOP = 5.0  # of the limit, for the checkpoints of what is under way
_UNITS = {"h": 3600, "m": 60, "s": 1}
_SHORTEST = 10  # seconds


def parse(text: str) -> int:
    """Seconds of a time such as 12m, 1h30m or 90s.

    Raises:
      UsageError: it is no time, or too short to stop in.
    """
    parts = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", text.strip())
    seconds = sum(int(n or 0) * size for n, size in zip(parts.groups(), _UNITS.values(), strict=True)) if parts else 0
    if seconds < _SHORTEST:
        raise UsageError(f"--time-limit takes a time of at least {_SHORTEST}s, such as 12m, 1h30m or 90s, got {text!r}")
    return seconds


class TimeLimit:
    """When a command has to stop, and which runs it may still begin."""

    def __init__(self, seconds: float, known: Iterable[Result] = (), clock: Callable[[], float] = time.monotonic):
        """
        Args:
          seconds: from now.
          known: finished results, which tell what runs of the same kind take on this device.
          clock: seconds that only grow.
        """
        self._clock, self._known = clock, list(known)
        self._timings = costs.timings(self._known)
        self._end = clock() + seconds - SECONDS_TO_STOP
        self._read: dict[Path, tuple[int, costs.Timings]] = {}  # folder → how many files there were, and their timings

    def left(self) -> float:
        """Seconds until work has to stop."""
        return self._end - self._clock()

    def fits(self, run: AnyRun, folder: Path, processes: int = 1) -> bool:
        """Whether a run may begin now.

        A run with a checkpoint goes on, and so does one of which nothing is known. Another begins only if it can end.

        Args:
          folder: of results, where those of this command appear.
          processes: that share the cores of this machine.
        """
        if any(locks.work_folder(folder, run).rglob("checkpoint-*.npz")):
            return self.left() > 0
        seconds = self.seconds(run, folder, processes)
        return self.left() > (seconds or 0)

    def seconds(self, run: AnyRun, folder: Path, processes: int = 1) -> float | None:
        """What a run will take here: measured by `costs.calibrate`, or as long as others took; None: not known."""
        try:
            cost = costs.cost([run], self._known, processes)
        except DataError:
            cost = None
        if cost:
            return cost.seconds
        device = _device(processes)
        for known in (lambda: self._timings, lambda: self._in(folder)):
            if (found := costs.estimate([run], known()).get(device)) is not None:
                return found
        return None

    def _in(self, folder: Path) -> costs.Timings:
        """The timings in a folder, read again only once there are more: this is asked for each run that waits."""
        number = len(packs.paths(folder))
        if self._read.get(folder, (0, {}))[0] != number:
            self._read[folder] = number, costs.timings(store.sift(folder)[0])
        return self._read[folder][1] if number else {}

    def remark(self, missing: Iterable[AnyRun], folder: Path, processes: int = 1) -> str:
        """What the command has left, and what comes next."""
        runs = list(missing)
        seconds = self.seconds(runs[0], folder, processes)
        takes = f", which takes about {duration(seconds)}" if seconds else ""
        return f"time limit: {len(runs)} left; the next is {runs[0].id}{takes}"


def _device(processes: int) -> str:
    """The name of the device of a run, as results have it; jax is imported only where it may find an accelerator."""
    if machine.accelerated():
        from rethink_gen.training.provenance import provenance

        return provenance()["device"]
    alone = os.environ.get("NPROC", len(machine.cores()))
    return cpu(machine.count_cores() // processes if processes > 1 else alone)
