"""Fields of runs: what is said of each, and their values, from Python, JSON or the command line, as annotated types."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable
from dataclasses import field
from typing import Any

from rethink_gen import registry
from rethink_gen.errors import UsageError


def setting(
    default: Any,
    about: str,
    *,
    within: tuple[float, float] = (-math.inf, math.inf),
    traced: bool = False,
    kind: str = "",
    left_out: Any = ...,
) -> Any:
    """A field of a run.

    Args:
      default: the value of a run that does not name the field.
      left_out: the value that run ids leave out, where it is not the default.
      about: the help of its option on the command line.
      within: the range of values, both ends included.
      traced: a number that is fed to a compiled program; the other fields choose the program.
      kind: the kind of component that it names, see `registry`.
    """
    left_out = default if left_out is ... else left_out
    metadata = {"about": about, "range": within, "traced": traced, "kind": kind, "left_out": left_out}
    return field(default=default, metadata=metadata)


SEED = (0, 2**31 - 1)


def seeds_of(seeds: Iterable[int]) -> tuple[int, ...]:
    """Each of several seeds once, in their order.

    Raises:
      UsageError: it is one number, which could be a seed or how many there are.
    """
    if isinstance(seeds, str) or not isinstance(seeds, Iterable):
        raise UsageError(f"seeds are several numbers, such as seeds=range(3) or seeds=[3], got {seeds!r}")
    return tuple(dict.fromkeys(seeds))


def coerce(name: str, value: Any, hint: Any, kind: str = "") -> Any:
    """`value` as the annotated type, from Python, JSON or the command line, or a UsageError that names the field.

    Where the field names components, in their one spelling.
    """
    if isinstance(hint, types.UnionType):  # "T | None"
        if value is None or value == "None":
            return None
        hint = next(t for t in typing.get_args(hint) if t is not types.NoneType)
    if typing.get_origin(hint) is tuple and isinstance(value, str | tuple | list):
        parts = registry.split(value) if isinstance(value, str) else value
        return tuple(coerce(name, part, str, kind) for part in parts if part)
    if kind and isinstance(value, str) and registry.is_component(value):
        return registry.canonical(kind, value)
    if kind:
        raise UsageError(f"{name} must be a name, or name(option=value,…), got {str(value)[: registry.LONGEST]!r}")
    try:
        if hint is bool and str(value) in ("True", "true", "False", "false"):
            return str(value) in ("True", "true")
        if hint is int and not isinstance(value, bool) and int(value) == float(value):
            return int(value)
        if hint is float and not isinstance(value, bool) and math.isfinite(float(value)):
            return float(value) + 0.0  # -0.0 equals 0.0, so it becomes 0.0: equal runs share an id
        if hint is str and isinstance(value, str):
            text = registry.dataset_name(value) if name == "dataset" else value
            if (registry.DATASET if name == "dataset" else registry.NAME).fullmatch(text):
                return text
    except (TypeError, ValueError, OverflowError):
        pass
    name_kind = "a name of letters, digits, '_' and '.'"
    words = {int: "a whole number", float: "a finite number", bool: "true or false", str: name_kind}.get(hint, "names")
    ways = "; one value per run: for several, repeat the command, or use rg.grid in Python"
    several = isinstance(value, str) and "," in value and hint in (int, float)
    raise UsageError(f"{name} must be {words}, got {value!r}{ways * several}")
