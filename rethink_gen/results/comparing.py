"""Are results the same, and are they of the same data?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rethink_gen.results import strict_json

if TYPE_CHECKING:
    from rethink_gen.results.store import Result


def same_end(one: Result, other: Result) -> bool:
    """Whether two results of a run are the same: status, curves and bits of examples. What one alone has does not
    count, for versions of this package measure different metrics; nor do seconds, which are others each time.
    """

    def alike(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
        both = [name for name in mine.keys() & theirs.keys() if not name.startswith("seconds_")]
        return all(mine[name] == theirs[name] for name in both)

    curves = alike(strict_json.finite(one.curves), strict_json.finite(other.curves))
    return one.status == other.status and curves and alike(one.correct, other.correct)


def different_data(results: Iterable[Any]) -> dict[str, dict[str, list[Any]]]:
    """The data sets whose name stands for different data: name → checksum → the results, or what has their `data`."""
    found: dict[str, dict[str, list[Any]]] = {}
    for result in results:
        name, checksum = result.data
        if checksum:
            found.setdefault(name, {}).setdefault(checksum, []).append(result)
    return {name: parts for name, parts in sorted(found.items()) if len(parts) > 1}
