"""Provenance of a result: versions, device, commit and command."""

import os
import platform
import shlex
import subprocess
import sys
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from rethink_gen.version import __version__


@cache
def provenance() -> dict[str, Any]:
    """Collects what made a result: versions, device, precision, commit and command."""
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = os.environ.get("NPROC", cores)  # XLA reads NPROC too, and splits sums by the number of cores
    return {
        "versions": {
            "rethink-gen": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "device": f"{device.device_kind} ({cores} cores)" if device.platform == "cpu" else device.device_kind,
        "platform": device.platform,
        "precision": "float32",
        "commit": _commit(),
        "command": shlex.join(["rethink-gen", *sys.argv[1:]]),
    }


def _commit() -> str | None:
    """The commit of this checkout, with "+" if there are uncommitted changes; None outside a checkout."""
    git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    try:
        head = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        return head + ("+" if git(["git", "status", "--porcelain", "--", ".", "../experiments"]).stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None
