"""What each verb of the command line does: it asks `suite` and prints. None loads jax but to compute, and `doctor`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethink_gen import archive, estimates, figures, launch, storage, suite, tables, vocabulary, workers
from rethink_gen import experiment as experiments
from rethink_gen import verify as verification
from rethink_gen.errors import RethinkError, UsageError, unknown
from rethink_gen.experiment import SCALES, AnyRun, Run
from rethink_gen.progress import duration, in_one_line, progress, say
from rethink_gen.trackers import tracker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SECONDS_BETWEEN_LOOKS = 2.0
ENGINES = ("local", "ray")
PER_TASK = {
    "cpus_per_task": (int, 1),
    "gpus_per_task": (float, 0),
    "tpus_per_task": (int, 0),
    "runs_per_task": (int, 1),
}


def list_names(arguments: argparse.Namespace) -> int:
    """the experiments, models, data sets, corruptions, augmentations, features or kernels there are

    rethink-gen list corruptions
    """
    folder = arguments.experiments
    kinds: dict[str, Callable[[], dict[str, str]]] = {
        "experiments": lambda: {name: experiments.find(name, folder).claim for name in experiments.names(folder)},
        "models": lambda: vocabulary.vocabulary("model"),
        "datasets": lambda: {row["name"]: row["where"] for row in data_sets()},
        "corruptions": lambda: vocabulary.vocabulary("corruption"),
        "augmentations": lambda: vocabulary.vocabulary("augmentation"),
        "features": lambda: vocabulary.vocabulary("features"),
        "kernels": lambda: vocabulary.vocabulary("kernel"),
    }
    if arguments.kind not in kinds:
        raise unknown("list", arguments.kind, kinds)
    show_rows([{"name": name, "about": about} for name, about in kinds[arguments.kind]().items()], arguments.json)
    return 0


def show(arguments: argparse.Namespace) -> int:
    """an experiment's claim, its runs, and what they cost on this machine; --calibrate measures a few steps of each

    rethink-gen show fig1b --calibrate
    """
    found = experiments.find(arguments.name, arguments.experiments)
    known = timed(arguments)
    rows = []
    for scale in SCALES:
        study = suite.gather(found.at(scale), arguments.results)
        costs = {} if not study.missing else {"this machine": here(study.missing, study, known, arguments.calibrate)}
        costs |= {
            device: duration(seconds) for device, seconds in suite.estimate(study.missing, known).items() if seconds
        }
        cost = "; ".join(f"{cost} on {device}" for device, cost in costs.items() if cost)
        way_out = f"not known: rethink-gen show {found.name} --calibrate measures it"
        rows.append(
            {
                "scale": scale,
                "runs": len(study.experiment.runs),
                "missing": len(study.missing),
                "the missing ones take": "nothing" if not study.missing else cost or way_out,
            }
        )
    if arguments.json:
        about = {key: getattr(found, key) for key in ("name", "claim", "locator", "doc")}
        print(json.dumps({**about, "scales": rows}, indent=1))
    else:
        print(f"{found.name}\n\n{found.claim} ({found.locator})\n")
        show_rows(rows)
        print(f"\n{found.doc}")
    return 0


def timed(arguments: argparse.Namespace) -> list[Any]:
    """All results there are: in the folder of results, and in the checkout's own."""
    folders = {folder.resolve() for folder in (arguments.results, experiments.HERE.parent / "results")}
    found = [place for folder in sorted(folders) for place in suite.open_folder(folder).glob("*/*")]
    return [result for place in found for result in archive.sift(place)[0]]


def here(runs: Sequence[AnyRun], study: suite.Study, known: list[Any], calibrate: bool = False) -> str:
    """What runs of a study cost on this machine, in words; nothing where that is not known."""
    processes = workers.count(study.experiment.runs)
    try:
        if calibrate:
            estimates.calibrate(runs, processes)
        cost = estimates.cost(runs, known, processes)
    except RethinkError as error:  # no data, say: nothing can be trained then
        return f"not to be had ({error})"
    if cost is None:
        return ""
    size = lambda count: f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
    return f"{duration(cost.seconds)}, {size(cost.memory)} of memory and {size(cost.disk)} of disk"


