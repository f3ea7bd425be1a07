"""Ours beside the paper's, and that table as text for people, spreadsheets, papers and programs."""

import csv
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from frames import MLP, RANDOM, result, seeds, tidy

from rethink_gen import experiment
from rethink_gen.analysis import rendering, tables
from rethink_gen.errors import UsageError
from rethink_gen.experiment import Check
from rethink_gen.papers.gu2024 import protocol
from rethink_gen.papers.keskar2017 import protocol as keskar
from rethink_gen.results.result import Result
from rethink_gen.runs import TeacherRun

HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@a",
    "<script>alert(1)</script>",
    r"\input{/etc/passwd}",
    "a|b",
    "50 % & $x_1$ {#} ~^",
    "_a",
]
DECAYED = replace(RANDOM, weight_decay=1e-4)


def mlp_rows(frame, item, **options):
    """The rows of the paper's small MLP, with ours beside them."""
    table = tables.beside_paper(frame, item, **options)
    return table[table["model"] == "mlp_1x512"].reset_index(drop=True)


def cells(markdown):
    """The cells of a Markdown table, header first."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not line.startswith("| --")]


def test_any_metric_can_be_asked_for_by_setting_and_none_that_is_not_there():
    """Of two seeds: the mean of the best epochs, and that of the last; a field is no metric."""
    frame = tidy([result(MLP, test=0.4), result(replace(MLP, seed=1), test=0.6), result(RANDOM, test=0.1)])
    found = tables.by_setting(frame, ["best_test_accuracy", "test_error"]).set_index(["corruption", "metric"])["mean"]
    assert found["true_labels", "best_test_accuracy"] == pytest.approx(0.5)
    assert found["random_labels", "test_error"] == pytest.approx(0.9)
    for name in ("best_accuracy", "batch_size", "corruption"):
        with pytest.raises(UsageError, match=f"no metric named '{name}'"):
            tables.by_setting(frame, [name])


def test_each_row_of_the_paper_is_shown_in_its_order_run_or_not():
    table = mlp_rows(tidy(seeds(MLP, "test", [0.51, 0.52])), "table1", metrics=["test_accuracy"])
    assert list(table["paper"]) == [0.5039, 0.5051, 0.1061]
    assert list(table["verdict"]) == ["not run", "reproduced", "not run"]  # without weight decay: 0.515 beside 0.5051
    assert list(table["n"]) == [0, 2, 0]
    assert len(tables.beside_paper(tidy([]), "table1", metrics=["train_accuracy"])) == 19


def test_weight_decay_is_on_or_off_whatever_its_coefficient():
    frame = tidy([result(replace(MLP, weight_decay=0.0123), test=0.5)])
    on, off, _ = mlp_rows(frame, "table1", metrics=["test_accuracy"])["n"]
    assert (on, off) == (1, 0)


def test_runs_with_dropout_do_not_stand_beside_a_row_without():
    frame = tidy([result(replace(MLP, dropout=0.5))])
    assert tables.beside_paper(frame, "table1")["n"].sum() == 0


def test_settings_that_differ_are_not_averaged():
    frame = tidy([result(replace(DECAYED, weight_decay=decay)) for decay in (1e-4, 1e-2)])
    with pytest.raises(UsageError, match="weight_decay"):
        tables.beside_paper(frame, "table4")


def test_rows_that_differ_in_the_batch_have_the_runs_of_their_own():
    """The small batches of F1 stand beside the paper's 98.03 %, the large ones beside 97.81 %."""
    small, large = (replace(run, measures=()) for run in keskar.runs(keskar.BASE, 256, 6000, seeds=1))
    frame = tidy([result(small, test=0.98), result(large, test=0.97)])
    frame = frame.assign(batch=frame["batch_size"].map({256: "small", 6000: "large"}))
    table = tables.beside_paper(frame, "f1", metrics=["test_accuracy"], paper="keskar2017")
    assert table["batch"].tolist() == ["small", "large"]
    assert table["mean"].tolist() == [0.98, 0.97]
    assert table["paper"].tolist() == [0.9803, 0.9781]


def test_scales_are_never_mixed():
    paper_scale, laptop = tidy([result(MLP)]), tidy([result(replace(MLP, train_size=512))], scale="laptop")
    with pytest.raises(UsageError, match="scale"):
        tables.beside_paper(pd.concat([paper_scale, laptop]), "table1")
    for frame, word in ((paper_scale, "reproduced"), (laptop, "other scale")):
        table = mlp_rows(frame, "table1", metrics=["test_accuracy"])
        assert list(table["verdict"]) == ["not run", word, "not run"]


