"""Format numbers and names for people."""

from __future__ import annotations

from collections.abc import Sized


def duration(seconds: float) -> str:
    """Formats seconds in hours, minutes or seconds: 12600 is "3.5 h"."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def cpu(cores: int | str) -> str:
    """The name of a CPU in a result: XLA splits sums by the number of cores, so that is part of the device."""
    return f"cpu ({cores} core{'s' * (str(cores) != '1')})"


def in_one_line(text: str) -> str:
    """Removes control characters and line breaks, so that a file name cannot control the terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def count(things: Sized | int, noun: str) -> str:
    """How many there are, in words: 1 run, 2 runs."""
    number = things if isinstance(things, int) else len(things)
    return f"{number:,} {noun}{'s' * (number != 1)}"


def part(some: Sized | int, every: Sized | int, noun: str) -> str:
    """How many of how many, in words: 2 of 3 runs; where there is one and it counts, 1 run."""
    number = some if isinstance(some, int) else len(some)
    of = count(every, noun)
    return of if number == 1 and of.startswith("1 ") else f"{number:,} of {of}"
