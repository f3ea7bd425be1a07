"""The commands that show what there is: list, show, status, data."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rethink_gen import digests, experiment, papers, registry
from rethink_gen.cli.arguments import show_rows
from rethink_gen.errors import DataError, RethinkError, UsageError, unknown
from rethink_gen.execution import costs, processes, requests
from rethink_gen.execution.progress import say
from rethink_gen.experiment import SCALES, Experiment
from rethink_gen.results import failing, locks, packs, results_cache
from rethink_gen.results.result import Result
from rethink_gen.runs import AnyRun
from rethink_gen.study import finding, studies
from rethink_gen.words import duration, in_one_line

SECONDS_BETWEEN_LOOKS = 2.0
_COMMITTED = experiment.HERE.parent / "results"  # of the checkout


# What `list` lists, and the kind of component that it is.
KINDS = {
    "experiments": "",
    "models": "model",
    "datasets": "",
    "corruptions": "corruption",
    "augmentations": "augmentation",
    "optimizers": "optimizer",
    "schedules": "schedule",
    "losses": "loss",
    "orders": "order",
    "measures": "measure",
    "features": "features",
    "kernels": "kernel",
    "searches": "search",
    "learners": "learner",
}


def list_names(arguments: argparse.Namespace) -> int:
    """list the experiments, or the components that a run can name, each with its options and their defaults

    rethink-gen list corruptions
    """
    if arguments.kind not in KINDS:
        raise unknown("list", arguments.kind, KINDS)
    if arguments.kind == "experiments":
        return _list_experiments(arguments)
    if arguments.kind == "datasets":
        found = {row["name"]: row["where"] for row in data_sets()}
    else:
        found = registry.known(KINDS[arguments.kind])
    show_rows([{"name": name, "about": about} for name, about in found.items()], arguments.json)
    return 0


def _list_experiments(arguments: argparse.Namespace) -> int:
    """The experiments and their claims, grouped by paper."""
    every = list(experiment.find_each(arguments.experiments))
    broken = [each for each in every if isinstance(each, UsageError)]
    found = [each for each in every if not isinstance(each, UsageError)]
    found.sort(key=lambda each: papers.order(each.paper))
    rows = [{"paper": each.paper, "name": each.name, "about": each.claim} for each in found]
    if arguments.json:
        show_rows(rows, as_json=True)
    else:
        for paper, of_paper in itertools.groupby(rows, key=lambda row: row["paper"]):
            print(f"{papers.find(paper).cited if paper else 'Experiments of no paper'}\n")
            show_rows(list(of_paper), columns=["name", "about"])
            print()
    return refuse_broken(broken)


def refuse_broken(broken: Sequence[UsageError]) -> int:
    """Success, unless experiment files cannot be loaded: then each is named in a line of its own."""
    for error in broken[:-1]:
        say(f"rethink-gen: error: {in_one_line(str(error))}")
    if broken:
        raise broken[-1]
    return 0


def show(arguments: argparse.Namespace) -> int:
    """show an experiment's claim, its runs, and what they cost on this machine; --calibrate times a few steps of each

    rethink-gen show fig1b --calibrate
    """
    found = finding.find(arguments.name, arguments.experiments, arguments.results)
    known = list(timed(arguments))
    timings = costs.timings(known)
    scales, shown = [], []
    for scale in SCALES:
        study = studies.gather(found.at(scale), arguments.results)
        shown.append(study)
        here = cost(study, study.missing, known, arguments.calibrate)
        row: dict[str, Any] = {"scale": scale, "runs": len(study.experiment.runs), "missing": len(study.missing)}
        row["estimated_seconds"] = {"this machine": here.seconds} if here else {}
        row["estimated_seconds"] |= costs.estimate(study.missing, timings) if study.missing else {}
        scales.append(row | {"memory_bytes": here and here.memory, "disk_bytes": here and here.disk})
    if arguments.json:
        about = {key: getattr(found, key) for key in ("name", "claim", "locator", "doc")}
        print(json.dumps({**about, "scales": scales}, indent=1))
        return refuse_damaged(shown)
    print(f"{found.name}\n\n{found.claim} ({found.locator})\n")
    way_out = f"not known: rethink-gen show {found.name} --calibrate measures it"
    rows = [{**{name: row[name] for name in ("scale", "runs", "missing")}, "time": _in_words(row)} for row in scales]
    show_rows([{**row, "time": row["time"] or (way_out if row["missing"] else "nothing to do")} for row in rows])
    print(f"\n{found.doc}")
    return refuse_damaged(shown)


def refuse_damaged(shown: Iterable[studies.Study]) -> int:
    """Success, unless result files were left out because they are damaged; called once everything else was shown."""
    damaged = [error for study in shown for error in study.damaged]
    if damaged:
        raise RethinkError(f"{len(damaged)} damaged, the first is {damaged[0]}")
    return 0


def _in_words(row: dict[str, Any]) -> str:
    """What the missing runs of a scale take, for a reader; empty if it is not known."""
    parts = [f"{duration(seconds)} on {device}" for device, seconds in row["estimated_seconds"].items()]
    if row["memory_bytes"] and row["missing"]:
        parts.append(f"{size(row['memory_bytes'])} of memory and {size(row['disk_bytes'])} of disk")
    return "; ".join(parts)


def size(count: float) -> str:
    """Bytes in the unit that suits them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def timed(arguments: argparse.Namespace) -> Iterator[Result]:
    """All results in the folder of results and in the checkout's own; a thousand take half a second to read."""
    for folder in sorted({folder.resolve() for folder in (arguments.results, _COMMITTED)}):
        for place in studies.open_folder(folder).glob("*/*"):
            yield from results_cache.sift(place)[0]


