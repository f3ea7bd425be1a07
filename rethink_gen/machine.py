"""What a process asks of the machine before it trains, and what it says of the machine afterwards."""

import ctypes
import mmap
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import rethink_gen
from rethink_gen import datasets, workers

# On CPU, XLA's newer library takes convolutions 2.5 times slower than Eigen, and maps from element to element up to 20
# times slower than XLA's own loops: only sums and products of matrices stay with it.
CPU_CONVOLUTIONS = {
    "xla_cpu_experimental_ynn_fusion_type": ",".join(
        f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("REDUCE", "INDIVIDUAL_DOT")
    )
}
# Of glibc's mallopt: all blocks from one heap (M_MMAP_MAX, M_ARENA_MAX) that does not shrink (M_TRIM_THRESHOLD).
ONE_HEAP = {-4: 0, -8: 1, -1: -1}
HEAP_BYTES, HUGE_PAGE = 4 << 30, 2 << 20  # of address space, which is no memory until it is used


@cache
def use_compile_cache() -> None:
    """Keeps compiled programs from one process to the next: the small Inception then starts in seconds, not in 20.

    A compiled program is code, so the folder is the user's own and nobody else can write to it.
    """
    folder = datasets.cache_folder() / "compiled"
    with suppress(OSError):  # a cache that cannot be had is no reason to fail
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o022:
            jax.config.update("jax_compilation_cache_dir", str(folder))
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@cache
def keep_memory() -> None:
    """On CPU lets the process keep the memory that it frees, for the next step, and have it in pages of 2 MB.

    A step of the small Inception takes and frees about a gigabyte; a fifth of its time went to getting that anew, and
    a sixth to looking up where pages of 4 kB are. To be called before jax has a device, and with it threads, which
    would have heaps of their own. Where the user has told malloc something, it is left at that.
    """
    told = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if told or workers.accelerated():
        return
    with suppress(AttributeError, OSError, TypeError):  # not Linux, not glibc, or no room
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        for option, value in ONE_HEAP.items():
            libc.mallopt(option, value)
        heap = libc.malloc(ctypes.c_size_t(HEAP_BYTES))
        start = -(-heap // HUGE_PAGE) * HUGE_PAGE
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(HEAP_BYTES - HUGE_PAGE), mmap.MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(heap))  # and all that is allocated from now on is there


@cache
def cpu_options() -> dict[str, str]:
    """CPU_CONVOLUTIONS where this version of XLA knows the option, else none."""
    try:
        jax.jit(lambda: 0, compiler_options=CPU_CONVOLUTIONS)()
    except Exception:  # an option of this version only
        return {}
    return CPU_CONVOLUTIONS


@cache
def compile_clock() -> Callable[[], float]:
    """Seconds this process has spent tracing and compiling so far."""
    seconds = [0.0]

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            seconds[0] += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    return lambda: seconds[0]


@cache
def provenance() -> dict[str, Any]:
    """What made a result: versions, device, precision, commit and command."""
    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cores = os.environ.get("NPROC", cores)  # as XLA counts them: sums are split by their number
    return {
        "versions": {
            "rethink-gen": rethink_gen.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in packages},
        },
        "device": f"{device.device_kind} ({cores} cores)" if device.platform == "cpu" else device.device_kind,
        "platform": device.platform,
        "precision": "float32",
        "commit": commit(),
        "command": shlex.join(["rethink-gen", *sys.argv[1:]]),
    }


def commit() -> str | None:
    """The commit of the checkout this code runs from, with "+" if it has been changed since; None outside of one."""
    git = partial(subprocess.run, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    try:
        head = git(["git", "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        return head + ("+" if git(["git", "status", "--porcelain", "--", ".", "../experiments"]).stdout.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None
