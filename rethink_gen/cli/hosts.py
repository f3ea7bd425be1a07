"""`--hosts` on the command line: the command is carried out by a child, and its parent has the last word.

Where jax finds that another process of the job is gone, it ends this one from within, and Python comes to say nothing.
So the command is carried out by a child of the process that was started, which has the exit code.
"""

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from rethink_gen.errors import HostLost
from rethink_gen.execution import stopping
from rethink_gen.execution.multihost import WAY_OUT, parse
from rethink_gen.execution.progress import say

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
    code = "from rethink_gen.cli import main; main.carry_out()"
    # In a process group of its own: Ctrl-C comes to us alone, and to the child once, from us.
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(lifeline), *argv], pass_fds=[lifeline], process_group=0
    )
    os.close(lifeline)
    try:
        with stopping.by_child(child):
            returned = child.wait()
    finally:
        os.close(ours)
    if returned >= 0:
        return returned
    if returned == -signal.SIGABRT:
        reason = "another host did not come, ended or fell silent"
    else:
        reason = f"the process on this host was ended by {signal.Signals(-returned).name}"
    say(f"rethink-gen: error: {reason}; {WAY_OUT}")
    return HostLost.exit_code
