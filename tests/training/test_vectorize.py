"""Runs side by side: the numbers of a run alone, the same bits in any company, on one device or four."""

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from rethink_gen.errors import Interrupted
from rethink_gen.execution import scheduler
from rethink_gen.runs import Run
from rethink_gen.training import compilation, preparation, trainer, vectorize
from rethink_gen.training.vectorize import Lanes

SMALL = Run(
    dataset="digits", train_size=200, test_size=100, batch_size=32, epochs=3, model="mlp_1x512", learning_rate=0.05,
    augmentations=("flip",),
)  # fmt: skip
COHORT = (
    SMALL,
    replace(SMALL, corruption="random_labels", corruption_level=0.5, seed=1),
    replace(SMALL, corruption="random_labels", weight_decay=1e-2),
)


def curves(runs, **options):
    return {outcome.run: outcome.curves for outcome in scheduler.execute(runs, **options)}


def close(some, others):
    """Up to the rounding of float32: the loss of a few epochs, and an example or two that lie on a border."""
    assert some.keys() == others.keys()
    for run, of_run in some.items():
        for name in ("running_loss", "train_loss", "test_loss", "weight_norm"):
            np.testing.assert_allclose(of_run[name][1:], others[run][name][1:], rtol=1e-4)
        np.testing.assert_allclose(of_run["train_accuracy"], others[run]["train_accuracy"], atol=0.011)


@pytest.fixture
def three_lanes(monkeypatch):
    monkeypatch.setattr(vectorize, "_SIDE_BY_SIDE", {"cpu": {"mlp_1x512": 3}})


@pytest.fixture(scope="module")
def alone():
    return curves(COHORT)


def test_runs_side_by_side_have_the_numbers_of_runs_alone(alone, three_lanes):
    close(curves(COHORT), alone)


def test_a_run_has_the_same_bits_in_any_company(three_lanes):
    together = curves(COHORT)
    for run in COHORT:
        assert curves([run]) == {run: together[run]}, "lanes that are left over repeat it"
    assert curves(COHORT[::-1]) == together


def test_images_of_their_own_go_side_by_side_too(monkeypatch):
    runs = [replace(SMALL, corruption="random_pixels", seed=seed) for seed in range(2)]
    apart = curves(runs)
    monkeypatch.setattr(vectorize, "_SIDE_BY_SIDE", {"cpu": {"mlp_1x512": 2}})
    assert not preparation.prepare(runs).lanes.shared
    close(curves(runs), apart)


def test_runs_whose_images_would_not_fit_go_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(vectorize, "_SIDE_BY_SIDE", {"cpu": {"mlp_1x512": 16}})
    pixels = replace(SMALL, corruption="random_pixels")
    images = 300 * 8 * 8 * 4  # bytes, as float32
    device = type("Device", (), {})()
    monkeypatch.setattr(vectorize.jax, "local_devices", lambda: [device])
    for limit, expected in ((100 * images, 16), (11 * images, 5), (images, 1), (None, 16)):
        device.memory_stats = lambda limit=limit: limit and {"bytes_limit": limit}
        assert vectorize.width(pixels) == expected
        assert vectorize.width(SMALL) == 16, "all see the same images"


def test_a_cohort_of_labels_keeps_its_images_once(three_lanes):
    _, train, test, _, lanes, _ = preparation.prepare(COHORT)
    assert lanes == Lanes(number=3, devices=1, shared=True)
    assert train.images.shape == (200, 8, 8, 1)
    assert (train.labels.shape, test.labels.shape) == ((3, 200), (3, 100))
    assert (
        train.changed.sum(1).tolist()[0] == 0 < train.changed.sum(1).min(where=np.array([False, True, True]), initial=9)
    )


def test_runs_of_different_pictures_do_not_share_a_program():
    keys = {corruption: preparation.program_key(replace(SMALL, corruption=corruption)) for corruption in (
        "true_labels", "random_labels", "random_pixels", "gaussian")}  # fmt: skip
    assert keys["true_labels"] == keys["random_labels"]
    assert len(set(keys.values())) == 3


