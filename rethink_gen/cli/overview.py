"""The commands that show what there is: list, show, status, data."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from rethink_gen import digests, experiment, registry
from rethink_gen.cli.arguments import show_rows
from rethink_gen.errors import RethinkError, UsageError, unknown
from rethink_gen.execution import costs, processes, requests
from rethink_gen.experiment import SCALES
from rethink_gen.results import locks, results_cache, store
from rethink_gen.runs import AnyRun
from rethink_gen.study import studies
from rethink_gen.words import duration

SECONDS_BETWEEN_LOOKS = 2.0


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
    "features": "features",
    "kernels": "kernel",
}


def list_names(arguments: argparse.Namespace) -> int:
    """the experiments, or the components that a run can name, each with its options and their defaults

    rethink-gen list corruptions
    """
    if arguments.kind not in KINDS:
        raise unknown("list", arguments.kind, KINDS)
    if arguments.kind == "experiments":
        folder = arguments.experiments
        found = {name: experiment.find(name, folder).claim for name in experiment.names(folder)}
    elif arguments.kind == "datasets":
        found = {row["name"]: row["where"] for row in data_sets()}
    else:
        found = registry.known(KINDS[arguments.kind])
    show_rows([{"name": name, "about": about} for name, about in found.items()], arguments.json)
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
    """A row for each experiment and scale, and one for your own runs; with --watch, for those that have any."""
    folder = arguments.experiments
    rows = []
    for name in [arguments.name] if arguments.name else experiment.names(folder):
        if name == studies.TRAIN:
            continue
        found = experiment.find(name, folder)  # one after the other: two files may register one name
        for scale in SCALES:
            row = counted(studies.gather(found.at(scale), arguments.results))
            if not arguments.watch or row != {**dict.fromkeys(row, 0), "missing": row["missing"]}:
                rows.append({"experiment": found.name, "scale": scale, **row})
    if arguments.name in ("", studies.TRAIN) and (arguments.results / studies.TRAIN).is_dir():
        own = studies.survey_own(arguments.results)
        rows.append({"experiment": own.experiment.name, "scale": own.experiment.scale, **counted(own)})
    return rows


def counted(study: studies.Study) -> dict[str, int]:
    """How many runs of a study are done, missing, and so on."""
    runs, missing = len(study.experiment.runs), len(study.missing)
    return {
        "done": runs - missing,
        "missing": missing - len(study.stale),
        "running": len({run.id for run in study.missing} & set(locks.running(study.folder))),
        "other seeds": len(study.results) - (runs - missing),
        "diverged": sum(result.status == "diverged" for result in study.results),
        "failed": len(study.failures),
        "damaged": len(study.damaged),
        "stale": len(study.stale) + len(store.set_aside_files(study.experiment.runs, study.folder)),
    }


def data(arguments: argparse.Namespace) -> int:
    """the data sets that are here; `data prepare NAME` fetches one, `data verify [NAME]` reads them anew, and
    `data export NAME` writes corrupted data for any framework

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
            print("\n".join(datasets.verify(name)))
    elif arguments.action == "export":
        print(export(arguments))
    else:
        raise unknown("action", arguments.action, ["list", "prepare", "verify", "export"])
    return 0


def export(arguments: argparse.Namespace) -> str:
    """Writes corrupted data to the file that --output names; says what it holds."""
    if not arguments.name or not arguments.output:
        raise UsageError("name a data set and a file: data export cifar10 --corruption random_labels --output FILE.npz")
    given = {name: getattr(arguments, name) for name in ("corruption", "seed", "train_size", "test_size")}
    given = {name: value for name, value in given.items() if value is not None}
    run = AnyRun(dataset=arguments.name, corruption_level=arguments.level, **given)
    requests.check_names([run])
    requests.check_data([run])
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
