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
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from rethink_gen import __version__, figures, suite, tables, vocabulary
from rethink_gen import experiment as experiments
from rethink_gen import results as files
from rethink_gen import verify as verification
from rethink_gen.errors import Interrupted, RethinkError, StorageError, UsageError, unknown
from rethink_gen.experiment import SCALES, AnyRun, Run
from rethink_gen.progress import duration, progress, say

SECONDS_TO_STOP = 5.0  # what is promised is ten, also on a machine that has other things to do
BROKEN_PIPE = 128 + 13  # as if SIGPIPE had ended us, the way of other tools


def list_names(arguments: argparse.Namespace) -> int:
    """the experiments, models, data sets, corruptions, augmentations, features or kernels there are"""
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
    """an experiment's claim, its runs, and what they cost on this machine"""
    found = experiments.find(arguments.name, arguments.experiments)
    timed = [result for folder in suite.open_folder(arguments.results).glob("*/*") for result in files.sift(folder)[0]]
    rows = []
    for scale in SCALES:
        study = suite.gather(found.at(scale), arguments.results)
        costs = suite.estimate(study.missing, timed)
        cost = " or ".join(f"{duration(seconds)} on {device}" for device, seconds in costs.items())
        rows.append(
            {
                "scale": scale,
                "runs": len(study.experiment.runs),
                "missing": len(study.missing),
                "time for the missing ones": "none" if not study.missing else cost or "not known: none was timed yet",
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


def run(arguments: argparse.Namespace) -> int:
    """trains what an experiment is missing, then shows its table and names its figure"""
    request = {
        "scale": "laptop" if arguments.scale is None else arguments.scale,
        "seeds": parse_seeds(arguments.seeds),
        "only": parse_only(arguments.only),
        "results": arguments.results,
        "experiments": arguments.experiments,
    }
    planned = suite.plan(arguments.name, **request)
    work = {"force": arguments.force, "shard": parse_shard(arguments.shard)}
    todo = suite.to_do(planned, **work)
    if arguments.dry_run:
        show_rows([{"id": run.id, **dataclasses.asdict(run)} for run in todo], arguments.json, columns=["id"])
        return 0
    title = f"{planned.experiment.name}, {planned.experiment.scale} scale"
    say(f"{title}: {len(todo)} of {len(planned.experiment.runs)} runs to do")
    with progress() as report:
        study = suite.run(arguments.name, **request, **work, report=report)
    if study.results:
        print(study.text())
        print(f"table:  {study.folder / 'table.md'}")
        if study.experiment.figure:
            print(f"figure: {study.folder / 'figure.png'}")
    if study.failures:
        reason = f"{study.failures[0].run.id}: {study.failures[0].reason}"
        raise RethinkError(f"{len(study.failures)} of {len(todo)} runs failed, the first is {reason}")
    return refuse_damaged(study)


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
                    "failed": len(study.failures),
                    "damaged": len(study.damaged),
                }
            )
    show_rows(rows, arguments.json)
    return 0


def table(arguments: argparse.Namespace) -> int:
    """our numbers beside the paper's, from the results that exist"""
    form = "json" if arguments.json else arguments.format
    if form not in tables.FORMATS:  # said before pandas is loaded
        raise unknown("format", form, tables.FORMATS)
    output = arguments.output and output_file(arguments.output)
    study = load(arguments)
    text = study.text(form)
    if output:
        files.write(output, text.encode())
        print(output)
    else:
        print(text.rstrip("\n"))
    return refuse_damaged(study)


def plot(arguments: argparse.Namespace) -> int:
    """the paper's figure from the results that exist"""
    output = arguments.output and output_file(arguments.output)
    if output and output.suffix.removeprefix(".") not in figures.KINDS:
        raise unknown("kind of figure", output.suffix, [f".{kind}" for kind in figures.KINDS])
    study = load(arguments)
    path = output or study.folder / "figure.png"
    figure = study.figure()
    if figure is None:
        raise UsageError(f"{study.experiment.name} has no figure; its table: rethink-gen table {study.experiment.name}")
    figures.save(figure, path)
    print(path)
    return refuse_damaged(study)


