"""`--hosts`: one job of several processes, each started by the same command on its host. No jax but to join.

Where jax finds that another process of the job is gone, it ends this one from within, and Python comes to say nothing.
So the command is carried out by a child of the process that was started, which has the last word and the exit code.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rethink_gen.errors import HostLost, Interrupted, RethinkError, UsageError
from rethink_gen.progress import say

SECONDS_TO_MEET = 300  # hosts are started one after the other
SECONDS_TO_NOTICE = (
    20  # that a host is silent; where its process ends, the connection does, and that is noticed at once
)
SECONDS_TO_PART = 20
OPTION = "--hosts"
WAY_OUT = "what is done is kept; the same command on every host continues"

in_child = False


def wanted(arguments: argparse.Namespace) -> bool:
    """Whether a command is for several hosts, and this is not the child that carries it out."""
    text = getattr(arguments, "hosts", None)
    if text is None or in_child:
        return False
    parse(text)  # what makes no sense is said at once
    return True


def watch(argv: Sequence[str]) -> int:
    """The exit code of a command that a child of this process carries out; signals are passed on to it."""
    lifeline, ours = os.pipe()
    code = "from rethink_gen import launch; launch.carry_out()"
    # In a process group of its own: Ctrl-C comes to us alone, and to the child once, from us.
    child = subprocess.Popen([sys.executable, "-c", code, str(lifeline), *argv], pass_fds=[lifeline], process_group=0)
    os.close(lifeline)
    before = {
        number: signal.signal(number, lambda n, _: child.send_signal(n)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        returned = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(ours)
    if returned >= 0:
        return returned
    if returned == -signal.SIGABRT:
        reason = "another host did not come, ended or fell silent"
    else:
        reason = f"the process on this host was ended by {signal.Signals(-returned).name}"
    say(f"rethink-gen: error: {reason}; {WAY_OUT}")
    return HostLost.exit_code


def carry_out() -> None:
    """What `watch` starts: the command, then an end without jax's own, which would wait for hosts that are gone."""
    global in_child
    in_child, lifeline = True, int(sys.argv[1])
    sys.argv = ["rethink-gen", *sys.argv[2:]]
    # Nothing is ever written there: it ends with the process that watches, and so do we.
    threading.Thread(target=lambda: os.read(lifeline, 1) or os._exit(HostLost.exit_code), daemon=True).start()
    if "--debug" not in sys.argv:  # what XLA's own code writes, greetings and stack traces, is left out
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            setattr(sys, name, os.fdopen(os.dup(stream.fileno()), "w", 1, stream.encoding, stream.errors))
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    from rethink_gen import cli

    code = cli.main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def parse(text: str) -> dict[str, Any]:
    """`2/4@node1:1234` as what `jax.distributed.initialize` asks for; `auto` leaves all of it to jax."""
    if text == "auto":
        return {}
    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})@([^\s@/]+:[0-9]{1,5})", text)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not found or not 1 <= part <= parts:
        raise UsageError(
            f"{OPTION} takes auto, or which process of how many and where the first one is, such as "
            f"1/2@node1:1234, got {text!r}"
        )
    address = {"coordinator_address": found[3], "num_processes": parts, "process_id": part - 1}
    return {**address, "cluster_detection_method": "deactivate"}


@contextmanager
def joined(text: str | None, folder: Path) -> Iterator[bool]:
    """Yields whether this process is the first of its job; where it is not, once it has done what the first one had to.

    Args:
      text: what --hosts says; None: there is one process, and it is the first.
      folder: of the results; only the first process reads and writes there.
    """
    if text is None:
        yield True
        return
    options = parse(text)
    import jax

    try:
        jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from us
        jax.distributed.initialize(
            **options,
            initialization_timeout=SECONDS_TO_MEET,
            heartbeat_timeout_seconds=SECONDS_TO_NOTICE,
            shutdown_timeout_seconds=SECONDS_TO_PART,
        )
    except ValueError as error:
        raise UsageError(f"{OPTION} auto finds no SLURM, MPI, Kubernetes or TPU here; say 1/2@HOST:PORT") from error
    except RuntimeError as error:
        raise HostLost(f"the hosts did not meet ({in_short(error)}); start the same command on all of them") from error
    from rethink_gen import cohorts, hosts

    try:
        if hosts.first():
            yield True
            cohorts.announce([])
        else:
            cohorts.follow(folder)
            yield False
    except (Interrupted, KeyboardInterrupt):
        jax.distributed.shutdown()
        raise
    except (RethinkError, OSError):
        raise
    except Exception as error:
        raise HostLost(f"this host or another one failed ({in_short(error)}); {WAY_OUT}") from error
    jax.distributed.shutdown()


def in_short(error: Exception) -> str:
    """The first line of an error, and what kind it is."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
