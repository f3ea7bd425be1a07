"""The command line: one function per verb, which prints. Starts fast: no verb but `run` and `train` loads jax."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import os
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rethink_gen import __version__, suite, vocabulary
from rethink_gen import experiment as experiments
from rethink_gen import results as files
from rethink_gen.errors import Interrupted, RethinkError, StorageError, UsageError, unknown
from rethink_gen.experiment import SCALES, Run

if TYPE_CHECKING:
    from rethink_gen.cohorts import Progress

BROKEN_PIPE = 128 + 13  # as if SIGPIPE had ended us, the way of other tools
SECONDS_BETWEEN_LINES = 5.0


def list_names(arguments: argparse.Namespace) -> int:
    """the experiments, models, data sets, corruptions or augmentations there are"""
    folder = arguments.experiments
    kinds: dict[str, Callable[[], dict[str, str]]] = {
        "experiments": lambda: {name: experiments.find(name, folder).claim for name in experiments.names(folder)},
        "models": lambda: vocabulary.vocabulary("model"),
        "datasets": lambda: {row["name"]: row["where"] for row in data_sets()},
        "corruptions": lambda: vocabulary.vocabulary("corruption"),
        "augmentations": lambda: vocabulary.vocabulary("augmentation"),
    }
    if arguments.kind not in kinds:
        raise unknown("list", arguments.kind, kinds)
    show_rows([{"name": name, "about": about} for name, about in kinds[arguments.kind]().items()], arguments.json)
    return 0


def show(arguments: argparse.Namespace) -> int:
    """an experiment's claim, its runs, and what they cost on this machine"""
    found = experiments.find(arguments.name, arguments.experiments)
    timed = [result for folder in suite.open_folder(arguments.results).glob("*/*") for result in files.load(folder)]
    rows = []
    for scale in SCALES:
        study = suite.gather(found.at(scale), arguments.results)
        costs = suite.estimate(study.missing, timed)
        cost = " or ".join(f"{duration(seconds)} on {device}" for device, seconds in costs.items())
        unknown_cost = f"not known: no such run was timed yet; time one: rethink-gen run {found.name} --scale {scale} --only seed=0"
        rows.append(
            {
                "scale": scale,
                "runs": len(study.experiment.runs),
                "missing": len(study.missing),
                "time for the missing ones": "none" if not study.missing else cost or unknown_cost,
            }
        )
    if arguments.json:
        print(
            json.dumps(
                {"name": found.name, "claim": found.claim, "locator": found.locator, "scales": rows, "doc": found.doc}
            )
        )
    else:
        print(f"{found.name}\n\n{found.claim} ({found.locator})\n")
        show_rows(rows)
        print(f"\n{found.doc}")
    return 0


def run(arguments: argparse.Namespace) -> int:
    """trains what an experiment is missing, then shows its table and names its figure"""
    request = {
        "scale": arguments.scale or "laptop",
        "seeds": parse_seeds(arguments.seeds),
        "only": parse_only(arguments.only),
        "results": arguments.results,
        "experiments": arguments.experiments,
    }
    planned = suite.plan(arguments.name, **request)
    todo = planned.experiment.runs if arguments.force else planned.missing
    if arguments.dry_run:
        show_rows([{"id": run.id, **dataclasses.asdict(run)} for run in todo], arguments.json, columns=["id"])
        return 0
    title = f"{planned.experiment.name}, {planned.experiment.scale} scale"
    say(f"{title}: {len(todo)} of {len(planned.experiment.runs)} runs to do")
    with progress() as report:
        study = suite.run(arguments.name, **request, force=arguments.force, report=report)
    if study.results:
        print(study.text())
        print(f"table:  {study.folder / 'table.md'}")
        if study.experiment.figure:
            print(f"figure: {study.folder / 'figure.png'}")
    if study.failures:
        reason = f"{study.failures[0].run.id}: {study.failures[0].reason}"
        raise RethinkError(f"{len(study.failures)} of {len(todo)} runs failed, the first is {reason}")
    return 0


