"""What this machine has for the suite, and what is wrong with it: versions, devices, data, folders, memory and disk."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from rethink_gen import atomic, experiment
from rethink_gen.errors import RethinkError
from rethink_gen.execution import machine
from rethink_gen.study.verification import Finding
from rethink_gen.version import __version__

if TYPE_CHECKING:
    from rethink_gen.study.running import Folder


LITTLE_MEMORY, LITTLE_DISK = 4e9, 1e9  # bytes: less does not hold CIFAR-10 beside a network, and its cache


def examine(*, results: Folder = "results", experiments: Folder | None = None) -> list[Finding]:
    """A finding for each thing that a run needs; it loads jax, for that alone knows the devices."""
    folder = None if experiments is None else atomic.as_path(experiments)
    looks: dict[str, Callable[[], Finding]] = {
        "versions": _versions,
        "devices": _devices,
        "experiments": lambda: _experiment_files(folder),
        "data sets": _data,
        "memory": _memory,
        "folder of results": lambda: _place("results", atomic.as_path(results)),
        "cache": cache,
    }
    return [look(name, finding) for name, finding in looks.items()]


def look(name: str, finding: Callable[[], Finding]) -> Finding:
    """What a look at one thing finds, which is also that it cannot be looked at."""
    try:
        return finding()
    except Exception as error:  # whatever it is, the other looks go on
        kind = "" if isinstance(error, RethinkError) else f"{type(error).__name__}: "
        return Finding(name, [f"{name}: {kind}{' '.join(str(error).split())}"])


def _versions() -> Finding:
    """The packages that rethink-gen needs, held against the versions it says it works with."""
    from packaging.requirements import Requirement

    wanted = [Requirement(text) for text in metadata.requires("rethink-gen") or []]
    found, wrong = [], []
    for package in [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]:
        try:
            version = metadata.version(package.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{package.name} is not installed: pip install '{package}'")
            continue
        found.append(f"{package.name} {version}")
        if not package.specifier.contains(version, prereleases=True):
            wrong.append(f"{package.name} {version} is not one that was tested: pip install '{package}'")
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    return Finding(f"rethink-gen {__version__}, {system}: {', '.join(found)}", wrong)


def _devices() -> Finding:
    """What jax computes on."""
    import jax

    machine.check_devices()
    kinds = [device.device_kind for device in jax.devices()]
    wrong = []
    if machine.NVIDIA_DRIVER.exists() and jax.default_backend() == "cpu":
        wrong.append(f"there is an NVIDIA driver, and jax has no GPU: pip install 'jax[{machine.cuda_extra()}]'")
    return Finding(
        f"jax computes on {len(kinds)} × {', '.join(dict.fromkeys(kinds))}; {os.cpu_count()} CPU cores", wrong
    )


def _experiment_files(folder: Path | None) -> Finding:
    """Each file of an experiment can be read."""
    found = list(experiment.find_each(folder))
    return Finding(f"{len(found)} experiments", [str(each) for each in found if isinstance(each, RethinkError)])


def _data() -> Finding:
    """The data sets that are here, and whether CIFAR-10, which most experiments take, is one of them."""
    from rethink_gen.data import datasets

    names = [source.name for source in datasets.present()]
    missing = [] if "cifar10" in names else ["CIFAR-10 is not here: rethink-gen data prepare cifar10"]
    return Finding(f"data sets: {', '.join(names)}", missing)


def _memory() -> Finding:
    """The memory that is free, on CPU that of the host."""
    from rethink_gen import memory

    free = memory.free()
    few = f"{memory.gigabytes(free)} of memory are free: choose a smaller scale, or train_size"
    return Finding(f"{memory.gigabytes(free)} of memory free", [few] if free < LITTLE_MEMORY else [])


def cache() -> Finding:
    """The folder of decoded data and compiled programs; nobody else may write the latter."""
    from rethink_gen.data import datasets

    folder = datasets.cache_folder()
    finding, compiled = _place("cache", folder), folder / "compiled"
    if compiled.exists() and (compiled.stat().st_uid != os.getuid() or compiled.stat().st_mode & 0o022):
        finding.wrong.append(f"others may write {compiled}, so it is not used: chmod 700 it, or remove it")
    return finding


def _place(name: str, folder: Path) -> Finding:
    """A folder can be written, and there is room in it."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    wrong = []
    if not there.is_dir() or not os.access(there, os.W_OK):
        wrong.append(f"{there} takes no files: choose another folder for {name}")
    if free < LITTLE_DISK:
        wrong.append(f"{free / 1e9:.1f} GB are free for {name} in {there}: make room")
    return Finding(f"{name}: {folder}, {free / 1e9:.0f} GB free", wrong)
