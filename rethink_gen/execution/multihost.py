"""`--hosts`: one job of several processes, each started by the same command on its host. No jax but to join.

Where jax finds that another process of the job is gone, it ends this one from within, and Python comes to say nothing.
So the command is carried out by a child of the process that was started, which has the last word and the exit code.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rethink_gen.errors import HostLost, Interrupted, RethinkError, UsageError

_SECONDS_TO_MEET = 300  # hosts are started one after the other
_SECONDS_TO_NOTICE = (
    20  # that a host is silent; where its process ends, the connection does, and that is noticed at once
)
_SECONDS_TO_PART = 20
_OPTION = "--hosts"
WAY_OUT = "what is done is kept; the same command on every host continues"


def parse(text: str) -> dict[str, Any]:
    """`2/4@node1:1234` as what `jax.distributed.initialize` asks for; `auto` leaves all of it to jax."""
    if text == "auto":
        return {}
    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})@([^\s@/]+:[0-9]{1,5})", text)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not found or not 1 <= part <= parts:
        raise UsageError(
            f"{_OPTION} takes auto, or which process of how many and where the first one is, such as "
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
            initialization_timeout=_SECONDS_TO_MEET,
            heartbeat_timeout_seconds=_SECONDS_TO_NOTICE,
            shutdown_timeout_seconds=_SECONDS_TO_PART,
        )
    except ValueError as error:
        raise UsageError(f"{_OPTION} auto finds no SLURM, MPI, Kubernetes or TPU here; say 1/2@HOST:PORT") from error
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
    """The first line of an error, and what kind it is."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
