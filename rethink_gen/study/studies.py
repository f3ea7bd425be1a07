"""An experiment with its results: its frame, table, figure and checks."""

from __future__ import annotations

import html
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen import atomic, registry
from rethink_gen.analysis import figures, rendering, tables
from rethink_gen.errors import NoResults, UsageError, naming_part, unknown
from rethink_gen.experiment import HERE, Check, Experiment, Scale
from rethink_gen.results import failing, locks, results_cache, store
from rethink_gen.results.failing import Failure
from rethink_gen.results.records import Records
from rethink_gen.results.result import Result, different_data
from rethink_gen.results.store import Damaged
from rethink_gen.results.verdicts import differing
from rethink_gen.runs import WEIGHTS, AnyRun, components
from rethink_gen.study import checking, examples, finding
from rethink_gen.words import count, part

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure


Folder = str | Path
TRAIN = "train"  # what runs of one's own are called, and their folder
OWN = "own"  # the scale of runs that belong to no experiment
PREFERENCE: tuple[Scale, ...] = ("paper", "laptop", "smoke")  # what `load` looks for: the paper's own numbers first


@dataclass(frozen=True)
class Study:
    """An experiment at one scale with the results that exist for it, of all seeds; a notebook shows it whole."""

    experiment: Experiment
    results: tuple[Result, ...]
    folder: Path
    damaged: tuple[Damaged, ...] = ()  # the files that were left out, each with what is wrong with it
    failures: tuple[Failure, ...] = ()  # of the last attempts; what `run` returns has those of this call
    stale: tuple[str, ...] = ()  # ids of results that other code or data than today's has made; they are left out

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per (run, epoch): the fields of the run, its metrics, and the scale; see `results.frames`."""
        return results_cache.frame(self.results).assign(scale=self.experiment.scale)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row per run: its fields, its last metrics, and its summary (best epoch, steps to fit, seconds).

        `fitted` says whether its training accuracy has reached 99 %.
        """
        ends = self.curves[self.curves["last"]].reset_index(drop=True)
        return ends.assign(fitted=ends["epochs_to_fit"].notna())

    @cached_property
    def examples(self) -> pd.DataFrame:
        """One row per (run, split, example) of the runs that recorded their examples, read when it is first asked for.

        Columns are run, seed, split, index (from 0, in the order of the data set), label (as the run was given it),
        true_label, and the scores of `rethink_gen.results.scores`.

        Raises:
          UsageError: no run recorded its examples, or the file of one is not there.
        """
        return examples.frame(self.results, self.folder)

    def records(self, run: str = "") -> Mapping[str, Records]:
        """Split → what was recorded of its examples, arrays [epochs, examples]; see `rethink_gen.results.records`.

        Args:
          run: the beginning of its id; empty: the only one.

        Raises:
          UsageError: there is none, or more than one begins so.
        """
        return examples.read(examples.choose(run, self.results), self.folder)

    def weights(self, run: str = "") -> Mapping[int, Mapping[str, np.ndarray]]:
        """Epoch → the weights of a run that recorded them, as named arrays such as params/Dense_0/kernel.

        Args:
          run: the beginning of its id; empty: the only one.

        Raises:
          UsageError: there is none, or more than one begins so.
        """
        return examples.weights(examples.choose(run, self.results, WEIGHTS), self.folder)

    def plot(self, x: str, y: str | Sequence[str], hue: str | None = None, **options: Any) -> Figure:
        """A figure of the results: metrics over `epoch` or `step`, or of whole runs against one of their fields.

        A line is the mean over seeds, its band their range: what was seen. The 95 % interval of the mean is in `table`;
        for a few seeds it is wider.

        Args:
          x: epoch, step, or a field of the runs, such as corruption_level.
          y: one metric or several, a panel each.
          hue: the field that has a line for each of its values; None: the first that tells the runs apart.
          options: of `figures.curves` or `figures.against`, such as log="x".

        Raises:
          UsageError: no such column or option, texts at x, or runs of one line differ in more than their seeds.
        """
        frame = self.curves
        metrics = [y] if isinstance(y, str) else y
        for name in (x, *metrics, *([hue] if hue else [])):
            if len(frame) and name not in frame:
                raise unknown("column", name, frame.columns)
        for name in metrics if len(frame) else ():
            if any(isinstance(value, str) for value in frame[name].unique()):
                raise unknown("metric", name, frame.select_dtypes("number"))
        if len(frame) and any(isinstance(value, str) for value in frame[x].unique()):
            raise UsageError(f"x must have numbers, and {x} has texts; hue={x!r} draws a line for each")
        if hue is None:
            hue = next((name for name in differing(self.runs) if name != x), "model")
        draw = figures.curves if x in ("epoch", "step") else figures.against
        known = [each.name for each in inspect.signature(draw).parameters.values() if each.kind is each.KEYWORD_ONLY]
        known.remove("hue")
        for name in options:
            if name not in known:
                raise unknown(f"option of a plot over {x}", name, known)
        return figures.shown_in_notebooks(draw(frame, x, y, hue=hue, **options))

    @property
    def missing(self) -> tuple[AnyRun, ...]:
        """The experiment's runs that have no result."""
        done = {result.id for result in self.results}
        return tuple(run for run in self.experiment.runs if run.id not in done)

    def table(self, metrics: Sequence[str] | None = None) -> pd.DataFrame:
        """The table of the experiment; one row for each setting if it declares none.

        Args:
          metrics: these, one row for each setting, in place of what the experiment shows: best_test_accuracy, …

        Raises:
          UsageError: there is no such metric.
        """
        return tables.by_setting(self.curves, metrics) if metrics else self._table.copy()

    @cached_property
    def _table(self) -> pd.DataFrame:
        if not self.experiment.table:
            return tables.by_setting(self.curves)
        with naming_part(self.experiment.name, "table"):
            return self.experiment.table(self)

    def figure(self) -> Figure | None:
        """The figure of the experiment, if it has one."""
        if not self.experiment.figure:
            return None
        with naming_part(self.experiment.name, "figure"):
            figure = self.experiment.figure(self)
        return figure and figures.shown_in_notebooks(figure)

    def checks(self) -> list[Check]:
        """The sentences of the claim, each compared with the results."""
        return list(self._checks)

    @cached_property
    def _checks(self) -> tuple[Check, ...]:
        return tuple(checking.evaluate(check, self) for check in self.experiment.checks)

    def text(self, format: str = "markdown", metrics: Sequence[str] | None = None) -> str:  # noqa: A002
        """The table and the verdict on each sentence of the claim, in a format of `rendering.FORMATS`.

        Args:
          metrics: see `table`.
        """
        done = len(self.experiment.runs) - len(self.missing)
        failed = f", {len(self.failures)} failed" if self.failures else ""
        damaged = "".join(f" {error.place.name} is damaged and left out." for error in self.damaged)
        stale = f" Left out, made by other code or data: {', '.join(self.stale)}." if self.stale else ""
        mixed = "".join(f" Results of different code are mixed: {name}." for name in self._mixed())
        data = different_data(self.results)
        mixed += "".join(f" Results from different data are mixed: {name}." for name in data)
        counted = f"{part(done, self.experiment.runs, 'run')} done{failed}."
        note = f"{counted}{damaged}{stale}{mixed} {tables.describe(self.curves)}"
        body = rendering.render(self.table(metrics), format, checks=self.checks(), note=note)
        heading = f"# {self.experiment.name}, {self.experiment.scale} scale\n\n{self.experiment.claim}\n\n"
        return heading + body if format == "markdown" else body

    def _mixed(self) -> list[str]:
        """Components of the user's own of which the results know more than one version; built-in ones have none."""
        codes: dict[str, set[str]] = {}
        if any(not registry.is_built_in(kind, text) for run in self.experiment.runs for kind, text in components(run)):
            for result in self.results:
                for name, digest in result.provenance.get("code", {}).items():
                    codes.setdefault(name, set()).add(digest)
        return sorted(name for name, digests in codes.items() if len(digests) > 1)

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


