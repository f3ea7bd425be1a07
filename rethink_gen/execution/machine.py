"""What a process asks of the machine before it trains, and what it says of the machine afterwards."""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
from contextlib import suppress
from functools import cache

# Of glibc's mallopt: all blocks from one heap (M_MMAP_MAX, M_ARENA_MAX) that does not shrink (M_TRIM_THRESHOLD).
_ONE_HEAP = {-4: 0, -8: 1, -1: -1}
_HEAP_BYTES, _HUGE_PAGE = 4 << 30, 2 << 20  # of address space, which is no memory until it is used


@cache
def keep_memory() -> None:
    """On CPU lets the process keep the memory that it frees, for the next step, and have it in pages of 2 MB.

    A step of the small Inception takes and frees about a gigabyte; a fifth of its time went to getting that anew, and
    a sixth to looking up where pages of 4 kB are. To be called before jax has a device, and with it threads, which
    would have heaps of their own. Where the user has told malloc something, it is left at that.
    """
    told = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if told or accelerated():
        return
    with suppress(AttributeError, OSError, TypeError):  # not Linux, not glibc, or no room
        libc = ctypes.CDLL(None)
        libc.malloc.restype = ctypes.c_void_p
        for option, value in _ONE_HEAP.items():
            libc.mallopt(option, value)
        heap = libc.malloc(ctypes.c_size_t(_HEAP_BYTES))
        start = -(-heap // _HUGE_PAGE) * _HUGE_PAGE
        libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(_HEAP_BYTES - _HUGE_PAGE), mmap.MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(heap))  # and all that is allocated from now on is there


def accelerated() -> bool:
    """Whether jax may find an accelerator: told without importing it."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    plugins = any(importlib.util.find_spec(name) for name in ("jax_plugins", "libtpu"))
    return platforms != "cpu" and (plugins or platforms != "")


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