def test_a_failure_to_converge_is_a_value():
    alexnet = replace(DECAYED, model="small_alexnet")
    table = tables.beside_paper(tidy([result(alexnet, train=(0.1, 0.1))]), "table4")
    (row,) = table[table["model"] == "small_alexnet"].itertuples()
    assert (row.paper, row.verdict) == ("failed to converge", "reproduced")
    assert "| failed to converge |" in rendering.render(table)


def test_diverged_runs_are_counted_beside_those_that_finished():
    frame = tidy([*seeds(MLP, "test", [0.5, 0.52]), result(replace(MLP, seed=2), status="diverged")])
    table = mlp_rows(frame, "table1", metrics=["test_accuracy"])
    assert [row[-4] for row in cells(rendering.render(table))[1:]] == ["0", "2 (1 diverged)", "0"]


def test_rows_that_the_paper_does_not_have_are_refused():
    with pytest.raises(UsageError, match="no rows to stand beside"):
        tables.beside_paper(tidy([]), "table1", metrics=["train_loss"])


def test_mean_and_interval_has_a_row_per_setting_and_metric():
    frame = tidy([*seeds(MLP, "test", [0.5, 0.6]), *seeds(RANDOM, "test", [0.1])])
    table = tables.mean_and_interval(frame, ["corruption"], ["test_accuracy", "epochs_to_fit"])
    assert list(table["corruption"]) == ["true_labels"] * 2 + ["random_labels"] * 2
    assert list(table["mean"]) == pytest.approx([0.55, 1, 0.1, 1])
    assert list(table["n"]) == [2, 2, 1, 1]
    assert not len(tables.mean_and_interval(tidy([]), ["corruption"], "test_accuracy"))
    with pytest.raises(UsageError, match="did you mean 'corruption'"):
        tables.mean_and_interval(frame, ["corupption"], "test_accuracy")
    with pytest.raises(UsageError, match="corruption"):
        tables.mean_and_interval(frame, ["model"], "test_accuracy")


def test_markdown_is_in_per_cent_with_interval_and_n():
    frame = tidy(seeds(MLP, "test", [0.50, 0.52, 0.54]))
    text = rendering.render(mlp_rows(frame, "table1"))
    header, _, row, _ = cells(text)
    expected = [
        "data",
        "weight decay",
        "n",
        "train accuracy, %",
        "paper",
        "verdict",
        "test accuracy, %",
        "paper",
        "verdict",
    ]
    assert header == expected  # the model is the same in all rows, and said below
    assert row[-6:-3] == ["100.00 [100.00, 100.00]", "100.00", "reproduced"]
    assert row[-3:] == ["52.00 [47.03, 56.97]", "50.51", "close"]  # 4.302653 * 0.02 / sqrt(3) = 0.0497
    assert "95 %" in text


def test_a_table_of_single_seeds_prints_no_interval():
    for kind in ("markdown", "latex", "html"):
        text = rendering.render(tables.beside_paper(tidy(seeds(MLP, "test", [0.5])), "table1"), kind)
        assert "50.00" in text
        assert "±" not in text
        assert "interval" not in text
        assert "[" not in text


@pytest.mark.parametrize(
    ("accuracies", "shown"),
    [
        ([0.51], "reproduced¹"),
        ([0.7], "off¹"),
        ([0.5100, 0.5101, 0.5102], "reproduced†"),  # [50.99, 51.03], the paper 50.51
        ([0.50, 0.505, 0.51], "reproduced"),
        ([0.53, 0.5301, 0.5302], "close"),  # outside, as the word says
    ],
)
def test_a_verdict_says_that_it_is_of_one_run_or_that_the_interval_excludes_the_papers_number(accuracies, shown):
    table = mlp_rows(tidy(seeds(MLP, "test", accuracies)), "table1")
    text = rendering.render(table)
    _, _, row, *_ = cells(text)
    assert row[-1] == shown
    assert ("¹ Of one run" in text) == ("¹" in shown)
    assert ("† The paper's number lies outside our interval." in text) == ("†" in shown)
    assert set(table["verdict"]) <= {"reproduced", "close", "off", "not run"}  # for programs, without marks


def test_a_number_that_prints_as_the_papers_is_not_outside_its_interval():
    """99.998 % is 100.00 with two digits."""
    [row] = (
        tables.beside_paper(tidy(seeds(MLP, "train", [(0.1, 0.99998)] * 3)), "table1", metrics=["train_accuracy"])
        .query("model == 'mlp_1x512' and weight_decay == 'off' and corruption == 'true_labels'")
        .to_dict("records")
    )
    assert row["high"] < row["paper"] == 1.0
    assert rendering._mark(row) == ""


