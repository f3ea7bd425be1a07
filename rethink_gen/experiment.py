"""An `Experiment` is a claim and the runs that test it; this module also finds the files that hold experiments."""

from __future__ import annotations

import importlib.util
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from rethink_gen.errors import UsageError, unknown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

from rethink_gen.runs import AnyRun

Scale = Literal["smoke", "laptop", "paper"]
SCALES: tuple[Scale, ...] = typing.get_args(Scale)


class Check(NamedTuple):
    """One sentence of a claim, held against the results: True, False, or None where the runs it needs are missing."""

    statement: str
    holds: bool | None
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A claim, the runs that test it, and pure functions from their tidy frame to a table, a figure and a verdict.

    `runs` is the paper's own scale and `laptop` the same question within an hour on two CPU cores; smoke follows by
    one rule. The frame has one row per (run, epoch); see `results.frame` for its columns.
    """

    claim: str
    locator: str
    runs: tuple[AnyRun, ...]
    laptop: tuple[AnyRun, ...]
    table: Callable[[pd.DataFrame], pd.DataFrame]
    figure: Callable[[pd.DataFrame], Figure] | None = None
    checks: Callable[[pd.DataFrame], list[Check]]
    name: str = ""
    scale: Scale = "paper"
    doc: str = ""

    def at(self, scale: Scale) -> Experiment:
        """The same experiment at a scale: smoke, laptop or paper."""
        if scale not in SCALES:
            raise unknown("scale", scale, SCALES)
        runs = smoke(self.runs) if scale == "smoke" else self.laptop if scale == "laptop" else self.runs
        return replace(self, scale=scale, runs=tuple(dict.fromkeys(runs)))


def smoke(runs: tuple[AnyRun, ...]) -> tuple[AnyRun, ...]:
    """The first seed of each setting on 256 of scikit-learn's digits, for at most four epochs: it runs, in seconds.

    For ImageNet 8 generated pictures stand in.
    """
    first = min(run.seed for run in runs)
    kept = [run for run in runs if run.seed == first]
    return tuple(run.shrunk for run in kept if run.dataset != "digits") or tuple(kept)


HERE = Path(__file__).resolve().parent


def default_folder() -> Path:
    """The folder of experiments: the copy that travels in the wheel, else the checkout's own."""
    packaged = HERE / "_experiments"
    return packaged if packaged.is_dir() else HERE.parent / "experiments"


def names(folder: Path | None = None) -> list[str]:
    """The experiments in a folder, by file name."""
    folder = folder or default_folder()
    if not folder.is_dir():
        raise UsageError(f"no folder of experiments at {folder}; name one with --experiments DIR")
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def find(name: str, folder: Path | None = None) -> Experiment:
    """The experiment whose file name is `name` or begins with it, if only one does."""
    folder = folder or default_folder()
    known = names(folder)
    matches = [name] if name in known else [k for k in known if name and k.startswith(name)]
    if len(matches) > 1:
        raise UsageError(f"{name!r} could be {', '.join(matches)}; give more letters")
    if not matches:
        raise unknown("experiment", name, known)
    path = folder / f"{matches[0]}.py"
    spec = importlib.util.spec_from_file_location(f"experiments.{path.stem}", path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found = module.EXPERIMENT
        if not isinstance(found, Experiment):
            raise TypeError(f"it is of type {type(found).__name__}")
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except Exception as error:  # a user's own file: say where, not how
        raise UsageError(f"{path} does not define EXPERIMENT: {type(error).__name__}: {error}") from error
    return replace(found, name=path.stem, doc=(module.__doc__ or "").strip())
