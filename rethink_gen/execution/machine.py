"""The machine of a process: memory allocation, accelerators and CPU cores."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import signal
from contextlib import suppress
from functools import cache

# Options of glibc's mallopt: use one heap for all blocks (M_MMAP_MAX, M_ARENA_MAX) and never shrink it
# (M_TRIM_THRESHOLD).
_ONE_HEAP = {-4: 0, -8: 1, -1: -1}
_PR_SET_PDEATHSIG = 1
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


def cores() -> list[int]:
    """The CPU cores that this process may use, by number."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
