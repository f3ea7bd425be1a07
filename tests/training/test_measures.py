"""Measures of a run: computed once at its end, from nothing but its weights and its seed, and no other number moves."""

import copy
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from sweeps import trained_once

import rethink_gen as rg
from rethink_gen import registry
from rethink_gen.execution import scheduler
from rethink_gen.results import frames, results_cache, validation
from rethink_gen.study import measuring, studies
from rethink_gen.training import checkpointing, measurement, prediction, trainer, vectorize

MEASURES = (
    "distance_from_initial",
    "margin(percentile=50)",
    "sharpness(dimensions=5,epsilon=0.002)",
    "reset_accuracy(to=fresh)",
)
RUN = rg.Run(
    dataset="digits", train_size=100, test_size=50, batch_size=32, epochs=2, model="mlp(hidden=8)",
    learning_rate=0.05, measures=MEASURES,
)  # fmt: skip


folder, result = trained_once(RUN)


def test_measures_count_neither_as_training_nor_as_compilation(monkeypatch):
    """From these seconds the costs of longer runs are estimated."""
    passed = [0.0]
    clock = trainer.time.monotonic
    monkeypatch.setattr(trainer.time, "monotonic", lambda: clock() + passed[0])
    monkeypatch.setattr(measurement, "compute_all", lambda *_: passed.__setitem__(0, 1000.0) or dict.fromkeys(MEASURES))
    [result] = scheduler.execute([RUN])
    assert passed == [1000]
    assert result.provenance["seconds_train"] + result.provenance["seconds_compile"] < 500


def test_a_run_whose_data_are_no_longer_here_has_no_measures_and_hides_no_other(folder, caplog):
    def fail(*_):
        raise rg.errors.UsageError("other data")

    study = studies.load("train", results=folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "_prepared", fail)
        found = measuring.measured(study, ["spectral"])
    assert found.runs["spectral"].isna().all()
    assert "other data" in caplog.text


def test_measures_are_there_at_the_last_epoch_and_move_no_other_number(result, tmp_path):
    plain = rg.train(replace(RUN, measures=()), results=tmp_path)
    assert {name: result.curves[name] for name in plain.curves} == plain.curves
    for name in MEASURES:
        assert result.curves[name][:-1] == [None, None]
        assert result.summary[name] == result.curves[name][-1] > -100


def test_recorded_measures_are_there_at_each_epoch_and_the_last_ones_are_those_of_the_end(result, tmp_path):
    recorded = rg.train(replace(RUN, record="measures"), results=tmp_path)
    distances = recorded.curves["distance_from_initial"]
    assert distances == sorted(distances)
    assert distances[0] == 0 < distances[1]
    for name in MEASURES:
        assert recorded.curves[name][-1] == result.curves[name][-1]
    assert recorded.records is None


class _Killed(BaseException):
    """As if the process were gone: only what is on disk counts."""


def test_a_run_that_is_killed_in_a_long_measure_keeps_its_epoch(tmp_path, monkeypatch):
    """It began again at the last checkpoint, up to a minute or a whole epoch before, each time."""
    run, compute_all, steps = replace(RUN, record="measures", measures="margin"), measurement.compute_all, []
    whole = rg.train(run, results=tmp_path, keep_weights=True)

    def resumed(times):
        """The first step and the result of a run that is killed so many times, once in each of its measures."""
        work = tmp_path / str(times)
        for _ in range(times):
            seen = []

            def killed(*given, seen=seen):
                if seen:
                    raise _Killed
                seen.append(given)
                return compute_all(*given)

            monkeypatch.setattr(measurement, "compute_all", killed)
            with pytest.raises(_Killed):
                list(trainer.train({run: work}, report=lambda now: None, stopped=lambda: None))
        monkeypatch.setattr(measurement, "compute_all", compute_all)
        report = lambda now: steps.append(now.step)
        [result] = trainer.train({run: work}, report=report, stopped=lambda: None, keep_weights=True)
        return result

    for times, first in ((1, 3), (2, 6)):
        steps.clear()
        result = resumed(times)
        assert steps[0] == first
        assert result.curves == whole.curves
        for name in ("params/Dense_0/kernel", "params/Dense_1/bias"):
            assert np.array_equal(result.weights[name], whole.weights[name])


