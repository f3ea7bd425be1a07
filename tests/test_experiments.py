"""Walks experiments/: whatever file is there is listed, run at smoke scale, tabulated and drawn, with no other edit."""

import dataclasses
import runpy
from pathlib import Path

import pytest
from conftest import keep_components

from rethink_gen import experiment, runs
from rethink_gen.execution import requests, scheduler
from rethink_gen.papers.zhang2017 import protocol
from rethink_gen.results import store
from rethink_gen.study import checking, running, studies
from rethink_gen.study.studies import Study

NAMES = experiment.names()
COMMITTED = Path(__file__).parent.parent / "results"
DATA = Path(__file__).parent / "golden"
DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module", params=NAMES)
def found(request):
    """Each experiment, loaded once for the tests that ask for it; what it registers is gone after them."""
    with pytest.MonkeyPatch.context() as patch:
        keep_components(patch)
        yield experiment.find(request.param)


def test_an_experiment_states_its_claim_and_where_it_is_made(found):
    assert found.claim.endswith(".")
    assert found.locator
    assert "Expected:" in found.doc, (
        "the docstring is the lab notebook: number of runs, time and device, what to expect"
    )


def test_a_check_is_a_sentence(found):
    for check in found.checks:
        assert check.__doc__
        assert checking._statement(check).endswith((".", ")."))
        assert "{" not in checking._statement(check)
        assert check.__name__ != "<lambda>"


def test_run_ids_are_those_of_before_the_move():
    """A result file is named by the id of its run: a run with another id would be trained again."""
    ids = [
        f"{found.name}/{scale}/{run.id}"
        for found in experiment.find_each()
        for scale in experiment.SCALES
        for run in found.at(scale).runs
    ]
    before = (DATA / "run_ids.txt").read_text().split()
    known = {line.partition("/")[0] for line in before}
    assert set(before) <= set(ids)
    assert [each for each in ids if each.partition("/")[0] in known] == before


def verdicts(study):
    """A line for each cell with a verdict and for each check."""
    place = f"{study.experiment.name}/{study.experiment.scale}"
    table = study.table()
    rows = table.to_dict("records") if "verdict" in table else []
    keys = list(table.columns[: table.columns.get_loc("metric")]) if rows else []
    cells = [f"{place} | {', '.join(str(row[key]) for key in [*keys, 'metric'])} | {row['verdict']}" for row in rows]
    words = {True: "holds", False: "does not hold", None: "not known"}
    return [*cells, *(f"{place} | {check.statement} | {words[check.holds]}" for check in study.checks())]


_GATHERED = {}


def gathered(found, results=COMMITTED):
    """The study of the committed results at a scale; its table and checks are computed once for all tests."""
    key = (found.name, found.scale)
    return _GATHERED.get(key) or _GATHERED.setdefault(key, _gather(found, results))


_gather = studies.gather


def is_stale(study, folder):
    """Whether a committed table is missing, or says something else than the results beside it."""
    table = COMMITTED / folder / "table.md"
    return not table.exists() or table.read_text() != study.text()


def test_no_check_fails_verdicts_are_those_of_before_and_committed_tables_say_so():
    """Of the committed results at laptop and paper scale; update the list when new results change a verdict, and write
    a table anew with `rethink-gen run NAME --scale SCALE`.
    """
    found, stale, failed = [], [], []
    for each in experiment.find_each():
        for scale in ("laptop", "paper"):
            study = gathered(each.at(scale))
            if study.results:
                found += verdicts(study)
                stale += [f"{each.name}/{scale}"] * is_stale(study, f"{each.name}/{scale}")
                failed += [check for check in study.checks() if check.evidence.startswith("the check failed")]
    assert failed == []  # each of these is "not known", which looks as if a run were missing
    assert stale == []
    before = (DATA / "verdicts.txt").read_text().splitlines()
    assert set(before) - set(found) == set()
    known = {line.partition("/")[0] for line in before}
    assert [line for line in found if line.partition("/")[0] in known and line not in before] == []


def test_the_page_of_experiments_is_that_of_the_code_and_of_the_results(monkeypatch):
    """`python docs/experiments.py` writes it again."""
    monkeypatch.setattr(studies, "gather", gathered)
    page = DOCS / "experiments.md"
    assert runpy.run_path(str(page.with_suffix(".py")))["filled"](page.read_text()) == page.read_text()


def test_every_name_in_an_experiment_is_known(found):
    for scale in experiment.SCALES:
        runs = found.at(scale).runs
        requests.check_names(runs)
        assert len({run.id for run in runs}) == len(runs)
        if scale == "smoke":
            assert {run.dataset for run in runs if not run.draws_data} <= {"digits", "generated_imagenet"}


def test_an_experiment_without_results_says_so_and_does_not_fail(found):
    for scale in ("smoke", "paper"):
        empty = Study(found.at(scale), (), Path("nowhere"))
        assert all(check.holds is None for check in empty.checks())
        empty.table()