def cost(
    study: studies.Study, runs: Sequence[AnyRun], known: Iterable[Result], calibrate: bool = False
) -> costs.Cost | None:
    """What runs of a study cost on this machine; None if that is not known, or the data are not there.

    Args:
      known: finished results, see `costs.cost`.
    """
    number = processes.count(study.experiment.runs)
    try:
        if calibrate:
            costs.calibrate(runs, number)
        return costs.cost(runs, known, number) if runs else None
    except DataError:
        return None


def tell_other_scales(arguments: argparse.Namespace, study: studies.Study) -> None:
    """Says that there are results at another scale than the one that is shown, unless a scale was asked for."""
    if arguments.scale is None and arguments.name != studies.TRAIN:
        experiment = study.experiment
        for scale in ("paper", "laptop"):
            if scale != experiment.scale and packs.paths(arguments.results / experiment.name / scale):
                way = f"rethink-gen table {experiment.name} --scale {scale}"
                say(f"shown: {experiment.scale} scale; the {scale} scale has results, too: {way}")


def status(arguments: argparse.Namespace) -> int:
    """count the runs that are done, missing, running or stale, of the experiments that were begun; --watch repeats it

    rethink-gen status fig1b --watch
    """
    shown: list[dict[str, Any]] | None = None
    while True:
        rows, broken = _count_runs(arguments)
        if rows != shown:
            if arguments.watch and sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")  # from the top of an empty screen
            if not rows and not arguments.json:
                print(f"no results in {arguments.results} yet; to make some: rethink-gen run quickstart")
            show_rows(rows, arguments.json)
            sys.stdout.flush()
        if not arguments.watch:
            return refuse_broken(broken)
        shown = rows
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _count_runs(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[UsageError]]:
    """A row for each experiment and scale, and one for your own runs: those that were begun.

    An experiment that is named has a row for each scale, except with --watch.

    Returns:
      the rows, and the errors of the experiment files that cannot be loaded.
    """
    folder = arguments.experiments
    rows: list[dict[str, Any]] = []
    broken: list[UsageError] = []
    every: Iterable[Experiment | UsageError] = ()
    if not arguments.name:
        every = finding.find_each(folder, arguments.results)
    elif arguments.name != studies.TRAIN:
        every = [finding.find(arguments.name, folder, arguments.results)]
    for found in every:
        if isinstance(found, UsageError):
            broken.append(found)
            continue
        for scale in SCALES:
            row = _counted(studies.gather(found.at(scale), arguments.results))
            whole = arguments.name and not arguments.watch
            if whole or row != {**dict.fromkeys(row, 0), "missing": row["missing"]}:
                rows.append({"experiment": found.name, "scale": scale, **row})
    if arguments.name in ("", studies.TRAIN) and (arguments.results / studies.TRAIN).is_dir():
        own = studies.survey_own(arguments.results)
        counted = _counted(own) | {"failed": len(failing.reasons(own.folder))}  # of which no results tell
        rows.append({"experiment": own.experiment.name, "scale": own.experiment.scale, **counted})
    return rows, broken


