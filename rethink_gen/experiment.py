"""An `Experiment` is a claim and the runs that test it; this module also finds the files that define experiments."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from rethink_gen import plugins
from rethink_gen.coercion import coerce
from rethink_gen.errors import UsageError, unknown
from rethink_gen.runs import AnyRun, fields, kinds

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Scale = Literal["smoke", "laptop", "paper"]
SCALES: tuple[Scale, ...] = typing.get_args(Scale)


class Study(Protocol):
    """What tables, figures, checks and the report see of a `rethink_gen.study.studies.Study`."""

    @property
    def experiment(self) -> Experiment: ...
    @property
    def results(self) -> tuple[Any, ...]: ...
    @property
    def missing(self) -> tuple[AnyRun, ...]: ...
    @property
    def failures(self) -> tuple[Any, ...]: ...
    @property
    def damaged(self) -> tuple[Any, ...]: ...
    @property
    def runs(self) -> pd.DataFrame: ...
    @property
    def curves(self) -> pd.DataFrame: ...
    def table(self) -> pd.DataFrame: ...
    def figure(self) -> Figure | None: ...
    def checks(self) -> list[Check]: ...


Table = Callable[[Any], "pd.DataFrame"]
Draw = Callable[[Any], "Figure"]
CheckFunction = Callable[[Any], "tuple[bool | None, str]"]


class Check(NamedTuple):
    """One sentence of a claim, compared with the results: True, False, or None where that is not known."""

    statement: str
    holds: bool | None
    evidence: str


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A claim, the runs that test it, and functions of the study: a table, a figure and checks.

    Args:
      claim: what the runs test, in one sentence.
      locator: where the paper makes the claim.
      runs: at the scale of the paper.
      laptop: the same question within an hour on two CPU cores.
      smoke: the runs that the smoke scale is derived from, see `_smoke`; empty: those of the paper. Name those of the
        laptop where networks at the paper's size take minutes even on digits.
      table: `table(study)` returns a table; see `analysis.declare`. None: one row for each setting.
      figure: `figure(study)` returns a figure; None: the experiment has no figure.
      checks: functions `check(study) -> (holds, evidence)`. The first paragraph of the docstring is the sentence that
        the function checks. `study` holds only the runs that the check needs, see `needs`.
      paper: the folder name of the paper, such as "zhang2017"; empty: the folder of the file.
    """

    claim: str
    locator: str
    runs: tuple[AnyRun, ...]
    laptop: tuple[AnyRun, ...]
    smoke: tuple[AnyRun, ...] = ()
    table: Table | None = None
    figure: Draw | None = None
    checks: Sequence[CheckFunction] = ()
    paper: str = ""
    name: str = ""
    scale: Scale = "paper"
    doc: str = ""

    def __post_init__(self) -> None:
        if callable(self.checks) or not all(map(callable, self.checks)):
            raise UsageError("checks must be a list of functions check(study) -> (holds, evidence)")

    def at(self, scale: Scale) -> Experiment:
        """The same experiment at a scale: smoke, laptop or paper."""
        if scale not in SCALES:
            raise unknown("scale", scale, SCALES)
        smoke = lambda: _smoke(self.smoke or self.runs)
        runs = smoke() if scale == "smoke" else self.laptop if scale == "laptop" else self.runs
        return replace(self, scale=scale, runs=tuple(dict.fromkeys(runs)))

    @property
    def has_verdict(self) -> bool:
        """Whether its runs test the claim: not at smoke scale, unless the laptop scale has the same runs."""
        return self.scale != "smoke" or set(self.runs) <= set(self.laptop)


def needs(**wanted: Any) -> Callable[[CheckFunction], CheckFunction]:
    """Decorates a check with the runs that it needs: field → value, or a list of values.

    The check is evaluated once each setting of these runs has a result, and it sees these runs alone. In its docstring,
    `{field}` stands for the value of a field. A check that is not decorated needs all runs of its experiment.

        @needs(corruption="random_labels")
        def random_labels_are_fitted(study):
            \"\"\"Every network fits random labels.\"\"\"
            return study.runs["fitted"].all(), f"{study.runs['fitted'].sum()} of {len(study.runs)} runs fitted"

    Raises:
      UsageError: no run has such a field, or the field cannot have such a value.
    """
    for field, values in wanted.items():
        _values(field, values)

    def decorate(check: CheckFunction) -> CheckFunction:
        vars(check)["needs"] = {**vars(check).get("needs", {}), **wanted}
        return check

    return decorate


def for_each(field: str, values: Iterable[Any], *checks: CheckFunction) -> list[CheckFunction]:
    """The checks once for each value of a field, such as each model; a check sees the runs with that value alone."""
    return [needs(**{field: value})(_copy(check)) for value in values for check in checks]


def select(runs: Iterable[AnyRun], wanted: Mapping[str, Any]) -> tuple[AnyRun, ...]:
    """The runs that have the wanted values: field → value, or a list of values."""
    allowed = {field: _values(field, values) for field, values in wanted.items()}
    return tuple(run for run in runs if all(getattr(run, field, None) in allowed[field] for field in allowed))


def _values(field: str, values: Any) -> list[Any]:
    if field not in fields():
        raise unknown("field", field, fields())
    values = values if isinstance(values, list) else [values]
    return [coerce(field, value, fields()[field], kinds().get(field, "")) for value in values]


