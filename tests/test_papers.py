"""What papers report: each value joins onto our frame, and none is of a setting that we do not have."""

from dataclasses import replace

import pytest
from frames import MLP, result, tidy

from rethink_gen import papers, registry
from rethink_gen.errors import UsageError
from rethink_gen.papers.gu2024 import protocol
from rethink_gen.papers.hoffer2017 import protocol as hoffer2017
from rethink_gen.papers.nakkiran2019 import protocol as nakkiran


def test_the_papers_values_join_onto_our_frame():
    values = papers.values("table1")
    known = tidy([result(MLP)]).columns
    accuracies = values[values["metric"] != "parameters"]
    assert set(accuracies["metric"]) <= set(known)
    assert len(accuracies) == 2 * 19  # Table 1 has 19 rows of training and test accuracy
    assert accuracies["value"].between(0, 1).all()
    everything = papers.values()
    assert not everything.duplicated(list(everything.columns.drop(["value", "unit", "confidence", "note"]))).any()


def test_the_papers_mlp_on_random_labels():
    values = papers.values("table1").query("model == 'mlp_1x512' and corruption == 'random_labels'")
    assert dict(zip(values["metric"], values["value"], strict=True)) == {
        "train_accuracy": 0.9934,
        "test_accuracy": 0.1061,
    }


def test_an_item_that_the_paper_does_not_have_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'table"):
        papers.values("tabel1")


def test_the_papers_are_known_by_name():
    assert papers.names()[0] == "zhang2017"
    zhang = papers.find("zhang2017")
    assert (zhang.year, zhang.link) == (2017, "https://arxiv.org/abs/1611.03530")
    assert "Appendix A" in papers.protocol("zhang2017")
    assert papers.find("mine2030").title == "mine2030"
    assert papers.protocol("mine2030") == ""
    with pytest.raises(UsageError, match=r"no paper named 'zhang2016'; did you mean .*'zhang2017'"):
        papers.values("table1", paper="zhang2016")


def test_numbers_of_gu_2024_are_those_of_the_widths_that_are_run():
    theirs = protocol.their_numbers()
    assert list(theirs.index) == [*protocol.NARROW, *protocol.WIDE]
    assert theirs["test_accuracy"].loc[4:].idxmin() == 12
    assert set(papers.values(paper="gu2024")["model"]) == {run.model for run in protocol.runs(*theirs.index, seeds=1)}


def test_numbers_of_nakkiran_2019_are_of_widths_that_are_run_and_those_of_others_have_their_peak():
    theirs = papers.values(paper="nakkiran2019").query("item != 'cnn_epoch_100'")
    assert set(theirs["model"]) <= {run.model for run in nakkiran.runs()}
    assert set(theirs["augmentations"]) == {"+".join(nakkiran.RESNET.augmentations)}
    errors = nakkiran.third_party()
    assert errors["test_error"].loc[4:].idxmax() == 12
    assert errors["train_error"].loc[14] == pytest.approx(0.011)


def test_half_a_million_steps_are_the_epochs_of_the_paper_scale():
    steps = 50_000 // nakkiran.CNN.batch_size
    assert 500_000 / steps == pytest.approx(nakkiran.CNN.epochs, abs=1)
    small = nakkiran.SMALL.train_size // nakkiran.SMALL.batch_size
    for run, of_epoch in ((nakkiran.CNN, steps), (nakkiran.SMALL, small)):
        assert round(registry.options_of("schedule", run.schedule)["period"] * of_epoch) == 512


@pytest.mark.parametrize("name", papers.names())
def test_every_paper_says_what_it_is_and_joins_onto_our_frame(name):
    assert all(papers.find(name))
    if not (papers.HERE / name / "values.csv").exists():
        with pytest.raises(UsageError, match="no numbers of this paper"):
            papers.values(paper=name)
        return
    values = papers.values(paper=name)
    assert {"item", "metric", "value", "locator", "confidence"} <= set(values.columns)
    assert set(values["confidence"]) <= {"verbatim", "two-sources", "one-source", "memory", "computed"}


def test_regime_adaptation_takes_the_steps_of_small_batches_and_its_rate_falls_at_the_same_steps():
    small = replace(hoffer2017.F1, train_size=4096, batch_size=32, epochs=15, schedule="step(at=3+6+9)")
    of = hoffer2017.regimes(small, 512)
    assert of["LB"].epochs == of["+GBN"].epochs == 15
    assert of["+RA"].epochs * (4096 // 512) == 15 * (4096 // 32)
    assert of["+RA"].schedule == "step(at=48+96+144)"
    assert of["LB"].learning_rate == small.learning_rate
    assert of["+RA"].learning_rate == 4 * small.learning_rate
    assert of["+RA"].model == "keskar_f1(ghost_batch=32)"
