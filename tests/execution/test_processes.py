"""A grid in several processes: the bits of one core, failures and stops told as by one, and nobody left over."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from rethink_gen import runs
from rethink_gen.execution import machine, processes
from rethink_gen.results import locks, store
from rethink_gen.runs import KernelRun, Run

MANY_CORES = len(machine.cores()) > 1
needs_cores = pytest.mark.skipif(not MANY_CORES, reason="this machine has one core")

# An experiment of a user's own, in a file that brings its own model, too.
EXPERIMENT = """
import flax.linen as nn
import rethink_gen as rg
from rethink_gen import Experiment, Run, grid

class Own(nn.Module):
    num_classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, *, train=False):
        {trouble}
        return nn.Dense(self.num_classes)(x.reshape(len(x), -1))

rg.register.model("own")(Own)
RUN = Run(dataset="digits", train_size=96, test_size=50, batch_size=16, epochs={epochs}, model="own")
RUNS = grid(RUN, seed=range(4))
EXPERIMENT = Experiment(
    claim="none", locator="none", runs=RUNS, laptop=RUNS,
    table=lambda study: study.runs[["seed", "train_accuracy"]],
)
"""


def start(folder, *options, epochs=2, trouble="pass", **environment):
    """The command line on that experiment, as a user gives it: NPROC is not set."""
    (folder / "experiments").mkdir(exist_ok=True)
    (folder / "experiments" / "own.py").write_text(EXPERIMENT.format(epochs=epochs, trouble=trouble))
    places = ["--results", str(folder / "results"), "--experiments", str(folder / "experiments")]
    unset = {name: value for name, value in os.environ.items() if name != "NPROC"}
    return subprocess.Popen(
        [sys.executable, "-m", "rethink_gen", "run", "own", *places, *options],
        env={**unset, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture
def own(tmp_path):
    """Starts it in a folder of the test."""
    return partial(start, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder in which it has come to its end."""
    folder = tmp_path_factory.mktemp("undisturbed")
    whole = start(folder, epochs=300)
    _, said = whole.communicate(timeout=100)
    assert whole.returncode == 0, said
    return folder


def curves(folder: Path):
    return {result.run.seed: result.curves for result in store.load(folder / "results" / "own" / "laptop")}


