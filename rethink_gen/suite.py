"""The verbs, as functions that print nothing: `run` what is missing, `load` what is there, `train` one run of your own.

All that can be wrong with a request is found before jax is imported: a typo costs a second, not an hour.
"""

from __future__ import annotations

import hashlib
import html
import tempfile
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rethink_gen import archive, figures, progress, storage, tables, workers
from rethink_gen import results as files
from rethink_gen.errors import RethinkError, StorageError, UsageError, unknown
from rethink_gen.experiment import AnyRun, Check, Experiment, Scale, coerce, fields, find, names
from rethink_gen.results import Damaged, Failure, Result
from rethink_gen.vocabulary import check_data, check_names

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from rethink_gen.progress import Progress

    Report = Callable[[Progress], None]
    Execute = Callable[..., Iterable[Result | Failure]]
    Folder = str | Path

PREFERENCE: tuple[Scale, ...] = ("paper", "laptop", "smoke")  # what `load` looks for: the paper's own numbers first
MOST_RUNS = 100_000


@dataclass(frozen=True)
class Study:
    """An experiment at one scale with the results that exist for it, under every seed; a notebook shows it whole."""

    experiment: Experiment
    results: tuple[Result, ...]
    folder: Path
    damaged: tuple[Damaged, ...] = ()  # the files that were left out, each with what is wrong with it
    failures: tuple[Failure, ...] = ()  # of the last attempts; what `run` returns has those of this call

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per (run, epoch), see `results.frame`, and the scale."""
        return archive.frame(self.results).assign(scale=self.experiment.scale)

    @property
    def missing(self) -> tuple[AnyRun, ...]:
        """The experiment's runs that have no result."""
        done = {result.id for result in self.results}
        return tuple(run for run in self.experiment.runs if run.id not in done)

    def table(self) -> pd.DataFrame:
        """Our numbers beside the paper's."""
        return self.experiment.table(self.frame)

    def figure(self) -> Figure | None:
        """The paper's figure from our results, if the experiment draws one."""
        return self.experiment.figure(self.frame) if self.experiment.figure else None

    def checks(self) -> list[Check]:
        """The sentences of the claim, each held against the results."""
        return self.experiment.checks(self.frame)

    def text(self, format: str = "markdown") -> str:  # noqa: A002
        """The table, and what became of each sentence of the claim, in a format of `tables.FORMATS`."""
        done = len(self.experiment.runs) - len(self.missing)
        failed = f", {len(self.failures)} failed" if self.failures else ""
        damaged = "".join(f" {error.path.name} is damaged and left out." for error in self.damaged)
        note = f"{done} of {len(self.experiment.runs)} runs done{failed}.{damaged} {tables.describe(self.frame)}"
        body = tables.render(self.table(), format, checks=self.checks(), note=note)
        heading = f"# {self.experiment.name}, {self.experiment.scale} scale\n\n{self.experiment.claim}\n\n"
        return heading + body if format == "markdown" else body

    def __repr__(self) -> str:
        runs = len(self.experiment.runs)
        return f"Study({self.experiment.name}, {self.experiment.scale} scale: {runs - len(self.missing)} of {runs})"

    def _repr_html_(self) -> str:
        heading = f"{self.experiment.name}, {self.experiment.scale} scale"
        # The picture alone: an XML declaration may not stand inside a page.
        picture = figures.draw(figure, "svg").decode().partition("<svg")[2] if (figure := self.figure()) else ""
        return (
            f"<h3>{html.escape(heading)}</h3><p>{html.escape(self.experiment.claim)}</p>"
            + self.text("html")
            + (f"<svg{picture}" if picture else "")
        )