def _copy(check: CheckFunction) -> CheckFunction:
    @functools.wraps(check)
    def copy(study: Study) -> tuple[bool | None, str]:
        return check(study)

    return copy


def _smoke(runs: tuple[AnyRun, ...]) -> tuple[AnyRun, ...]:
    """The first seed of each setting on 256 of scikit-learn's digits, for at most four epochs: it runs, in seconds.

    For ImageNet, 8 generated pictures replace the data.
    """
    first = min(run.seed for run in runs)
    kept = [run for run in runs if run.seed == first]
    return tuple(run.shrunk for run in kept if run.dataset != "digits") or tuple(kept)


HERE = Path(__file__).resolve().parent
# A file that defines an experiment; other files are helpers that these import.
DEFINES = re.compile(r"^(EXPERIMENT\s*[:=]|from .+ import .*\bEXPERIMENT\b)", re.MULTILINE)


def _default_folder() -> Path:
    """The folder of experiments: the copy that travels in the wheel, else the checkout's own."""
    packaged = HERE / "_experiments"
    return packaged if packaged.is_dir() else HERE.parent / "experiments"


def _files(folder: Path | None = None) -> dict[str, Path]:
    """Experiment → its file, in a folder and its subfolders, by name.

    A file whose name begins with `_`, or that does not define EXPERIMENT, is a helper and left out.

    Raises:
      UsageError: there is no such folder, or two files have the same name.
    """
    folder = folder or _default_folder()
    if not folder.is_dir():
        raise UsageError(f"no folder of experiments at {folder}; name one with --experiments DIR")
    found: dict[str, Path] = {}
    for path in sorted(_python_files(folder)):
        if DEFINES.search(path.read_text(encoding="utf-8", errors="replace")):
            if path.stem in found:
                raise UsageError(
                    f"two experiments have the name {path.stem}: {found[path.stem]} and {path}; rename one"
                )
            found[path.stem] = path
    return dict(sorted(found.items()))


def names(folder: Path | None = None) -> list[str]:
    """The names of the experiments in a folder and its subfolders."""
    return list(_files(folder))


def of_paper(paper: str, folder: Path | None = None) -> list[str]:
    """The names of the experiments in the folder of a paper, such as belkin2019."""
    folder = folder or _default_folder()
    return [name for name, path in _files(folder).items() if path.parent.name == paper and path.parent != folder]


def find(name: str, folder: Path | None = None) -> Experiment:
    """The experiment whose file name is `name`, or the only one whose file name begins with it.

    Raises:
      UsageError: there is none or more than one, or its file fails; the message names the file and the line.
    """
    folder = folder or _default_folder()
    known = _files(folder)
    return _found(known[match(name, known, folder)], folder)


def _found(path: Path, folder: Path) -> Experiment:
    """The experiment that a file of a folder defines, or UsageError."""
    found, doc = _load(path)
    of_paper = "" if path.parent == folder else path.parent.name
    return replace(found, name=path.stem, doc=doc, paper=found.paper or of_paper)


def match(name: str, known: Collection[str], folder: Path | None = None) -> str:
    """The name among those of experiments, or the only one that begins so.

    Raises:
      UsageError: there is none or more than one; or it is a file of the folder that defines no experiment.
    """
    matches = [name] if name in known else [each for each in known if name and each.startswith(name)]
    if len(matches) > 1:
        raise UsageError(f"{name!r} could be {', '.join(matches)}; give more letters")
    if not matches:
        for path in _python_files(folder or _default_folder()):
            if path.stem == name:
                raise UsageError(f"{path} does not define EXPERIMENT")
        raise unknown("experiment", name, known)
    return matches[0]


def find_each(folder: Path | None = None) -> Iterator[Experiment | UsageError]:
    """Each experiment of a folder, or the error of a file that cannot be loaded.

    A file is loaded when it is its turn: two files may register components of the same name.
    """
    folder = folder or _default_folder()
    for path in _files(folder).values():
        try:
            yield _found(path, folder)
        except UsageError as error:
            yield error


def _python_files(folder: Path) -> list[Path]:
    """The files of a folder and its subfolders whose names begin with a letter or a digit."""
    paths = [path.relative_to(folder) for pattern in ("*.py", "*/*.py") for path in folder.glob(pattern)]
    paths = [path for path in paths if (folder / path).is_file()]  # reading a pipe would never end
    return [folder / path for path in paths if not any(part.startswith(("_", ".")) for part in path.parts)]


def _load(path: Path) -> tuple[Experiment, str]:
    """The experiment in a file, and the docstring of the file. While it is loaded, it can import its neighbors."""
    spec = importlib.util.spec_from_file_location(f"experiments.{path.stem}", path.resolve())
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    before, folder = set(sys.modules), path.resolve().parent  # Python keeps what a relative folder once meant
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # a neighbor may have been written a moment ago
    try:
        spec.loader.exec_module(module)
        found = module.EXPERIMENT
        if not isinstance(found, Experiment):
            raise TypeError(f"EXPERIMENT must be an Experiment; it is of type {type(found).__name__}")
    except (Exception, SystemExit) as error:
        raise UsageError(f"{path}: {plugins.describe(error, str(path.resolve()))}") from error
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:  # so that two folders can have neighbors of the same name
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).parent == folder:
                del sys.modules[name]
    return found, (module.__doc__ or "").strip()
