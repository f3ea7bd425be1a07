"""An experiment has its runs at each scale, and is found by the name of its file, in whatever folder."""

import importlib
import sys
from pathlib import Path

import pytest

from rethink_gen import experiment
from rethink_gen.errors import UsageError
from rethink_gen.experiment import Experiment
from rethink_gen.runs import Run, grid

RUN, SHORT = Run(), Run(epochs=2)


def study(runs=(RUN,), laptop=(SHORT,), **others):
    return Experiment(claim="Labels matter.", locator="Nowhere", runs=runs, laptop=laptop, **others)


def test_each_scale_has_its_runs_and_none_twice():
    assert study(runs=(Run(), Run(seed=1), Run())).at("paper").runs == (Run(), Run(seed=1))
    assert study().at("laptop").runs == (Run(epochs=2),)
    assert study().at("laptop").scale == "laptop"
    with pytest.raises(UsageError, match=r"no scale named 'papr'; did you mean 'paper'"):
        study().at("papr")  # pyright: ignore[reportArgumentType]


def test_smoke_is_the_first_seed_on_256_digits_for_four_epochs():
    runs = grid(Run(epochs=100, model="small_alexnet", weight_decay=5e-4), corruption_level=(0, 1), seed=(3, 4))
    small = Run(
        dataset="digits", train_size=256, test_size=128, crop_size=7, batch_size=32, epochs=4,
        model="small_alexnet", weight_decay=5e-4, seed=3,
    )  # fmt: skip
    assert study(runs=runs).at("smoke").runs == grid(small, corruption_level=(0, 1))


def test_smoke_keeps_what_is_small_already():
    digits = grid(Run(dataset="digits", epochs=60), seed=(0, 1))
    assert study(runs=digits).at("smoke").runs == digits[:1]
    assert study(runs=(Run(epochs=2),)).at("smoke").runs[0].epochs == 2


def test_smoke_is_derived_from_the_runs_that_are_named_for_it():
    """Networks at the paper's size may take minutes to compile, even for digits."""
    narrow = Run(model="mlp(hidden=4)", dataset="digits")
    assert study(smoke=(narrow,)).at("smoke").runs == (narrow,)
    assert study(smoke=(narrow,)).at("paper").runs == (RUN,)


SOURCE = '''"""A notebook.

What was found.
"""
from rethink_gen import Check, Experiment, Run

EXPERIMENT = Experiment(claim="Labels matter.", locator="Nowhere", runs=(Run(seed=5),), laptop=())
'''


@pytest.fixture
def folder(tmp_path):
    for name in ("fig1", "fig1a_curves", "fig1b_slowdown", "table1", "_shared"):
        (tmp_path / f"{name}.py").write_text(SOURCE)
    (tmp_path / "notes.txt").write_text("not an experiment")
    return tmp_path


def test_the_experiments_of_a_folder_are_its_files(folder):
    assert experiment.names(folder) == ["fig1", "fig1a_curves", "fig1b_slowdown", "table1"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"no folder of experiments at .*absent.*--experiments DIR"):
        experiment.names(tmp_path / "absent")


def test_experiments_come_with_the_code():
    assert "quickstart" in experiment.names()


@pytest.mark.parametrize(
    ("asked", "name"), [("table1", "table1"), ("tab", "table1"), ("fig1a", "fig1a_curves"), ("fig1", "fig1")]
)
def test_a_unique_beginning_or_the_whole_name_is_enough(folder, asked, name):
    found = experiment.find(asked, folder)
    assert (found.name, found.doc, found.runs) == (name, "A notebook.\n\nWhat was found.", (Run(seed=5),))


def test_a_beginning_of_several_names_is_answered_with_them(folder):
    (folder / "fig1.py").unlink()
    with pytest.raises(UsageError, match="'fig1' could be fig1a_curves, fig1b_slowdown; give more letters"):
        experiment.find("fig1", folder)


