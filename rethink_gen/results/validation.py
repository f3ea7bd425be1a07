"""Checks what a result file holds before anything is computed from it. A checksum shows only that a file is unchanged.

So a file that another program wrote is named and left out, and does not end a table in an error without a name.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rethink_gen.errors import StorageError
from rethink_gen.results.records import CHANGED, SEEN, SPLITS, from_text
from rethink_gen.runs import KINDS, NAME, Run, fields
from rethink_gen.version import __version__
from rethink_gen.words import in_one_line

STATUSES = ("finished", "diverged")
LONGEST_FILE = 1 << 28  # bytes; the curves of 100,000 epochs take 30 MB
_WHOLE = ("epoch", "step")
_OF_TRAINING = ("train_accuracy", "test_accuracy")  # what is solved may have neither
_LARGEST = 2**53  # of a whole number: larger ones are not exact as float64
_LARGEST_NUMBER = 1.7e308  # of any; float64 holds little more
# A word; or a measure with its options, as a run names it.
_CURVE = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}(\([\w.=+,/~-]{1,130}\))?", re.ASCII)
# Columns of a frame that are no curves, apart from the fields of runs; see `frames.about` and `frames.assemble`.
_TAKEN = {
    *("kind", "run", "status", "last", "scale", "device", "fitted"),
    *("best_epoch", "best_test_accuracy", "best_test_top5_accuracy", "epochs_to_fit", "steps_to_fit"),
    *("validated_epoch", "validated_test_accuracy"),
    *("train_error", "test_error", "generalization_gap", "train_confused"),
    *("num_train", "num_test", "num_classes", "num_params", "seconds_compile", "seconds_train"),
}


class Damaged(StorageError):
    """A result that cannot be used: it is damaged, it is not a result, or another version wrote it.

    Args:
      path: what the result is called, folder/<run id>.json.
      way_out: empty: the run can be trained again.
      place: where the result stands, if not in that file; see `packs`.
    """

    def __init__(self, path: Path, reason: str, way_out: str = "", place: Path | None = None) -> None:
        self.path, self.place, self.replaceable = path, place or path, not way_out
        it = "this line" if re.search(r":\d+$", self.place.name) else "it"
        super().__init__(f"{self.place}: {reason}; {way_out or f'delete {it} and run again'}")


class Unknown(ValueError):
    """A part of a result that only another version of this package knows."""


def check_format(content: Any, schema: int) -> None:
    """Refuses content that another version wrote: its schema, its kind of run, or a field of the run is not known.

    Raises:
      Unknown: names the part.
    """
    if content["schema"] != schema:
        raise Unknown(f"schema {content['schema']!r}")
    if isinstance(content["kind"], str) and content["kind"] not in KINDS:
        raise Unknown(f"kind of run {content['kind']!r}")
    known = {each.name for each in dataclasses.fields(KINDS[content["kind"]])}
    for name in content["run"]:
        if name not in known:
            raise Unknown(f"field {name!r}")


def check(kind: str, status: Any, curves: Any, provenance: Any) -> None:
    """Refuses values of the wrong type, out of range, or of different lengths.

    Raises:
      ValueError: names the value.
    """
    if status not in STATUSES:
        raise ValueError(f"status must be {' or '.join(STATUSES)}")
    if not isinstance(curves, dict) or not isinstance(provenance, dict):
        raise ValueError("curves and provenance must be objects")
    for name in ("epoch", *(_OF_TRAINING if kind == Run.kind else ())):
        if name not in curves:
            raise ValueError(f"no curve {name}")
    for name, values in curves.items():
        if not can_name_curve(name, kind):
            raise ValueError(f"a curve cannot have the name {name[:64]!r}")
        if not isinstance(values, list) or len(values) != len(curves["epoch"]) or not values:
            raise ValueError(f"curve {name} must be a list, one value per epoch")
        if not _fit(name, values):
            raise ValueError(f"curve {name} has a value of the wrong type or out of range")
    for name in _WHOLE:
        values = [value for value in curves.get(name, []) if value is not None]
        if values != sorted(values):
            raise ValueError(f"curve {name} must not fall")
    if None in curves["epoch"]:
        raise ValueError("curve epoch has an empty place")
    _check_provenance(provenance)


def check_correct(correct: Any, provenance: Mapping[str, Any]) -> dict[str, str]:
    """What a result says of single examples, split → text, see `records.to_text`; refused if it fits no such split.

    Raises:
      ValueError: names the split.
    """
    if not isinstance(correct, dict):
        raise ValueError("correct must be an object")
    for split, text in correct.items():
        count = provenance.get("num_train" if split in (SEEN, CHANGED) else f"num_{split}")
        if split not in (*SPLITS, SEEN, CHANGED) or not isinstance(count, int) or not _is_count(count):
            raise ValueError(f"correct is of a split {split[:64]!r}, which the run has not")
        try:
            from_text(text, count)
        except (ValueError, TypeError) as error:
            raise ValueError(f"correct of {split}: {error}") from error
    return correct


def can_name_curve(name: str, kind: str) -> bool:
    """Whether a curve of a kind of run can have a name: it is of the right form, and no other column has it."""
    return bool(_CURVE.fullmatch(name)) and name not in _TAKEN and name not in fields(kind)


def _fit(name: str, values: list[Any]) -> bool:
    """Whether a curve can have these values: numbers in its range, or None where it was not measured."""
    there = [value for value in values if value is not None]
    if name in _WHOLE:
        whole = (int(value) if isinstance(value, float) and value.is_integer() else value for value in there)
        return all(map(_is_count, whole))
    if not {*map(type, there)} <= {int, float}:
        return False
    low, high = (0, 1) if "accuracy" in name else (-_LARGEST_NUMBER, _LARGEST_NUMBER)
    return all(low <= value <= high for value in there)  # also refuses NaN


def _check_provenance(provenance: Mapping[str, Any]) -> None:
    for name in ("num_train", "num_test"):
        if not _is_count(provenance.get(name)) or (name == "num_train" and not provenance[name]):
            raise ValueError(f"provenance must hold {name}, the number of images")
    for name in ("num_classes", "num_params"):
        if not _is_count(provenance.get(name, 0)):
            raise ValueError(f"{name} must be a whole number")
    for name in ("device", "data_sha256", "command", "platform", "precision"):
        if not isinstance(provenance.get(name, ""), str):
            raise ValueError(f"{name} must be a text")
    for name in ("seconds_train", "seconds_compile"):
        value = provenance.get(name)
        if value is not None and not (_is_number(value) and value >= 0):
            raise ValueError(f"{name} must be a number, 0 or larger")
    for name in ("versions", "code"):
        value = provenance.get(name, {})
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise ValueError(f"{name} must be an object of texts")


def readable(provenance: dict[str, Any]) -> dict[str, Any]:
    """The provenance with its device as it is shown: on one line, without escapes; older versions wrote "1 cores"."""
    if "device" not in provenance:
        return provenance
    return {**provenance, "device": in_one_line(provenance["device"]).replace("(1 cores)", "(1 core)")}


def maker(content: Any) -> str:
    """The version of this package that wrote a result, such as "rethink-gen 0.3.0", or a newer one."""
    with suppress(AttributeError, KeyError, TypeError):
        version = content["provenance"]["versions"]["rethink-gen"]
        if isinstance(version, str) and NAME.fullmatch(version) and version != __version__:
            return f"rethink-gen {version}"
    return "a newer version of rethink-gen"


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number that float64 holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_NUMBER


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST
