"""What is run, as frozen data: a `Run` is one training, with siblings for what is solved and not trained.

Plain Python: importing this package, or a file of experiments/, loads neither jax nor pandas.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from rethink_gen import registry
from rethink_gen.errors import unknown
from rethink_gen.runs.base import SEEDS as SEEDS
from rethink_gen.runs.base import AnyRun as AnyRun
from rethink_gen.runs.base import hints as hints
from rethink_gen.runs.solved import ExpressivityRun as ExpressivityRun
from rethink_gen.runs.solved import IdentityRun as IdentityRun
from rethink_gen.runs.solved import KernelRun as KernelRun
from rethink_gen.runs.solved import LearnerRun as LearnerRun
from rethink_gen.runs.solved import LeastSquaresRun as LeastSquaresRun
from rethink_gen.runs.solved import PacBayesRun as PacBayesRun
from rethink_gen.runs.solved import RidgeRun as RidgeRun
from rethink_gen.runs.solved import SearchRun as SearchRun
from rethink_gen.runs.solved import TeacherRun as TeacherRun
from rethink_gen.runs.training import AFRESH as AFRESH
from rethink_gen.runs.training import CORRECT as CORRECT
from rethink_gen.runs.training import EXAMPLES as EXAMPLES
from rethink_gen.runs.training import MEASURES as MEASURES
from rethink_gen.runs.training import OF_EXAMPLES as OF_EXAMPLES
from rethink_gen.runs.training import RECORDS as RECORDS
from rethink_gen.runs.training import WEIGHTS as WEIGHTS
from rethink_gen.runs.training import Run as Run

NAME = registry.NAME
R = TypeVar("R", bound="AnyRun")

KINDS: dict[str, type[AnyRun]] = {
    kind.kind: kind
    for kind in (
        *(Run, KernelRun, ExpressivityRun, LeastSquaresRun, RidgeRun),
        *(LearnerRun, SearchRun, PacBayesRun, IdentityRun, TeacherRun),
    )
}


@cache
def kinds() -> dict[str, str]:
    """Field → the kind of component that it names, of all kinds of run."""
    every = (each for kind in KINDS.values() for each in dataclasses.fields(kind))
    return {each.name: each.metadata["kind"] for each in every if each.metadata["kind"]}


@cache
def fields(*kinds: str) -> dict[str, Any]:
    """Field → annotated type, of these kinds of run, or of all."""
    return {name: hint for kind in kinds or KINDS for name, hint in hints(KINDS[kind]).items()}


def components(run: AnyRun) -> Iterator[tuple[str, str]]:
    """The components that a run names, as pairs of kind and text."""
    for each in dataclasses.fields(run):
        if kind := each.metadata["kind"]:
            value = getattr(run, each.name)
            yield from ((kind, text) for text in (value if isinstance(value, tuple) else (value,)))


def grid(base: R, **axes: Any) -> tuple[R, ...]:
    """Every combination of the axes' values, the last axis fastest: `grid(run, model=("a", "b"), seed=range(3))`.

    An axis may also be one value, such as `model="a"`.
    """
    for name in axes:
        if name not in hints(type(base)):
            raise unknown("field", name, hints(type(base)))
    several = [[each] if isinstance(each, str) or not isinstance(each, Iterable) else each for each in axes.values()]
    return tuple(replace(base, **dict(zip(axes, values, strict=True))) for values in itertools.product(*several))


def as_dict(run: AnyRun) -> dict[str, Any]:
    """A run as JSON holds it."""
    return {"kind": run.kind, **dataclasses.asdict(run)}


def from_dict(fields: dict[str, Any]) -> AnyRun:
    """The run that `as_dict` made it of."""
    return KINDS[fields["kind"]](**{name: value for name, value in fields.items() if name != "kind"})
