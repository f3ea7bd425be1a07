"""Text of the command line to values, and rows to text."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rethink_gen.errors import UsageError
from rethink_gen.study import finding

NARROWEST = 30  # characters of the last column of a list


def parse_seeds(text: str | None) -> list[int] | None:
    """`0..4`, `0,3` or `5` as a list of seeds."""
    if text is None:
        return None
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"([0-9]{1,10})(?:\.\.([0-9]{1,10}))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < first + finding.MOST_RUNS:
            raise UsageError(f"--seeds takes seeds and rising ranges of them, such as 0..4 or 0,3 or 5, got {text!r}")
        seeds.extend(range(first, last + 1))
    return seeds


def parse_shard(text: str) -> tuple[int, int]:
    """`2/5` as the second of five parts."""
    found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= parts:
        raise UsageError(f"--shard takes a part and how many there are, such as 1/4 … 4/4, got {text!r}")
    return part, parts


def parse_only(pairs: Sequence[str]) -> dict[str, list[str]]:
    """`["model=mlp_1x512", "seed=0", "seed=1"]` as field → values."""
    only: dict[str, list[str]] = {}
    for pair in pairs:
        field, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--only takes FIELD=VALUE, such as model=mlp_1x512, got {pair!r}")
        only.setdefault(field, []).append(value)
    return only


def output_file(path: Path) -> Path:
    """The path, once it is clear that a file can be there."""
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            f"{path} cannot be written: {'it is a folder' if path.is_dir() else 'its folder is not there'}"
        )
    return path


def show_rows(rows: list[dict[str, Any]], as_json: bool = False, columns: Sequence[str] | None = None) -> None:
    """Prints rows as JSON, or as aligned columns under their names; in a terminal `about` is as wide as fits."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    if not rows:
        return
    columns = columns or list(rows[0])
    cells = [[*columns], *([str(row[column]) for column in columns] for row in rows)]
    *widths, _ = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    indent = sum(widths) + 2 * len(widths)
    room = max(NARROWEST, shutil.get_terminal_size().columns - indent)
    wrapped = columns[-1] == "about" and sys.stdout.isatty()
    for *begin, last in cells:
        parts = (wrapped and textwrap.wrap(last, room, break_on_hyphens=False)) or [last]
        aligned = "".join(f"{cell.ljust(width)}  " for cell, width in zip(begin, widths, strict=True))
        print((aligned + f"\n{' ' * indent}".join(parts)).rstrip())
