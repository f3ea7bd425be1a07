"""The command line: verbs and options, what is said to a mistake, how a signal stops it. The verbs are in verbs.py."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from rethink_gen import __version__, launch, tables, verbs, vocabulary
from rethink_gen import experiment as experiments
from rethink_gen.errors import Interrupted, RethinkError, StorageError, UsageError, unknown
from rethink_gen.experiment import SCALES, AnyRun, Run
from rethink_gen.progress import in_one_line, say

SECONDS_TO_STOP = 5.0  # what is promised is ten, also on a machine that has other things to do
LONGEST_ANSWER = 180  # characters of what is said to a bad command line
BROKEN_PIPE = 128 + 13  # as if SIGPIPE had ended us, the way of other tools


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
        about, _, example = (inspect.getdoc(function) or "").partition("\n\n")
        verb = parsers.add_parser(
            name, help=about, description=about, epilog=f"for example: {example}", allow_abbrev=False
        )
        for argument, default in positional.items():
            several = "*" if default == () else "?"
            optional: dict[str, Any] = {} if default is None else {"nargs": several, "default": default}
            complete(verb.add_argument(argument, metavar=argument.upper(), **optional))
        options = (*options, "--debug")
        for option in options:
            complete(verb.add_argument(option, **OPTIONS[option]))
        verb.set_defaults(function=function, options=options)
    if "_ARGCOMPLETE" in os.environ:  # the shell asks, once per press of Tab
        import argcomplete

        argcomplete.autocomplete(top)
    verb = next((argument for argument in argv if not argument.startswith("-")), None)
    if verb is not None and verb not in VERBS:
        raise unknown("verb", verb, VERBS)
    arguments, rest = top.parse_known_args(argv)
    for argument in rest:
        if argument.startswith("-"):
            raise unknown("option", argument.partition("=")[0], getattr(arguments, "options", ["--help", "--version"]))
        raise UsageError(f"nothing is expected where {argument!r} stands; see rethink-gen {verb} --help")
    return arguments


def complete(argument: argparse.Action) -> None:
    """Tells the shell which words an argument can be."""
    words: dict[str, Callable[[], Iterable[str]]] = {
        "name": experiments.names,
        "names": experiments.names,
        "scale": lambda: SCALES,
        "format": lambda: tables.FORMATS,
        "only": lambda: [f"{field}=" for field in experiments.fields()],
        "dataset": lambda: [row["name"] for row in verbs.data_sets()],
        "model": lambda: vocabulary.vocabulary("model"),
        "corruption": lambda: vocabulary.vocabulary("corruption"),
        "augmentations": lambda: vocabulary.vocabulary("augmentation"),
    }
    if argument.dest in words:
        setattr(argument, "completer", lambda **_: list(words[argument.dest]()))  # noqa: B010


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
    "--force": {"action": "store_true", "help": "train again what has a result"},
    "--keep-weights": {
        "action": "store_true",
        "help": "leave RUN.weights.npz beside results, for `plot filters` and `plot confusion`",
    },
    "--strict": {"action": "store_true", "help": "exit 1 if a run diverged"},
    "--calibrate": {"action": "store_true", "help": "time a few steps of each program on this machine"},
    "--dry-run": {"action": "store_true", "help": "list the runs that would be trained"},
    "--format": {"default": "markdown", "metavar": "FORMAT", "help": "markdown (default), latex, csv, html or json"},
    "--output": {"type": Path, "metavar": "FILE", "help": "where to, instead of the usual place"},
    "--json": {"action": "store_true", "help": "print JSON"},
    "--debug": {"action": "store_true", "help": "show the traceback of an error"},
    **FIELD_OPTIONS,
}

# Verb → its function, its positional arguments (name → default; None: required, (): any number), and its options.
VERBS: dict[str, tuple[Callable[[argparse.Namespace], int], dict[str, Any], tuple[str, ...]]] = {
    "list": (verbs.list_names, {"kind": "experiments"}, ("--experiments", "--json")),
    "show": (verbs.show, {"name": None}, ("--calibrate", "--results", "--experiments", "--json")),
    "run": (
        verbs.run,
        {"name": None},
        (
            *("--scale", "--seeds", "--only", "--shard", "--hosts", "--log", "--results", "--experiments"),
            *("--engine", "--address", "--cpus-per-task", "--gpus-per-task", "--tpus-per-task", "--runs-per-task"),
            *("--force", "--keep-weights", "--strict", "--dry-run", "--json"),
        ),
    ),
    "status": (verbs.status, {"name": ""}, ("--watch", "--results", "--experiments", "--json")),
    "table": (verbs.table, {"name": None}, ("--scale", "--format", "--output", "--results", "--experiments", "--json")),
    "plot": (
        verbs.plot,
        {"name": None, "runs": ()},
        ("--scale", "--dataset", "--output", "--results", "--experiments"),
    ),
    "report": (verbs.report, {"names": ()}, ("--scale", "--output", "--results", "--experiments")),
    "merge": (verbs.merge, {"dir": ()}, ("--results", "--experiments")),
    "verify": (verbs.verify, {"name": ""}, ("--retrain", "--results", "--experiments")),
    "doctor": (verbs.doctor, {}, ("--results", "--experiments")),
    "data": (verbs.data, {"action": "list", "name": ""}, ("--json",)),
    "train": (verbs.train, {}, (*FIELD_OPTIONS, "--hosts", "--results", "--force", "--keep-weights", "--json")),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Carries out one command; its exit code (see `errors`)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        with stop_signals(argv):
            arguments = parse(argv)
            if not launch.wanted(arguments):
                code = arguments.function(arguments)
                sys.stdout.flush()
                return code
        return launch.watch(argv)
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
        text = in_one_line(text)
        if code == UsageError.exit_code and len(text) > LONGEST_ANSWER:  # who mistyped knows what they typed
            text = f"{text[: LONGEST_ANSWER - 60]} … {text[-57:]}"
        say(f"rethink-gen: error: {text}")
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
