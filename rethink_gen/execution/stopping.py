"""Stop signals, SIGTERM and Ctrl-C, in the three ways that they are answered: at once, later, or by a child.

The end of a time limit is one more: SIGALRM, which a timer of this process sends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rethink_gen.errors import Interrupted, TimeIsUp

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
SECONDS_TO_STOP = 5.0  # the promise is ten, also on a busy machine


@contextmanager
def _handled(handle: Callable[[int, Any], Any], *numbers: signal.Signals) -> Iterator[None]:
    """Has a function handle these signals inside the block; it changes nothing outside of the main thread."""
    try:
        before = {number: signal.signal(number, handle) for number in numbers}
    except ValueError:  # only the main thread can set signal handlers
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def at_once(last_words: Callable[[], None]) -> Iterator[None]:
    """Inside the block, SIGTERM raises Interrupted. The process ends itself after SECONDS_TO_STOP without an answer.

    While a large network is compiled or measured, Python may not run a signal handler for minutes.

    Args:
      last_words: called before the process ends itself.
    """
    ended = threading.Event()
    read, write = os.pipe()
    os.set_blocking(write, False)

    def interrupt(number: int, frame: object) -> None:
        raise TimeIsUp("the time limit is reached") if number == signal.SIGALRM else Interrupted("stopped by SIGTERM")

    def watch() -> None:
        number = next((n for [n] in iter(lambda: os.read(read, 1), b"") if n in _STOP_SIGNALS), None)
        if number and not ended.wait(SECONDS_TO_STOP):
            last_words()
            os._exit(130 if number == signal.SIGINT else Interrupted.exit_code)

    threading.Thread(target=watch, daemon=True).start()
    with _handled(interrupt, signal.SIGTERM, signal.SIGALRM):
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        try:
            yield
        finally:
            ended.set()
            signal.set_wakeup_fd(before)
            os.close(write)


@contextmanager
def later() -> Iterator[Callable[[], None]]:
    """Defers SIGTERM and Ctrl-C until the code is ready to stop.

    Yields a function that raises Interrupted or KeyboardInterrupt if a signal has arrived. A second Ctrl-C interrupts
    at once.
    """
    received: list[int] = []

    def raise_if_stopped() -> None:
        if signal.SIGINT in received:
            raise KeyboardInterrupt
        if signal.SIGALRM in received:
            raise TimeIsUp("the time limit is reached; run the same command to continue")
        if received:
            raise Interrupted("stopped by SIGTERM; run the same command to continue")

    def receive(number: int, _: Any) -> None:
        if number in received and number == signal.SIGINT:
            raise KeyboardInterrupt  # a second Ctrl-C
        received.append(number)

    with _handled(receive, *_STOP_SIGNALS):
        yield raise_if_stopped


@contextmanager
def after(seconds: float) -> Iterator[None]:
    """Inside the block, stops this process after some seconds as a stop signal does; for the main thread."""
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@contextmanager
def by_child(child: subprocess.Popen[Any]) -> Iterator[None]:
    """Passes stop signals on to a child process, which has the last word."""
    with _handled(lambda number, _: child.send_signal(number), signal.SIGTERM, signal.SIGINT):
        yield
