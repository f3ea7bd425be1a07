"""How much memory is free, and how much a kernel machine takes, for solvers that refuse what does not fit."""

import os
from contextlib import suppress
from pathlib import Path

# Most rows of a tile of a kernel matrix. A product of two takes hundredths of a second on CPU, and a stop signal waits
# for a few.
TILE = 1024
LANDMARKS = 2  # columns of tiles in the preconditioner of conjugate gradients
ALLOCATED = 1.3  # bytes allocated per byte of a tile, because of gaps between tiles (60,000 examples on CPU)
_MORE_TILES = 25  # that are in memory besides the matrix


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


def of_kernel_machine(n: int, num_test: int, itemsize: int, *, kept: bool) -> dict[str, int]:
    """Solver → bytes that it needs for n training images, without their features.

    Args:
      itemsize: bytes of a number.
      kept: whether the inner products of all images, also with those to test, stay beside the solver.
    """
    triangle = int(ALLOCATED * itemsize / 2 * n * (n + TILE))
    more = _MORE_TILES * itemsize * TILE**2 + (triangle + itemsize * n * num_test if kept else 0)
    return {"cholesky": triangle + more, "conjugate_gradients": 2 * itemsize * n * TILE * LANDMARKS + more}


def of_whole_kernel(n: int, num_test: int, itemsize: int) -> int:
    """Bytes that plain conjugate gradients need, for which the whole matrix is in memory."""
    return 3 * itemsize * n * (n + num_test)
