"""How much memory is free, for solvers that refuse what does not fit."""

import os
from contextlib import suppress
from pathlib import Path


def free() -> int:
    """Free memory in bytes: of all local devices together, or of the host on CPU."""
    import jax

    stats = [device.memory_stats() for device in jax.local_devices()]
    if all(stats):
        return sum(s["bytes_limit"] - s["bytes_in_use"] for s in stats if s)
    return free_of_host()


def free_of_host() -> int:
    """Free memory of this machine in bytes, or of its container."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, IndexError, ValueError):
        found = 1024 * int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0])
    with suppress(OSError, ValueError):  # the limit of a container; "max" means no limit
        found = min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return found


def gigabytes(count: float) -> str:
    """A number of bytes for a reader."""
    return f"{count / 1e9:.1f} GB"
