"""What all tests share: where real data are, and folders of one's own."""

import os
import resource
import shutil
import sys
from collections import Counter
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from rethink_gen.data.tfds import compiled_folder

# All tests, and the processes that they start, keep compiled programs where users' own are: compiling is half of the
# time of a small run, and many tests have caches of their own.
if COMPILED := compiled_folder():
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

# Grids stay in the process of the test, which may have replaced parts of the suite; test_processes.py takes this back.
os.environ.setdefault(
    "NPROC", str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
)

ALONE = ("tests/test_adding.py",)  # files of long tests that share nothing
# Files of few tests that take long: they begin first, so that no process is left with one of them at the end.
FIRST = (*ALONE, "tests/execution/", "tests/test_wrong_labels.py", "tests/reliability/", "tests/study/")
CANDIDATES = (os.environ.get("TFDS_DATA_DIR"), Path(__file__).parents[2] / "shared" / "tensorflow_datasets")
REAL_DATA = next((Path(path) for path in CANDIDATES if path and Path(path).is_dir()), None)


def needs_real_data(name: str) -> pytest.MarkDecorator:
    """Skips a test where a data set has not been prepared: in TFDS_DATA_DIR, or beside the project."""
    there = REAL_DATA is not None and (REAL_DATA / name).is_dir()
    return pytest.mark.skipif(not there, reason=f"{name} has not been prepared: set TFDS_DATA_DIR")


def keep_components(patch: pytest.MonkeyPatch) -> None:
    """What is registered from now on is gone once the patch is undone."""
    from rethink_gen import registry

    for kind, entries in registry.COMPONENTS.items():
        patch.setitem(registry.COMPONENTS, kind, dict(entries))


@pytest.fixture(autouse=True)
def own_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers, or an experiment that it loads, is gone after it."""
    keep_components(monkeypatch)


@pytest.fixture
def real_data(monkeypatch: pytest.MonkeyPatch) -> Path | None:
    """The folder of real data sets, which `load` now finds; their decoded arrays are in the user's own cache."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(REAL_DATA))
    return REAL_DATA


@pytest.fixture
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of data sets, with an empty cache beside it, for one test alone."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


@pytest.fixture
def no_other_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates of what runs will cost read no results but those of the test: the committed ones take seconds."""
    from rethink_gen.cli import overview

    monkeypatch.setattr(overview, "_COMMITTED", tmp_path / "no_other_results")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CIFAR-10 of 20 random images, prepared once."""
    from archives import cifar_archive, from_folder

    from rethink_gen.data import download

    root = tmp_path_factory.mktemp("tiny")
    cifar_archive(root / "cifar-10-binary.tar.gz", "cifar10")
    download.build("cifar10", root / "data", from_folder(root))
    return root / "data"


@pytest.fixture
def cifar10(tiny: Path, own_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny CIFAR-10, where `load` finds it and takes it for the published one."""
    from rethink_gen.data import datasets

    monkeypatch.delitem(datasets.PUBLISHED, "cifar10")
    shutil.copytree(tiny, own_data)
    return own_data / "cifar10" / "3.0.2"


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """The keyword arguments for a folder of results and one of experiments, with `sweeps.EXPERIMENT` of two runs."""
    from sweeps import EXPERIMENT

    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "labels.py").write_text(EXPERIMENT)
    return {"results": tmp_path / "results", "experiments": tmp_path / "experiments"}


@pytest.fixture
def options(places: dict[str, Path]) -> list[str]:
    """The same as options of the command line."""
    return [word for name, path in places.items() for word in (f"--{name}", str(path))]


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which that experiment has been run, to be copied."""
    from sweeps import EXPERIMENT

    import rethink_gen as rg

    folder = tmp_path_factory.mktemp("done")
    (folder / "experiments").mkdir()
    (folder / "experiments" / "labels.py").write_text(EXPERIMENT)
    rg.run("labels", results=folder / "results", experiments=folder / "experiments")
    return folder


@pytest.fixture
def sweep(done: Path, tmp_path: Path, places: dict[str, Path]) -> Path:
    """A copy of what `done` left, in `places`; the folder of its results."""
    shutil.copytree(done / "results", tmp_path / "results")
    return places["results"] / "labels" / "laptop"


@contextmanager
def small_disk(most: int = 20_000):
    """No file may grow beyond so many bytes, as on a full disk. Around a write alone, for pytest writes files, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


BEGAN = pytest.StashKey[tuple[float, int]]()


def spent() -> tuple[float, int]:
    """CPU seconds of this process and of those that it started and that have ended; programs that this one compiled."""
    return sum(os.times()[:4]), len(compiled()) if "jax" in sys.modules else 0


@cache
def compiled() -> list[str]:
    """A list that grows with each program that is not found among the compiled ones."""
    import jax

    found: list[str] = []
    jax.monitoring.register_event_listener(
        lambda event, **_: found.append(event) if event == "/jax/compilation_cache/cache_misses" else None
    )
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    item.stash[BEGAN] = spent()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "teardown":
        report.spent = [now - before for now, before in zip(spent(), item.stash[BEGAN], strict=True)]
    return report


def pytest_terminal_summary(terminalreporter):
    """The files that take most of the time. CPU seconds: those of --durations also count what else the machine does."""
    files, programs = Counter(), 0
    for report in terminalreporter.getreports(""):
        seconds, count = getattr(report, "spent", (0.0, 0))
        files[report.nodeid.partition("::")[0]] += seconds
        programs += count
    if files:
        most = ", ".join(f"{file} {seconds:.0f}" for file, seconds in files.most_common(5))
        terminalreporter.write_line(f"CPU seconds: {files.total():.0f}, most in {most}; programs compiled: {programs}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With -n the tests of a file stay together, for they share what was run for them; but for ALONE."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return nodeid if nodeid.startswith(ALONE) else super()._split_scope(nodeid)

    config.option.loadscopereorder = False  # which would begin with the files of most tests
    return Scheduling(config, log)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: next((i for i, name in enumerate(FIRST) if item.nodeid.startswith(name)), len(FIRST)))
