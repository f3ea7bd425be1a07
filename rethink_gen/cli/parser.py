"""Commands and their options, as argparse has them."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from rethink_gen import atomic, registry, runs
from rethink_gen.analysis import rendering
from rethink_gen.cli import commands, keeping, measure, overview, randomization_test, scores
from rethink_gen.errors import UsageError, unknown
from rethink_gen.experiment import SCALES
from rethink_gen.runs import Run
from rethink_gen.study import finding, ranking
from rethink_gen.study.randomization_test import VARIED
from rethink_gen.version import __version__

EXIT_CODES = (
    "exit codes: 0 done; 1 some runs failed, or files are damaged; 2 a mistake in the command or in a file of yours; "
    "3 data are missing or wrong; 4 a folder cannot be read or written; 75 interrupted, the same command continues; "
    "130 Ctrl-C"
)
ABOUT = "Claims about memorization and generalization: run, table and plot them, or ask questions of your own."


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises its errors instead of printing them, so that all errors look alike."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command, with its `function`. Values stay text; the functions that use them check them."""
    top = _Parser(
        prog="rethink-gen",
        description="Claims about memorization and generalization: run them, table them, plot them; or ask your own.",
        epilog=EXIT_CODES,
    )
    top.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)  # stands before or after the command
    top.add_argument("--version", action="version", version=f"rethink-gen {__version__}")
    top.set_defaults(function=lambda arguments: top.print_help() or 0)
    parsers = top.add_subparsers(metavar="COMMAND", title="commands")
    for name, (function, positional, options) in COMMANDS.items():
        about, _, example = (inspect.getdoc(function) or "").partition("\n\n")
        command = parsers.add_parser(
            name, help=about, description=about, epilog=f"for example: {example}", allow_abbrev=False
        )
        for argument, default in positional.items():
            several = "*" if default == () else "?"
            optional: dict[str, Any] = {} if default is None else {"nargs": several, "default": default}
            complete(command.add_argument(argument, metavar=argument.upper(), **optional), name)
        options = (*options, "--debug")
        for option in options:
            complete(command.add_argument(option, **OPTIONS[option]))
        command.set_defaults(function=function, options=options)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks, once per press of Tab
        import argcomplete

        argcomplete.autocomplete(top, default_completer=argcomplete.completers.SuppressCompleter())
    command = next((argument for argument in argv if not argument.startswith("-")), None)
    if command is not None and command not in COMMANDS:
        raise unknown("command", command, COMMANDS)
    arguments, rest = top.parse_known_args(argv)
    for name in PATHS:
        if isinstance(given := getattr(arguments, name, None), str):
            setattr(arguments, name, atomic.as_path(given))
    for argument in rest:
        if argument.startswith("-"):
            raise unknown("option", argument.partition("=")[0], getattr(arguments, "options", ["--help", "--version"]))
        raise UsageError(f"nothing is expected where {argument!r} stands; see rethink-gen {command} --help")
    return arguments


def complete(argument: argparse.Action, command: str = "") -> None:
    """Tells the shell which words an argument can be: names, or paths; of other words it knows none."""
    names = lambda: finding.names(None, "results")
    words: dict[str, Callable[[], Iterable[str]]] = {
        "name": (lambda: [row["name"] for row in overview.data_sets()]) if command == "data" else names,
        "action": lambda: ("list", "prepare", "verify", "export"),
        "names": names,
        "scale": lambda: SCALES,
        "format": lambda: rendering.FORMATS,
        "only": lambda: [f"{field}=" for field in runs.fields()],
        "dataset": lambda: [row["name"] for row in overview.data_sets()],
        "augmentations": lambda: registry.known("augmentation"),
        "measures": lambda: registry.known("measure"),
        "corruptions": lambda: registry.known("corruption"),
        "kind": lambda: overview.KINDS,
    }
    kinds = {name: name for name in ("model", "corruption", "optimizer", "schedule", "loss", "order")}
    kinds["pretrain_corruption"] = "corruption"
    if argument.dest in (*PATHS, "dir", "plugin") and "_ARGCOMPLETE" in os.environ:
        import argcomplete

        words_for = argcomplete.completers.FilesCompleter()
    elif argument.dest in kinds:
        words_for = lambda prefix, **_: registry.completions(kinds[argument.dest], prefix)
    elif argument.dest in words:
        words_for = lambda **_: list(words[argument.dest]())
    else:
        return
    setattr(argument, "completer", words_for)  # noqa: B010


