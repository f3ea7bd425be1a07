"""What a newcomer meets in the first hour: every answer is short, names the file, and gives a way out."""

import json
from pathlib import Path

import pytest
from frames import EXPERIMENT

from rethink_gen import plugins
from rethink_gen.cli import arguments, main
from rethink_gen.errors import UsageError

SIZES = ["--train-size", "64", "--test-size", "50", "--batch-size", "32", "--epochs", "1"]
SMALL = ["train", "--dataset", "digits", *SIZES]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_status_lists_what_was_begun_and_not_45_empty_rows(capsys):
    assert main.main(["status"]) == 0
    assert capsys.readouterr().out == "no results in results yet; to make some: rethink-gen run quickstart\n"
    assert main.main([*SMALL]) == 0
    capsys.readouterr()
    assert main.main(["status", "--json"]) == 0
    assert [row["experiment"] for row in json.loads(capsys.readouterr().out)] == ["train"]


def test_table_of_a_paper_without_results_says_how_to_get_some(capsys):
    assert main.main(["table", "belkin2019"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("rethink-gen: error: no results of belkin2019 in results; ")
    assert err.endswith("make some: rethink-gen run belkin2019_double_descent\n")


def test_list_in_a_terminal_is_as_wide_as_the_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    row = {"name": "a_name", "about": "a claim of many words, " * 10}
    arguments.show_rows([row])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line[:8] for line in lines] == ["name    ", "a_name  ", *[" " * 8] * (len(lines) - 2)]
    assert " ".join(line[8:] for line in lines[1:]) == row["about"].strip()


def test_folder_as_a_plugin_says_to_name_a_file_in_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_code").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main.main(["list", "corruptions", "--plugin", "./my_code"]) == 2
    assert "plug-in ./my_code: " in (said := capsys.readouterr().err)
    assert "it is a folder, so name a .py file in it" in said


def test_name_in_two_plugins_is_refused_for_only_one_can_be_meant(capsys):
    """The second silently stood in for the first. A file that another imports is no second one."""
    code = (
        "import rethink_gen as rg\n\n\n@rg.register.corruption\ndef twice(key, dataset, level):\n    return dataset\n"
    )
    for name, text in (("one.py", code), ("two.py", code), ("of_one.py", "import one\n")):
        Path(name).write_text(text)
    assert main.main(["list", "corruptions", "--plugin", "one.py", "--plugin", "of_one.py"]) == 0
    assert main.main(["list", "corruptions", "--plugin", "one.py", "--plugin", "two.py"]) == 2
    said = "corruption 'twice' is in --plugin one.py and in two.py; rename one, for only one can be meant"
    assert said in capsys.readouterr().err


def test_seed_and_seeds_together_are_refused_and_not_one_of_them_ignored(capsys):
    assert main.main([*SMALL, "--seed", "3", "--seeds", "0,1"]) == 2
    assert "give --seed for one run or --seeds for several, not both" in capsys.readouterr().err


def test_text_as_a_metric_is_refused_with_the_metrics_of_that_name(capsys):
    assert main.main(SMALL) == 0
    for command in (["plot", "train", "--x", "epoch", "--y", "loss"], ["table", "train", "--metrics", "loss"]):
        assert main.main(command) == 2
        assert "no metric named 'loss'; did you mean 'test_loss' or 'train_loss'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--corruption-level", "--seed", "--learning-rate"])
def test_several_values_for_one_run_get_a_way_out(option, capsys):
    assert main.main([*SMALL, option, "0,0.1"]) == 2
    err = capsys.readouterr().err
    assert "one value per run: for several, repeat the command, or use rg.grid in Python" in err
    assert len(err) <= 201


def test_script_that_ends_itself_does_not_end_the_command_with_its_code(here, capsys):
    """Also as a module, and as a file of an experiment."""
    Path("plug.py").write_text("import sys\n\nsys.exit(3)\n")
    assert main.main([*SMALL, "--plugin", "plug.py"]) == 2
    assert capsys.readouterr().err == f"rethink-gen: error: plug-in {here}/plug.py: line 3: SystemExit: 3\n"
    Path("mine").mkdir()
    Path("mine/own.py").write_text("EXPERIMENT = None\nraise SystemExit\n")
    assert main.main(["run", "own", "--experiments", "mine"]) == 2
    assert "mine/own.py: line 2: SystemExit" in capsys.readouterr().err