def run(
    name: str,
    *,
    scale: str = "laptop",
    seeds: Iterable[int] | None = None,
    only: Mapping[str, Any] | None = None,
    results: Folder = "results",
    experiments: Folder | None = None,
    force: bool = False,
    keep_weights: bool = False,
    shard: tuple[int, int] = (1, 1),
    processes: int = 1,
    report: Report | None = None,
    execute: Execute | None = None,
) -> Study:
    """The study of an experiment once every run asked for has a result; only runs that have none are trained.

    A run that another experiment of the same results folder and scale has finished is copied from there. The table and
    the figure are left beside the results, in results/<experiment>/<scale>/.

    Args:
      name: an experiment's file name, or as much of its beginning as tells it apart.
      scale: smoke, laptop or paper.
      seeds: stand in for the seeds of the experiment.
      only: field → value, or list of values; the other runs are left alone.
      force: trains again what has a result.
      keep_weights: leaves beside each result what the run has learned; what was trained without is trained again.
      shard: (i, n): only the i-th of n parts of the runs, for machines that share no locks; no table is left.
      processes: more than one share the runs, each with its part of the cores; see workers.py.
      report: called with the progress of the run under way, a few times a minute or more; notebooks show it themselves.
      execute: trains the runs in place of `cohorts.execute`: on a cluster, as `ray_engine.execute` does.
    """
    planned = plan(name, scale=scale, seeds=seeds, only=only, results=results, experiments=experiments)
    runs = to_do(planned, force=force, keep_weights=keep_weights, shard=shard)
    if not force and not keep_weights:
        runs = [run for run in runs if not files.adopt(run, planned.folder)]
    work = {"force": force, "keep_weights": keep_weights}
    if processes > 1 and execute is None:
        origin = (planned.experiment.name, as_path(experiments))
        failures = workers.finish(runs, planned.folder, report, processes=processes, experiment=origin, **work)
    else:
        failures = finish(runs, planned.folder, report, execute=execute, **work)
    storage.tidy(planned.folder)
    whole = find(name, as_path(experiments)).at(planned.experiment.scale)
    study = gather(whole, results)
    if study.results and shard == (1, 1):
        study = renew(whole, results)
    return replace(study, failures=tuple(failures))


def to_do(
    planned: Study, *, force: bool = False, keep_weights: bool = False, shard: tuple[int, int] = (1, 1)
) -> list[AnyRun]:
    """The runs of a plan that `run` would do: those without a result, even a damaged one, or all of them by force."""
    damaged = {error.path.stem for error in planned.damaged}
    runs = planned.experiment.runs
    if not force:
        done = lambda run: run.id in damaged or files.done(planned.folder, run, weights=keep_weights)
        runs = [run for run in runs if not done(run)]
    part = lambda run: int(hashlib.sha256(run.id.encode()).hexdigest(), 16) % shard[1] + 1
    return [run for run in runs if part(run) == shard[0]]


def load(
    name: str, *, scale: str | None = None, results: Folder = "results", experiments: Folder | None = None
) -> Study:
    """The study of an experiment from the results that exist.

    Args:
      scale: smoke, laptop or paper; by default the nearest to the paper at which there are results.
    """
    experiment = find(name, as_path(experiments))
    for each in PREFERENCE if scale is None else (scale,):
        study = gather(experiment.at(typing.cast(Scale, each)), results)
        if study.results:
            return study
    at = f" at {scale} scale" if scale else ""
    option = f" --scale {scale}" if scale else ""
    raise UsageError(
        f"no results of {experiment.name}{at} in {results}; make some: rethink-gen run {experiment.name}{option}"
    )


def survey(
    chosen: Iterable[str] = (),
    *,
    scale: str | None = None,
    results: Folder = "results",
    experiments: Folder | None = None,
) -> list[Study]:
    """What there is of each experiment, of all if none is chosen: what `load` gives, or a study without results."""
    folder, scales = as_path(experiments), PREFERENCE if scale is None else (scale,)
    studies = []
    for experiment in [find(name, folder) for name in tuple(chosen) or names(folder)]:
        at = [gather(experiment.at(typing.cast(Scale, each)), results) for each in scales]
        studies.append(next((study for study in at if study.results), at[0]))
    return studies