@pytest.mark.parametrize("asked", ["tabel1", "", "../table1", "_shared", "notes", "table1.py", "TABLE1"])
def test_a_name_that_is_not_known_is_answered_with_those_that_are(folder, asked):
    with pytest.raises(UsageError, match=r"no experiment named .*known: fig1, fig1a_curves, fig1b_slowdown, table1"):
        experiment.find(asked, folder)
    with pytest.raises(UsageError, match="did you mean 'table1'"):
        experiment.find("tabel1", folder)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("EXPERIMENT = (", "SyntaxError"),
        ("import nothing_of_that_name\nEXPERIMENT = 1", "line 1: ModuleNotFoundError"),
        ("\nEXPERIMENT = 1 / 0", "line 2: ZeroDivisionError"),
        ("from nothing_of_that_name import EXPERIMENT", "line 1: ModuleNotFoundError"),
        ("", "does not define EXPERIMENT"),
        ("EXPERIMENT = 3", "it is of type int"),
        ("from rethink_gen import Run\nEXPERIMENT = Run()", "it is of type Run"),
        ("from rethink_gen import Run\nEXPERIMENT = Run(epochs=0)", "line 2: .*epochs must be in"),
        ("from rethink_gen import needs\n@needs(modle='a')\ndef f(study): ...\nEXPERIMENT = 1", "did you mean 'model'"),
        ("EXPERIMENT = 1\n\0", "null bytes"),
        ("import sys\nsys.exit(0)\nEXPERIMENT = 1", "line 2: SystemExit: 0"),  # or nothing is done, and that is success
    ],
)
def test_an_experiment_file_that_is_broken_is_named(folder, source, reason):
    (folder / "broken.py").write_text(source)
    with pytest.raises(UsageError, match=reason) as error:
        experiment.find("broken", folder)
    assert str(folder / "broken.py") in str(error.value)


def own(folder, name, text=SOURCE):
    path = folder / f"{name}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_an_experiment_in_a_subfolder_belongs_to_the_paper_of_that_name(folder):
    own(folder, "arpit2017/fig1_noise")
    own(folder, "_drafts/idea")
    own(folder, ".hidden/idea")
    own(folder, "arpit2017/declared", SOURCE.replace("laptop=()", 'laptop=(), paper="zhang2017"'))
    assert set(experiment.names(folder)) >= {"fig1_noise", "fig1", "declared"}
    assert "idea" not in experiment.names(folder)
    assert [experiment.find(name, folder).paper for name in ("fig1_noise", "fig1", "declared")] == [
        "arpit2017",
        "",
        "zhang2017",
    ]


def test_two_files_of_one_name_are_both_named(folder):
    first, second = own(folder, "a/same"), own(folder, "b/same")
    for ask in (lambda: experiment.names(folder), lambda: experiment.find("table1", folder)):
        with pytest.raises(UsageError, match="the name same") as error:
            ask()
        assert str(first) in str(error.value)
        assert str(second) in str(error.value)


def test_a_helper_is_imported_by_its_neighbors_and_not_listed(folder):
    """Two folders may have a helper of the same name: neither sees that of the other."""
    for paper in ("a", "b"):
        own(folder, f"{paper}/common", f"CLAIM = 'From {paper}.'")
        own(folder, f"{paper}/of_{paper}", "from common import CLAIM\n" + SOURCE.replace('"Labels matter."', "CLAIM"))
    assert "common" not in experiment.names(folder)
    assert [experiment.find(f"of_{paper}", folder).claim for paper in "aba"] == ["From a.", "From b.", "From a."]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("common")


def test_a_relative_folder_is_the_one_in_the_working_folder(tmp_path, monkeypatch):
    """A helper was looked for where a folder of the same relative name had been before."""
    for place in ("one", "two"):
        (tmp_path / place / "mine").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / place)
        Path("mine", f"helper_{place}.py").write_text(f'CLAIM = "Of {place}."\n')
        text = SOURCE.replace('"Labels matter."', "CLAIM")
        Path("mine", "own.py").write_text(f"from helper_{place} import CLAIM\n{text}")
        assert experiment.find("own", Path("mine")).claim == f"Of {place}."
        assert f"helper_{place}" not in sys.modules


def test_a_broken_file_does_not_hide_the_others(folder):
    broken = own(folder, "paper/broken", "EXPERIMENT = 1 / 0")
    every = list(experiment.find_each(folder))
    errors = [each for each in every if isinstance(each, UsageError)]
    assert [each.name for each in every if isinstance(each, Experiment)] == [
        "fig1",
        "fig1a_curves",
        "fig1b_slowdown",
        "table1",
    ]
    [error] = errors
    assert str(error) == f"{broken}: line 1: ZeroDivisionError: division by zero"