def test_of_runs_side_by_side_the_one_that_lacks_a_row_is_measured_alone(tmp_path, monkeypatch):
    """One was saved with the row of its last epoch, the other before: a kill came between the two."""
    monkeypatch.setattr(vectorize, "_SIDE_BY_SIDE", {"cpu": {"mlp(hidden=8)": 2}})
    runs = [replace(RUN, record="measures", measures="margin", seed=seed) for seed in (0, 1)]
    saved, save = [], checkpointing.save_checkpoint
    monkeypatch.setattr(checkpointing, "save_checkpoint", lambda *given: saved.append(copy.deepcopy(given)))
    quiet = {"report": lambda now: None, "stopped": lambda: None}
    whole = list(trainer.train({run: tmp_path / str(run.seed) for run in runs}, **quiet))
    work = {run: tmp_path / f"again{run.seed}" for run in runs}
    for run, rows in zip(runs, (3, 2), strict=True):
        of_run = [each for each in saved if each[0].name == str(run.seed)]
        _, arrays, notes = next(each for each in of_run if each[2]["curves"].get("epoch") == [*range(rows)])
        assert arrays["step"] == 6
        save(work[run], arrays, notes)
    again = list(trainer.train(work, **quiet))
    assert [result.curves for result in again] == [result.curves for result in whole]


def test_measuring_recorded_measures_again_keeps_their_course(tmp_path):
    """All but the last values became empty."""
    recorded = rg.train(replace(RUN, record="measures", measures="margin"), results=tmp_path, keep_weights=True)
    [again] = measuring.measured(studies.load("train", results=tmp_path), ["margin", "fisher_rao"]).results
    assert again.curves["margin"] == recorded.curves["margin"]
    assert again.curves["fisher_rao"][:-1] == [None, None]


def test_a_record_of_no_measures_is_refused():
    with pytest.raises(rg.errors.UsageError, match="record=measures has nothing to record"):
        replace(RUN, measures=(), record="measures")


def test_measures_are_those_of_the_kept_weights(result):
    assert result.measure(*MEASURES) == {name: result.curves[name][-1] for name in MEASURES}


def test_the_distance_of_a_network_that_learns_nothing_is_zero(tmp_path):
    still = replace(RUN, learning_rate=0.0, measures="distance_from_initial,reset_accuracy", init_seed=3)
    result = rg.train(still, results=tmp_path)
    assert result.summary["distance_from_initial"] == 0
    assert result.summary["reset_accuracy"] == result.summary["train_accuracy"]


@pytest.mark.parametrize(("corruption", "other"), [("true_labels", "random_labels"), ("gaussian", "gaussian")])
def test_measures_of_runs_side_by_side_are_those_of_runs_alone(corruption, other, monkeypatch, tmp_path):
    """Both where runs share their images and where each has its own."""
    run = replace(RUN, corruption=corruption, measures=MEASURES[:2])
    alone = rg.train(run, results=tmp_path / "alone")
    monkeypatch.setattr(vectorize, "_SIDE_BY_SIDE", {"cpu": {"mlp(hidden=8)": 2}})
    study = rg.run([replace(run, seed=1, corruption=other), run], results=tmp_path / "beside", workers=1)
    [beside] = [each for each in study.results if each.run == run]
    assert beside.provenance["lanes"] >= 2
    for name in MEASURES[:2]:
        assert beside.summary[name] == pytest.approx(alone.summary[name], rel=1e-3)


def test_measures_are_columns_also_of_many_results(result, folder, monkeypatch):
    monkeypatch.setattr(results_cache, "_LARGE", 1)
    [of] = results_cache.sift(studies.load("train", results=folder).folder)[0]
    table = results_cache.frame([of])
    assert table["margin(percentile=50)"].tolist()[-1] == result.summary["margin(percentile=50)"]
    pd.testing.assert_frame_equal(table, frames.frame([result]), check_like=True)
    shown = studies.load("train", results=folder).table(["sharpness(dimensions=5,epsilon=0.002)"])
    assert shown["mean"].tolist() == [result.summary["sharpness(dimensions=5,epsilon=0.002)"]]
    assert not any(column.startswith("measure.") for column in table)


def test_networks_that_kept_their_weights_are_measured_later(result, folder):
    study = measuring.measured(studies.load("train", results=folder), ["spectral", "margin(percentile=5e1)"])
    assert study.runs["margin(percentile=50)"].tolist() == [result.summary["margin(percentile=50)"]]
    assert study.runs["spectral"][0] > 1
    with pytest.raises(rg.errors.UsageError, match="no measure named 'spectrum'; did you mean 'spectral'"):
        measuring.measured(study, ["spectrum"])
    with pytest.raises(rg.errors.UsageError, match="no run of train kept its weights"):
        measuring.measured(replace(study, folder=folder / "elsewhere"), ["spectral"])