def test_a_time_to_fit_that_was_not_reached_is_said():
    frame = tidy([*seeds(MLP, "train", [(0.1, 1.0), (0.1, 0.5)]), *seeds(RANDOM, "train", [(0.1, 0.5)])])
    text = rendering.render(tables.mean_and_interval(frame, ["corruption"], "epochs_to_fit"))
    assert [row[1:] for row in cells(text)[1:]] == [
        ["2", "1 (1 never fitted)"],
        ["1", "never fitted"],
    ]


CHECKS = [Check("It <fits> | all_of it", True, "3 of 3"), Check("B", False, "1 %"), Check("C", None, "not run")]


@pytest.mark.parametrize("kind", ["markdown", "latex", "html"])
def test_checks_and_note_are_below_the_table(kind):
    text = rendering.render(tables.beside_paper(tidy([]), "table4"), kind, checks=CHECKS, note="At paper scale.")
    places = [text.index(word) for word in ("verdict", "holds", "does not hold", "not known", "At paper scale.")]
    assert places == sorted(places)


def test_csv_and_json_keep_fractions_and_every_number():
    frame = tidy(seeds(MLP, "test", [0.50, 0.52, 0.54]))
    table = mlp_rows(frame, "table1", metrics=["test_accuracy"])
    rows = list(csv.DictReader(io.StringIO(rendering.render(table, "csv"))))
    assert [float(row["paper"]) for row in rows] == [0.5039, 0.5051, 0.1061]
    assert float(rows[1]["mean"]) == table.loc[1, "mean"]
    assert rows[0]["mean"] == ""
    content = json.loads(
        rendering.render(table, "json", checks=CHECKS, note="n"), parse_constant=lambda name: pytest.fail(name)
    )
    assert content["rows"][1]["high"] == table.loc[1, "high"]
    assert content["rows"][0]["mean"] is None
    assert content["checks"][0] == {"statement": "It <fits> | all_of it", "holds": True, "evidence": "3 of 3"}
    assert content["note"] == "n"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_inert(text):
    table = pd.DataFrame({"name": [text], "test_error": [-0.25]})
    check = [Check(text, True, text)]
    (row,) = csv.DictReader(io.StringIO(rendering.render(table, "csv")))
    assert row["name"] == ("'" + text if text[0] in "=+-@" else text)
    assert float(row["test_error"]) == -0.25  # a number is no text
    page = rendering.render(table, "html", checks=check, note=text)
    parser = Collect()
    parser.feed(page)
    assert parser.tags <= {"table", "thead", "tbody", "tr", "th", "td", "ul", "li", "b", "p"}
    assert text in parser.text
    assert len(cells(rendering.render(table, checks=check).replace(r"\|", "¦"))[1]) == 2
    assert "<script" not in rendering.render(table, checks=check, note=text)
    row = rendering.render(table, "latex", checks=check, note=text).splitlines()[5]
    plain = re.sub(r"\\text[a-z]+\{\}|\\[{}$&#_%]|\{\[\}", "", row.removesuffix(r" & -25.00 \\"))
    assert not set(plain) & set("\\{}$&#_%^~<>|[")