def test_tables_figures_and_checks_come_from_results_alone(found, tmp_path):
    """Of every run at smoke scale: the committed result, or where there is none, as in a new experiment, its own."""
    committed = {result.id: result for result in store.load(COMMITTED / found.name / "smoke")}
    for run in found.at("smoke").runs:
        store.save(committed.get(run.id) or result_of(run), tmp_path / found.name / "smoke")
    study = studies.gather(found.at("smoke"), tmp_path)
    assert not study.missing
    assert len(study.table())
    if committed.keys() >= {run.id for run in study.experiment.runs}:
        assert not is_stale(study, f"{study.experiment.name}/smoke")
    for kind in ("markdown", "latex", "csv", "html", "json"):
        assert study.text(kind)
    if study.experiment.has_verdict:
        assert {check.holds for check in study.checks()} <= {True, False}
    else:
        assert {(check.holds, check.evidence) for check in study.checks()} == {(None, "smoke scale: no verdict")}
        assert not {"reproduced", "close", "off"} & set(study.table().get("verdict", []))
    if figure := study.figure():
        figure.draw_without_rendering()


@pytest.mark.parametrize(
    "name",
    [
        "sec2_rademacher",
        "sec5_kernels",
        "sec5_sgd_minimum_norm",
        "thm1_expressivity",
        "belkin2019_double_descent",
    ],
)
def test_a_run_of_each_kind_has_what_its_experiment_tabulates(name, tmp_path):
    """So that the committed results do not hide that today's code leaves something out."""
    study = running.plan(name, scale="smoke", results=tmp_path)
    run = study.experiment.runs[0]
    store.save(result_of(run), study.folder)
    [committed] = [result for result in store.load(COMMITTED / name / "smoke") if result.id == run.id]
    [found] = store.load(study.folder)
    assert found.curves.keys() >= committed.curves.keys()
    assert len(studies.load(name, scale="smoke", results=tmp_path).table())


def result_of(run):
    [result] = scheduler.execute([run])
    assert isinstance(result, store.Result), result
    return result


def test_the_defaults_of_a_run_are_the_papers():
    defaults = {field.name: field.default for field in dataclasses.fields(runs.Run)}
    stated = {"crop_size": 28, "whitening": True, "momentum": 0.9, "learning_rate_decay": 0.95, "weight_decay": 0.0}
    assert stated.items() <= defaults.items()
    assert defaults["augmentations"] == ()
    assert defaults["dropout"] == 0.0


@pytest.mark.parametrize(("model", "run"), protocol.PAPER.items())
def test_the_default_learning_rate_of_a_model_is_that_of_its_protocol(model, run):
    assert runs.Run(model=model).learning_rate == run.learning_rate


def test_half_of_the_filters_stand_beside_the_paper_without_a_verdict(tmp_path):
    study = running.plan("sec5_kernels", scale="paper", results=tmp_path)
    half = [run for run in study.experiment.runs if run.num_filters == 16_000]
    for run, error in zip(half, (0.2, 0.18), strict=True):
        curves = {"epoch": [0.0], "train_accuracy": [1.0], "test_accuracy": [1 - error], "l2_norm": [1.0]}
        about = {"device": "cpu (2 cores)", "num_train": 50_000, "num_test": 10_000}
        store.save(store.Result(run, "finished", curves, about), study.folder)
    study = studies.load("sec5_kernels", scale="paper", results=tmp_path)
    rows = study.table()
    found = rows[rows["features"] == "random convolutions, 16,000 filters"]
    assert found["mean"].round(4).tolist() == [0.2, 0.18]
    assert set(found["verdict"]) == {"other scale"}
    whole = rows[rows["features"] == "random_convolutions"]
    assert set(whole["verdict"]) == {"not run"}
    [ridge] = [check for check in study.checks() if "takes off 1 to 4 points" in check.statement]
    assert (ridge.holds, ridge.evidence) == (None, "no results yet"), "the paper has all the filters"
    assert studies._publish(study)


def test_the_norms_of_all_images_are_told_by_powers_of_fewer_images(tmp_path):
    """Norms that are powers of the number of images, and at 60,000: 222 for pixels, 500, 300 and 100 for wavelets."""
    study = running.plan("sec5_norms", scale="laptop", results=tmp_path)
    for run in study.experiment.runs:
        norm = {0.02: 222, 2.0: 500, 2.5: 300, 3.0: 100}[run.gamma] * (run.train_size / 60_000) ** run.gamma
        curves = {"epoch": [0.0], "train_accuracy": [1.0], "test_accuracy": [0.99], "residual": [0.0]}
        norms = {"coefficient_norm": [norm], "l2_norm": [2.0], "signed_norm": [3.0], "total_coefficient_norm": [4.0]}
        about = {"device": "cpu (2 cores)", "num_train": run.train_size, "num_test": 10_000}
        store.save(store.Result(run, "finished", curves | norms, about), study.folder)
    study = studies.load("sec5_norms", scale="laptop", results=tmp_path)
    found = {" ".join(each.statement.split()[:2]): (each.holds, each.evidence) for each in study.checks()}
    assert found["Of pixels,"] == (True, "222, measured 222 in float32")
    assert found["Of pixels"] == (
        True,
        "217 for 217 (γ = 0.02), 56 for 56 (γ = 2), 19 for 19 (γ = 2.5), 4 for 4 (γ = 3)",
    )
    assert found["The same"] == (True, "500 (γ = 2), 300 (γ = 2.5), 100 (γ = 3)")