def train(
    run: AnyRun,
    *,
    results: Folder = "results",
    force: bool = False,
    keep_weights: bool = False,
    report: Report | None = None,
) -> Result:
    """The result of a run that belongs to no experiment, kept as results/train/<run id>.json; options as in `run`."""
    check_names([run])
    folder = open_folder(results) / "train"
    if force or not files.done(folder, run, weights=keep_weights):
        for failure in finish([run], folder, report, force=force, keep_weights=keep_weights):
            raise RethinkError(f"{failure.run.id}: {failure.reason}")
    return files.with_weights(files.result_file(folder, run))


def kept(chosen: Iterable[str] = (), *, results: Folder = "results") -> list[Result]:
    """The runs that kept their weights, with them: those whose ids begin so; if none is named, the only one."""
    found = {path.name.removesuffix(files.WEIGHTS): path for path in open_folder(results).rglob(f"*{files.WEIGHTS}")}
    names = tuple(chosen) or ("",)
    if not found:
        raise UsageError(f"no run in {results} kept its weights; a run or train with --keep-weights does")
    matches = {name: [name] if name in found else sorted(k for k in found if k.startswith(name)) for name in names}
    for name, ids in matches.items():
        if not ids:
            raise unknown("run that kept its weights", name, found)
        if len(ids) > 1:
            raise UsageError(f"{len(ids)} runs kept their weights, name some: {', '.join(ids)}")
    return [files.with_weights(found[run].with_name(f"{run}.json")) for [run] in matches.values()]


def plan(
    name: str,
    *,
    scale: str = "laptop",
    seeds: Iterable[int] | None = None,
    only: Mapping[str, Any] | None = None,
    results: Folder = "results",
    experiments: Folder | None = None,
) -> Study:
    """The study that `run` would work on: `missing` are the runs it would train or copy."""
    experiment = select(find(name, as_path(experiments)).at(typing.cast(Scale, scale)), seeds, only)
    check_names(experiment.runs)
    return gather(experiment, results)


def gather(experiment: Experiment, results: Folder) -> Study:
    """An experiment with its results: those of its settings under any seed, in the order of its runs."""
    folder = open_folder(results) / experiment.name / experiment.scale
    order = {setting: i for i, setting in reversed(list(enumerate(run.setting for run in experiment.runs)))}
    sound, damaged = archive.sift(folder)
    found = [result for result in sound if result.setting in order]
    found.sort(key=lambda result: (order[result.setting], result.seed))
    return Study(experiment, tuple(found), folder, tuple(damaged), tuple(files.failures(experiment.runs, folder)))


def select(experiment: Experiment, seeds: Iterable[int] | None, only: Mapping[str, Any] | None) -> Experiment:
    """The experiment with these seeds in place of its own, and of its runs those that have the values asked for."""
    runs = experiment.runs
    if seeds is not None:
        seeds = tuple(dict.fromkeys(seeds))
        settings = {run.setting: run for run in runs}
        if len(settings) * len(seeds) > MOST_RUNS:  # said before they are made
            raise UsageError(f"{experiment.name}: {len(settings) * len(seeds)} runs asked for; at most {MOST_RUNS}")
        runs = tuple(replace(run, seed=seed) for run in settings.values() for seed in seeds)
    for name, values in (only or {}).items():
        if name not in fields():
            raise unknown("field", name, fields())
        wanted = {coerce(name, value, fields()[name]) for value in (values if isinstance(values, list) else [values])}
        present = {getattr(run, name) for run in runs if hasattr(run, name)}
        for value in sorted(map(str, wanted - present)):
            raise unknown(f"{name} in {experiment.name} at {experiment.scale} scale", value, map(str, present))
        runs = tuple(run for run in runs if hasattr(run, name) and getattr(run, name) in wanted)
    if not 0 < len(runs) <= MOST_RUNS:
        raise UsageError(f"{experiment.name}: {len(runs)} runs asked for; it can be 1 to {MOST_RUNS}")
    return replace(experiment, runs=runs)