def run(arguments: argparse.Namespace) -> int:
    """trains what an experiment is missing, then shows its table and names its figure

    rethink-gen run fig1b --scale laptop --only model=mlp_1x512 --seeds 0..4
    """
    request = {
        "scale": "laptop" if arguments.scale is None else arguments.scale,
        "seeds": parse_seeds(arguments.seeds),
        "only": parse_only(arguments.only),
        "results": arguments.results,
        "experiments": arguments.experiments,
    }
    planned = suite.plan(arguments.name, **request)
    work = {
        "force": arguments.force,
        "keep_weights": arguments.keep_weights,
        "shard": parse_shard(arguments.shard),
    }
    todo = suite.to_do(planned, **work)
    if arguments.dry_run:
        show_rows([{"id": run.id, **dataclasses.asdict(run)} for run in todo], arguments.json, columns=["id"])
        if todo:
            calibrate = f"rethink-gen show {planned.experiment.name} --calibrate measures what they cost"
            cost = here(todo, planned, timed(arguments))
            say(f"{len(todo)} runs: {cost} on this machine" if cost else f"{len(todo)} runs; {calibrate}")
        return 0
    execute = engine(arguments)
    if arguments.hosts:
        check_hosts(arguments, todo)
    title = f"{planned.experiment.name}, {planned.experiment.scale} scale"
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(launch.joined(arguments.hosts, planned.folder)):
            return 0
        say(f"{title}: {len(todo)} of {len(planned.experiment.runs)} runs to do")
        reports = [stack.enter_context(progress())]
        if arguments.log:
            folder = arguments.results / ".log" / planned.experiment.name / planned.experiment.scale
            reports.append(stack.enter_context(tracker(arguments.log, folder)))

        def tell(now: Any) -> None:
            for report in reports:
                report(now)

        processes = 1 if arguments.hosts else workers.count(planned.experiment.runs)
        study = suite.run(arguments.name, **request, **work, processes=processes, report=tell, execute=execute)
    if study.results:
        print(study.text())
        print(f"table:  {study.folder / 'table.md'}")
        if study.experiment.figure:
            print(f"figure: {study.folder / 'figure.png'}")
    if study.failures:
        reason = f"{study.failures[0].run.id}: {study.failures[0].reason}"
        raise RethinkError(f"{len(study.failures)} of {len(todo)} runs failed, the first is {reason}")
    asked = set(planned.experiment.runs)
    diverged = [result.run.id for result in study.results if result.status == "diverged" and result.run in asked]
    if diverged and arguments.strict:
        raise RethinkError(f"{len(diverged)} of {len(asked)} runs diverged, the first is {diverged[0]}")
    return refuse_damaged(study)


def engine(arguments: argparse.Namespace) -> suite.Execute | None:
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
    from rethink_gen import ray_engine

    given = {}
    for name, (kind, least) in PER_TASK.items():
        if chosen[name] is not None:
            option = f"--{name.replace('_', '-')}"
            given[name] = experiments.coerce(option, chosen[name], kind)
            if given[name] < least:
                raise UsageError(f"{option} must be at least {least}, got {chosen[name]}")
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = int(os.environ.get("NPROC", here))
    each = (given.get("cpus_per_task", cores), given.get("gpus_per_task", 0.0), given.get("tpus_per_task", 0))
    needs, together = ray_engine.Needs(*each), given.get("runs_per_task", 1)
    return partial(ray_engine.execute, needs=needs, address=arguments.address, runs_per_task=together)


def status(arguments: argparse.Namespace) -> int:
    """how many runs of each experiment have a result; with --watch again and again

    rethink-gen status fig1b --watch
    """
    shown: list[dict[str, Any]] | None = None
    while True:
        rows = count_runs(arguments)
        if rows != shown:
            if arguments.watch and sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")  # from the top of an empty screen
            show_rows(rows, arguments.json)
            sys.stdout.flush()
        if not arguments.watch:
            return 0
        shown = rows
        time.sleep(SECONDS_BETWEEN_LOOKS)