def test_a_measure_may_have_the_name_of_a_field_of_another_kind_of_run(folder):
    """`path` is a norm, and what ridge regression has a row for."""
    study = measuring.measured(studies.load("train", results=folder), ["path"])
    assert study.table(["path"])["mean"].tolist() == study.runs["path"].tolist()
    assert all(validation.can_name_curve(name, RUN.kind) for name in registry.COMPONENTS["measure"])


WRONG = {
    "a vector": (lambda network: network.outputs, "must return one number, not ndarray (20, 10)"),
    "a mistake": (lambda network: network.outputs["x"], "failed: IndexError"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_measure_is_named_before_training_and_the_other_runs_go_on(wrong, tmp_path):
    function, says = WRONG[wrong]
    registry.add("measure", "mine", function)
    study = rg.run([replace(RUN, measures="mine"), RUN], results=tmp_path, workers=1)
    [failure] = study.failures
    assert failure.reason.startswith("measure 'mine'")
    assert says in failure.reason
    assert [each.run for each in study.results] == [RUN]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "mcnn(width=2)", "measures": "spectral"}, "measure 'spectral': only of dense layers with ReLU"),
        ({"measures": "reset_accuracy(layer=3)"}, "measure 'reset_accuracy(layer=3)': the network has layers 1 to 2"),
        ({"dataset": "generated_imagenet", "measures": "margin"}, "is streamed: measures need images in memory"),
    ],
)
def test_a_measure_that_does_not_go_with_a_run_is_refused_before_training(change, says, tmp_path):
    with pytest.raises(rg.errors.RethinkError) as refused:
        rg.train(replace(RUN, **change), results=tmp_path)
    assert says in str(refused.value)


def test_a_measure_with_the_name_of_another_column_is_refused(tmp_path):
    for name in ("seed", "train_loss", "my.measure"):
        registry.add("measure", name, lambda network: 1.0)
        with pytest.raises(rg.errors.RethinkError, match="cannot have this name"):
            rg.train(replace(RUN, measures=name), results=tmp_path)


def test_a_measure_that_fails_at_the_end_loses_no_training(tmp_path, caplog):
    def at_most_20(network):
        return float(np.reshape(network.train.labels, 20).sum())

    registry.add("measure", "at_most_20", at_most_20)
    result = rg.train(replace(RUN, measures="at_most_20,margin"), results=tmp_path)
    assert result.summary["at_most_20"] is None
    assert result.summary["margin"] is not None
    assert "measure 'at_most_20' failed: ValueError" in caplog.text


def test_a_user_measures_with_functions_of_any_weights(tmp_path):
    @rg.register.measure
    def half_loss(network, *, scale=0.5):
        """The loss with all weights scaled."""
        weights = {name: {k: scale * v for k, v in layer.items()} for name, layer in network.weights.items()}
        return network.loss(weights)

    result = rg.train(replace(RUN, measures="half_loss(scale=0),half_loss(scale=1)"), results=tmp_path)
    assert result.summary["half_loss(scale=0)"] == pytest.approx(np.log(10), rel=1e-6)
    assert result.summary["half_loss(scale=1)"] == pytest.approx(result.summary["train_loss"], rel=1e-6)
    assert result.provenance["code"].keys() == {"measure:half_loss"}


def test_a_run_that_diverged_has_no_measures(tmp_path):
    registry.add("loss", "no_number", lambda logits, targets: jnp.nan * logits.sum(-1))
    result = rg.train(replace(RUN, loss="no_number", measures="margin"), results=tmp_path)
    assert result.status == "diverged"
    assert result.curves["margin"][-1] is None


def test_a_run_that_diverged_and_recorded_its_measures_has_none_at_the_end_either(tmp_path):
    """Its loss is finite; the last margin was there with record=measures, and was not without."""
    wild = replace(RUN, learning_rate=1000.0, model="mlp(hidden=16+16)", measures="margin", record="measures")
    result = rg.train(wild, results=tmp_path)
    assert result.status == "diverged"
    assert [value is None for value in result.curves["margin"]] == [False, False, True]