class Collect(HTMLParser):
    """The tags and the visible text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = set(), ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


def test_markdown_links_and_control_characters_are_inert():
    text = rendering.render(pd.DataFrame({"a": ["[x](https://example.org)\n\x1b[31m"]}))
    assert "](" not in text
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3


def test_a_table_of_another_shape_is_shown_as_it_is():
    text = rendering.render(pd.DataFrame({"mlp": ["a"], "test_error": [0.125], "count": [3], "size": [1234567.0]}))
    assert cells(text) == [["mlp", "test error, %", "count", "size"], ["a", "12.50", "3", "1,234,567"]]


def test_an_unknown_format_names_the_known():
    with pytest.raises(UsageError, match="known: csv, html, json, latex, markdown"):
        rendering.render(pd.DataFrame(), "xml")


def test_a_value_from_memory_is_shown_as_such_and_gets_no_verdict():
    run = replace(MLP, dataset="imagenet2012", model="inception_v3", augmentations=("crop", "color"))
    made = result(replace(run, weight_decay=4e-5, dropout=0.2))
    made = replace(made, curves={**made.curves, "train_top5_accuracy": [0.1, 0.99], "test_top5_accuracy": [0.1, 0.94]})
    table = tables.beside_paper(tidy([made]), "table2")
    ours = table[table["n"] > 0]
    assert set(ours.loc[ours["confidence"] == "memory", "verdict"]) == {"no verdict"}
    assert "no verdict" not in set(ours.loc[ours["confidence"] != "memory", "verdict"])
    text = rendering.render(ours)
    assert "(from memory)" in text
    assert "From memory: not checked against a source, so there is no verdict." in text


def test_at_smoke_scale_no_cell_has_a_verdict():
    frame = tidy(seeds(MLP, "test", [0.5]), scale="smoke")
    table = tables.beside_paper(frame, "table1")
    assert set(table["verdict"]) == {"smoke scale", "not run"}
    assert "Smoke scale: no verdict." in rendering.render(table)


def test_rows_of_a_paper_that_differ_in_the_loss_alone_are_told_apart():
    """Of early-learning regularization: our run with its loss stands beside its number alone."""
    runs = experiment.find("liu2020_early_learning").runs
    ours = [run for run in runs if run.loss == "early_learning" and run.corruption_level == 0.2]
    table = tables.beside_paper(tidy([result(run, test=0.9) for run in ours]), "table", paper="liu2020")
    known = table[table["n"] > 0]
    assert known[["loss", "paper", "verdict"]].to_numpy().tolist() == [["early_learning", 0.9116, "close"]]
    assert len(table) == 8


@pytest.mark.parametrize(("size", "word"), [(4000, "reproduced"), (None, "other scale"), (500, "other scale")])
def test_runs_are_at_the_scale_of_a_paper_that_uses_a_part_of_its_data(size, word):
    run = replace(protocol.runs(12, seeds=1)[0], train_size=size)
    table = tables.beside_paper(
        tidy([result(run, test=0.6293)]), "mnist_widths", metrics=["test_accuracy"], paper="gu2024"
    )
    assert table.loc[table["n"] > 0, "verdict"].tolist() == [word]
    assert set(table.loc[table["n"] == 0, "verdict"]) == {"not run"}


def test_many_sizes_of_drawn_data_are_a_range():
    runs = [TeacherRun(train_size=size, dimension=4, draws=2) for size in (3, 20, 7)]
    results = [Result(run, "finished", {"epoch": [0.0]}, {"num_train": run.train_size, "num_test": 0}) for run in runs]
    assert "gaussian inputs, 3 to 20 examples · 3 runs" in tables.describe(tidy(results))


def test_time_to_fit_is_ordered_and_infinite_where_a_run_never_fitted():
    slow, never = replace(RANDOM, corruption="gaussian"), replace(RANDOM, corruption="random_pixels")
    frame = tidy([*seeds(RANDOM, "train", [(0.1, 0.5, 1.0), (0.1, 0.5, 0.5, 1.0)]),
                  *seeds(slow, "train", [(0.1, 0.5, 0.5, 0.5, 1.0)]), *seeds(never, "train", [(0.1, 1.0), (0.1, 0.5)]),
                  *seeds(MLP, "train", [(0.1, 1.0)])])  # fmt: skip
    expected = {"true_labels": 1, "random_labels": 2.5, "gaussian": 4, "random_pixels": math.inf}
    assert list(tables.time_to_fit(frame, "corruption", "epochs").items()) == list(expected.items())
    assert tables.time_to_fit(frame, "corruption")["gaussian"] == 4 * 390


def test_describe_says_how_the_runs_were_done():
    frame = tidy([*seeds(MLP, "test", [0.5] * 4), result(replace(MLP, seed=4), (0.1, 0.2, 0.3), status="diverged")])
    assert tables.describe(frame) == (
        "paper scale · CIFAR-10, 50,000 train, 10,000 test images · 5 runs, 1 diverged "
        f"({replace(MLP, seed=4).id}) · "
        "seeds 0, 1, 2, 3, 4 · 1–2 epochs · a device"
    )
    assert tables.describe(tidy([])) == "no runs yet"


def test_percent():
    assert tables.percent(0.99342) == "99.3 %"
    assert tables.percent(0.99342, 2) == "99.34 %"


def test_neither_tables_nor_figures_import_jax_or_pyplot():
    code = (
        "import sys; from rethink_gen.analysis import figures, tables;"
        "assert not {'jax', 'pandas', 'matplotlib', 'scipy', 'numpy'} & set(sys.modules);"
        "figures.draw(figures.dots(tables.beside_paper(__import__('pandas').DataFrame(), 'table1')), 'png');"
        "assert not {'jax', 'matplotlib.pyplot', 'scipy.stats'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
