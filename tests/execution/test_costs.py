"""What runs will cost: by arithmetic on what was measured before, and without jax."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from frames import result

from rethink_gen.cli import main, overview
from rethink_gen.execution import costs
from rethink_gen.execution.costs import Speed
from rethink_gen.runs import KernelRun, Run

RUN = Run(dataset="digits", train_size=320, test_size=80, batch_size=32, epochs=10, seed=3)  # 10 steps an epoch
EXPERIMENT = f'''"""One run."""
from rethink_gen import Experiment, Run

RUNS = ({RUN},)
EXPERIMENT = Experiment(
    claim="none", locator="none", runs=RUNS, laptop=RUNS
)
'''
SPEED = Speed(step=0.5, image=0.01, compile=7.0, memory=10**9, state=10**6)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a function that writes there what was measured."""
    monkeypatch.setenv("RETHINK_GEN_CACHE", str(tmp_path))

    def write(*runs, processes=1):
        content = {costs._key(run, processes): SPEED for run in runs}
        costs._path().parent.mkdir(parents=True, exist_ok=True)
        costs._path().write_text(json.dumps(content))

    return write


def test_cost_is_the_steps_the_evaluations_and_one_compilation(cache):
    cache(RUN)
    one = 10 * 10 * 0.5 + 11 * 400 * 0.01  # epochs · steps, and an evaluation more than epochs, of 400 images
    runs = [replace(RUN, seed=seed) for seed in range(4)]
    cost = costs.cost(runs, [], 1)
    assert cost is not None
    assert cost.seconds == pytest.approx(costs.START + 7 + 4 * one)
    assert cost.memory == 10**9
    assert cost.disk == 2 * 10**6 + 4 * costs.RESULT_BYTES


def test_processes_share_the_runs_and_not_the_memory(cache, monkeypatch):
    monkeypatch.setattr(costs.machine, "cores", lambda: [0, 1])
    cache(RUN, processes=2)
    cost = costs.cost([replace(RUN, seed=seed) for seed in range(4)], [], 2)
    assert cost is not None
    assert cost.seconds == pytest.approx(costs.START + (7 + 4 * (50 + 44)) / 2)
    assert cost.memory == 2 * 10**9
    assert costs.cost([RUN], [], 1) is None, "one run has both cores, and was not measured so"


def test_what_was_not_measured_or_is_not_trained_is_not_known(cache):
    assert costs.cost([RUN], [], 1) is None
    cache(RUN)
    assert costs.cost([replace(RUN, model="mlp_3x512")], [], 1) is None
    assert costs.cost([KernelRun()], [], 1) is None
    costs._path().write_text('{"half')
    assert costs.cost([RUN], [], 1) is None


def test_memory_is_that_of_the_program_with_any_share_of_the_cores_or_of_a_kernel_matrix(cache):
    cache(RUN, processes=2)
    assert costs.memory(replace(RUN, seed=8, epochs=99)) == 10**9
    assert costs.memory(replace(RUN, model="mlp_3x512")) == 0
    kernel = KernelRun(dataset="digits", train_size=1000)
    assert costs.memory(kernel) * 60**2 == pytest.approx(9.4e9, rel=0.01), "of MNIST's 60,000 images it took 10 GB"
    assert costs.memory(replace(kernel, features="random_convolutions")) == 2 * costs.memory(kernel)
    assert costs.memory(replace(kernel, precision="float64")) == 2 * costs.memory(kernel)


def test_images_that_are_passed_over_cost_nothing():
    """Digits have 1,500 training images; a run without a train_size was taken to use them all."""
    assert costs._sizes(replace(RUN, train_size=None, train_skip=400)) == (1100, 80)
    assert costs._sizes(replace(RUN, train_skip=400)) == (320, 80)


def test_runs_that_stop_early_take_the_epochs_that_their_like_took():
    run = replace(RUN, stop_at_train_accuracy=1.0, corruption="random_labels", corruption_level=0.4)
    known = [
        result(replace(run, corruption_level=0.4, seed=0), train=[0.1] * 7),
        result(replace(run, corruption_level=0.4, seed=1), train=[0.1] * 9),
        result(replace(run, corruption_level=0.8), train=[0.1] * 4),
    ]
    assert costs._expected_epochs(run, known) == 7  # of 6 and 8
    assert costs._expected_epochs(replace(run, corruption_level=1.0), known) == 3
    assert costs._expected_epochs(replace(run, model="mlp_3x512"), known) == 10
    assert costs._expected_epochs(replace(run, stop_at_train_accuracy=None), known) == 10


@pytest.mark.long
def test_a_program_is_measured_once_and_shown_without_jax(cache, tmp_path, capsys):
    (tmp_path / "one.py").write_text(EXPERIMENT)
    options = ["--results", str(tmp_path / "none"), "--experiments", str(tmp_path), "--json"]
    assert main.main(["show", "one", *options]) == 0
    smoke = json.loads(capsys.readouterr().out)["scales"][0]
    assert "this machine" not in smoke["estimated_seconds"]
    assert main.main(["show", "one", "--calibrate", *options]) == 0
    shown = json.loads(capsys.readouterr().out)["scales"][0]
    assert shown["estimated_seconds"]["this machine"] > 0
    assert shown["memory_bytes"] > 10**7
    code = (
        "import sys; from rethink_gen.cli import main as cli; cli.main(sys.argv[1:]); assert 'jax' not in sys.modules"
    )
    again = [sys.executable, "-c", code, "show", "one", *options]
    said = subprocess.run(again, capture_output=True, text=True, check=True, env=dict(os.environ)).stdout
    assert json.loads(said)["scales"][0] == shown


def test_speeds_that_are_measured_are_those_of_a_run():
    speed = costs._measure(replace(RUN, epochs=1))
    assert 0 < speed.step < 1
    assert 0 < speed.image < 0.1
    assert speed.memory > speed.state > 8 * 33_000  # parameters of 49·512 + 512·10, and their momentum


def test_a_run_of_less_than_a_twentieth_of_a_second_has_a_known_cost():
    row = {"estimated_seconds": {"cpu": 0.0}, "memory_bytes": None, "disk_bytes": None, "missing": 2}
    assert overview._in_words(row) == "0 s on cpu"
