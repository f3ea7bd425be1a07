"""Walks experiments/: whatever file is there is listed, run at smoke scale, tabulated and drawn, with no other edit."""

import dataclasses

import pytest

from rethink_gen import cohorts, experiment, results, suite, vocabulary

NAMES = experiment.names()


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_states_its_claim_and_where_it_is_made(name):
    found = experiment.find(name)
    assert found.claim.endswith(".")
    assert found.locator
    assert "Expected:" in found.doc, (
        "the docstring is the lab notebook: number of runs, time and device, what to expect"
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", experiment.SCALES)
def test_every_name_in_an_experiment_is_known(name, scale):
    runs = experiment.find(name).at(scale).runs
    vocabulary.check_names(runs)
    assert len({run.id for run in runs}) == len(runs)
    if scale == "smoke":
        assert {run.dataset for run in runs} <= {"digits", "generated_imagenet"}


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_without_results_says_so_and_does_not_fail(name):
    found = experiment.find(name)
    assert all(check.holds is None for check in found.checks(results.frame([])))
    found.table(results.frame([]))


@pytest.mark.parametrize("name", NAMES)
def test_tables_figures_and_checks_come_from_results_alone(name, tmp_path):
    """Every run of the experiment at smoke scale; of trainings, which take longer, with curves made up."""
    study = suite.plan(name, scale="smoke", results=tmp_path)
    for i, run in enumerate(study.experiment.runs):
        results.save(made_up(run, i) if isinstance(run, experiment.Run) else solved(run), study.folder)
    study = suite.load(name, scale="smoke", results=tmp_path)
    assert not study.missing
    assert len(study.table())
    for kind in ("markdown", "latex", "csv", "html", "json"):
        assert study.text(kind)
    assert {check.holds for check in study.checks()} <= {True, False, None}
    paths = suite.publish(study)
    assert all(path.stat().st_size > 0 for path in paths)


def solved(run):
    [result] = cohorts.execute([run])
    assert isinstance(result, results.Result), result
    return result


def made_up(run, number):
    epochs = range(run.epochs + 1)
    fraction = [min(1.0, 0.1 + epoch / run.epochs) for epoch in epochs]
    falling = [2.3 - 2.2 * x for x in fraction]
    curves = {name: fraction if "accuracy" in name else falling for name in results.METRICS}
    curves |= {"epoch": list(epochs), "step": [16 * epoch for epoch in epochs]}
    curves |= {"running_loss": [None, *falling[1:]], "test_accuracy": [0.1 + 0.01 * number for _ in epochs]}
    about = {"device": "cpu (2 cores)", "num_train": 512, "num_test": 297, "seconds_compile": 1.0, "seconds_train": 1.0}
    return results.Result(run, "finished", curves, about)


def test_the_defaults_of_a_run_are_the_papers():
    defaults = {field.name: field.default for field in dataclasses.fields(experiment.Run)}
    stated = {"crop_size": 28, "whitening": True, "momentum": 0.9, "learning_rate_decay": 0.95, "weight_decay": 0.0}
    assert stated.items() <= defaults.items()
    assert defaults["augmentations"] == ()
    assert defaults["dropout"] == 0.0


def test_half_of_the_filters_stand_beside_the_paper_without_a_verdict(tmp_path):
    study = suite.plan("sec5_kernels", scale="paper", results=tmp_path)
    half = [run for run in study.experiment.runs if run.num_filters == 16_000]
    for run, error in zip(half, (0.2, 0.18), strict=True):
        curves = {"epoch": [0.0], "train_accuracy": [1.0], "test_accuracy": [1 - error], "l2_norm": [1.0]}
        about = {"device": "cpu (2 cores)", "num_train": 50_000, "num_test": 10_000}
        results.save(results.Result(run, "finished", curves, about), study.folder)
    study = suite.load("sec5_kernels", scale="paper", results=tmp_path)
    rows = study.table()
    found = rows[rows["features"] == "random convolutions, 16,000 filters"]
    assert found["mean"].round(4).tolist() == [0.2, 0.18]
    assert set(found["verdict"]) == {"other scale"}
    whole = rows[rows["features"] == "random_convolutions"]
    assert set(whole["verdict"]) == {"not run"}
    [ridge] = [check for check in study.checks() if "takes off 1 to 4 points" in check.statement]
    assert (ridge.holds, ridge.evidence) == (True, "20.00 %, 18.00 %")
    assert suite.publish(study)