def count_runs(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each experiment and scale; with --watch, for those of which there is anything."""
    folder = arguments.experiments
    chosen = [arguments.name] if arguments.name else experiments.names(folder)
    rows = []
    for experiment in [experiments.find(name, folder) for name in chosen]:
        for scale in SCALES:
            study = suite.gather(experiment.at(scale), arguments.results)
            runs, missing = len(study.experiment.runs), len(study.missing)
            row = {
                "done": runs - missing,
                "missing": missing,
                "running": len({run.id for run in study.missing} & set(storage.running(study.folder))),
                "other seeds": len(study.results) - (runs - missing),
                "diverged": sum(result.status == "diverged" for result in study.results),
                "failed": len(study.failures),
                "damaged": len(study.damaged),
            }
            if not arguments.watch or row != {**dict.fromkeys(row, 0), "missing": missing}:
                rows.append({"experiment": experiment.name, "scale": scale, **row})
    return rows


def table(arguments: argparse.Namespace) -> int:
    """our numbers beside the paper's, from the results that exist

    rethink-gen table table1 --scale paper --format latex
    """
    form = "json" if arguments.json else arguments.format
    if form not in tables.FORMATS:  # said before pandas is loaded
        raise unknown("format", form, tables.FORMATS)
    output = arguments.output and output_file(arguments.output)
    study = load(arguments)
    text = study.text(form)
    if output:
        storage.write(output, text.encode())
        print(output)
    else:
        print(text.rstrip("\n"))
    return refuse_damaged(study)


def plot(arguments: argparse.Namespace) -> int:
    """the paper's figure from the results that exist; or a picture: corruptions, filters RUN, confusion RUN

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
        path = output or arguments.results / f"{arguments.name}.png"
        figures.save(picture(arguments), path)
        print(path)
        return 0
    study = load(arguments)
    path = output or study.folder / "figure.png"
    figure = study.figure()
    if figure is None:
        raise UsageError(f"{study.experiment.name} has no figure; its table: rethink-gen table {study.experiment.name}")
    figures.save(figure, path)
    print(path)
    return refuse_damaged(study)


def picture(arguments: argparse.Namespace) -> Figure:
    """What `plot` draws besides the figures of experiments."""
    from rethink_gen import pictures

    if arguments.name == "corruptions":
        return pictures.corrupted_images(arguments.dataset or Run.dataset)
    kept = suite.kept(arguments.runs, results=arguments.results)
    return pictures.filters(kept) if arguments.name == "filters" else pictures.confusion(kept)


def report(arguments: argparse.Namespace) -> int:
    """one page to look at and to share: the paper as a map, each claim beside its numbers, figures that answer

    rethink-gen report --output report.html
    """
    from rethink_gen import report as page

    place = arguments.output or arguments.results
    path = place if place.suffix == ".html" else place / "report.html"
    studies = suite.survey(
        arguments.names, scale=arguments.scale, results=arguments.results, experiments=arguments.experiments
    )
    content = page.render(studies).encode()
    storage.make_folder(path.parent)
    storage.write(path, content)
    print(path)
    return max(map(refuse_damaged, studies))


def refuse_damaged(study: suite.Study) -> int:
    """Success, unless files were left out: what is right was shown, and what is not is an error."""
    for error in study.damaged:
        raise RethinkError(f"{len(study.damaged)} damaged, the first is {error}")
    return 0


def merge(arguments: argparse.Namespace) -> int:
    """joins folders of results that machines without a common disk have made, and renews tables and figures

    rethink-gen merge part1 part2 --results results
    """
    from rethink_gen.merge import merge

    if not arguments.dir:
        raise UsageError("name the folders to merge, such as part1 part2; they are joined in --results")
    for done in merge(arguments.dir, results=arguments.results, experiments=arguments.experiments):
        renewed = "table renewed" if done.renewed else "no experiment of that name, so no table"
        print(f"{done.folder}: {done.copied} copied, {done.there} there before, {renewed}", flush=True)
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """recomputes every checksum and table; with --retrain K also trains K random runs anew

    rethink-gen verify quickstart --retrain 2
    """
    place = {"results": arguments.results, "experiments": arguments.experiments}
    count = experiments.coerce("--retrain", arguments.retrain, int)
    if count < 0:
        raise UsageError(f"--retrain takes a number of runs, got {count}")
    with progress() as report:
        found = verification.verify(arguments.name, **place)
        anew = verification.retrain(count, arguments.name, **place, report=report) if count > 0 else ()
        return show_findings(itertools.chain(found, anew))


def doctor(arguments: argparse.Namespace) -> int:
    """the versions, devices, data and folders there are, and what is wrong with them

    rethink-gen doctor
    """
    from rethink_gen.doctor import examine

    return show_findings(examine(results=arguments.results, experiments=arguments.experiments))


def show_findings(findings: Iterable[verification.Finding]) -> int:
    """Prints each as it comes; success, unless something is wrong."""
    wrong = []
    for finding in findings:
        print("wrong " if finding.wrong else "right ", in_one_line(finding.what), flush=True)
        for line in finding.wrong:
            print("      ", in_one_line(line), flush=True)
        wrong += finding.wrong
    if wrong:
        raise RethinkError(f"{len(wrong)} thing{'s' * (len(wrong) > 1)} wrong, the first is {wrong[0]}")
    return 0


def data(arguments: argparse.Namespace) -> int:
    """the data sets that are here; `data prepare NAME` fetches one, `data verify [NAME]` reads them anew

    rethink-gen data prepare cifar10
    """
    from rethink_gen import datasets

    if arguments.action == "list":
        show_rows(data_sets(), arguments.json)
    elif arguments.action == "prepare":
        if not arguments.name:
            raise UsageError(f"name the data set to prepare, such as {', '.join(datasets.names())}")
        source = datasets.prepare(arguments.name)
        print(f"{source.name}: {source.train} training and {source.test} test images")
    elif arguments.action == "verify":
        for name in [arguments.name] if arguments.name else [source.name for source in datasets.present()]:
            print("\n".join(datasets.verify(name)))
    else:
        raise unknown("action", arguments.action, ["list", "prepare", "verify"])
    return 0


def data_sets() -> list[dict[str, Any]]:
    """A row for each data set that is here, or could be without TensorFlow."""
    from rethink_gen import datasets

    here = {source.name: source for source in datasets.present()}
    rows = []
    for name in datasets.names():
        source = here.get(name)
        place = "bundled" if name in datasets.BUNDLED else source and (source.folder or source.cache)
        rows.append(
            {
                "name": name,
                "images": f"{source.train} + {source.test}" if source else "",
                "size": "" if not source else "varies" if source.streamed else "×".join(map(str, source.shape)),
                "classes": source.num_classes if source else "",
                "where": str(place or f"not here: rethink-gen data prepare {name}"),
            }
        )
    return rows


def train(arguments: argparse.Namespace) -> int:
    """one run of your own, with an option for each of its fields

    rethink-gen train --dataset digits --model mlp_3x512 --corruption random_labels --epochs 40
    """
    given = {name: getattr(arguments, name) for name in experiments.hints(Run)}
    run = Run(**{name: value for name, value in given.items() if value is not None})
    if arguments.hosts:
        check_hosts(arguments, [run])
    with launch.joined(arguments.hosts, arguments.results / "train") as first, progress() as report:
        if not first:
            return 0
        work = {"force": arguments.force, "keep_weights": arguments.keep_weights}
        result = suite.train(run, results=arguments.results, **work, report=report)
    if arguments.json:
        print(json.dumps({"id": run.id, "status": result.status, **result.summary}))
    else:
        show_rows([{"metric": name, "value": value} for name, value in result.summary.items()])
        print(f"\nstatus: {result.status}")
        print(f"file: {arguments.results / 'train' / run.id}.json")
    return 0


def load(arguments: argparse.Namespace) -> suite.Study:
    """The study that `table` and `plot` show."""
    return suite.load(
        arguments.name, scale=arguments.scale, results=arguments.results, experiments=arguments.experiments
    )


def parse_seeds(text: str | None) -> list[int] | None:
    """`0..4`, `0,3` or `5` as a list of seeds."""
    if text is None:
        return None
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"([0-9]{1,10})(?:\.\.([0-9]{1,10}))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < first + suite.MOST_RUNS:
            raise UsageError(f"--seeds takes seeds and rising ranges of them, such as 0..4 or 0,3 or 5, got {text!r}")
        seeds.extend(range(first, last + 1))
    return seeds


def parse_shard(text: str) -> tuple[int, int]:
    """`2/5` as the second of five parts."""
    found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", text)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= parts:
        raise UsageError(f"--shard takes a part and how many there are, such as 1/4 … 4/4, got {text!r}")
    return part, parts


def check_hosts(arguments: argparse.Namespace, runs: Sequence[AnyRun]) -> None:
    """Refuses what several hosts cannot do, before they look for each other."""
    if getattr(arguments, "engine", "local") != "local":
        raise UsageError("--hosts goes with --engine local: Ray places runs on hosts of its own")
    for kind in sorted({run.kind for run in runs} - {Run().kind}):
        raise UsageError(f"runs of kind {kind} are solved on one host; leave --hosts out, or choose others with --only")
    vocabulary.check_names(runs)
    vocabulary.check_data(runs)  # on each host, for each reads them


def parse_only(pairs: Sequence[str]) -> dict[str, list[str]]:
    """`["model=mlp_1x512", "seed=0", "seed=1"]` as field → values."""
    only: dict[str, list[str]] = {}
    for pair in pairs:
        field, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--only takes FIELD=VALUE, such as model=mlp_1x512, got {pair!r}")
        only.setdefault(field, []).append(value)
    return only


def output_file(path: Path) -> Path:
    """The path, once it is clear that a file can be there."""
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            f"{path} cannot be written: {'it is a folder' if path.is_dir() else 'its folder is not there'}"
        )
    return path


def show_rows(rows: list[dict[str, Any]], as_json: bool = False, columns: Sequence[str] | None = None) -> None:
    """Prints rows as JSON, or as aligned columns under their names."""
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    columns = columns or list(rows[0] if rows else [])
    cells = [columns, *([str(row[column]) for column in columns] for row in rows)] if rows else []
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
