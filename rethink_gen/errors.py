"""Errors a user can act on. Each carries the exit code of the command line that meets it.

0 done · 1 some runs failed · 2 usage · 3 data · 4 storage · 75 interrupted, out of time, or a host was lost: run
the same command again · 130 Ctrl-C.
"""

import difflib
import re
import textwrap
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LISTED = 80  # characters of names, close ones and known ones, so that the line stays short


class RethinkError(Exception):
    """One line that names the key or the file, and the way out."""

    exit_code = 1


class UsageError(RethinkError, ValueError):
    """The request cannot be carried out as it was put: an unknown name, a value out of range."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that is not in a table of names, such as a column or a component."""


class NoResults(UsageError):
    """An experiment has no results yet."""


class ComponentError(UsageError):
    """A component of a user's own fails, or returns the wrong thing. It concerns only the runs that use it."""


class DataError(RethinkError):
    """A data set is missing, truncated or altered."""

    exit_code = 3


class StorageError(RethinkError):
    """A results or work folder cannot be read or written, or what is in it is damaged."""

    exit_code = 4


class HostLost(RethinkError):
    """A process of a job on several hosts is gone, and with it the job; the same command continues it."""

    exit_code = 75


class Interrupted(BaseException):
    """A stop signal was answered: the work so far is on disk. Like KeyboardInterrupt, it is no error to be handled."""

    exit_code = 75


class TimeIsUp(Interrupted):
    """The time limit of the command is reached."""


@contextmanager
def naming(kind: str, text: str) -> Iterator[None]:
    """Names the component whose code raises an error inside the block, as a ComponentError."""
    try:
        yield
    except (UsageError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # sys.exit in a component would end all runs, without an error
        first = (str(error).splitlines() or [""])[0]
        raise ComponentError(f"{kind} {text!r} failed: {type(error).__name__}: {first}") from error


@contextmanager
def naming_part(experiment: str, part: str) -> Iterator[None]:
    """Names the experiment whose table or figure raises an error inside the block, and the line, as a UsageError."""
    try:
        yield
    except (RethinkError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        first = (str(error).splitlines() or [""])[0]
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rpartition('/')[2]}, line {last.lineno}"
        raise UsageError(f"{experiment}: its {part} fails: {type(error).__name__}: {first} ({where})") from error


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that is not in a table of names, with the nearest right ones."""
    known = sorted(known)
    close = _nearest(name, known)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    listed = textwrap.shorten(", ".join(known), max(30, LISTED - len(hint)), placeholder=" …") or "none"
    return UnknownName(f"no {kind} named {name!r}; {hint}known: {listed}")


def _nearest(name: str, known: list[str]) -> list[str]:
    """At most three known names: those alike but for capitals and hyphens, longer, or spelled nearly so; else those of
    which the first word is.
    """
    plain: dict[str, str] = {_plain(each): each for each in reversed(known)}
    asked = _plain(name)
    if asked in plain:
        return [plain[asked]]
    begin = [plain[each] for each in plain if len(asked) > 2 and each.startswith(asked)]
    close = [plain[each] for each in difflib.get_close_matches(asked, plain, n=3, cutoff=0.5)]
    if not begin and not close:
        words = {_plain(each.partition("_")[0]): each for each in reversed(known)}
        close = [words[each] for each in difflib.get_close_matches(asked, words, n=3, cutoff=0.7)]
    return list(dict.fromkeys([*sorted(begin), *close]))[:3]


def _plain(name: str) -> str:
    return re.sub(r"[-_. ]", "", name.lower())