def refuse_damaged(study: suite.Study) -> int:
    """Success, unless files were left out: what is right was shown, and what is not is an error."""
    for error in study.damaged:
        raise RethinkError(f"{len(study.damaged)} damaged, the first is {error}")
    return 0


def verify(arguments: argparse.Namespace) -> int:
    """recomputes every checksum and table; with --retrain K also trains K random runs anew"""
    place = {"results": arguments.results, "experiments": arguments.experiments}
    count = experiments.coerce("--retrain", arguments.retrain, int)
    if count < 0:
        raise UsageError(f"--retrain takes a number of runs, got {count}")
    findings = verification.verify(arguments.name, **place)
    for finding in findings:
        print(f"{'wrong' if finding.wrong else 'right'}  {finding.what}", *finding.wrong, sep="\n       ")
    with progress() as report:
        for finding in verification.retrain(count, arguments.name, **place, report=report) if count > 0 else ():
            print(f"{'wrong' if finding.wrong else 'right'}  {finding.what}", *finding.wrong, sep="\n       ")
            findings.append(finding)
    wrong = [line for finding in findings for line in finding.wrong]
    if wrong:
        raise RethinkError(f"{len(wrong)} thing{'s' * (len(wrong) > 1)} wrong, the first is {wrong[0]}")
    return 0


