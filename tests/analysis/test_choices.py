"""What unstated choices are worth: effects, ranges and their figure, of written-down accuracies."""

from dataclasses import replace

import pandas as pd
import pytest
from frames import MLP, RANDOM, result, seeds, tidy

from rethink_gen.analysis import choices

TRUE, LABELS = "true labels", "random labels"
METRICS = {TRUE: "test_accuracy", LABELS: "train_accuracy"}
FEW, DECAYED = replace(MLP, batch_size=32), replace(MLP, epochs=50)


@pytest.fixture
def table():
    """Ours 50, 51 and 52 % on true labels; a smaller batch 53 %, fewer epochs 48 %; random labels 99 and 80 %."""
    runs = [
        *seeds(MLP, "test", [0.50, 0.51, 0.52]),
        result(FEW, test=0.53),
        result(DECAYED, test=0.48),
        result(RANDOM, train=(0.1, 0.99)),
        result(replace(RANDOM, batch_size=32), train=(0.1, 0.8)),
    ]
    frame = tidy(runs)
    cell = frame["corruption"].map({"true_labels": TRUE, "random_labels": LABELS})
    choice = pd.Series(choices.OURS, frame.index).mask(frame["batch_size"] == 32, "small batch")
    return choices.means(
        frame.assign(network=frame["model"], cell=cell, choice=choice.mask(frame["epochs"] == 50, "few epochs")),
        METRICS,
    )


def test_effects_are_differences_from_our_mean_in_points(table):
    effects = table.set_index(["cell", "choice"])["effect"]
    assert effects[TRUE].to_dict() == pytest.approx({choices.OURS: 0, "small batch": 2, "few epochs": -3})
    assert effects[LABELS, "small batch"] == pytest.approx(-19)


def test_ranges_name_the_lowest_and_the_highest_choice(table):
    first, second = choices.ranges(table, {}).to_dict("records")
    assert first["ours"].startswith("51.00 [48.52, 53.48]")  # Student's t: 4.303 · 1 / √3
    assert (first["lowest"], first["highest"]) == ("48.00: few epochs", "53.00: small batch")
    assert first["range, points"] == "5.00"
    assert (second["ours"], second["choices"], second["range, points"]) == ("99.00", 1, "19.00")
    assert "paper" not in first


def test_a_published_number_is_inside_or_outside_of_the_range(table):
    published = {("mlp_1x512", TRUE): 0.4799, ("mlp_1x512", LABELS): 0.95}
    assert choices.ranges(table, published)["paper"].tolist() == ["47.99, outside", "95.00, inside"]


def test_effects_beyond_the_edge_are_drawn_there_with_their_value(table):
    figure = choices.effects(table, {TRUE: "test accuracy", LABELS: "training accuracy"})
    true, labels = figure.axes
    assert [text.get_text() for text in labels.texts] == ["−19"]
    assert not true.texts
    at = sorted(line.get_xdata()[0] for line in true.lines if len(line.get_xdata()) == 1)
    assert at == pytest.approx([-3, 0, 2])
    assert min(line.get_xdata()[0] for line in labels.lines if len(line.get_xdata()) == 1) == -choices.EDGE


def test_a_choice_whose_runs_diverged_has_no_effect_and_no_marker():
    frame = tidy([*seeds(MLP, "test", [0.5, 0.5]), result(FEW, test=0.53, status="diverged")])
    choice = pd.Series(choices.OURS, frame.index).mask(frame["batch_size"] == 32, "small batch")
    table = choices.means(frame.assign(network=frame["model"], cell=TRUE, choice=choice), METRICS)
    assert table["effect"].isna().tolist() == [False, True]
    [axes] = choices.effects(table, {TRUE: "test accuracy"}).axes
    assert [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 1] == [0]


def test_without_runs_there_is_an_empty_table():
    frame = tidy([result(MLP)]).iloc[:0].assign(network="", cell="", choice="")
    assert not len(choices.ranges(choices.means(frame, METRICS), {}))