def until(truth, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def workers_of(pid):
    """The processes that a process started, by their parents in /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, rest = stat.read_text().rpartition(") ")
        except OSError:
            continue
        if rest.split()[1] == str(pid):
            found.append(int(stat.parent.name))
    return found


def test_number_of_processes_follows_from_the_runs_and_the_cores(monkeypatch):
    monkeypatch.delenv("NPROC", raising=False)
    monkeypatch.setattr(machine, "cores", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(machine, "accelerated", lambda: False)
    grid = [Run(seed=seed) for seed in range(9)]
    assert [processes.count(grid[:n]) for n in (1, 2, 3, 9)] == [1, 2, 3, 4]
    assert processes.count([*grid, KernelRun()]) == 1, "a kernel machine wants all the memory"
    monkeypatch.setattr(machine, "accelerated", lambda: True)
    assert processes.count(grid) == 1
    monkeypatch.setattr(machine, "accelerated", lambda: False)
    monkeypatch.setenv("NPROC", "4")
    assert processes.count(grid) == 1


@pytest.mark.parametrize(("platforms", "plugins", "found"), [
    ("", (), False), ("", ("jax_plugins",), True), ("cpu", ("jax_plugins",), False), ("tpu", (), True),
    ("", ("libtpu",), True), ("cpu", (), False),
])  # fmt: skip
def test_an_accelerator_is_expected_where_jax_has_a_plugin_for_it(monkeypatch, platforms, plugins, found):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: name in plugins or None)
    assert machine.accelerated() is found


class Idle(processes.Worker):
    """A worker that is given runs, without its process."""

    def __init__(self):
        self.run = self.recipe = None

    def say(self, what):
        pass


def test_programs_of_a_grid_are_compiled_side_by_side_and_each_in_one_worker():
    """The first trains while the second compiles; a worker goes on with the program that it has."""
    grid = [Run(model=model, seed=seed) for model in ("mlp_1x512", "mlp_3x512") for seed in range(3)]
    todo, workers = [(run, run.recipe) for run in grid], [Idle(), Idle()]
    for _ in range(3):
        for worker in workers:
            worker.take(todo, workers, lambda run: True)
        assert [worker.run.model for worker in workers] == ["mlp_1x512", "mlp_3x512"]
    assert not todo


def test_a_run_survives_the_way_to_another_process():
    run = Run(corruption="random_labels", corruption_level=0.1, augmentations=("flip",), seed=3, train_size=7)
    assert runs.from_dict(runs.as_dict(run)) == run


@needs_cores
@pytest.mark.long
def test_a_grid_has_the_bits_of_one_core_in_one_process_or_several(undisturbed, own, tmp_path):
    several = curves(undisturbed)
    assert sorted(several) == [0, 1, 2, 3]
    found = store.load(undisturbed / "results" / "own" / "laptop")
    assert {result.provenance["device"] for result in found} == {"cpu (1 core)"} or (len(machine.cores()) > 3)
    assert all(result.provenance["command"].startswith("rethink-gen run own") for result in found)
    if len(machine.cores()) == 2:
        again = own(epochs=300, NPROC="1")
        again.communicate(timeout=100)
        assert curves(tmp_path) == several


@needs_cores
def test_a_run_that_fails_in_a_worker_is_told(own, tmp_path):
    broken = own(trouble="raise RuntimeError('no luck')")
    _, said = broken.communicate(timeout=100)
    assert broken.returncode == 1
    assert said.splitlines()[-1].startswith("rethink-gen: error: 4 of 4 runs failed, the first is")
    assert said.splitlines()[-1].endswith("RuntimeError: no luck (own.py, line 12)")
    assert len([*(tmp_path / "results" / "own" / "laptop").glob("*.failed")]) == 4


@pytest.mark.slow
@needs_cores
def test_an_error_of_a_worker_is_the_error_of_the_command(own, tmp_path):
    """A folder of results that a worker cannot write to, though the command could: it is a file by then."""
    going = own(epochs=100_000)
    folder = tmp_path / "results" / "own" / "laptop"
    until(lambda: (folder / ".work").is_dir() and [*(folder / ".work").glob("*.lock")])
    until(lambda: len(workers_of(going.pid)) == 2)
    going.send_signal(signal.SIGTERM)
    going.communicate(timeout=20)
    (folder / ".work").rename(folder / "work")
    (folder / ".work").symlink_to(folder / "work")
    refused = own(epochs=100_000)
    _, said = refused.communicate(timeout=100)
    assert refused.returncode == 4
    assert ".work: is a symbolic link, which may point anywhere" in said.splitlines()[-1]
    assert "Traceback" not in said


@needs_cores
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 75), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
@pytest.mark.long
def test_a_stopped_grid_is_continued_by_the_same_command_with_the_same_bits(number, code, undisturbed, own, tmp_path):
    folder = tmp_path / "results" / "own" / "laptop"
    going = own(epochs=300)
    until(lambda: (folder.is_dir() and len(locks.running(folder)) > 1) or going.poll() is not None)
    before = time.monotonic()
    going.send_signal(number)
    _, said = going.communicate(timeout=20)
    assert going.returncode == code, said
    assert "To continue:" in said
    assert time.monotonic() - before < 10
    assert not locks.running(folder)
    own(epochs=300).communicate(timeout=100)
    assert curves(tmp_path) == curves(undisturbed)


@needs_cores
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks processes up in /proc")
def test_workers_do_not_outlive_a_command_that_is_killed(own, tmp_path):
    going = own(epochs=100_000)
    folder = tmp_path / "results" / "own" / "laptop"
    until(lambda: folder.is_dir() and len(locks.running(folder)) > 1)
    children = workers_of(going.pid)
    assert len(children) == len(machine.cores()[:4])
    going.kill()
    going.communicate(timeout=20)
    until(lambda: not locks.running(folder), seconds=5)


@pytest.mark.slow
@needs_cores
def test_a_worker_that_is_killed_leaves_its_run_to_the_others(own, tmp_path):
    going = own(epochs=400)
    folder = tmp_path / "results" / "own" / "laptop"
    until(lambda: folder.is_dir() and len(locks.running(folder)) > 1)
    os.kill(workers_of(going.pid)[0], signal.SIGKILL)
    _, said = going.communicate(timeout=100)
    assert going.returncode == 0, said
    assert sorted(curves(tmp_path)) == [0, 1, 2, 3], "the others have done its run too"


@pytest.mark.slow
@needs_cores
def test_when_all_workers_have_died_it_is_said(own):
    dying = own(trouble="import os; os._exit(9)")
    _, said = dying.communicate(timeout=100)
    assert dying.returncode == 1
    assert "its process ended with exit code 9; see the lines above" in said.splitlines()[-1]


@needs_cores
def test_workers_start_without_a_warning_and_import_nothing_from_the_current_folder(own, tmp_path, monkeypatch):
    """A stranger's queue.py, or another checkout, in the folder in which the command is given."""
    (tmp_path / "queue.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    going = own(PYTHONSAFEPATH="1")  # as the installed command starts; the workers must do so by themselves
    _, said = going.communicate(timeout=100)
    assert going.returncode == 0, said
    first, *others = said.splitlines()
    assert first.startswith("own, laptop scale: 4 of 4 runs to do")
    assert [line for line in others if not line.startswith("(")] == []


def test_what_ended_a_worker_is_said_as_far_as_it_is_known():
    assert "possibly because memory ran out" in processes._cause_of_death(-signal.SIGKILL)
    assert processes._cause_of_death(-signal.SIGSEGV) == "its process was ended by SIGSEGV"
    assert "memory" not in processes._cause_of_death(3)


# A cell of a notebook: the code of a module __main__ that has no file.
CELL = """
import os, sys
from dataclasses import replace
import flax.linen as nn
import numpy as np
import rethink_gen as rg
from rethink_gen.execution import machine

sys.path.insert(0, os.getcwd())
import neighbor
from neighbor import moved

rng = np.random.default_rng(0)
data = rg.Dataset.from_arrays("scans", train=(rng.random((90, 6, 6)), rng.integers(3, size=90)))


@rg.register.corruption
def next_class(key, dataset, level):
    labels = moved(dataset.train.labels, neighbor.STEP) % dataset.num_classes
    return replace(dataset, train=dataset.train._replace(labels=labels))


@rg.register.model
class Own(nn.Module):
    num_classes: int
    dropout: float = 0.0
    width: int = 8

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(self.num_classes)(nn.tanh(nn.Dense(self.width)(x.reshape(len(x), -1))))


run = rg.Run(dataset=data, corruption="next_class", model="Own", batch_size=24, epochs=3, learning_rate=0.01)
study = rg.run(rg.grid(run, seed=range(2)), results=sys.argv[1], workers=int(sys.argv[2]))
for result in study.results:
    print(result.run.id, result.curves, sorted(result.provenance["code"].items()), result.provenance["device"])
"""


@needs_cores
@pytest.mark.long
def test_components_of_a_notebook_have_the_bits_of_one_process_in_two_workers(tmp_path):
    (tmp_path / "neighbor.py").write_text("STEP = 2\n\n\ndef moved(labels, step):\n    return labels + step\n")
    unset = {name: value for name, value in os.environ.items() if name != "NPROC"}

    def printed(workers, **environment):
        done = subprocess.run(
            [sys.executable, "-P", "-", f"results-{workers}", str(workers)],
            input=CELL, cwd=tmp_path, env={**unset, "RETHINK_GEN_CACHE": str(tmp_path / "cache"), **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    two = printed(2)
    assert len(two) == 2
    if len(machine.cores()) // 2 == 1:
        assert printed(1, NPROC="1") == two, "the digests are the same, too, without a source"
