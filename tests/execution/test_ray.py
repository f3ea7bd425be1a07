"""On a real Ray cluster of three nodes here: what is lost is done again, and every bit is that of a local run."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from frames import EXPERIMENT

from rethink_gen import plugins
from rethink_gen.cli import main
from rethink_gen.errors import Interrupted
from rethink_gen.execution import ray, scheduler
from rethink_gen.results import locks, store
from rethink_gen.runs import Run

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
HAVE_RAY = not subprocess.run([sys.executable, "-c", "import ray"], capture_output=True, check=False).returncode
needs_ray = pytest.mark.skipif(not HAVE_RAY, reason="ray is not installed: pip install 'ray>=2.50'")
on_a_cluster = lambda test: pytest.mark.slow(pytest.mark.filterwarnings("ignore")(needs_ray(test)))

PACKAGE = Path(ray.__file__).parents[2]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
NEEDS, ROOM = ray.Needs(CORES), {"num_cpus": CORES}
RUN = Run(dataset="digits", train_size=96, test_size=50, batch_size=32, epochs=6, corruption="random_labels")


def patiently(start, times=4):
    """Ray gives a node 30 s to start, too few on a machine that has other things to do."""
    for _ in range(times - 1):
        with contextlib.suppress(Exception):
            return start()
    return start()


@pytest.fixture
def nodes():
    """A cluster of three nodes with room for one task each; the driver's own is the first."""
    from ray.cluster_utils import Cluster

    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args={**ROOM, "include_dashboard": False}))
    for _ in range(2):
        patiently(lambda: cluster.add_node(**ROOM))
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def curves(folder):
    return {path.name: store.read(path).curves for path in Path(folder).rglob("*.json")}


def command(*words):
    return [sys.executable, "-m", "rethink_gen", *words]


def wait_for(condition, process, seconds=300):
    for _ in range(int(seconds / 0.2)):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    raise AssertionError("it never came to that")


@on_a_cluster
def test_sweep_of_which_a_node_dies_gives_the_bits_of_a_local_one(nodes, tmp_path):
    line = ["run", "fig1b", "--scale", "smoke", "--results", str(tmp_path / "ray")]
    sweep = subprocess.Popen(
        command(*line, "--engine", "ray", "--address", nodes.address), stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: len(curves(tmp_path / "ray")) >= 3, sweep)
    before = curves(tmp_path / "ray")
    nodes.remove_node(next(iter(nodes.worker_nodes)))
    _, said = sweep.communicate(timeout=900)
    assert sweep.returncode == 0, said
    assert 3 <= len(before) < 18, "the node died in the middle of it"
    ends = [line for line in said.splitlines() if "epoch 4/4" in line]
    assert any(line.startswith("(18/18)") for line in ends)
    assert len({line.split()[1] for line in ends}) == 18
    assert not [path for path in (tmp_path / "ray").rglob("*") if path.suffix in (".failed", ".conflict", ".npz")]
    subprocess.run(command(*line[:-1], str(tmp_path / "local")), check=True, capture_output=True)
    assert curves(tmp_path / "ray") == curves(tmp_path / "local")
    for name in ("table.md", "figure.svg"):
        a, b = (tmp_path / engine / "fig1b_convergence_slowdown" / "smoke" / name for engine in ("ray", "local"))
        assert a.read_bytes() == b.read_bytes()


@on_a_cluster
def test_driver_that_is_stopped_keeps_what_is_done_and_the_same_command_finishes(nodes, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "labels.py").write_text(EXPERIMENT)
    line = command("run", "labels", "--experiments", "mine", "--engine", "ray", "--address", nodes.address)
    sweep = subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: curves(tmp_path / "results"), sweep)
    sweep.send_signal(signal.SIGTERM)
    _, said = sweep.communicate(timeout=60)
    assert sweep.returncode == Interrupted.exit_code
    assert said.splitlines()[-1] == shlex.join(["rethink-gen", *line[3:]])
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.json")}
    again = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert len(curves(tmp_path / "results")) == 10
    assert {path: path.stat().st_mtime_ns for path in done} == done, "nothing is done twice"
    assert f"{10 - len(done)} of 10 runs to do" in again.stderr
    local = command("run", "labels", "--experiments", "mine", "--results", "local")
    subprocess.run(local, cwd=tmp_path, check=True, capture_output=True)
    assert curves(tmp_path / "results") == curves(tmp_path / "local")


