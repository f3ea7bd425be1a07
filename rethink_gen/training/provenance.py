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

from rethink_gen import digests, words
from rethink_gen.version import __version__

# What changes the arithmetic of a run and is the user's choice. The flags of random draws are held at their defaults.
_FLAGS = {"jax_default_matmul_precision": None, "jax_disable_jit": False, "jax_disable_most_optimizations": False}
_ENVIRONMENT = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")


def flags() -> dict[str, str]:
    """The flags of jax and XLA that are not at their defaults and change the arithmetic of a run, by name."""
    found = {name: str(value) for name, least in _FLAGS.items() if (value := getattr(jax.config, name, least)) != least}
    return found | {name: os.environ[name] for name in _ENVIRONMENT if os.environ.get(name)}


def provenance() -> dict[str, Any]:
    """Collects what made a result: versions, device, precision, commit and command; and flags, if some are set."""
    return _of_process() | ({"flags": found} if (found := flags()) else {})


def makers(origin: dict[str, Any], data: str, side_by_side: int) -> dict[str, str]:
    """What decides the bits of a training, apart from its run and the user's code.

    Args:
      origin: from `provenance`.
      data: their checksum.
      side_by_side: how many runs train so on a device.
    """
    flags = " ".join(f"{name}={value}" for name, value in sorted(origin.get("flags", {}).items()))
    return {
        "data": data,
        "jax": origin["versions"]["jax"],
        "device": origin["device"],  # with its cores: they decide how sums are split
        "flags": flags,
        "package": digests.of_package(),
        **({"lanes": str(side_by_side)} if side_by_side > 1 else {}),
    }


@cache
def _of_process() -> dict[str, Any]:
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = os.environ.get("NPROC", cores)  # XLA reads NPROC too, and splits sums by the number of cores
    return {
        "versions": {
            "rethink-gen": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "device": words.cpu(cores) if device.platform == "cpu" else device.device_kind,
        "platform": device.platform,
        "precision": "float32",
        "commit": _commit(),
        "command": shlex.join(["rethink-gen", *sys.argv[1:]]),
    }


def _commit() -> str | None:
    """The commit of this checkout, with "+" if there are uncommitted changes; None outside a checkout.

    Installed inside the checkout of another project, this package is not part of it.
    """
    git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    try:
        git(["git", "ls-files", "--error-unmatch", Path(__file__).name])
        head = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        return head + ("+" if git(["git", "status", "--porcelain", "--", ".", "../experiments"]).stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None
