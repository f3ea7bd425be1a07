"""A mistake in a user's own table or figure is found before training, and hides nothing of other experiments."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from frames import EXPERIMENT

from rethink_gen import experiment
from rethink_gen.cli import main
from rethink_gen.study import rehearsal, studies

TABLE = 'by("corruption_level", metrics=["test_accuracy"])'


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()

    def write(name, old="", new=""):
        assert not old or old in EXPERIMENT
        Path("mine", f"{name}.py").write_text(EXPERIMENT.replace(old, new) if old else EXPERIMENT)

    return write


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (TABLE, "lambda study: study.runs[['no_such_column']]", "its table fails: KeyError"),
        (
            TABLE,
            "lambda study: undefined",
            "its table fails: NameError: name 'undefined' is not defined (labels.py, line ",
        ),
        (TABLE, 'by("corruption_level", metrics=["test_acuracy"])', "no column named 'test_acuracy'"),
        ("lambda study: Figure()", "lambda study: study.draw()", "its figure fails: AttributeError"),
        ("lambda study: Figure()", "lambda: Figure()", "its figure fails: TypeError"),
    ],
)
def test_mistake_in_a_table_or_figure_costs_no_training(old, new, said, mine, capsys):
    mine("labels", old, new)
    assert main.main(["run", "labels", "--experiments", "mine"]) == 2
    assert said in capsys.readouterr().err
    assert not list(Path().rglob("*.json"))


def test_error_that_may_be_due_to_the_made_up_numbers_is_none(mine):
    mine("labels", TABLE, "lambda study: 1 / 0")
    found = experiment.find("labels", Path("mine")).at("laptop")
    rehearsal.rehearse(studies.gather(found, "results"))


@pytest.mark.long
def test_every_experiment_of_ours_can_be_rehearsed():
    """At smoke scale test_experiments.py makes tables and figures of results."""
    for found in experiment.find_each():
        for scale in ("laptop", "paper"):
            rehearsal.rehearse(studies.gather(found.at(scale), "results"))


def test_report_shows_the_experiments_beside_one_whose_table_fails(mine, capsys):
    mine("labels")
    assert main.main(["run", "labels", "--experiments", "mine", "--only", "seed=0", "corruption_level=1"]) == 0
    mine("labels", TABLE, "lambda study: undefined")
    mine("others", "Labels matter.", "Others are here.")
    capsys.readouterr()
    assert main.main(["report", "--experiments", "mine"]) == 2
    assert "labels: its table fails: NameError" in capsys.readouterr().err
    assert "Others are here." in Path("results/report.html").read_text()
    for verb in ("table", "verify"):
        assert main.main([verb, "labels", "--experiments", "mine"]) == 2
        assert "labels: its table fails: NameError" in capsys.readouterr().err


def test_windows_is_told_in_one_sentence_what_to_do():
    code = "import sys; sys.platform = 'win32'; import rethink_gen"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "rethink-gen needs Linux or macOS; on Windows, install and run it in WSL: wsl --install\n"


def test_no_results_name_the_published_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["table", "table1"]) == 2
    assert f"see the published ones with --results {experiment.HERE.parent / 'results'}" in capsys.readouterr().err


def test_complete_laptop_study_is_shown_before_an_incomplete_one_at_the_papers_scale(mine, capsys):
    mine("labels", "laptop=RUNS,", "laptop=RUNS[:2],")
    own = ["--experiments", "mine"]
    assert main.main(["run", "labels", *own]) == 0
    assert main.main(["run", "labels", *own, "--scale", "paper", "--only", "corruption_level=1", "seed=0"]) == 0
    capsys.readouterr()
    assert main.main(["table", "labels", *own]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("# labels, laptop scale")
    assert err == "shown: laptop scale; the paper scale has results, too: rethink-gen table labels --scale paper\n"
    assert main.main(["table", "labels", *own, "--scale", "paper"]) == 0
    assert capsys.readouterr().out.startswith("# labels, paper scale")


def test_run_and_table_write_the_format_that_was_asked_for(mine, capsys):
    mine("labels", "figure=lambda study: Figure(),", "figure=lambda study: None,")
    line = ["run", "labels", "--experiments", "mine", "--only", "corruption_level=1", "seed=0"]
    assert main.main(line) == 0
    assert "figure:" not in capsys.readouterr().out, "none was made"
    assert main.main([*line, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"]
    for suffix, begin in (
        (".tex", "%"),
        (".csv", "corruption_level,"),
        (".html", "<table>"),
        (".json", "{"),
        (".md", "# "),
    ):
        assert main.main(["table", "labels", "--experiments", "mine", "--output", f"q{suffix}"]) == 0
        assert Path(f"q{suffix}").read_text().startswith(begin)


def test_pictures_of_another_data_set_leave_those_of_cifar10(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(["plot", "corruptions", "--dataset", "digits"]) == 0
    assert capsys.readouterr().out == "results/corruptions-digits.png\n"


def test_figure_of_a_study_shows_its_picture_in_a_notebook():
    figure = studies.load("fig1a", results=experiment.HERE.parent / "results").figure()
    assert figure is not None
    assert figure._repr_png_().startswith(b"\x89PNG")
