"""Run experiments and runs of one's own: what the command line and notebooks share. Only progress is shown.

A request is checked completely before jax is imported, so a typo costs a second, not an hour.
"""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rethink_gen import plugins
from rethink_gen.errors import RethinkError, UsageError
from rethink_gen.execution import processes, progress, requests
from rethink_gen.execution.publishing import finish
from rethink_gen.execution.requests import check_names
from rethink_gen.experiment import Experiment, Scale
from rethink_gen.results import locks, store
from rethink_gen.results.failing import Failure
from rethink_gen.results.result import Result
from rethink_gen.runs import NAME, AnyRun
from rethink_gen.study import finding, rehearsal, trained
from rethink_gen.study.studies import OWN, Folder, Study, gather, open_folder, own_runs, renew
from rethink_gen.study.trained import TrainedResult
from rethink_gen.words import count

if TYPE_CHECKING:
    from rethink_gen.execution.time_limit import TimeLimit
    from rethink_gen.training.progress import Progress

    Report = Callable[[Progress], None]
    Execute = Callable[..., Iterable[Result | Failure]]


def run(
    what: str | Experiment | AnyRun | Iterable[AnyRun],
    *,
    scale: str = "laptop",
    seeds: Iterable[int] | None = None,
    only: Mapping[str, Any] | None = None,
    results: Folder = "results",
    experiments: Folder | None = None,
    force: bool = False,
    keep_weights: bool = False,
    shard: tuple[int, int] = (1, 1),
    workers: int | None = None,
    report: Report | None = None,
    execute: Execute | None = None,
    limit: TimeLimit | None = None,
) -> Study:
    """The study of what is asked for, once every run has a result; only runs that have none are trained.

    A run that another experiment of the same results folder and scale has finished is copied from there. The table and
    the figure of an experiment are left beside its results, in results/<experiment>/<scale>/.

    Args:
      what: an experiment's file name, or as much of its beginning as tells it apart; or an `Experiment`; or one or
        several runs, whose results are kept in results/train/.
      scale: smoke, laptop or paper; runs of your own have none.
      seeds: stand in for the seeds of the experiment.
      only: field → value, or list of values; the other runs are left alone.
      force: trains again what has a result.
      keep_weights: leaves beside each result what the run has learned; what was trained without is trained again.
      shard: (i, n): only the i-th of n parts of the runs, for machines that share no locks; no table is left.
      workers: processes that share the runs, each with its part of the cores; None: as many as suit the machine.
      report: called with the progress of the run under way; None: shown in the notebook, or as lines on stderr.
      execute: trains the runs in place of `scheduler.execute`: on a cluster, as `execution.ray.execute` does.
      limit: begin no run that cannot end in time; here only.

    Returns:
      The study. Runs that failed are in its `failures`, each with its reason; the next call tries them again.

    Raises:
      UsageError: an unknown name or a value out of range; DataError: no data; StorageError: results cannot be written.
      RethinkError: every run failed.
    """
    planned = plan(what, scale=scale, seeds=seeds, only=only, results=results, experiments=experiments)
    runs = to_do(planned, force=force, keep_weights=keep_weights, shard=shard)
    if force:
        requests.check_data(runs)  # before anything is marked
        for each in runs:
            locks.begin_anew(planned.folder, each)
    _tell_cut_images(runs)
    if stale := [run for run in runs if run.id in planned.stale]:
        progress.say(f"{count(stale, 'result')} made by other code or data: trained again; the old stay as *.stale")
    if runs and (experiments is not None or isinstance(what, Experiment)):
        rehearsal.rehearse(planned)
    work = {"force": force, "keep_weights": keep_weights}
    failures = work_on(planned, runs, workers=workers, report=report, execute=execute, limit=limit, **work)
    if report is None:  # the command line ends with the reason; a script or a notebook goes on
        for failure in failures:
            progress.say(f"{failure.run.id} failed: {failure.reason}")
    locks.tidy(planned.folder)
    if report is None and failures and len(failures) == len(runs):
        raise RethinkError(f"{count(failures, 'run')} failed, all that there were to do; see the reasons above")
    study = gather(_experiment_of(what, scale, results, experiments), results)
    if study.results and shard == (1, 1) and study.experiment.scale != OWN:
        study = renew(study.experiment, results)
    return replace(study, failures=tuple(failures))


