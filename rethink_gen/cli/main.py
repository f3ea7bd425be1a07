"""The entry point of the command line: one error line for a mistake, and an answer to stop signals."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
import threading
import traceback
from collections.abc import Sequence

from rethink_gen import plugins, registry
from rethink_gen.cli import commands, hosts, keeping, randomization_test
from rethink_gen.cli.parser import parse
from rethink_gen.errors import HostLost, Interrupted, RethinkError, StorageError, TimeIsUp, UsageError
from rethink_gen.execution import machine, stopping
from rethink_gen.execution.progress import say
from rethink_gen.words import in_one_line

LONGEST_ANSWER = 180  # characters of the answer to a bad command line
BROKEN_PIPE = 128 + 13  # the exit code of tools that SIGPIPE ends


def main(argv: Sequence[str] | None = None) -> int:
    """Carries out one command; its exit code (see `errors`)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    try:
        with stopping.at_once(lambda: _say_how_to_continue(argv)):
            arguments = parse(argv)
            if not hosts.wanted(arguments):
                _load_plugins(arguments)
                if arguments.function in (commands.run, commands.train, keeping.verify, randomization_test.run):
                    machine.keep_memory()  # before jax starts; a notebook's process stays as it is
                code = _perform(arguments)
                sys.stdout.flush()
                return code
        return hosts.watch(argv)
    except SystemExit as end:  # --help and --version
        return 0 if end.code is None else int(end.code)
    except (KeyboardInterrupt, Interrupted) as stop:
        _say_how_to_continue(argv, "the time limit is reached" if isinstance(stop, TimeIsUp) else "stopped")
        return stop.exit_code if isinstance(stop, Interrupted) else 130
    except BrokenPipeError:  # the reader has read enough, as in `rethink-gen list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains as it closes it
        return BROKEN_PIPE
    except Exception as error:
        if "--debug" in argv:
            traceback.print_exc()
        code, text = _explain(error)
        text = in_one_line(text)
        if code == UsageError.exit_code and len(text) > LONGEST_ANSWER:  # who mistyped knows what they typed
            text = f"{text[: LONGEST_ANSWER - 60]} … {text[-57:]}"
        say(f"rethink-gen: error: {text}")
        return code


def _perform(arguments: argparse.Namespace) -> int:
    """Calls the function of a command. If code of the user's own ends the process, that is an error."""
    try:
        return arguments.function(arguments)
    except SystemExit as end:
        raise RethinkError(f"code of yours called sys.exit({end.code!r}); --debug shows where") from end


def _prepare_streams() -> None:
    """Opens standard streams that are closed, and has letters that a stream does not know shown as question marks."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would have this number, and get what is printed
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="replace")


def _load_plugins(arguments: argparse.Namespace) -> None:
    """Imports what --plugin names, and the plug-ins that installed packages declare."""
    if hasattr(arguments, "plugin"):
        plugins.load_installed()
        of_plugin: dict[tuple[str, str], tuple[str, str]] = {}  # kind, name → what is registered, by which plug-in
        for plugin in arguments.plugin:
            plugins.load(plugin)
            for each in registry.added():
                origin = registry.origin(each)
                before, other = of_plugin.setdefault((each.kind, each.name), (origin, plugin))
                if before != origin:
                    way_out = "rename one, for only one can be meant"
                    raise UsageError(f"{each.kind} {each.name!r} is in --plugin {other} and in {plugin}; {way_out}")


def _explain(error: Exception) -> tuple[int, str]:
    """The exit code and the text of an error."""
    if isinstance(error, RethinkError):
        return error.exit_code, str(error)
    if isinstance(error, OSError):
        return StorageError.exit_code, f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return RethinkError.exit_code, f"{type(error).__name__}: {error}; the same command with --debug shows where"


def _say_how_to_continue(argv: Sequence[str], why: str = "stopped") -> None:
    """Tells how to continue a command that was stopped."""
    say(f"rethink-gen: {why}; what is done is kept. To continue:")
    # Without force: what was trained anew since is not trained again.
    say(shlex.join(["rethink-gen", *(word for word in argv if word != "--force")]))


def carry_out() -> None:
    """What `watch` starts: the command, then an end without jax's own, which would wait for hosts that are gone."""
    hosts.in_child, lifeline = True, int(sys.argv[1])
    sys.argv = ["rethink-gen", *sys.argv[2:]]
    # Nothing is ever written there: it ends with the process that watches, and so do we.
    threading.Thread(target=lambda: os.read(lifeline, 1) or os._exit(HostLost.exit_code), daemon=True).start()
    if "--debug" not in sys.argv:  # what XLA's own code writes, greetings and stack traces, is left out
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            setattr(sys, name, os.fdopen(os.dup(stream.fileno()), "w", 1, stream.encoding, stream.errors))
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
