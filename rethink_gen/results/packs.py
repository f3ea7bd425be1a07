"""Packs: many results of a folder in one file, runs.jsonl, so that hundreds of small runs are not hundreds of files.

A line of a pack is the JSON of one result, with its checksum. Lines are in the order of names, so equal results give
equal bytes, and a pack can be searched, compared and merged as text.

A result is called folder/<run id>.json, whether it is a file or a line of the folder's pack. If it is both, the file is
newer, and the line does not count. So whoever looks for results looks for files first: what is moved into the pack in
the meantime is then found there. `study/packing.py` writes packs.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rethink_gen.results.validation import LONGEST_FILE, Damaged

FILE = "runs.jsonl"
LOCK = "runs"  # the name under which `locks.claim` locks a pack
_ID = re.compile(r"[A-Za-z0-9_][\w.=+-]*")


class Line(NamedTuple):
    """A result in a pack."""

    place: Path  # folder/runs.jsonl:7, its file and line
    content: bytes


# Packs that were read, each with its stamp: size, times and inode. A pack is read again if these have changed.
_known: dict[Path, tuple[tuple[int, ...], dict[str, Line]]] = {}


def paths(folder: Path) -> list[Path]:
    """What the results of a folder are called, in the order of names; the pack itself if it cannot be read."""
    single = set(folder.glob("*.json"))
    try:
        return sorted(single | {folder / name for name in lines(folder)})
    except Damaged as error:
        return sorted({*single, error.path})


def exists(path: Path) -> bool:
    """Whether there is a result of this name.

    Raises:
      Damaged: there is no such file, and the pack cannot be read.
    """
    return path.exists() or path.name in lines(path.parent)


def place(path: Path) -> Path:
    """Where a result stands: its own file, or folder/runs.jsonl:7, a line of the pack."""
    line = None if path.exists() else lines(path.parent).get(path.name)
    return line.place if line else path


def load(path: Path) -> tuple[bytes, Path]:
    """The JSON of a result, and the file or line where it stands.

    Raises:
      Damaged: it is not a file, or too large.
      OSError: it cannot be read, or is not there.
    """
    try:
        return _content(path), path
    except FileNotFoundError:
        if line := lines(path.parent).get(path.name):
            return line.content, line.place
        raise


def lines(folder: Path) -> Mapping[str, Line]:
    """Name → line of the pack of a folder, in the order of the file; a line without an id, and one that has
    another content than an earlier line of its run, is called after its place.

    Raises:
      Damaged: the pack is not a file, is too large, or cannot be read.
    """
    path = folder / FILE
    try:
        about = path.stat()
        stamp = (about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino)
        if _known.get(path, ((),))[0] != stamp:
            _known[path] = stamp, _parts(path)
        return _known[path][1]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> Damaged:
    """The error for a file that the system does not let us read."""
    return Damaged(path, f"cannot be read ({error.strerror})", "make it readable, or move it away")


def _parts(path: Path) -> dict[str, Line]:
    """The lines of a pack; see `lines`."""
    found: dict[str, Line] = {}
    for number, content in enumerate(_content(path).split(b"\n"), 1):
        if content.strip():
            place = path.with_name(f"{FILE}:{number}")
            name = _name(content) or place.name
            if name not in found:
                found[name] = Line(place, content)
            elif content != found[name].content:
                found[place.name] = Line(place, content)
    return found


def _content(path: Path) -> bytes:
    """The bytes of a file. A device or a pipe is not read: that might never end."""
    about = os.stat(path)
    if not stat.S_ISREG(about.st_mode):
        raise Damaged(path, "not a file")
    if about.st_size > LONGEST_FILE:
        raise Damaged(path, f"not a result file (it is larger than {LONGEST_FILE >> 20} MB)")
    return path.read_bytes()


def _name(line: bytes) -> str | None:
    """What the result in a line is called; None if the line does not say, or says something that is not an id."""
    try:
        found = json.loads(line)["id"]
        return f"{found}.json" if _ID.fullmatch(found) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