def test_module_that_ends_itself_is_named(here, monkeypatch):
    Path("ends_itself.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(here)
    with pytest.raises(UsageError, match=r"plug-in ends_itself: .*SystemExit: 0"):
        plugins.load("ends_itself")


def test_corruption_that_ends_itself_fails_its_run_alone(capsys):
    Path("plug.py").write_text(
        "import rethink_gen as rg\n\n\n@rg.register.corruption\n"
        "def quits(key, dataset, level):\n    raise SystemExit(0)\n"
    )
    assert main.main([*SMALL, "--plugin", "plug.py", "--corruption", "quits"]) == 1
    assert "corruption 'quits' failed: SystemExit: 0" in capsys.readouterr().err


def test_report_names_a_broken_experiment_and_shows_the_others(capsys):
    Path("mine").mkdir()
    Path("mine/labels.py").write_text(EXPERIMENT)
    Path("mine/broken.py").write_text("EXPERIMENT = 1 / 0\n")
    assert main.main(["report", "--experiments", "mine"]) == 2
    out, err = capsys.readouterr()
    assert err == "rethink-gen: error: mine/broken.py: line 1: ZeroDivisionError: division by zero\n"
    assert out == "results/report.html\n"
    assert "Labels matter." in Path("results/report.html").read_text()
    assert main.main(["report", "broken", "--experiments", "mine"]) == 2, "which is what was asked for"


def test_no_empty_table_is_printed_after_all_runs_failed(capsys):
    Path("plug.py").write_text(
        "import rethink_gen as rg\n\n\n@rg.register.corruption\ndef fails(key, dataset, level):\n    return 1 / 0\n"
    )
    assert main.main([*SMALL, "--plugin", "plug.py", "--corruption", "fails", "--seeds", "0..1"]) == 1
    out, err = capsys.readouterr()
    assert "|" not in out
    assert "0 of 2 runs done, 2 failed. no runs yet" in out
    assert "ZeroDivisionError" in err


def test_export_does_not_overwrite_a_file_unasked(here, capsys):
    line = ["data", "export", "digits", "--corruption", "random_labels", "--output", "noisy.npz"]
    Path("noisy.npz").write_text("precious")
    assert main.main(line) == 2
    assert "noisy.npz is there already; name another file, or replace it with --force" in capsys.readouterr().err
    assert Path("noisy.npz").read_text() == "precious"
    assert main.main([*line, "--force"]) == 0
    assert Path("noisy.npz").stat().st_size > 1000


def test_help_lists_the_exit_codes(capsys):
    assert main.main(["--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    for code in ("0 done", "1 some runs failed", "2 a mistake", "3 data", "4 a folder", "75 interrupted", "130 Ctrl-C"):
        assert code in out


@pytest.mark.parametrize("field", ["model", "corruption", "optimizer"])
def test_unknown_component_without_a_plugin_hints_at_plugins(field, capsys):
    assert main.main([*SMALL, f"--{field}", "my_very_own_thing"]) == 2
    err = capsys.readouterr().err
    assert f"no {field} named 'my_very_own_thing'" in err
    assert err.endswith("one of your own needs --plugin FILE\n")
    assert len(err) <= 201


def test_plan_with_nothing_to_do_is_no_error(capsys):
    """It ended in max() of an empty sequence."""
    Path("mine").mkdir()
    Path("mine/labels.py").write_text(EXPERIMENT)
    line = ["run", "labels", "--experiments", "mine", "--only", "corruption_level=1", "seed=0"]
    assert main.main(line) == 0
    capsys.readouterr()
    assert main.main([*line, "--dry-run"]) == 0
    assert main.main([*line, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_helper_file_breaks_neither_list_nor_status_and_can_be_imported(capsys):
    Path("mine").mkdir()
    Path("mine/common.py").write_text('CLAIM = "Labels matter."\n')
    text = EXPERIMENT.replace("RUNS = grid", "from common import CLAIM\n\nRUNS = grid")
    Path("mine/labels.py").write_text(text.replace('claim="Labels matter."', "claim=CLAIM"))
    for verb in ("list", "status"):
        assert main.main([verb, "--experiments", "mine"]) == 0
    assert "Labels matter." in capsys.readouterr().out