def status(arguments: argparse.Namespace) -> int:
    """how many runs of each experiment have a result"""
    folder = arguments.experiments
    chosen = [arguments.name] if arguments.name else experiments.names(folder)
    rows = []
    for experiment in [experiments.find(name, folder) for name in chosen]:
        for scale in SCALES:
            study = suite.gather(experiment.at(scale), arguments.results)
            runs = len(study.experiment.runs)
            diverged = sum(result.status == "diverged" for result in study.results)
            missing = len(study.missing)
            rows.append(
                {
                    "experiment": experiment.name,
                    "scale": scale,
                    "done": runs - missing,
                    "missing": missing,
                    "other seeds": len(study.results) - (runs - missing),
                    "diverged": diverged,
                }
            )
    show_rows(rows, arguments.json)
    return 0


def table(arguments: argparse.Namespace) -> int:
    """our numbers beside the paper's, from the results that exist"""
    study = load(arguments)
    text = study.text("json" if arguments.json else arguments.format)
    if arguments.output:
        files.write(output_file(arguments.output), text.encode())
        print(arguments.output)
    else:
        print(text.rstrip("\n"))
    return 0


def plot(arguments: argparse.Namespace) -> int:
    """the paper's figure from the results that exist"""
    study = load(arguments)
    path = output_file(arguments.output or study.folder / "figure.png")
    kinds = ("png", "svg", "pdf")
    if path.suffix.removeprefix(".") not in kinds:
        raise unknown("kind of figure", path.suffix, [f".{kind}" for kind in kinds])
    figure = study.figure()
    if figure is None:
        raise UsageError(
            f"{study.experiment.name} has no figure; see its table: rethink-gen table {study.experiment.name}"
        )
    files.write(path, suite.draw(figure, path.suffix.removeprefix(".")))
    print(path)
    return 0


def data(arguments: argparse.Namespace) -> int:
    """the data sets that are here; `data prepare NAME` fetches one, `data verify [NAME]` reads them anew"""
    from rethink_gen import datasets

    if arguments.action == "list":
        show_rows(data_sets(), arguments.json)
    elif arguments.action == "prepare":
        if not arguments.name:
            raise UsageError(f"name the data set to prepare, such as {', '.join(datasets.names())}")
        dataset = datasets.prepare(arguments.name)
        print(f"{dataset.name}: {len(dataset.train.labels)} training and {len(dataset.test.labels)} test images")
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
        rows.append(
            {
                "name": name,
                "images": f"{source.train} + {source.test}" if source else "",
                "size": "×".join(map(str, source.shape)) if source else "",
                "classes": source.num_classes if source else "",
                "where": str(source.folder or "bundled or cached")
                if source
                else f"not here: rethink-gen data prepare {name}",
            }
        )
    return rows


def train(arguments: argparse.Namespace) -> int:
    """one run of your own, with an option for each of its fields"""
    given = {name: getattr(arguments, name) for name in Run.__dataclass_fields__}
    run = Run(**{name: value for name, value in given.items() if value is not None})
    with progress() as report:
        result = suite.train(run, results=arguments.results, force=arguments.force, report=report)
    if arguments.json:
        print(json.dumps({"id": run.id, "status": result.status, **result.summary}))
    else:
        show_rows(
            [{"metric": name, "value": value} for name, value in {"status": result.status, **result.summary}.items()]
        )
        print(f"\nfile: {arguments.results / 'train' / run.id}.json")
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
        found = re.fullmatch(r"(\d{1,10})(?:\.\.(\d{1,10}))?", part)
        first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
        if not first <= last < first + suite.MOST_RUNS:
            raise UsageError(f"--seeds takes seeds and rising ranges of them, such as 0..4 or 0,3 or 5, got {text!r}")
        seeds.extend(range(first, last + 1))
    return seeds


