"""The commands that show what there is: list, show, status, data."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rethink_gen import experiment, papers, registry
from rethink_gen.errors import RethinkError, UsageError, unknown
from rethink_gen.execution import costs, processes
from rethink_gen.execution.progress import say
from rethink_gen.experiment import SCALES
from rethink_gen.results import locks, results_cache
from rethink_gen.runs import AnyRun
from rethink_gen.study import studies
from rethink_gen.words import duration, in_one_line

if TYPE_CHECKING:
    pass

from rethink_gen.cli.arguments import show_rows

SECONDS_BETWEEN_LOOKS = 2.0


def list_names(arguments: argparse.Namespace) -> int:
    """the experiments, models, data sets, corruptions, augmentations, features or kernels there are

    rethink-gen list corruptions
    """
    if arguments.kind == "experiments":
        return list_experiments(arguments)
    kinds: dict[str, Callable[[], dict[str, str]]] = {
        "models": lambda: registry.known("model"),
        "datasets": lambda: {row["name"]: row["where"] for row in data_sets()},
        "corruptions": lambda: registry.known("corruption"),
        "augmentations": lambda: registry.known("augmentation"),
        "features": lambda: registry.known("features"),
        "kernels": lambda: registry.known("kernel"),
    }
    if arguments.kind not in kinds:
        raise unknown("list", arguments.kind, ["experiments", *kinds])
    show_rows([{"name": name, "about": about} for name, about in kinds[arguments.kind]().items()], arguments.json)
    return 0


def list_experiments(arguments: argparse.Namespace) -> int:
    """The experiments and their claims, grouped by paper."""
    found, broken = experiment.find_all(arguments.experiments)
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
    """an experiment's claim, its runs, and what they cost on this machine; --calibrate measures a few steps of each

    rethink-gen show fig1b --calibrate
    """
    found = experiment.find(arguments.name, arguments.experiments)
    known = timed(arguments)
    rows = []
    for scale in SCALES:
        study = studies.gather(found.at(scale), arguments.results)
        known_costs = (
            {} if not study.missing else {"this machine": here(study.missing, study, known, arguments.calibrate)}
        )
        known_costs |= {
            device: duration(seconds) for device, seconds in costs.estimate(study.missing, known).items() if seconds
        }
        cost = "; ".join(f"{cost} on {device}" for device, cost in known_costs.items() if cost)
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
    folders = {folder.resolve() for folder in (arguments.results, experiment.HERE.parent / "results")}
    found = [place for folder in sorted(folders) for place in studies.open_folder(folder).glob("*/*")]
    return [result for place in found for result in results_cache.sift(place)[0]]


def here(runs: Sequence[AnyRun], study: studies.Study, known: list[Any], calibrate: bool = False) -> str:
    """What runs of a study cost on this machine, in words; nothing where that is not known."""
    number = processes.count(study.experiment.runs)
    try:
        if calibrate:
            costs.calibrate(runs, number)
        cost = costs.cost(runs, known, number)
    except RethinkError as error:  # no data, say: nothing can be trained then
        return f"not to be had ({error})"
    if cost is None:
        return ""
    size = lambda count: f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
    return f"{duration(cost.seconds)}, {size(cost.memory)} of memory and {size(cost.disk)} of disk"


def status(arguments: argparse.Namespace) -> int:
    """how many runs of each experiment have a result; with --watch again and again

    rethink-gen status fig1b --watch
    """
    shown: list[dict[str, Any]] | None = None
    while True:
        rows, broken = count_runs(arguments)
        if rows != shown:
            if arguments.watch and sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")  # from the top of an empty screen
            show_rows(rows, arguments.json)
            sys.stdout.flush()
        if not arguments.watch:
            return refuse_broken(broken)
        shown = rows
        time.sleep(SECONDS_BETWEEN_LOOKS)


def count_runs(arguments: argparse.Namespace) -> tuple[list[dict[str, Any]], list[UsageError]]:
    """A row for each experiment and scale, with --watch only where there is anything; and the files that are broken."""
    folder = arguments.experiments
    every, broken = ([experiment.find(arguments.name, folder)], []) if arguments.name else experiment.find_all(folder)
    rows = []
    for found in every:
        for scale in SCALES:
            study = studies.gather(found.at(scale), arguments.results)
            runs, missing = len(study.experiment.runs), len(study.missing)
            row = {
                "done": runs - missing,
                "missing": missing,
                "running": len({run.id for run in study.missing} & set(locks.running(study.folder))),
                "other seeds": len(study.results) - (runs - missing),
                "diverged": sum(result.status == "diverged" for result in study.results),
                "failed": len(study.failures),
                "damaged": len(study.damaged),
            }
            if not arguments.watch or row != {**dict.fromkeys(row, 0), "missing": missing}:
                rows.append({"experiment": found.name, "scale": scale, **row})
    return rows, broken


def data(arguments: argparse.Namespace) -> int:
    """the data sets that are here; `data prepare NAME` fetches one, `data verify [NAME]` reads them anew

    rethink-gen data prepare cifar10
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
            print("\n".join(datasets.verify(name)))
    else:
        raise unknown("action", arguments.action, ["list", "prepare", "verify"])
    return 0


def data_sets() -> list[dict[str, Any]]:
    """A row for each data set that is here, or could be without TensorFlow."""
    from rethink_gen.data import datasets

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