def finish(
    runs: Iterable[AnyRun],
    folder: Path,
    report: Report | None,
    *,
    force: bool = False,
    keep_weights: bool = False,
    execute: Execute | None = None,
) -> list[Failure]:
    """Trains runs and publishes each result as it ends; the runs that failed."""
    runs = list(runs)
    if not runs:
        return []
    check_data(runs)
    check_writable(folder)
    failures: list[Failure] = []
    train_all: Execute = execute or import_cohorts().execute
    options = {"keep_weights": True} if keep_weights else {}
    show = report or (progress.notebook() if progress.in_notebook() else lambda now: None)

    def tell(now: Progress) -> None:
        show(now._replace(failed_runs=len(failures)))

    for outcome in train_all(runs, work=folder, force=force, report=tell, **options):
        if not folder.is_dir():
            raise StorageError(f"{folder} has vanished; bring it back and run the same command again")
        if isinstance(outcome, Result):
            path = files.save(outcome, folder, replace=force or keep_weights)
            if path != files.result_file(folder, outcome.run):
                failures.append(Failure(outcome.run, f"not the result that another process published; see {path}"))
        else:
            files.save_failure(outcome, folder)
            failures.append(outcome)
    return failures


def renew(experiment: Experiment, results: Folder) -> Study:
    """The study of an experiment, whose table and figure are now those of its results."""
    folder = open_folder(results) / experiment.name / experiment.scale
    with storage.claim(folder, "table", wait=True), storage.claim(folder, "figure", wait=True):
        study = gather(experiment, results)  # once no other process publishes
        publish(study)
    return study


def publish(study: Study) -> list[Path]:
    """Leaves the table and the figure beside the results; their paths."""
    contents = {"table.md": study.text().encode()}
    if figure := study.figure():
        contents |= {f"figure.{kind}": figures.draw(figure, kind) for kind in ("png", "svg")}
    for name, content in contents.items():
        storage.write(study.folder / name, content)
    return [study.folder / name for name in contents]


def estimate(runs: Iterable[AnyRun], timed: Iterable[Result]) -> dict[str, float]:
    """Device → seconds that the runs take there at most, one after the other, by the results of the same recipes.

    A device on which one of the recipes was never timed is left out.
    """
    length = {"epochs": 1, "stop_at_train_accuracy": None, "corruption": "true_labels"}

    def program(run: AnyRun) -> AnyRun:
        return replace(run.recipe, **{name: value for name, value in length.items() if hasattr(run, name)})

    seconds: dict[str, dict[AnyRun, list[float]]] = {}
    for result in timed:
        epochs = result.curves["epoch"][-1] if hasattr(result.run, "epochs") else 1
        if epochs:
            times = seconds.setdefault(result.provenance["device"], {}).setdefault(program(result.run), [])
            times.append(result.provenance["seconds_train"] / epochs)
    return {
        device: sum(median(known[program(run)]) * getattr(run, "epochs", 1) for run in runs)
        for device, known in seconds.items()
        if all(program(run) in known for run in runs)
    }


def open_folder(results: Folder) -> Path:
    """The folder of results, there or not; an error if it can be none."""
    folder = Path(results)
    try:
        list(folder.iterdir())
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be read as a folder of results ({error.strerror}); name one with --results DIR"
        ) from error
    return folder


def check_writable(folder: Path) -> None:
    """Makes the folder if need be."""
    storage.make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise storage.unwritable(folder, error) from error


def as_path(folder: Folder | None) -> Path | None:
    """None is the folder of experiments that comes with the suite."""
    return None if folder is None else Path(folder)


def import_cohorts() -> Any:
    """The module that trains, imported here alone and late: it loads jax, which reads its environment once."""
    from rethink_gen import cohorts

    return cohorts