def test_an_interrupted_cohort_goes_on_with_the_same_bits_also_without_a_run_that_has_ended(
    tmp_path, monkeypatch, three_lanes
):
    monkeypatch.setattr(compilation, "_STEPS_PER_CALL", 4)  # so that an epoch of 6 steps can be stopped in the middle
    early = replace(SMALL, weight_decay=1e-3, corruption="random_labels", corruption_level=0.0)
    runs = [replace(run, stop_at_train_accuracy=0.5, epochs=4) for run in (early, *COHORT[1:])]
    undisturbed = curves(runs)
    lengths = [len(undisturbed[run]["epoch"]) for run in runs]
    assert lengths[0] < max(lengths), "one of them stops early"

    def stop_at(step):
        seen = []

        def report(progress):
            seen.append(progress.step)

        def stopped():
            if seen[-1] >= step:
                raise Interrupted("stopped")

        return {"report": report, "stopped": stopped}

    folders = {run: tmp_path / run.id for run in runs}
    found = {}
    for step in (4, 10, 20):
        with suppress(Interrupted):
            for result in trainer.train({run: folders[run] for run in runs if run not in found}, **stop_at(step)):
                found[result.run] = result.curves
            pytest.fail(f"nothing stopped at step {step}")
    assert 0 < len(found) < len(runs)
    for result in trainer.train({run: folders[run] for run in runs if run not in found}, **stop_at(10**6)):
        found[result.run] = result.curves
    assert found == undisturbed


def test_a_run_at_another_step_than_the_rest_is_trained_after_them(tmp_path, monkeypatch, three_lanes):
    monkeypatch.setattr(compilation, "_STEPS_PER_CALL", 4)
    undisturbed = curves(COHORT)

    def stopped():
        raise Interrupted("stopped")

    (tmp_path / ".work").mkdir()
    with pytest.raises(Interrupted):
        next(trainer.train({COHORT[1]: tmp_path / ".work" / COHORT[1].id}, report=lambda now: None, stopped=stopped))
    order = [outcome.run for outcome in scheduler.execute(COHORT, work=tmp_path)]
    assert order == [COHORT[0], COHORT[2], COHORT[1]]
    assert curves(COHORT, work=tmp_path) == undisturbed


def test_progress_counts_the_runs_side_by_side(three_lanes):
    seen = []
    list(scheduler.execute([replace(run, epochs=1) for run in COHORT], report=seen.append))
    assert {(now.done_runs, now.beside, now.total_runs) for now in seen} == {(0, 2, 3)}
    assert [now.step for now in seen] == [0, 0, 0, 6, 6, 6]
    assert [now.run.seed for now in seen] == [run.seed for run in reversed(COHORT)] * 2


def test_progress_tells_the_curves_of_all_runs_side_by_side(three_lanes):
    told = {}

    def report(now):
        told.setdefault(now.run, {})[now.epoch] = now.metrics["train_loss"]

    results = list(scheduler.execute([replace(run, epochs=2) for run in COHORT], report=report))
    for result in results:
        assert [*told[result.run].values()] == result.curves["train_loss"]


def test_a_result_says_in_how_many_lanes_it_was_made_and_its_share_of_the_time(three_lanes):
    results = list(scheduler.execute([replace(run, epochs=1) for run in COHORT]))
    assert [result.provenance["lanes"] for result in results] == [3, 3, 3]
    assert "lanes" not in next(scheduler.execute([replace(SMALL, model="softmax_regression", epochs=1)])).provenance


def test_four_devices_have_the_numbers_of_one(alone, tmp_path):
    """Three runs in eight lanes, two on each of four devices of this machine's processor."""
    code = (
        "import json, sys, jax; jax.config.update('jax_num_cpu_devices', 4)\n"
        "from rethink_gen.execution import scheduler\n"
        "from rethink_gen.training import preparation, vectorize\n"
        "sys.path[:0] = ['tests', 'tests/training']; from test_vectorize import COHORT\n"
        "vectorize._SIDE_BY_SIDE = {'cpu': {'mlp_1x512': 2}}\n"
        "assert preparation.prepare(COHORT).lanes[:2] == (8, 4)\n"
        "print(json.dumps([outcome.curves for outcome in scheduler.execute(COHORT)]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    close(dict(zip(COHORT, json.loads(done.stdout), strict=True)), alone)
