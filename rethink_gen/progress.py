"""What a person sees while runs train: a bar on a terminal, lines in a log, a line that changes in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from rethink_gen.experiment import AnyRun

SECONDS_BETWEEN_LINES = 5.0


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
    waiting: bool = False  # for another process, which is at this run
    beside: int = 0  # how many more runs are trained side by side with it


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """Yields the function that shows how far the runs are."""
    if not sys.stderr.isatty():
        yield lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(20),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting", total=None, note="")

        def report(now: Progress) -> None:
            done = now.done_runs + now.step / now.steps
            bars.update(task, description=title(now), completed=done, total=now.total_runs, note=note(now))

        yield report


def lines() -> Callable[[Progress], None]:
    """Prints a line when a run ends, and before that one per epoch, or one in five seconds where epochs are shorter."""
    shown: tuple[AnyRun | None, int] = (None, 0)
    last = time.monotonic()

    def report(now: Progress) -> None:
        nonlocal shown, last
        epochs = getattr(now.run, "epochs", None)
        place = -1 if now.waiting else now.epoch if epochs else now.step
        due = now.waiting or now.step == now.steps or time.monotonic() - last > SECONDS_BETWEEN_LINES
        if due and (now.run, place) != shown:
            shown, last = (now.run, place), time.monotonic()
            reached = f"epoch {now.epoch}/{epochs}" if epochs else f"{now.step / now.steps:.0%} solved"
            left = f"{duration(now.seconds_left)} left for this run" if now.seconds_left else ""
            parts = [note(now)] if now.waiting else [reached, note(now), left]
            say(f"{title(now)}: {', '.join(filter(None, parts))}")

    return report


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def notebook() -> Callable[[Progress], None]:
    """Shows how far the runs are, below the cell of a notebook, in a line that changes."""
    from IPython.display import display

    line = lambda text: {"text/plain": text}
    place: Any = display(line("starting"), raw=True, display_id=True)

    def report(now: Progress) -> None:
        ended = now.step == now.steps and now.done_runs + 1 == now.total_runs
        text = f"{now.total_runs} runs done" if ended else f"{title(now)}: {now.step / now.steps:.0%}, {note(now)}"
        place.update(line(text), raw=True)

    return report


def title(now: Progress) -> str:
    """Which run it is, of how many."""
    return f"({now.done_runs + 1}/{now.total_runs}) {now.run.id}"


def note(now: Progress) -> str:
    """How well the run does, or who does it."""
    if now.waiting:
        return "another process is at it; waiting"
    accuracies = {name: now.metrics.get(f"{name}_accuracy") for name in ("train", "test")}
    return ", ".join(f"{name} {100 * value:.1f} %" for name, value in accuracies.items() if value is not None)


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def say(line: str) -> None:
    """A line for the person at the terminal, out of the way of the output."""
    print(line, file=sys.stderr, flush=True)


def in_one_line(text: str) -> str:
    """The text without what would move a terminal: names of files are other people's."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
