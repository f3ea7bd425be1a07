"""The machine of a process: memory allocation, accelerators and CPU cores."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import re
import signal
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from rethink_gen.errors import UsageError

# Options of glibc's mallopt: use one heap for all blocks (M_MMAP_MAX, M_ARENA_MAX) and never shrink it
# (M_TRIM_THRESHOLD).
_ONE_HEAP = {-4: 0, -8: 1, -1: -1}
_PR_SET_PDEATHSIG = 1
_CGROUP = Path("/sys/fs/cgroup")
_by_quota: list[str] = []  # what `respect_quota` has set NPROC to
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_CUDA13_DRIVER = 580  # the oldest driver for CUDA 13
_HEAP_BYTES, _HUGE_PAGE = 4 << 30, 2 << 20  # of address space; unused pages take no memory


@cache
def keep_memory() -> None:
    """Configures malloc on CPU to reuse freed memory and to use pages of 2 MB, which makes training faster.

    A step of the small Inception allocates and frees about a gigabyte. By default a fifth of its time is spent on
    getting this memory from the system, and a sixth on address translation for pages of 4 kB. Call this before jax
    creates a device: later its threads have their own heaps. It does nothing if the user has set options of malloc,
    with an accelerator, or without glibc.
    """
    told = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if told or accelerated():
        return
    with suppress(AttributeError, OSError, TypeError):  # not Linux, not glibc, or not enough address space
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        for option, value in _ONE_HEAP.items():
            libc.mallopt(option, value)
        heap = libc.malloc(ctypes.c_size_t(_HEAP_BYTES))
        start = -(-heap // _HUGE_PAGE) * _HUGE_PAGE
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(_HEAP_BYTES - _HUGE_PAGE), mmap.MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(heap))  # later allocations use this memory


def end_with_parent() -> None:
    """Has Linux end this process when the one that started it ends, also while this one is stopped by a signal."""
    with suppress(AttributeError, OSError, TypeError):  # not Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def accelerated() -> bool:
    """Whether jax may find an accelerator. It does not import jax."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    plugins = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    return platforms != "cpu" and (plugins or platforms != "")


def check_devices() -> None:
    """Loads jax, and refuses devices that JAX_PLATFORMS asks for and that are not there.

    Raises:
      UsageError: says what is there, and how to get the others.
    """
    import jax

    try:
        jax.devices()
    except Exception as error:  # jax raises RuntimeError, and AssertionError without a text
        asked = getattr(jax.config, "jax_platforms", None) or ""
        platforms = asked.split(",")
        extra = cuda_extra() if {"cuda", "gpu"} & {*platforms} else "tpu" if "tpu" in platforms else ""
        install = f"install what it needs, pip install 'jax[{extra}]', or " if extra else ""
        reason = f": {first}" if (first := (str(error).splitlines() or [""])[0]) and not extra else ""
        devices = "an NVIDIA GPU" if NVIDIA_DRIVER.exists() else f"{len(cores())} CPU cores and no NVIDIA driver"
        here = f"JAX_PLATFORMS={asked} finds no device{reason}; this machine has {devices}"
        raise UsageError(f"{here}; {install}unset JAX_PLATFORMS") from error


def cuda_extra() -> str:
    """The extra of this package that fits the NVIDIA driver: cuda13 or cuda12."""
    driver = re.search(r"\s(\d+)\.\d+", NVIDIA_DRIVER.read_text()) if NVIDIA_DRIVER.exists() else None
    return "cuda12" if driver and int(driver[1]) < _CUDA13_DRIVER else "cuda13"


def cores() -> list[int]:
    """The CPU cores that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def count_cores() -> int:
    """The number of cores that this process may keep busy: those it may use, or fewer by a container's quota."""
    return max(1, min(len(cores()), _quota()))


def _quota() -> int:
    """The cores that the quota of a container allows (cgroup v2, else v1), rounded up; very many if there is none."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return sys.maxsize if quota == "max" else -(-int(quota) // int(period))
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (int((_CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return -(-quota // period) if quota > 0 else sys.maxsize
    return sys.maxsize


def respect_quota() -> None:
    """Has XLA start as many threads as a container's quota allows, unless NPROC says how many; call it before jax."""
    if "NPROC" not in os.environ and count_cores() < len(cores()) and "jax" not in sys.modules:
        os.environ["NPROC"] = str(count_cores())
        _by_quota.append(os.environ["NPROC"])


def is_told() -> bool:
    """Whether the user has said, by NPROC, how many cores this process shall use."""
    return "NPROC" in os.environ and os.environ["NPROC"] not in _by_quota