def _field_options() -> dict[str, dict[str, Any]]:
    """An option per field of Run, train_size as --train-size."""
    options = {}
    for each in dataclasses.fields(Run):
        default = ",".join(each.default) or "none" if isinstance(each.default, tuple) else each.default
        word = {"tuple": "NAME,NAME", "str": "NAME"}.get(
            re.split(r"\W", str(each.type))[0], str(each.type).split()[0].upper()
        )
        about = f"{each.metadata['about']} (default: {default})".replace("%", "%%")
        options["--" + each.name.replace("_", "-")] = {"dest": each.name, "metavar": word, "help": about}
    return options


FIELD_OPTIONS = _field_options()


OPTIONS: dict[str, dict[str, Any]] = {
    "--scale": {
        "metavar": "SCALE",
        "help": "smoke, laptop or paper (run: laptop; otherwise the last that has results)",
    },
    "--seeds": {"metavar": "SEEDS", "help": "in place of the experiment's seeds: 0..4 or 0,3 or 5"},
    "--only": {"nargs": "+", "action": "extend", "default": [], "metavar": "FIELD=VALUE", "help": "these runs alone"},
    "--results": {
        "default": "results",
        "metavar": "DIR",
        "help": "folder of results (%(default)s)",
    },
    "--experiments": {"metavar": "DIR", "help": "a folder of experiments of your own"},
    "--shard": {
        "default": "1/1",
        "metavar": "I/N",
        "help": "the I-th of N parts of the runs, for machines that share no locks; then once without, for the table",
    },
    "--time-limit": {
        "metavar": "TIME",
        "help": "such as 12m or 1h30m: begin no run that cannot end in it, and stop in time with checkpoints",
    },
    "--all": {
        "action": "store_true",
        "help": "all experiments: first settings without a result, then those with the fewest seeds, shortest first",
    },
    "--engine": {"default": "local", "metavar": "ENGINE", "help": "local (default), or ray: on a Ray cluster"},
    "--address": {
        "metavar": "ADDRESS",
        "help": "of a Ray cluster (default: RAY_ADDRESS, this machine's, or a new one)",
    },
    "--cpus-per-task": {"metavar": "N", "help": "cores of a task on Ray (as many as here, so that bits are the same)"},
    "--gpus-per-task": {"metavar": "X", "help": "GPUs of a task on Ray, or a fraction of one (0)"},
    "--tpus-per-task": {"metavar": "N", "help": "TPU chips of a task on Ray (0)"},
    "--runs-per-task": {"metavar": "N", "help": "runs of one recipe that share a task on Ray (1)"},
    "--hosts": {
        "metavar": "HOSTS",
        "help": "one job on several hosts: auto under SLURM, MPI, Kubernetes or on a TPU, else 1/2@HOST:PORT and so on",
    },
    "--retrain": {"default": "0", "metavar": "K", "help": "train K random runs anew and compare"},
    "--log": {"metavar": "TRACKER", "help": "send curves to tensorboard or wandb while they grow; files in DIR/.log"},
    "--watch": {"action": "store_true", "help": "show it again whenever it changes, until Ctrl-C"},
    "--force": {"action": "store_true", "help": "train again what has a result; replace a file"},
    "--keep-weights": {
        "action": "store_true",
        "help": "leave RUN.weights.npz beside results, for `plot filters`, `plot confusion` and more --epochs later",
    },
    "--strict": {"action": "store_true", "help": "exit 1 if a run diverged"},
    "--calibrate": {"action": "store_true", "help": "time a few steps of each program on this machine"},
    "--dry-run": {"action": "store_true", "help": "list the runs that would be trained"},
    "--format": {
        "metavar": "FORMAT",
        "help": "markdown, latex, csv, html or json (default: as --output ends, else markdown)",
    },
    "--output": {"metavar": "FILE", "help": "where to, instead of the usual place"},
    "--json": {"action": "store_true", "help": "print JSON"},
    "--plugin": {
        "action": "append",
        "default": [],
        "metavar": "FILE_OR_MODULE",
        "help": "a Python file or module that registers components of your own; may be given several times",
    },
    "--metrics": {
        "metavar": "METRICS",
        "help": "these, joined by commas, for each setting: best_test_accuracy,test_accuracy,train_recovered",
    },
    "--x": {"metavar": "COLUMN", "help": "of `plot train`: epoch, step, or a field such as corruption_level"},
    "--y": {"metavar": "METRIC", "help": "of `plot train`: one metric, or several joined by commas"},
    "--hue": {"metavar": "COLUMN", "help": "of `plot train`: the field that has a line for each of its values"},
    "--level": {
        "default": "1",
        "metavar": "FLOAT",
        "help": "of `data export`: probability that an example is corrupted",
    },
    "--corruptions": {
        "metavar": "NAME,NAME",
        "help": "what is done to the data, beside true labels (shuffled and random pixels, noise, random labels)",
    },
    "--levels": {
        "default": "1",
        "metavar": "FLOAT,FLOAT",
        "help": "of random labels: the probability that a label is drawn at random (%(default)s)",
    },
    "--by": {
        "default": ranking.BY,
        "metavar": "SCORE",
        "help": "the score that orders examples (%(default)s); memorization and unseen_accuracy take 100 seeds",
    },
    "--count": {"default": ranking.COUNT, "metavar": "N", "help": "how many examples are shown (%(default)s)"},
    "--debug": {"action": "store_true", "help": "show the traceback of an error"},
    **FIELD_OPTIONS,
}