def work_on(
    planned: Study,
    runs: Iterable[AnyRun],
    *,
    force: bool = False,
    keep_weights: bool = False,
    workers: int | None = None,
    report: Report | None = None,
    execute: Execute | None = None,
    limit: TimeLimit | None = None,
) -> list[Failure]:
    """Trains some runs of a plan, or copies their results from another experiment; those that failed. See `run`."""
    if not force and not keep_weights and planned.experiment.scale != OWN:  # runs of one's own are in one folder
        runs = [run for run in runs if not store.adopt(run, planned.folder)]
    work: dict[str, Any] = {"force": force, "keep_weights": keep_weights}
    show = report or progress.default()
    number = processes.count(planned.experiment.runs) if workers is None else workers
    if limit:
        work["fits"] = partial(limit.fits, folder=planned.folder, processes=number)
    if number > 1 and execute is None:
        return processes.finish(list(runs), planned.folder, show, processes=number, **work)
    return finish(runs, planned.folder, show, execute=execute, **work)


def _tell_cut_images(runs: Iterable[AnyRun]) -> None:
    for line in requests.cut_images(runs):
        progress.say(line)


def _experiment_of(
    what: str | Experiment | AnyRun | Iterable[AnyRun], scale: str, results: Folder, experiments: Folder | None = None
) -> Experiment:
    """The experiment that is asked for, at a scale; runs of one's own become one without a claim.

    Raises:
      UsageError: it is none of these; the line says what it can be.
    """
    if isinstance(what, str):
        return finding.find(what, experiments, results).at(typing.cast(Scale, scale))
    if isinstance(what, Experiment):
        if not NAME.fullmatch(what.name):
            raise UsageError("an Experiment that is run from Python needs a name: Experiment(name='mine', …)")
        return what.at(typing.cast(Scale, scale))
    runs = (what,) if isinstance(what, AnyRun) else tuple(what)
    if not runs or not all(isinstance(run, AnyRun) for run in runs):
        raise UsageError("run takes an experiment's name, an Experiment, a Run, or several runs, such as grid(…) makes")
    return own_runs(runs)


def to_do(
    planned: Study, *, force: bool = False, keep_weights: bool = False, shard: tuple[int, int] = (1, 1)
) -> list[AnyRun]:
    """The runs of a plan that `run` would train: those without a result, or all by force.

    A damaged result is trained again only by force, and one of another version never.
    """
    kept = {error.path.stem for error in planned.damaged if not (force and error.replaceable)}
    runs = [run for run in planned.experiment.runs if run.id not in kept]
    if not force:
        runs = [run for run in runs if not store.done(planned.folder, run, weights=keep_weights)]
    part = lambda run: int(hashlib.sha256(run.id.encode()).hexdigest(), 16) % shard[1] + 1
    return [run for run in runs if part(run) == shard[0]]


def train(
    run: AnyRun,
    *,
    results: Folder = "results",
    force: bool = False,
    keep_weights: bool = False,
    report: Report | None = None,
) -> TrainedResult:
    """The result of one run of your own, kept as results/train/<run id>.json; options as in `run`."""
    check_names([run])
    folder = open_folder(results) / "train"
    if force:
        locks.begin_anew(folder, run)
    _tell_cut_images([run])
    if force or not store.done(folder, run, weights=keep_weights):
        for failure in finish([run], folder, report or progress.default(), force=force, keep_weights=keep_weights):
            raise RethinkError(f"{failure.run.id}: {failure.reason}")
    return trained.read(store.result_file(folder, run))


def plan(
    what: str | Experiment | AnyRun | Iterable[AnyRun],
    *,
    scale: str = "laptop",
    seeds: Iterable[int] | None = None,
    only: Mapping[str, Any] | None = None,
    results: Folder = "results",
    experiments: Folder | None = None,
) -> Study:
    """The study that `run` would work on; its `missing` are the runs that `run` would train or copy."""
    plugins.load_installed()
    experiment = finding.select(_experiment_of(what, scale, results, experiments), seeds, only)
    check_names(experiment.runs)
    return gather(experiment, results)