def load(
    name: str,
    *,
    scale: str | None = None,
    only: Mapping[str, Any] | None = None,
    results: Folder = "results",
    experiments: Folder | None = None,
) -> Study:
    """The study of an experiment from the results that exist; "train" is all runs of one's own.

    Args:
      scale: smoke, laptop or paper; by default the nearest to the paper that is complete, else the nearest that has
        results.
      only: field → value, or list of values; the other runs are left out.

    Raises:
      UsageError: no such experiment. NoResults: it has none. Damaged: all of its result files are damaged.
    """
    if name == TRAIN:
        return _narrowed(_load_own(results), only)
    experiment = finding.find(name, experiments, results)
    scales = PREFERENCE if scale is None else (scale,)
    at_each = [gather(experiment.at(typing.cast(Scale, each)), results) for each in scales]
    there = [study for study in at_each if study.results]
    whole = [study for study in there if not study.missing and study.experiment.has_verdict]
    for study in (*whole, *there):
        return _narrowed(study, only)
    for damaged in (error for study in at_each for error in study.damaged):
        raise damaged
    if stale := sum(len(study.stale) for study in at_each):
        raise _all_stale(f"{count(stale, 'result')} of {experiment.name}", results)
    at, option = (f" at {scale} scale", f" --scale {scale}") if scale else ("", "")
    raise NoResults(
        f"no results of {experiment.name}{at} in {results}; {way_to_results([experiment.name], results, option)}"
    )


def way_to_results(names: Sequence[str], results: Folder, option: str = "") -> str:
    """Where results of these experiments are, and how to make those of the first."""
    published = HERE.parent / "results"
    elsewhere = any((published / name).is_dir() for name in names) and published != atomic.as_path(results).resolve()
    where = f"see the published ones with --results {published}, or " if elsewhere else ""
    return f"{where}make some: rethink-gen run {names[0]}{option}"


