"""Show progress while runs train: three lines on a terminal, log lines, or one line in a notebook."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group

    from rethink_gen.runs import AnyRun

from rethink_gen.training.progress import Progress
from rethink_gen.words import count, duration, part

_SECONDS_BETWEEN_LINES = 5.0
_SECONDS_BETWEEN_WAITS = 60.0


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """Yields a function that shows the progress on standard error: live on a terminal, else as lines."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield _lines()
        return
    from rich.console import Console
    from rich.live import Live

    began: tuple[float, float] | None = None  # time of the first report, and the runs done by then

    with Live("starting", console=Console(stderr=True), transient=True) as live:

        def report(now: Progress) -> None:
            nonlocal began
            done, moment = now.done_runs + now.share, time.monotonic()
            began = began or (moment, done)
            rate = (done - began[1]) / max(moment - began[0], 1e-9)
            live.update(_screen(now, (now.total_runs - done) / rate if rate else None))

        yield report


def _screen(now: Progress, seconds_left: float | None) -> Group:
    """Three lines for a terminal, cut to its width: all runs, the current run, and its newest metrics."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    ended = now.step == now.steps
    done = now.done_runs - now.failed_runs + ended
    counts = [
        f"{part(done, now.total_runs, 'run')} done",
        "" if now.waiting or ended else f"{1 + now.beside} running",
        f"{now.failed_runs} failed" if now.failed_runs else "",
        f"{duration(seconds_left)} left" if seconds_left else "",
    ]

    def line(text: str) -> Text:
        return Text(text, no_wrap=True, overflow="ellipsis")

    head = Table.grid(padding=(0, 1))
    bar = ProgressBar(now.total_runs, now.done_runs + now.share, width=20)
    head.add_row(bar, line(", ".join(filter(None, counts))))
    return Group(
        head, line(now.run.id), line(_note(now) if now.waiting else f"{_reached(now)}, {_note(now)}".rstrip(", "))
    )


def _lines() -> Callable[[Progress], None]:
    """Returns a function that prints one line per epoch, at most one in five seconds, and one when a run ends."""
    shown: tuple[AnyRun | None, int] = (None, 0)
    last = time.monotonic()

    def report(now: Progress) -> None:
        nonlocal shown, last
        epochs = getattr(now.run, "epochs", None)
        place = now.epoch if epochs else now.step
        since = time.monotonic() - last
        if now.waiting:  # once, once more when it is known for whom, and from then on once a minute
            place = -1 if not now.holder else -2
            due = shown[1] > place or since > _SECONDS_BETWEEN_WAITS
        else:
            due = (now.run, place) != shown and (now.step == now.steps or since > _SECONDS_BETWEEN_LINES)
        if due:
            shown, last = (now.run, place), time.monotonic()
            left = f"{duration(now.seconds_left)} left for this run" if now.seconds_left else ""
            parts = [_note(now)] if now.waiting else [_reached(now), _note(now), left]
            say(f"{_title(now)}: {', '.join(filter(None, parts))}")

    return report


def default() -> Callable[[Progress], None]:
    """Shows progress where the user is: below a notebook's cell, or as lines on stderr."""
    return notebook() if in_notebook() else _lines()


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def notebook() -> Callable[[Progress], None]:
    """Returns a function that shows the progress in one line below the cell of a notebook."""
    from IPython.display import display

    def line(text: str) -> dict[str, str]:
        return {"text/plain": text}

    place: Any = display(line("starting"), raw=True, display_id=True)

    def report(now: Progress) -> None:
        ended = now.step == now.steps and now.done_runs + 1 == now.total_runs
        text = f"{count(now.total_runs, 'run')} done" if ended else f"{_title(now)}: {now.share:.0%}, {_note(now)}"
        place.update(line(text), raw=True)

    return report


def _title(now: Progress) -> str:
    """The number of the run among all runs, the number of failed runs, and the run id."""
    failed = f", {now.failed_runs} failed" if now.failed_runs else ""
    return f"({now.done_runs + 1}/{now.total_runs}{failed}) {now.run.id}"


def _reached(now: Progress) -> str:
    """The epoch of a run, or the fraction that is solved."""
    epochs = getattr(now.run, "epochs", None)
    if now.stage:
        return now.stage
    return f"epoch {now.epoch}/{epochs}" if epochs else f"{now.share:.0%} solved"


def _note(now: Progress) -> str:
    """The newest metrics of a run and what its program took to compile, or that another process works on it."""
    if now.waiting:
        return f"waiting: {now.holder or 'another process works on it'}"
    loss = now.metrics.get("train_loss")
    accuracies = {name: now.metrics.get(f"{name}_accuracy") for name in ("train", "test")}
    numbers = [f"{name} {100 * value:.1f} %" for name, value in accuracies.items() if value is not None]
    numbers = numbers if loss is None else [f"loss {loss:.3g}", *numbers]
    return ", ".join([*numbers, f"compiled in {now.seconds_compile:.1f} s"] if now.seconds_compile > 0.05 else numbers)


def say(line: str) -> None:
    """Prints a line to standard error, so that it does not mix with the output.

    Work does not end because nobody can read this: where standard error is closed or full, the line is left out.
    """
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)
