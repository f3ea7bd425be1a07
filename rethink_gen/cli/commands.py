"""The commands that train, tabulate and plot. Each calls `study` and prints; jax is loaded only to compute."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen import atomic, coercion, experiment, registry, runs
from rethink_gen.analysis import figures, rendering
from rethink_gen.errors import NoResults, RethinkError, TimeIsUp, UsageError, unknown
from rethink_gen.execution import multihost, processes, requests, stopping
from rethink_gen.execution.loggers import tracker
from rethink_gen.execution.progress import progress, say
from rethink_gen.results import packs, store
from rethink_gen.runs import AnyRun, Run
from rethink_gen.study import running, studies, trained
from rethink_gen.words import count, duration, part

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rethink_gen.execution.time_limit import TimeLimit
    from rethink_gen.results.failing import Failure

from rethink_gen.cli import overview
from rethink_gen.cli.arguments import output_file, parse_only, parse_seeds, parse_shard, show_rows

ENGINES = ("local", "ray")
SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".html": "html", ".json": "json"}  # → format of a table
PER_TASK = {
    "cpus_per_task": (int, 1),
    "gpus_per_task": (float, 0),
    "tpus_per_task": (int, 0),
    "runs_per_task": (int, 1),
}


def run(arguments: argparse.Namespace) -> int:
    """train the missing runs of an experiment, then print its table

    rethink-gen run fig1b --scale laptop --only model=mlp_1x512 --seeds 0..4
    """
    limit = _time_limit(arguments)
    if arguments.all:
        return _run_all(arguments, limit)
    if not arguments.name:
        raise UsageError(
            "run takes the NAME of an experiment, such as quickstart, or --all; `rethink-gen list` shows them"
        )
    request = {
        "scale": "laptop" if arguments.scale is None else arguments.scale,
        "seeds": parse_seeds(arguments.seeds),
        "only": parse_only(arguments.only),
        "results": arguments.results,
        "experiments": arguments.experiments,
    }
    planned = running.plan(arguments.name, **request)
    work = {
        "force": arguments.force,
        "keep_weights": arguments.keep_weights,
        "shard": parse_shard(arguments.shard),
    }
    todo = running.to_do(planned, **work)
    if arguments.dry_run:
        show_rows([{"id": run.id, **dataclasses.asdict(run)} for run in todo], arguments.json, columns=["id"])
        if todo:
            calibrate = f"rethink-gen show {planned.experiment.name} --calibrate measures what they cost"
            known = overview.cost(planned, todo, overview.timed(arguments))
            taken = known and f"{duration(known.seconds)}, {overview.size(known.memory)} of memory on this machine"
            say(f"{count(todo, 'run')}: {taken or calibrate}")
        return 0
    execute = _engine(arguments)
    if arguments.hosts:
        _check_hosts(arguments, todo)
    title = f"{planned.experiment.name}, {planned.experiment.scale} scale"
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(multihost.joined(arguments.hosts, planned.folder)):
            return 0
        say(f"{title}: {part(todo, planned.experiment.runs, 'run')} to do")
        place = Path(planned.experiment.name, planned.experiment.scale)
        tell = stack.enter_context(_reports(arguments, place))
        number = 1 if arguments.hosts else None
        stack.enter_context(stopping.after(limit.left()) if limit else contextlib.nullcontext())
        study = running.run(
            arguments.name, **request, **work, workers=number, report=tell, execute=execute, limit=limit
        )
    if study.results:
        print(study.text("json" if arguments.json else "markdown").rstrip("\n"))
        if not arguments.json:
            print(f"\ntable:  {study.folder / 'table.md'}")
            if study.experiment.figure and (study.folder / "figure.png").exists():
                print(f"figure: {study.folder / 'figure.png'}")
    if study.failures:
        reason = f"{study.failures[0].run.id}: {study.failures[0].reason}"
        raise RethinkError(f"{part(study.failures, todo, 'run')} failed, the first is {reason}")
    asked = set(planned.experiment.runs)
    diverged = [result.run.id for result in study.results if result.status == "diverged" and result.run in asked]
    if diverged and arguments.strict:
        raise RethinkError(f"{part(diverged, asked, 'run')} diverged, the first is {diverged[0]}")
    overview.refuse_damaged([study])
    left = running.to_do(running.plan(arguments.name, **request), shard=work["shard"])
    if limit and left:
        say(limit.remark(left, study.folder, processes.count(planned.experiment.runs)))
        raise TimeIsUp
    return 0


def _time_limit(arguments: argparse.Namespace) -> TimeLimit | None:
    """What --time-limit asks for."""
    if arguments.time_limit is None:
        return None
    if arguments.engine != "local":
        raise UsageError("--time-limit goes with --engine local: tasks on Ray end when they are done")
    from rethink_gen.execution.time_limit import TimeLimit, parse

    return TimeLimit(parse(arguments.time_limit), overview.timed(arguments))


@contextlib.contextmanager
def _reports(arguments: argparse.Namespace, place: Path) -> Iterator[Callable[[Any], None]]:
    """What is called with the progress of runs: it shows it, and with --log sends it to a tracker.

    Args:
      place: of the files of the tracker, in RESULTS/.log.
    """
    with contextlib.ExitStack() as stack:
        reports = [stack.enter_context(progress())]
        if arguments.log:
            reports.append(stack.enter_context(tracker(arguments.log, arguments.results / ".log" / place)))

        def tell(now: Any) -> None:
            for report in reports:
                report(now)

        yield tell


def _run_all(arguments: argparse.Namespace, limit: TimeLimit | None) -> int:
    """Runs what is missing of all experiments, most needed first."""
    from rethink_gen.study import everything

    alone = ("name", "seeds", "only", "hosts", "log", "force", "keep_weights", "dry_run", "json")
    if given := [name for name in alone if getattr(arguments, name)]:
        option = f"--{given[0].replace('_', '-')}" if given[0] != "name" else "the name of an experiment"
        raise UsageError(f"--all goes without {option}")
    failures: list[Failure] = []
    with stopping.after(limit.left()) if limit else contextlib.nullcontext(), progress() as report:
        options = {"results": arguments.results, "experiments": arguments.experiments, "limit": limit}
        for study, failed in everything.run(arguments.scale or "laptop", **options, report=report, say=say):
            failures += failed
            for failure in failed:  # at once: the time limit may end the command before its last line
                say(f"{failure.run.id} failed: {failure.reason}")
            shown = study.experiment
            there = len(shown.runs) - len(study.missing)
            say(f"{shown.name}, {shown.scale} scale: results of {part(there, shown.runs, 'run')}")
    if failures:
        raise RethinkError(f"{count(failures, 'run')} failed, the first is {failures[0].run.id}: {failures[0].reason}")
    return 0


def _engine(arguments: argparse.Namespace) -> running.Execute | None:
    """What trains the runs of `run`: None is this machine."""
    if arguments.engine not in ENGINES:
        raise unknown("engine", arguments.engine, ENGINES)
    chosen = {name: getattr(arguments, name) for name in ("address", *PER_TASK)}
    if arguments.engine == "local":
        for name in (name for name, value in chosen.items() if value is not None):
            raise UsageError(f"--{name.replace('_', '-')} goes with --engine ray")
        return None
    if arguments.keep_weights:
        raise UsageError("--keep-weights goes with --engine local: weights stay where they are trained")
    if arguments.log:
        raise UsageError("--log goes with --engine local: of tasks on Ray not every epoch is heard")
    from rethink_gen.execution import ray

    given = {}
    for name, (kind, least) in PER_TASK.items():
        if chosen[name] is not None:
            option = f"--{name.replace('_', '-')}"
            given[name] = coercion.coerce(option, chosen[name], kind)
            if given[name] < least:
                raise UsageError(f"{option} must be at least {least}, got {chosen[name]}")
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = int(os.environ.get("NPROC", here))
    each = (given.get("cpus_per_task", cores), given.get("gpus_per_task", 0.0), given.get("tpus_per_task", 0))
    needs, together = ray.Needs(*each), given.get("runs_per_task", 1)
    return partial(ray.execute, needs=needs, address=arguments.address, runs_per_task=together)


def table(arguments: argparse.Namespace) -> int:
    """print our numbers beside the paper's, from the results that exist; `table belkin2019` prints each of a paper

    rethink-gen table table1 --scale paper --format latex
    """
    given = "json" if arguments.json else arguments.format
    form = _format_of(arguments.output) if given is None else given
    if form not in rendering.FORMATS:  # said before pandas is loaded
        raise unknown("format", form, rendering.FORMATS)
    output = arguments.output and output_file(arguments.output)
    found = _of_paper(arguments, form) or [load(arguments)]
    for study in found:
        overview.tell_other_scales(arguments, study)
    metrics = registry.split(arguments.metrics) if arguments.metrics else None
    text = "\n".join(study.text(form, metrics) for study in found)
    if output:
        atomic.write(output, text.encode())
        print(output)
    else:
        print(text.rstrip("\n"))
    return overview.refuse_damaged(found)


def _of_paper(arguments: argparse.Namespace, form: str) -> list[studies.Study]:
    """The studies of the experiments of a paper that have results, if a paper of several is named.

    Raises:
      UsageError: a file of this format holds one table, metrics are chosen, or none has results.
    """
    names = experiment.of_paper(arguments.name, arguments.experiments)
    if len(names) < 2 or arguments.name in names:
        return []
    one_alone = "--metrics" if arguments.metrics else form if form in ("csv", "json") else ""
    if one_alone:
        raise UsageError(f"{one_alone} is for one table; name one of {', '.join(names)}")
    found = []
    for name in names:
        with contextlib.suppress(NoResults):
            found.append(load(argparse.Namespace(**{**vars(arguments), "name": name})))
    if not found:
        way_out = studies.way_to_results(names, arguments.results)
        raise NoResults(f"no results of {arguments.name} in {arguments.results}; {way_out}")
    return found


def _format_of(output: Path | None) -> str:
    """The format that the suffix of a file asks for; Markdown if it asks for none."""
    return SUFFIXES.get(output.suffix if output else ".md", "markdown")


def plot(arguments: argparse.Namespace) -> int:
    """draw the figure of an experiment, or one that --x, --y and --hue choose; `plot train` draws your own runs; `plot
    corruptions`, `plot filters RUN` and `plot confusion RUN` draw pictures

    rethink-gen plot fig1c --output fig1c.pdf
    """
    output = arguments.output and output_file(arguments.output)
    if output and output.suffix.removeprefix(".") not in figures.KINDS:
        raise unknown("kind of figure", output.suffix, [f".{kind}" for kind in figures.KINDS])
    if arguments.dataset and arguments.name != "corruptions":
        raise UsageError("--dataset goes with `plot corruptions`; an experiment or a run names its own data")
    if arguments.runs and arguments.name not in ("filters", "confusion"):
        raise UsageError(f"runs go with `plot filters` and `plot confusion`, not where {arguments.runs[0]!r} stands")
    if arguments.name in ("corruptions", "filters", "confusion"):
        data = f"-{arguments.dataset}" if arguments.dataset else ""  # the pictures of another data set stay
        path = output or arguments.results / f"{arguments.name}{data}.png"
        figures.save(_picture(arguments), path)
        print(path)
        return 0
    study = load(arguments)
    path = output or study.folder / "figure.png"
    if arguments.x or arguments.y or arguments.hue:
        if not (arguments.x and arguments.y):
            raise UsageError("a figure of your own needs both --x and --y, such as --x epoch --y test_accuracy")
        figure = study.plot(arguments.x, arguments.y.split(","), arguments.hue)
    else:
        figure = study.figure()
    if figure is None:
        name = study.experiment.name
        way_out = f"choose one, such as --x epoch --y test_accuracy, or its table: rethink-gen table {name}"
        raise UsageError(f"{name} has no figure of its own; {way_out}")
    figures.save(figure, path)
    print(path)
    return overview.refuse_damaged([study])


def _picture(arguments: argparse.Namespace) -> Figure:
    """What `plot` draws besides the figures of experiments."""
    from rethink_gen.analysis import pictures

    if arguments.name == "corruptions":
        return pictures.corrupted_images(arguments.dataset or Run.dataset)
    kept = trained.kept(arguments.runs, results=arguments.results)
    if arguments.name == "filters":
        return pictures.filters(kept)
    return pictures.confusion(kept, [_answers(result) for result in kept])


def _answers(result: trained.TrainedResult) -> tuple[Any, ...]:
    """Labels and predictions of both splits, as `pictures.confusion` takes them."""
    train, test = result.examples("train"), result.examples("test")
    return train.true_labels, train.labels, train.predictions, test.true_labels, test.predictions


def report(arguments: argparse.Namespace) -> int:
    """write one page to share: a map of the papers, each claim with its numbers, and interactive figures

    rethink-gen report --output report.html
    """
    from rethink_gen.analysis import report

    place = arguments.output or arguments.results
    path = place if place.suffix == ".html" else place / "report.html"
    broken: list[UsageError] = []
    places = {"results": arguments.results, "experiments": arguments.experiments}
    found = studies.survey(arguments.names, scale=arguments.scale, **places, broken=broken)
    content = report.render(found, broken).encode()
    atomic.make_folder(path.parent)
    atomic.write(path, content)
    print(path)
    overview.refuse_broken(broken)
    return overview.refuse_damaged(found)


def train(arguments: argparse.Namespace) -> int:
    """train one run of your own, with an option for each of its fields; --seeds 0..4 trains several

    rethink-gen train --dataset digits --model "mlp(hidden=64)" --corruption random_labels --epochs 40
    """
    given = {name: getattr(arguments, name) for name in runs.hints(Run)}
    run = Run(**{name: value for name, value in given.items() if value is not None})
    seeds = parse_seeds(arguments.seeds)
    work = {"force": arguments.force, "keep_weights": arguments.keep_weights}
    if seeds is not None:
        if arguments.seed is not None:
            raise UsageError("give --seed for one run or --seeds for several, not both")
        if arguments.hosts:
            raise UsageError("--seeds goes without --hosts: train one seed at a time on several hosts")
        with _reports(arguments, Path(studies.TRAIN)) as report:
            study = running.run(runs.grid(run, seed=seeds), results=arguments.results, **work, report=report)
        print(study.text("json" if arguments.json else "markdown"))
        return _refuse_failed(study)
    if arguments.hosts:
        _check_hosts(arguments, [run])
    with multihost.joined(arguments.hosts, arguments.results / studies.TRAIN) as first:
        if not first:
            return 0
        with _reports(arguments, Path(studies.TRAIN)) as report:
            result = running.train(run, results=arguments.results, **work, report=report)
    if arguments.json:
        print(json.dumps({"id": run.id, "status": result.status, **result.summary}))
    else:
        show_rows([{"metric": name, "value": value} for name, value in result.summary.items()])
        print(f"\nstatus: {result.status}")
        print(f"file: {packs.place(store.result_file(arguments.results / studies.TRAIN, run))}")
    return 0


def _refuse_failed(study: studies.Study) -> int:
    """Success, unless runs failed."""
    for failure in study.failures:
        raise RethinkError(f"{count(study.failures, 'run')} failed, the first is {failure.run.id}: {failure.reason}")
    return overview.refuse_damaged([study])


def load(arguments: argparse.Namespace) -> studies.Study:
    """The study that `table` and `plot` show."""
    return studies.load(
        arguments.name,
        scale=arguments.scale,
        only=parse_only(arguments.only),
        results=arguments.results,
        experiments=arguments.experiments,
    )


def _check_hosts(arguments: argparse.Namespace, runs: Sequence[AnyRun]) -> None:
    """Refuses what several hosts cannot do, before they connect."""
    if getattr(arguments, "engine", "local") != "local":
        raise UsageError("--hosts goes with --engine local: Ray places runs on hosts of its own")
    for kind in sorted({run.kind for run in runs} - {Run().kind}):
        raise UsageError(f"runs of kind {kind} are solved on one host; leave --hosts out, or choose others with --only")
    requests.check_names(runs)
    requests.check_data(runs)  # on each host, for each reads them
