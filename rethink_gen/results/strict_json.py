"""JSON as result files have it: without NaN and infinity, and with each curve on one line."""

from __future__ import annotations

import math
from typing import Any


def finite(values: Any) -> Any:
    """Replaces NaN and infinity by None, because JSON has neither."""
    if isinstance(values, dict):
        return {key: finite(value) for key, value in values.items()}
    if isinstance(values, list):
        return [finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def one_line_lists(text: str) -> str:
    """Puts each curve of indented JSON on one line, for readable files and diffs."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        lines[-1:] = [lines[-1] + line.strip()] if inside else [*lines[-1:], line]
        inside = line.endswith("[") or (inside and not line.strip().startswith("]"))
    return "\n".join(lines) + "\n"