def _counted(study: studies.Study) -> dict[str, int]:
    """How many runs of a study are done, missing, and so on."""
    runs, missing = len(study.experiment.runs), len(study.missing)
    return {
        "done": runs - missing,
        "missing": missing - len(study.stale),
        "running": len({run.id for run in study.missing} & set(locks.running(study.folder))),
        "other_seeds": len(study.results) - (runs - missing),
        "diverged": sum(result.status == "diverged" for result in study.results),
        "failed": len(study.failures),
        "damaged": len(study.damaged),
        "stale": len(study.stale),
    }


def data(arguments: argparse.Namespace) -> int:
    """list the data sets that are here; `data prepare NAME` fetches one, `data verify [NAME]` checks them, `data export
    NAME` writes corrupted data for any framework

    rethink-gen data export cifar10 --corruption random_labels --level 0.4 --seed 0 --output noisy.npz
    """
    from rethink_gen.data import datasets

    if arguments.action == "list":
        show_rows(data_sets(), arguments.json)
    elif arguments.action == "prepare":
        if not arguments.name:
            raise UsageError(f"name the data set to prepare, such as {', '.join(datasets.names())}")
        source = datasets.prepare(arguments.name)
        print(f"{source.name}: {source.train} training and {source.test} test images")
    elif arguments.action == "verify":
        for name in [arguments.name] if arguments.name else [source.name for source in datasets.present()]:
            print(
                "\n".join(datasets.verify(name)) or f"{name}: arrays of your own in memory, checked when they are made"
            )
    elif arguments.action == "export":
        print(_export(arguments))
    else:
        raise unknown("action", arguments.action, ["list", "prepare", "verify", "export"])
    return 0


def _export(arguments: argparse.Namespace) -> str:
    """Writes corrupted data to the file that --output names; says what it holds."""
    if not arguments.name or not arguments.output:
        raise UsageError("name a data set and a file: data export cifar10 --corruption random_labels --output FILE.npz")
    given = {name: getattr(arguments, name) for name in ("corruption", "seed", "train_size", "test_size")}
    given = {name: value for name, value in given.items() if value is not None}
    run = AnyRun(dataset=arguments.name, corruption_level=arguments.level, **given)
    requests.check_names([run])
    requests.check_data([run])
    if arguments.output.exists() and not arguments.force:
        raise UsageError(f"{arguments.output} is there already; name another file, or replace it with --force")
    from rethink_gen.data import export, pipeline

    corrupted, clean = pipeline.load(run)
    files = {name: digest for name, digest in digests.of_run(run).items() if "(" in name}
    provenance = export.Provenance(run.corruption, run.corruption_level, run.seed_of("corruption"), files or None)
    export.export(corrupted, clean, arguments.output, provenance)
    changed = int(corrupted.changed.sum())
    return f"{arguments.output}: {len(corrupted.train.labels)} training images, {changed} with another label"


def data_sets() -> list[dict[str, Any]]:
    """A row for each data set that is here, or could be without TensorFlow."""
    from rethink_gen.data import datasets

    here = {source.name: source for source in datasets.present()}
    rows = []
    for name in datasets.names():
        source = here.get(name)
        own = "registered by you" if name in registry.COMPONENTS["dataset"] else ""
        place = "bundled" if name in datasets.bundled.DATASETS else own or (source and (source.folder or source.cache))
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