def data(arguments: argparse.Namespace) -> int:
    """the data sets that are here; `data prepare NAME` fetches one, `data verify [NAME]` reads them anew"""
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
    """one run of your own, with an option for each of its fields"""
    given = {name: getattr(arguments, name) for name in experiments.hints(Run)}
    run = Run(**{name: value for name, value in given.items() if value is not None})
    with progress() as report:
        result = suite.train(run, results=arguments.results, force=arguments.force, report=report)
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


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises what it would print, so that every error is told in one way."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command, with its `function`. Values stay text: what uses them checks them."""
    top = Parser(prog="rethink-gen", description="Every experiment of the paper: run it, table it, plot it.")
    top.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)  # goes before the verb as well as after it
    top.add_argument("--version", action="version", version=f"rethink-gen {__version__}")
    top.set_defaults(function=lambda arguments: top.print_help() or 0)
    parsers = top.add_subparsers(metavar="VERB", title="verbs")
    for name, (function, positional, options) in VERBS.items():
        verb = parsers.add_parser(name, help=function.__doc__, description=function.__doc__, allow_abbrev=False)
        for argument, default in positional.items():
            optional: dict[str, Any] = {} if default is None else {"nargs": "?", "default": default}
            verb.add_argument(argument, metavar=argument.upper(), **optional)
        options = (*options, "--debug")
        for option in options:
            verb.add_argument(option, **OPTIONS[option])
        verb.set_defaults(function=function, options=options)
    verb = next((argument for argument in argv if not argument.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    arguments, rest = top.parse_known_args(argv)
    for argument in rest:
        if argument.startswith("-"):
            raise unknown("option", argument.partition("=")[0], getattr(arguments, "options", ["--help", "--version"]))
        raise UsageError(f"nothing is expected where {argument!r} stands; see rethink-gen {verb} --help")
    return arguments


def field_options() -> dict[str, dict[str, Any]]:
    """An option per field of Run, train_size as --train-size, explained by the comment that stands beside the field."""
    source = inspect.getsource(AnyRun) + inspect.getsource(Run)
    comments = dict(re.findall(r"^    (\w+): .*?# (.+)$", source, re.MULTILINE))
    options = {}
    for field in dataclasses.fields(Run):
        default = ",".join(field.default) or "none" if isinstance(field.default, tuple) else field.default
        kind = {"tuple": "NAME,NAME", "str": "NAME"}.get(
            re.split(r"\W", str(field.type))[0], str(field.type).split()[0].upper()
        )
        text = f"{comments.get(field.name, '')} (default: {default})".strip().replace("%", "%%")
        options["--" + field.name.replace("_", "-")] = {"dest": field.name, "metavar": kind, "help": text}
    return options


FIELD_OPTIONS = field_options()
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
    "--shard": {
        "default": "1/1",
        "metavar": "I/N",
        "help": "the I-th of N parts of the runs, for machines that share no locks; then once without, for the table",
    },
    "--retrain": {"default": "0", "metavar": "K", "help": "train K random runs anew and compare"},
    "--force": {"action": "store_true", "help": "train again what has a result"},
    "--dry-run": {"action": "store_true", "help": "list the runs that would be trained"},
    "--format": {"default": "markdown", "metavar": "FORMAT", "help": "markdown (default), latex, csv, html or json"},
    "--output": {"type": Path, "metavar": "FILE", "help": "where to, instead of the usual place"},
    "--json": {"action": "store_true", "help": "print JSON"},
    "--debug": {"action": "store_true", "help": "show the traceback of an error"},
    **FIELD_OPTIONS,
}

# Verb → its function, its positional arguments (name → default; None: required), and its options besides --debug.
VERBS: dict[str, tuple[Callable[[argparse.Namespace], int], dict[str, str | None], tuple[str, ...]]] = {
    "list": (list_names, {"kind": "experiments"}, ("--experiments", "--json")),
    "show": (show, {"name": None}, ("--results", "--experiments", "--json")),
    "run": (
        run,
        {"name": None},
        ("--scale", "--seeds", "--only", "--shard", "--results", "--experiments", "--force", "--dry-run", "--json"),
    ),
    "status": (status, {"name": ""}, ("--results", "--experiments", "--json")),
    "table": (table, {"name": None}, ("--scale", "--format", "--output", "--results", "--experiments", "--json")),
    "plot": (plot, {"name": None}, ("--scale", "--output", "--results", "--experiments")),
    "verify": (verify, {"name": ""}, ("--retrain", "--results", "--experiments")),
    "data": (data, {"action": "list", "name": ""}, ("--json",)),
    "train": (train, {}, (*FIELD_OPTIONS, "--results", "--force", "--json")),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Carries out one command; its exit code (see `errors`)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with stop_signals(argv):
            arguments = parse(argv)
            code = arguments.function(arguments)
            sys.stdout.flush()
            return code
    except SystemExit as end:  # --help and --version
        return 0 if end.code is None else int(end.code)
    except (KeyboardInterrupt, Interrupted) as stop:
        say_how_to_continue(argv)
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


def say_how_to_continue(argv: Sequence[str]) -> None:
    """The last words of a command that was stopped."""
    say("rethink-gen: stopped; what is done is kept. To continue:")
    say(shlex.join(["rethink-gen", *argv]))


@contextmanager
def stop_signals(argv: Sequence[str]) -> Iterator[None]:
    """Within, SIGTERM raises Interrupted; if it or Ctrl-C finds no answer in SECONDS_TO_STOP, the process ends itself.

    So it does while a large network is compiled or measured, when Python does not come to run a handler for minutes.
    """
    ended = threading.Event()
    read, write = os.pipe()
    os.set_blocking(write, False)

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted("stopped by SIGTERM")

    def watch() -> None:
        number = next((n for [n] in iter(lambda: os.read(read, 1), b"") if n in (signal.SIGTERM, signal.SIGINT)), None)
        if number and not ended.wait(SECONDS_TO_STOP):
            say_how_to_continue(argv)
            os._exit(Interrupted.exit_code if number == signal.SIGTERM else 130)

    threading.Thread(target=watch, daemon=True).start()
    before = signal.signal(signal.SIGTERM, interrupt), signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield
    finally:
        ended.set()
        signal.signal(signal.SIGTERM, before[0])
        signal.set_wakeup_fd(before[1])
        os.close(write)
