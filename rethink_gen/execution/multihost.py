"""Join several hosts into one job (`--hosts`): the same command runs on each host.

This module imports jax only to join. If another process of the job is gone, jax terminates this process before Python
can print a message. So cli/hosts.py runs the command in a child process, prints the message and returns the exit code.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rethink_gen.errors import HostLost, Interrupted, RethinkError, UsageError

_SECONDS_TO_MEET = 300  # until all hosts have joined; users start them one after another
_SECONDS_TO_NOTICE = 20  # until a silent host counts as lost; if its process ends, this is noticed at once
_SECONDS_TO_PART = 20  # until all hosts have left
_OPTION = "--hosts"
WAY_OUT = "finished runs are kept; run the same command on every host to continue"


def parse(text: str) -> dict[str, Any]:
    """Parses `2/4@node1:1234` into arguments of `jax.distributed.initialize`; `auto` gives none.

    Raises:
      UsageError: the text has another form.
    """
    if text == "auto":
        return {}
    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})@([^\s@/]+:[0-9]{1,5})", text)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not found or not 1 <= part <= parts:
        raise UsageError(
            f"{_OPTION} takes auto, or PROCESS/PROCESSES@HOST:PORT with the host of process 1, such as "
            f"1/2@node1:1234, got {text!r}"
        )
    address = {"coordinator_address": found[3], "num_processes": parts, "process_id": part - 1}
    return {**address, "cluster_detection_method": "deactivate"}


@contextmanager
def joined(text: str | None, folder: Path) -> Iterator[bool]:
    """Joins the job and yields whether this process is the first one.

    The first process executes the block. The others train what the first one announces, then yield False.

    Args:
      text: the value of --hosts; None: a single process.
      folder: of the results; only the first process reads and writes there.

    Raises:
      UsageError: the value of --hosts is invalid.
      HostLost: the hosts did not meet, or one of them failed.
    """
    if text is None:
        yield True
        return
    options = parse(text)
    import jax

    try:
        jax.config.update("jax_enable_preemption_service", False)  # it would handle SIGTERM itself
        jax.distributed.initialize(
            **options,
            initialization_timeout=_SECONDS_TO_MEET,
            heartbeat_timeout_seconds=_SECONDS_TO_NOTICE,
            shutdown_timeout_seconds=_SECONDS_TO_PART,
        )
    except ValueError as error:
        raise UsageError(f"{_OPTION} auto finds no SLURM, MPI, Kubernetes or TPU here; give 1/2@HOST:PORT") from error
    except RuntimeError as error:
        raise HostLost(f"the hosts did not meet ({_in_short(error)}); start the same command on all of them") from error
    from rethink_gen.execution import scheduler
    from rethink_gen.training import collectives

    try:
        if collectives.first():
            yield True
            scheduler.announce([])
        else:
            scheduler.follow(folder)
            yield False
    except (Interrupted, KeyboardInterrupt):
        jax.distributed.shutdown()
        raise
    except (RethinkError, OSError):
        raise
    except Exception as error:
        raise HostLost(f"this host or another one failed ({_in_short(error)}); {WAY_OUT}") from error
    jax.distributed.shutdown()


def _in_short(error: Exception) -> str:
    """The type and the first line of an error."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