def _all_stale(what: str, results: Folder) -> UsageError:
    way_out = "run them again, or name the file that made them with --plugin"
    return UsageError(f"{results}: {what}, all made by other code or data; {way_out}")


def survey(
    chosen: Iterable[str] = (),
    *,
    scale: str | None = None,
    results: Folder = "results",
    experiments: Folder | None = None,
    broken: list[UsageError] | None = None,
) -> list[Study]:
    """For each experiment, all if none is chosen: its study at the largest scale that is complete.

    A larger scale that is not complete follows it. Where neither the paper scale nor the laptop scale is complete, the
    largest scale with results comes alone; without any results, an empty study.

    Args:
      broken: takes the errors of experiment files that cannot be loaded, if none is chosen; None: the first is raised.
    """
    scales, chosen = PREFERENCE if scale is None else (scale,), tuple(chosen)
    studies = []
    named = (finding.find(name, experiments, results) for name in chosen)
    for experiment in named if chosen else finding.find_each(experiments, results):
        if isinstance(experiment, UsageError):
            if broken is None:
                raise experiment
            broken.append(experiment)
            continue
        at = [gather(experiment.at(typing.cast(Scale, each)), results) for each in scales]
        there = [study for study in at if study.results or study.damaged] or at[:1]
        main = next((study for study in there if not study.missing and study.experiment.has_verdict), there[0])
        studies += [main, *there[: there.index(main)]]
    return studies


def gather(
    experiment: Experiment, results: Folder, read: Callable[[Path], tuple[list[Result], list[Damaged]]] | None = None
) -> Study:
    """An experiment with its results: those of its settings under any seed, in the order of its runs.

    Args:
      read: the sound and the damaged results of a folder; None: through the cache of results.
    """
    folder = _folder_of(experiment, results)
    order = {setting: i for i, setting in reversed(list(enumerate(run.setting for run in experiment.runs)))}
    sound, damaged = (read or results_cache.sift)(folder)
    found = [result for result in sound if result.setting in order]
    stale = [result.id for result in found if store.is_stale(result)]
    found = sorted(
        (result for result in found if result.id not in stale),
        key=lambda result: (order[result.setting], result.seed),
    )
    failures = tuple(failing.among(experiment.runs, folder))
    return Study(experiment, tuple(found), folder, tuple(damaged), failures, tuple(stale))


def _folder_of(experiment: Experiment, results: Folder) -> Path:
    """Where the results of an experiment are: those of one's own runs in results/train/."""
    place = open_folder(results) / experiment.name
    return place if experiment.scale == OWN else place / experiment.scale


def _narrowed(study: Study, only: Mapping[str, Any] | None) -> Study:
    """The study of those runs that have the wanted values."""
    if not only:
        return study
    experiment = finding.select(study.experiment, None, only)
    settings = {run.setting for run in experiment.runs}
    kept = tuple(result for result in study.results if result.setting in settings)
    return replace(study, experiment=experiment, results=kept)


def _load_own(results: Folder) -> Study:
    """The study of all of one's own runs, those in results/train/.

    Raises:
      UsageError: there are none. Damaged: all files are damaged.
    """
    study = survey_own(results)
    if not study.results and study.stale:
        raise _all_stale(f"{count(study.stale, 'run')} of your own", results)
    if not study.results and study.damaged:
        raise study.damaged[0]
    if not study.results:
        raise UsageError(f"no runs of your own in {results}; make some: rethink-gen train")
    return study


def survey_own(results: Folder) -> Study:
    """The study of one's own runs, also where there are none."""
    found, _ = results_cache.sift(open_folder(results) / TRAIN)
    return gather(own_runs(tuple(result.run for result in found)), results)


def own_runs(runs: tuple[AnyRun, ...]) -> Experiment:
    """The experiment that runs of one's own are: a table of what differs, and no claim."""
    return Experiment(
        name=TRAIN,
        scale=typing.cast(Scale, OWN),
        claim="Runs of one's own.",
        locator="",
        runs=tuple(dict.fromkeys(runs)),
        laptop=runs,
    )


def renew(experiment: Experiment, results: Folder) -> Study:
    """The study of an experiment, after its table and figure were written anew."""
    folder = _folder_of(experiment, results)
    with locks.claim(folder, "table", wait=True), locks.claim(folder, "figure", wait=True):
        study = gather(experiment, results)  # once no other process publishes
        _publish(study)
    return study


def _publish(study: Study) -> list[Path]:
    """Writes the table and the figure beside the results; returns their paths."""
    contents = {"table.md": study.text().encode()}
    if figure := study.figure():
        contents |= {f"figure.{kind}": figures.draw(figure, kind) for kind in ("png", "svg")}
    for name, content in contents.items():
        atomic.write(study.folder / name, content)
    return [study.folder / name for name in contents]


def open_folder(results: Folder) -> Path:
    """The folder of results, which need not exist; UsageError if it cannot be one."""
    folder = atomic.as_path(results)
    try:
        list(folder.iterdir())
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be read as a folder of results ({error.strerror}); name one with --results DIR"
        ) from error
    return folder