def parse_only(pairs: Sequence[str]) -> dict[str, list[str]]:
    """`["model=mlp_1x512", "seed=0", "seed=1"]` as field → values."""
    only: dict[str, list[str]] = {}
    for pair in pairs:
        field, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"--only takes FIELD=VALUE, such as model=mlp_1x512, got {pair!r}")
        only.setdefault(field, []).append(value)
    return only


def output_file(path: str | Path) -> Path:
    """The path, once it is clear that a file can be there."""
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: {'it is' if path.is_dir() else f'{path.parent} is not'} a folder")
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


def say(line: str) -> None:
    """A line for the person at the terminal, out of the way of the output."""
    print(line, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@contextmanager
def progress() -> Iterator[Callable[[Progress], None]]:
    """Yields the function that shows a run's progress on stderr: a bar on a terminal, otherwise a line now and then."""
    if not sys.stderr.isatty():
        yield lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"))
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("starting jax", total=None, note="")

        def report(now: Progress) -> None:
            description = f"[{now.done_runs + 1}/{now.total_runs}] {now.run.id}"
            bars.update(task, description=description, completed=now.step, total=now.steps, note=note(now))

        yield report


def lines() -> Callable[[Progress], None]:
    """Prints a line when a run ends, and else for the first news of an epoch, at most one in five seconds."""
    shown: tuple[Run | None, int] = (None, -1)
    last = time.monotonic()

    def report(now: Progress) -> None:
        nonlocal shown, last
        ended = now.step == now.steps
        if (now.run, now.epoch) != shown and (ended or time.monotonic() - last > SECONDS_BETWEEN_LINES):
            shown, last = (now.run, now.epoch), time.monotonic()
            say(f"[{now.done_runs + 1}/{now.total_runs}] {now.run.id}: epoch {now.epoch}/{now.run.epochs}, {note(now)}")

    return report


def note(now: Progress) -> str:
    """How well the run does, and how long it still takes."""
    parts = [
        f"{name.replace('_', ' ')} {100 * value:.1f} %"
        for name in ("train_accuracy", "test_accuracy")
        if (value := now.metrics.get(name)) is not None
    ]
    if now.seconds_left:
        parts.append(f"{duration(now.seconds_left)} left")
    return ", ".join(parts)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises what it would print, so that every error is told in one way."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command, with its `function`. Values stay text: what uses them checks them, and knows the right ones."""
    top = Parser(
        prog="rethink-gen", description="Every experiment of the paper: run it, table it beside the paper, plot it."
    )
    top.add_argument("--version", action="version", version=f"rethink-gen {__version__}")
    top.set_defaults(function=lambda arguments: top.print_help() or 0)
    parsers = top.add_subparsers(metavar="VERB", title="verbs")
    for name, (function, positional, options) in VERBS.items():
        verb = parsers.add_parser(name, help=function.__doc__, description=function.__doc__, allow_abbrev=False)
        for argument, default in positional.items():
            required = {} if default is None else {"nargs": "?", "default": default}
            verb.add_argument(argument, metavar=argument.upper(), **required)
        for option in (*options, "--debug"):
            verb.add_argument(option, **OPTIONS[option])
        if function is train:
            add_run_fields(verb)
        verb.set_defaults(function=function, options=[*options, "--debug"])
    verb = next((argument for argument in argv if not argument.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    arguments, rest = top.parse_known_args(argv)
    for argument in rest:
        if argument.startswith("-"):
            fields = [option_of(field) for field in Run.__dataclass_fields__] if verb == "train" else []
            raise unknown(
                "option", argument.partition("=")[0], [*getattr(arguments, "options", ["--version"]), *fields]
            )
        raise UsageError(f"nothing is expected where {argument!r} stands; see rethink-gen {verb} --help")
    return arguments


def add_run_fields(verb: argparse.ArgumentParser) -> None:
    """An option per field of Run, explained by the comment that stands beside the field."""
    comments = dict(re.findall(r"^    (\w+): .*?# (.+)$", inspect.getsource(Run), re.MULTILINE))
    for field in dataclasses.fields(Run):
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        text = f"{comments.get(field.name, '')} (default: {default if default != '' else 'none'})".strip()
        metavar = str(field.type).partition("[")[0].removesuffix(" | None").upper().replace("TUPLE", "NAME,NAME")
        verb.add_argument(option_of(field.name), dest=field.name, metavar=metavar, help=text.replace("%", "%%"))


def option_of(field: str) -> str:
    """The option that sets a field: train_size is --train-size."""
    return "--" + field.replace("_", "-")


OPTIONS: dict[str, dict[str, Any]] = {
    "--scale": {
        "metavar": "SCALE",
        "help": "smoke, laptop or paper (run: laptop; otherwise the last that has results)",
    },
    "--seeds": {"metavar": "SEEDS", "help": "in place of the experiment's seeds: 0..4 or 0,3 or 5"},
    "--only": {"nargs": "+", "action": "extend", "default": [], "metavar": "FIELD=VALUE", "help": "these runs alone"},
    "--results": {
        "type": Path,
        "default": Path("results"),
        "metavar": "DIR",
        "help": "folder of results (%(default)s)",
    },
    "--experiments": {"type": Path, "metavar": "DIR", "help": "a folder of experiments of your own"},
    "--force": {"action": "store_true", "help": "train again what has a result"},
    "--dry-run": {"action": "store_true", "help": "list the runs that would be trained"},
    "--format": {"default": "markdown", "metavar": "FORMAT", "help": "markdown (default), latex, csv, html or json"},
    "--output": {"type": Path, "metavar": "FILE", "help": "where to, instead of the usual place"},
    "--json": {"action": "store_true", "help": "print JSON"},
    "--debug": {"action": "store_true", "help": "show the traceback of an error"},
}

# Verb → its function, its positional arguments (name → default; None: required), and its options.
VERBS: dict[str, tuple[Callable[[argparse.Namespace], int], dict[str, str | None], tuple[str, ...]]] = {
    "list": (list_names, {"kind": "experiments"}, ("--experiments", "--json")),
    "show": (show, {"name": None}, ("--results", "--experiments", "--json")),
    "run": (
        run,
        {"name": None},
        ("--scale", "--seeds", "--only", "--results", "--experiments", "--force", "--dry-run", "--json"),
    ),
    "status": (status, {"name": ""}, ("--results", "--experiments", "--json")),
    "table": (table, {"name": None}, ("--scale", "--format", "--output", "--results", "--experiments", "--json")),
    "plot": (plot, {"name": None}, ("--scale", "--output", "--results", "--experiments")),
    "data": (data, {"action": "list", "name": ""}, ("--json",)),
    "train": (train, {}, ("--results", "--force", "--json")),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Carries out one command; its exit code (see `errors`)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with sigterm_interrupts():
            arguments = parse(argv)
            code = arguments.function(arguments)
            sys.stdout.flush()
            return code
    except SystemExit as end:  # --help and --version
        return 0 if end.code is None else int(end.code)
    except (KeyboardInterrupt, Interrupted) as stop:
        say("rethink-gen: stopped; what is done is kept. To continue:")
        say(shlex.join(["rethink-gen", *argv]))
        return stop.exit_code if isinstance(stop, Interrupted) else 130
    except BrokenPipeError:  # the reader has read enough, as in `rethink-gen list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains as it closes it
        return BROKEN_PIPE
    except Exception as error:
        if "--debug" in argv:
            traceback.print_exc()
        code, text = explain(error)
        say("rethink-gen: error: " + " ".join("".join(c if c.isprintable() else " " for c in text).split()))
        return code


def explain(error: Exception) -> tuple[int, str]:
    """The exit code and the text of an error."""
    if isinstance(error, RethinkError):
        return error.exit_code, str(error)
    if isinstance(error, OSError):
        return StorageError.exit_code, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return RethinkError.exit_code, f"{type(error).__name__}: {error}; the same command with --debug shows where"


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Within, SIGTERM raises Interrupted."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted("stopped by SIGTERM")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
