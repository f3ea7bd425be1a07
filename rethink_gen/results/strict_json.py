"""JSON as result files have it: without NaN and infinity, and in a file of its own or on one line."""

from __future__ import annotations

import json
import math
from typing import Any


def finite(values: Any) -> Any:
    """Replaces NaN and infinity by None, because JSON has neither."""
    if isinstance(values, dict):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, list):
        return [finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def in_a_file(content: Any) -> bytes:
    """JSON of a file of its own, with each curve on one line, for readable files and diffs."""
    lines: list[str] = []
    inside = False
    for line in json.dumps(content, indent=1, allow_nan=False).splitlines():
        lines[-1:] = [lines[-1] + line.strip()] if inside else [*lines[-1:], line]
        inside = line.endswith("[") or (inside and not line.strip().startswith("]"))
    return ("\n".join(lines) + "\n").encode()


def in_a_line(content: Any) -> bytes:
    """JSON of a line of a pack."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode() + b"\n"
