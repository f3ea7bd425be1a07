"""The examples of docs/adding.md, as the page shows them, in a folder outside of the project."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rethink_gen import registry

PAGE = (Path(__file__).parent.parent / "docs" / "adding.md").read_text()
LONGEST_STUDY = 40  # lines
EVERYTHING = (
    *("--plugin", "my_code.py", "--dataset", "clouds", "--model", "linear", "--corruption", "next_class(by=2)"),
    *("--optimizer", "nadamw(b1=0.8)", "--schedule", "linear_decay(final=0.1)", "--augmentations", "speckle"),
    *("--loss", "hinge(margin=2)", "--order", "backwards", "--batch-size", "20", "--epochs", "1"),
)
EDITED = (
    *("--plugin", "my_code.py", "--dataset", "clouds", "--model", "mlp(hidden=16)", "--corruption", "next_class"),
    *("--batch-size", "20", "--epochs", "1", "--results", "edited"),
)


def files():
    """File → its code: the page shows a file in one block or in several."""
    blocks = defaultdict(list)
    for name, code in re.findall(r"<!-- (\S+) -->\n```python\n(.+?)```", PAGE, re.DOTALL):
        blocks[name].append(code)
    return {name: "\n\n".join(parts) for name, parts in blocks.items()}


def commands(*, with_experiments):
    """The command lines of the page that name the plug-in, those with --experiments or the others."""
    lines = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("    rethink-gen ")]
    return [line[1:] for line in lines if "my_code.py" in line and ("--experiments" in line) == with_experiments]


@pytest.fixture
def folder(tmp_path):
    """A folder with the files of the page, and with pictures of two classes."""
    for name, code in files().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(10):
            picture = Image.fromarray(rng.integers(256, size=(20, 24, 3), dtype=np.uint8))
            picture.save(tmp_path / "photos" / label / f"{i}.png")
    return tmp_path


def python(folder, *words, **environment):
    """What an interpreter prints that finds installed packages only, not the files of its working folder."""
    variables = {"RETHINK_GEN_CACHE": str(folder / "cache"), "MPLBACKEND": "agg", **os.environ, **environment}
    done = subprocess.run([sys.executable, "-P", *words], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rethink_gen(folder, *words):
    return python(folder, "-m", "rethink_gen", *words)


def results(folder, of="train"):
    return {path.name: json.loads(path.read_bytes()) for path in (folder / "results" / of).glob("*.json")}


def test_study_of_a_users_own_is_short():
    assert len(files()["my_study.py"].splitlines()) <= LONGEST_STUDY


@pytest.mark.long
def test_script_outside_of_the_project_trains_tables_and_plots(folder, monkeypatch):
    monkeypatch.delenv("NPROC")  # so the runs are shared by one process per core
    shown = python(folder, "my_study.py")
    assert "| shifted(by=3) |   3 |" in shown
    assert "6 of 6 runs done" in shown
    assert (folder / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    made = results(folder)
    assert {each["run"]["seed"] for each in made.values()} == {0, 1, 2}
    assert all(set(each["provenance"]["code"]) >= {"model:Tiny", "optimizer:sign_sgd"} for each in made.values())
    told = python(folder, "answers.py", PYTHONPATH=str(folder))
    assert told.startswith(shown), "it imports the study"
    again = results(folder)
    assert again.keys() == made.keys()
    assert sum(again[name] != made[name] for name in made) <= 1, "it trains again only the one that keeps its weights"
    classes, hardest, dark = told.removeprefix(shown).split("]\n")
    classes, hardest = re.findall(r"\d+", classes), re.findall(r"\d+", hardest)
    assert 0 <= float(dark) <= 1
    assert len(classes) == 10
    assert set(map(int, classes)) <= set(range(10))
    assert len({*hardest}) == 5
    assert all(0 <= int(row) < 300 for row in hardest)


@pytest.mark.long
def test_plugin_brings_one_of_each_kind_to_the_command_line(folder):
    for line in commands(with_experiments=False):
        rethink_gen(folder, *line)
    [trained] = results(folder).values()
    assert trained["run"]["corruption"] == "next_class(by=2)"
    assert list((folder / "results" / "train").glob("*.png"))
    rethink_gen(folder, "train", *EVERYTHING, "--results", "all")
    [path] = (folder / "all" / "train").glob("*.json")
    code = json.loads(path.read_bytes())["provenance"]["code"]
    kinds = ("augmentation", "corruption", "dataset", "loss", "model", "optimizer", "order", "schedule")
    assert tuple(sorted(name.partition(":")[0] for name in code)) == kinds
    rethink_gen(folder, "train", "--plugin", "my_code.py", "--dataset", "photos", "--epochs", "1", "--batch-size", "8")


def test_learners_of_a_users_own_stand_beside_those_built_in(folder):
    shown = python(folder, "learn.py", PYTHONPATH=str(folder))
    assert re.search(r"\| shallow_boosting\(rounds=5\) +\| +1 \|", shown)
    assert "2 of 2 runs done" in shown
    stages = {each["run"]["learner"]: each["curves"]["epoch"] for each in results(folder).values()}
    assert stages["shallow_boosting(rounds=5)"] == [1, 2, 3, 4, 5]
    assert stages["random_forest"][-1] == 100


def test_searches_of_a_users_own_stand_beside_those_built_in(folder):
    shown = python(folder, "search.py", PYTHONPATH=str(folder))
    assert re.search(r"\| drift +\| +1 \|", shown)
    assert "2 of 2 runs done" in shown
    curves = {each["run"]["search"]: each["curves"] for each in results(folder).values()}
    assert curves["evolution_strategy"]["train_accuracy"][-1] == 1.0
    assert curves["drift"]["step"][:2] == [1, 51]


def test_page_has_an_example_of_each_kind_that_can_be_registered():
    code = files()["my_code.py"]
    kinds = {name for name in vars(registry.Register) if not name.startswith("_")} - {"dataset"}
    assert [kind for kind in kinds if f"@rg.register.{kind}" not in code] == []
    assert "from_arrays" in code
    assert "from_folder" in code


def test_edited_corruption_is_trained_again_and_a_comment_is_not(folder):
    def train_with(change):
        code = (folder / "my_code.py").read_text()
        (folder / "my_code.py").write_text(change(code))
        rethink_gen(folder, "train", *EDITED)
        [path] = (folder / "edited" / "train").glob("*.json")
        return path.stem, path.stat().st_mtime_ns, path.read_bytes()

    first = train_with(lambda code: code)
    assert train_with(lambda code: "# my components\n" + code.replace("\n@rg", "\n# the next one\n@rg")) == first
    second = train_with(lambda code: code.replace("labels + by", "labels - by"))
    assert second[0] == first[0]
    assert second[2] != first[2]
    [old] = (folder / "edited" / "train").glob(f"{first[0]}.*.stale")
    assert old.read_bytes() == first[2]


def test_experiment_of_a_users_own_is_run_and_reported(folder):
    for line in commands(with_experiments=True):
        shown = rethink_gen(folder, *line)
    assert "report.html" in shown
    place = folder / "results" / "next_class_is_fitted" / "laptop"
    assert len(list(place.glob("*.json"))) == 4
    assert "holds** · The network fits every labeling of the training set." in (place / "table.md").read_text()
    assert (place / "figure.png").exists()


@pytest.mark.long
def test_status_counts_results_of_code_that_has_changed(folder):
    mine = ("next_class_is_fitted", "--experiments", "mine", "--plugin", "my_code.py")

    def stale():
        rows = json.loads(rethink_gen(folder, "status", *mine, "--json"))
        return {row["scale"]: (row["done"], row["stale"]) for row in rows}["laptop"]

    rethink_gen(folder, "run", *mine)
    assert stale() == (4, 0)
    code = (folder / "my_code.py").read_text()
    (folder / "my_code.py").write_text(code.replace("labels + by", "labels - by"))
    assert stale() == (2, 2)
    rethink_gen(folder, "run", *mine)
    assert stale() == (4, 0)  # trained again: what was set aside no longer waits for anything
    assert len(list((folder / "results" / "next_class_is_fitted" / "laptop").glob("*.stale"))) == 2
