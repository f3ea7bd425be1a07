"""The sentences of a claim: what they say, what they need, and when they are known."""

import dataclasses
from pathlib import Path

import pytest
from frames import result

from rethink_gen.errors import UsageError
from rethink_gen.experiment import Check, Experiment, for_each, needs
from rethink_gen.runs import Run
from rethink_gen.study.studies import Study


def runs_are_there(study):
    """All runs are there,
    of {model}.

    This paragraph is for readers of the code.
    """
    return len(study.runs) == len(study.experiment.runs), f"{len(study.runs)} runs"


def experiment(checks, *runs, scale="paper", laptop=()):
    return Experiment(claim="Labels matter.", locator="Nowhere", runs=runs, laptop=laptop, checks=checks, scale=scale)


def study_with(checks, *runs, done=None, scale="paper", laptop=()):
    """A study of these runs at a scale, with results for those that are done."""
    about = experiment(checks, *runs, scale=scale, laptop=laptop)
    return Study(about, tuple(map(result, runs if done is None else done)), Path("nowhere"))


MODELS = (Run(model="mlp_1x512"), Run(model="mlp_3x512"))
TWO = (*MODELS, *(dataclasses.replace(run, seed=1) for run in MODELS))


def test_the_sentence_of_a_check_is_its_docstring():
    small = needs(model="mlp_1x512")(for_each("model", ["mlp_1x512"], runs_are_there)[0])
    assert study_with([small], *MODELS).checks() == [Check("All runs are there, of MLP 1×512.", True, "1 runs")]


def test_a_check_without_a_docstring_is_called_by_its_name():
    def two_runs_are_there(study):
        return True, ""

    [check] = study_with([two_runs_are_there], *MODELS).checks()
    assert check.statement == "Two runs are there."


def test_a_check_sees_the_runs_that_it_needs_under_every_seed():
    checks = [*for_each("model", ("mlp_1x512", "mlp_3x512"), runs_are_there), needs(seed=1)(seen)]
    assert [check.evidence for check in study_with(checks, *TWO).checks()] == ["2 runs", "2 runs", "2 settings"]
    extra = study_with(checks[:1], *MODELS, done=[*TWO])
    assert [check.evidence for check in extra.checks()] == ["2 runs"]


def seen(study):
    """Seen."""
    return None, f"{study.runs['model'].nunique()} settings"


def test_a_check_is_not_known_until_each_setting_has_a_result():
    checks = [runs_are_there, *for_each("model", ("mlp_1x512", "mlp_3x512"), runs_are_there)]
    found = study_with(checks, *MODELS, done=[dataclasses.replace(MODELS[0], seed=7)]).checks()
    assert [(check.holds, check.evidence) for check in found] == [
        (None, "1 of 2 settings have results"),
        (True, "1 runs"),
        (None, "no results yet"),
    ]
    [absent] = study_with([needs(model="small_alexnet")(seen)], *MODELS).checks()
    assert (absent.holds, absent.evidence) == (None, "needs runs that the paper scale does not have")


def test_a_check_that_fails_does_not_end_the_table():
    def broken(study):
        """Broken."""
        return study.runs["no such column"].max() > 0, ""

    found = study_with([broken, runs_are_there], *MODELS)
    assert [check.holds for check in found.checks()] == [None, True]
    assert found.checks()[0].evidence == "the check failed: KeyError: 'no such column'"
    assert "**not known** · Broken." in found.text()


def test_at_smoke_scale_no_check_has_a_verdict():
    found = study_with([runs_are_there], *MODELS, scale="smoke")
    assert found.checks() == [Check("All runs are there, of {model}.", None, "smoke scale: no verdict")]
    for kind in ("markdown", "html", "json", "latex"):
        assert "smoke scale: no verdict" in found.text(kind)
        assert "holds" not in found.text(kind).replace('"holds": null', "")
    same = study_with([runs_are_there], *MODELS, scale="smoke", laptop=MODELS)
    assert [check.holds for check in same.checks()] == [True], "runs that are as large at the laptop scale"


@pytest.mark.parametrize("wanted", [{"modle": "mlp"}, {"epochs": "many"}])
def test_a_need_that_no_run_can_have_is_refused_when_the_file_is_loaded(wanted):
    with pytest.raises(UsageError):
        needs(**wanted)


def test_checks_are_a_list_of_functions():
    with pytest.raises(UsageError, match="checks must be a list of functions"):
        experiment(runs_are_there)


def test_an_experiment_that_declares_no_table_has_a_row_for_each_setting():
    table = study_with([], *MODELS).table()
    assert set(table["model"]) == {"mlp_1x512", "mlp_3x512"}


def test_a_check_of_a_number_that_has_no_value_is_not_known_and_prints_no_nan():
    def of_nothing(study):
        """The best run is good."""
        best = study.runs["train_accuracy"].where(study.runs["seed"] < 0).max()
        return best > 0.9, f"at most {best:+.1f} points"

    [check] = study_with([of_nothing], *MODELS).checks()
    assert check.holds is None
    assert "nan" not in check.evidence