@on_a_cluster
@pytest.mark.parametrize("new", [True, False], ids=["new cluster", "running cluster"])
def test_workers_import_nothing_from_the_current_folder(new, request, tmp_path):
    """A folder may hold a stranger's files, or another checkout, which would then train."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "labels.py").write_text(EXPERIMENT)
    for name in ("random.py", "jax.py", "rethink_gen.py", "experiments.py"):
        (tmp_path / name).write_text("open('ran', 'w'); raise SystemExit")
    address = [] if new else ["--address", request.getfixturevalue("nodes").address]
    line = ["run", "labels", "--experiments", "mine", "--engine", "ray", *address, "--only", "corruption_level=1.0"]
    safe = [sys.executable, "-P", "-m", "rethink_gen", *line]
    own = {"RETHINK_GEN_CACHE": "cache", "PYTHONPATH": str(PACKAGE)}
    done = subprocess.run(safe, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(curves(tmp_path / "results")) == 2
    assert not (tmp_path / "ran").exists()


class Deadly:
    """A desk at which a worker dies as soon as it has left a checkpoint there."""

    def __init__(self, desk):
        self.desk, self.put = desk, self

    def remote(self, *messages):
        import ray

        left = self.desk.put.remote(*messages)
        if any(what == "checkpoint" for what, _, _ in messages):
            ray.get(left)
            os._exit(1)
        return left


def impatient(runs, given, data, desk, argv, components):
    """A task that keeps a checkpoint after every step; with none to begin from, it dies after the first."""
    from rethink_gen.execution import ray
    from rethink_gen.training import compilation, trainer

    trainer._CHECKPOINT_SECONDS, compilation._STEPS_PER_CALL = 0.0, 1
    ray.train(runs, given, data, desk if any(given.values()) else Deadly(desk), argv, components)


@on_a_cluster
def test_task_whose_worker_died_resumes_from_the_checkpoint_that_had_arrived(nodes, tmp_path, monkeypatch):
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    [expected] = scheduler.execute([RUN])
    monkeypatch.setattr(ray, "train", impatient)
    steps = []
    [outcome] = ray.execute(
        [RUN], work=tmp_path, needs=NEEDS, address=nodes.address, report=lambda now: steps.append(now.step)
    )
    assert outcome.curves == expected.curves
    assert steps[0] == 0
    assert 0 not in steps[1:], "it did not begin again"
    assert ray._checkpoints(tmp_path, RUN), "which stays until the result is published"


@on_a_cluster
def test_components_and_arrays_of_a_user_have_the_bits_of_a_local_run(tmp_path, monkeypatch):
    """The nodes have a cache of their own, as on other machines, so the arrays must come from the driver."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path / "cache of the nodes"))
    cluster = patiently(lambda: Cluster(initialize_head=True, head_node_args={**ROOM, "include_dashboard": False}))
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path / "cache of the driver"))
    monkeypatch.setenv("NPROC", str(CORES))
    try:
        plugins.load(str(Path(__file__).parent / "own.py"))
        run = Run(
            dataset="scans", corruption="next_class(by=2)", model="Own(width=9)", optimizer="sign_sgd",
            learning_rate=0.01, batch_size=24, epochs=3,
        )  # fmt: skip
        [expected] = scheduler.execute([run])
        [outcome] = ray.execute([run], work=tmp_path, needs=NEEDS, address=cluster.address)
    finally:
        cluster.shutdown()
    assert outcome.curves == expected.curves
    assert outcome.provenance["code"] == expected.provenance["code"]
    assert list((tmp_path / "cache of the nodes").glob("datasets/arrays/*.npz"))


def test_parts_are_of_one_recipe_and_hold_every_run():
    runs = [RUN, Run(model="mlp_3x512"), *(Run(seed=seed) for seed in range(5))]
    found = list(ray.parts(runs, 2))
    assert [len(part) for part in found] == [1, 1, 2, 2, 1]
    assert all(len({run.recipe for run in part}) == 1 for part in found)
    assert {run for part in found for run in part} == set(runs)


def test_room_is_what_nodes_that_live_have_of_everything_asked_for():
    nodes = [
        {"Alive": True, "Resources": {"CPU": 8.0, "GPU": 2.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    assert ray.Needs(2).room(nodes) == 5
    assert ray.Needs(1, gpus=0.5).room(nodes) == 4
    assert ray.Needs(1, tpus=4).room(nodes) == 0


def test_a_task_asks_for_the_memory_of_its_largest_run_and_never_for_more_than_there_is(monkeypatch):
    node = lambda alive, **resources: {"Alive": alive, "Resources": resources}
    nodes = [node(True, memory=6e9), node(True, memory=8e9), node(True), node(False, memory=9e10)]
    needed = {RUN: 10**9, Run(): 3 * 10**9, Run(model="mlp_3x512"): 0, Run(model="small_inception"): 10**10}
    monkeypatch.setattr(ray.costs, "memory", needed.get)
    assert ray._memory([RUN, Run()], nodes) == 3 * 10**9
    assert ray._memory([Run(model="mlp_3x512")], nodes) is None, "it was not measured"
    assert ray._memory([Run(model="small_inception")], nodes) == 8 * 10**9, "else it would wait for ever"
    assert ray._memory([RUN], []) is None, "all have died, and others may come"


def test_checkpoint_that_arrives_leaves_the_one_before_it(tmp_path):
    for number in range(4):
        ray._keep(tmp_path / "run", f"checkpoint-{number:08d}.npz", bytes([number]))
    ray._keep(tmp_path / "run", "checkpoint-00000003.npz", b"\x03")
    assert sorted(path.name[-5:-4] for path in (tmp_path / "run").iterdir()) == ["2", "3"]


def test_checkpoints_of_a_pretraining_travel_with_those_of_its_run(tmp_path):
    folder = locks.work_folder(tmp_path, RUN)
    folder.parent.mkdir()
    for number in range(3):
        ray._keep(folder, f"pretraining/checkpoint-{number:08d}.npz", bytes([number]))
    ray._keep(folder, "checkpoint-00000000.npz", b"\x09")
    assert ray._checkpoints(tmp_path, RUN) == {
        "pretraining/checkpoint-00000001.npz": b"\x01",
        "pretraining/checkpoint-00000002.npz": b"\x02",
        "checkpoint-00000000.npz": b"\x09",
    }


def test_driver_loads_no_jax():
    code = "import sys, rethink_gen.cli.main, rethink_gen.execution.ray; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(HAVE_RAY, reason="ray is installed")
def test_engine_that_is_not_installed_is_said_how_to_get(tmp_path, capsys):
    assert main.main(["run", "quickstart", "--engine", "ray", "--results", str(tmp_path)]) == 2
    assert "pip install 'ray>=2.50'" in capsys.readouterr().err