PLUGIN = ("--plugin",)
PATHS = ("results", "experiments", "output")  # options that are paths, once they are parsed

# Command → its function, its positional arguments (name → default; None: required, (): any number), and its options.
COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], dict[str, Any], tuple[str, ...]]] = {
    "list": (overview.list_names, {"kind": "experiments"}, ("--experiments", *PLUGIN, "--json")),
    "show": (overview.show, {"name": None}, ("--calibrate", "--results", "--experiments", *PLUGIN, "--json")),
    "run": (
        commands.run,
        {"name": ""},
        (
            *("--all", "--time-limit", "--scale", "--seeds", "--only", "--shard", "--hosts", "--log"),
            *("--results", "--experiments"),
            *("--engine", "--address", "--cpus-per-task", "--gpus-per-task", "--tpus-per-task", "--runs-per-task"),
            *("--force", "--keep-weights", "--strict", "--dry-run", *PLUGIN, "--json"),
        ),
    ),
    "status": (overview.status, {"name": ""}, ("--watch", "--results", "--experiments", *PLUGIN, "--json")),
    "table": (
        commands.table,
        {"name": None},
        ("--scale", "--only", "--metrics", "--format", "--output", "--results", "--experiments", *PLUGIN, "--json"),
    ),
    "plot": (
        commands.plot,
        {"name": None, "runs": ()},
        (
            *("--scale", "--only", "--dataset", "--x", "--y", "--hue", "--output", "--results", "--experiments"),
            *PLUGIN,
        ),
    ),
    "report": (commands.report, {"names": ()}, ("--scale", "--output", "--results", "--experiments", *PLUGIN)),
    "pack": (keeping.pack, {"names": ()}, ("--scale", "--results", "--experiments", *PLUGIN)),
    "merge": (keeping.merge, {"dir": ()}, ("--results", "--experiments", *PLUGIN)),
    "verify": (keeping.verify, {"name": ""}, ("--retrain", "--results", "--experiments", *PLUGIN)),
    "doctor": (keeping.doctor, {}, ("--results", "--experiments")),
    "data": (
        overview.data,
        {"action": "list", "name": ""},
        ("--corruption", "--level", "--seed", "--train-size", "--test-size", "--output", "--force", *PLUGIN, "--json"),
    ),
    "train": (
        commands.train,
        {},
        (*FIELD_OPTIONS, "--seeds", "--hosts", "--log", "--results", "--force", "--keep-weights", *PLUGIN, "--json"),
    ),
    "randomization-test": (
        randomization_test.run,
        {},
        (
            *("--model", "--dataset", "--corruptions", "--levels", "--seeds"),
            *(option for option, about in FIELD_OPTIONS.items() if about["dest"] not in VARIED),
            *("--results", "--force", "--keep-weights", *PLUGIN, "--json"),
        ),
    ),
    "measure": (
        measure.measure,
        {"name": None},
        ("--measures", "--scale", "--only", "--results", "--experiments", *PLUGIN, "--json"),
    ),
    "scores": (
        scores.scores,
        {},
        (*FIELD_OPTIONS, "--seeds", "--by", "--count", "--output", "--results", "--force", *PLUGIN, "--json"),
    ),
}
