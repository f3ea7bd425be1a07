"""Declared tables and figures show what the functions for frames show, of the study that they are given."""

from pathlib import Path

import pandas as pd
import pytest
from frames import MLP, RANDOM, result, seeds

from rethink_gen.analysis import figures, tables
from rethink_gen.analysis.declare import beside, by, dots, lines
from rethink_gen.errors import UsageError
from rethink_gen.experiment import Experiment
from rethink_gen.study.studies import Study

RESULTS = (*seeds(MLP, "test", [0.5, 0.52]), result(RANDOM, (0.1, 0.4, 0.99), 0.1))


def study(results=RESULTS, **changes):
    about = {"claim": "Labels matter.", "locator": "Nowhere", "runs": (MLP, RANDOM), "laptop": (), **changes}
    return Study(Experiment(**about), tuple(results), Path("nowhere"))


def halved(frame):
    return frame.assign(half=frame["test_accuracy"] / 2)


def test_runs_have_a_row_for_each_run_and_say_whether_it_fitted():
    runs = study([*RESULTS, result(MLP, (0.1, 0.2))]).runs
    assert runs["fitted"].tolist() == [True, True, True, False]
    assert runs["test_accuracy"].tolist() == [0.5, 0.52, 0.1, 0.5]


def test_by_has_a_row_for_each_setting_and_metric():
    table = by("corruption", metrics=["test_accuracy", "half"], derive=halved)(study())
    assert table["corruption"].tolist() == ["true_labels"] * 2 + ["random_labels"] * 2
    assert table["mean"].round(4).tolist() == [0.51, 0.255, 0.1, 0.05]
    assert not len(by("corruption", metrics=["half"], derive=halved)(study([])))


def test_of_a_path_every_row_is_shown():
    """Here an ordinary run stands for a path, its epochs for penalties."""
    table = by("epoch", metrics=["train_accuracy"], path=True)(study(RESULTS[2:]))
    assert table["mean"].tolist() == [0.1, 0.4, 0.99]
    drawn = lines(x="corruption_level", y="train_accuracy", hue="epoch", path=True)(study(RESULTS[2:]))
    assert {text.get_text() for text in drawn.axes[0].texts} == {"epoch 0", "epoch 1", "epoch 2"}


def test_beside_takes_the_paper_of_the_experiment_or_its_own():
    own = beside("table1", paper="zhang2017")(study())
    pd.testing.assert_frame_equal(own, beside("table1")(study(paper="zhang2017")))
    assert own.query("n > 0")["mean"].round(4).tolist() == [1, 0.51, 0.99, 0.1]
    with pytest.raises(UsageError, match="no paper named 'mine2030'"):
        beside("table1")(study(paper="mine2030"))
    with pytest.raises(UsageError, match="needs a paper, such as paper='zhang2017'"):
        beside("table1")(study())


@pytest.mark.parametrize("x", ["epoch", "corruption_level"])
def test_lines_draw_the_rows_that_are_asked_for(x):
    drawn = lines(x=x, y="test_accuracy", hue="corruption", where={"corruption": ["random_labels"]})(study())
    frame = study().curves
    draw = figures.curves if x == "epoch" else figures.against
    whole = draw(frame[frame["corruption"] == "random_labels"], x, "test_accuracy", hue="corruption")
    assert figures.draw(drawn, "svg") == figures.draw(whole, "svg")


def test_dots_draw_their_table():
    table = beside("table1", paper="zhang2017")
    expected = figures.dots(tables.beside_paper(study().runs, "table1"))
    assert figures.draw(dots(table)(study()), "svg") == figures.draw(expected, "svg")
