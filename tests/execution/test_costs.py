"""What runs will cost: by arithmetic on what was measured before, and without jax."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from frames import result

from rethink_gen import registry
from rethink_gen.cli import main, overview
from rethink_gen.execution import costs
from rethink_gen.execution.costs import Speed
from rethink_gen.results.result import Result
from rethink_gen.runs import AFRESH, KernelRun, Run
from rethink_gen.solvers import kernels
from rethink_gen.solvers.features import Features

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
def mnist(monkeypatch):
    """MNIST by its numbers of images, whether it has been prepared or not."""
    monkeypatch.setattr(costs, "_sizes", lambda run: (run.train_size or 60_000, run.test_size or 10_000))


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


def test_memory_is_that_of_the_program_with_any_share_of_the_cores_or_of_a_kernel_matrix(cache, mnist):
    cache(RUN, processes=2)
    assert costs.memory(replace(RUN, seed=8, epochs=99)) == 10**9
    assert costs.memory(replace(RUN, model="mlp_3x512")) == 0
    assert costs.memory(KernelRun()) == pytest.approx(1e10, rel=0.01), "of MNIST's 60,000 images it took 10 GB"


WAVELETS = KernelRun(features="gabor_wavelets", gamma=2.3, precision="float64")
CONVOLUTIONS = KernelRun(features="random_convolutions", num_filters=512, gamma=1.0)


def test_kernels_of_one_block_of_features_need_no_room_for_products_that_are_not_kept(mnist):
    """Wavelets, and few filters, were counted twice: a run of 20 GB asked for 37 GB, and iterations for too little."""
    half = 1.3 * 8 / 2 * 60_000 * (60_000 + 1024)
    assert costs.memory(WAVELETS) == pytest.approx(half + 25 * 8 * 1024**2 + 400e6)
    streams = Features(lambda images, i: None, (0, 0))
    whole = Features(lambda images, i: None, (0,))
    for run, features in (
        (WAVELETS, whole),
        (KernelRun(), whole),
        (CONVOLUTIONS, streams),
        (replace(CONVOLUTIONS, num_filters=256), whole),
        (replace(CONVOLUTIONS, precision="float64", train_size=5000), streams),
        (replace(WAVELETS, solver="conjugate_gradients"), whole),
        (replace(WAVELETS, iterations=5), whole),
    ):
        n = run.train_size or 60_000
        planned = kernels._plan(run, features, n, 10_000, 10**12)
        assert costs.memory(run) == pytest.approx(costs.PROCESS_BYTES + planned.bytes, rel=1e-6), run.id


def test_kernels_keep_products_where_their_features_come_in_blocks():
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1)).astype(np.uint8)
    counted = ("fourier(count=1024)", "fourier(count=1025)")
    runs = [KernelRun(features=name) for name in (*registry.known("features"), *counted) if name != "fourier"]
    runs += [replace(CONVOLUTIONS, num_filters=number) for number in (256, 257)]
    for run in runs:
        assert costs._keeps_products(run) == registry.resolve("features", run.features)(run, images).streamed, run.id


# The peak memory of a process less what it was after a run of 600 images, in MB, as it was measured on one core of CPU:
# so many images of MNIST, and 512 to test.
MEASURED = {
    WAVELETS: {4096: 217.3, 8192: 536.1},
    CONVOLUTIONS: {4096: 133.0, 8192: 451.8},
    replace(CONVOLUTIONS, num_filters=256): {4096: 109.7, 8192: 283.9},
}


@pytest.mark.parametrize("run", MEASURED, ids=lambda run: f"{run.features}-{run.num_filters}")
def test_kernels_take_what_was_measured_or_a_little_less(run, mnist):
    for size, megabytes in MEASURED[run].items():
        asked = costs.memory(replace(run, train_size=size, test_size=512)) - costs.PROCESS_BYTES
        assert 0 < asked / 1e6 - megabytes < 110


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
def test_a_program_is_measured_once_and_shown_without_jax(cache, no_other_results, tmp_path, capsys):
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


def timed_result(run, *, seconds, device="cpu (2 cores)"):
    """A result of a run that took so many seconds to its last epoch."""
    return Result(run, "finished", {"epoch": [0, run.epochs]}, {"device": device, "seconds_train": seconds})


def test_estimate_is_seconds_per_epoch_of_the_same_recipe_on_each_device():
    run = Run(dataset="digits", epochs=10)
    results = [
        timed_result(replace(run, epochs=2, seed=1), seconds=4.0),
        timed_result(replace(run, epochs=5, corruption="random_labels"), seconds=15.0),
        timed_result(replace(run, epochs=10), seconds=1.0, device="a chip"),
        timed_result(replace(run, model="mlp_3x512"), seconds=100.0),
    ]
    timed = costs.timings(results)
    # 10 epochs for each of two runs at the median of 4 s / 2 and 15 s / 5
    assert costs.estimate([run, replace(run, seed=3)], timed) == {"cpu (2 cores)": 50.0, "a chip": 2.0}
    assert costs.estimate([run, replace(run, batch_size=64)], timed) == {}


def test_estimate_counts_a_pretraining_once_however_long_the_run_itself_is():
    """Its seconds were taken for seconds of the epochs: ten times as many epochs, ten times the pre-training."""
    run = Run(dataset="digits", train_size=100, epochs=2, pretrain_epochs=8, pretrain_size=50)
    timed = costs.timings([timed_result(run, seconds=12.0)])  # 2 epochs, and 8 of half as many images: 2 s each
    for changes, epochs in (
        ({"epochs": 20}, 20 + 4),
        ({"pretrain_epochs": 16, "pretrain_corruption": "pair_flip"}, 2 + 8),
        ({"pretrain_size": None, "pretrain_layers": 1}, 2 + 8),
        ({**AFRESH, "train_skip": 100}, 2),
    ):
        assert costs.estimate([replace(run, **changes)], timed) == {"cpu (2 cores)": 2.0 * epochs}
