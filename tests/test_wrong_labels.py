"""docs/wrong_labels.md, as somebody who cleans data walks it, in a folder outside of the project."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "wrong_labels.md").read_text()
SLIPS = set(range(0, 1200, 20))
FEWER = "rg.Run(dataset=data, epochs=20), seeds=range(2)"  # than the page has: it takes a third of the time


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    for name, code in re.findall(r"<!-- (\S+) -->\n```python\n(.+?)```", PAGE, re.DOTALL):
        (folder / name).write_text(code.replace("rg.Run(dataset=data), seeds=range(3)", FEWER))
    return folder


def python(folder, *words):
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "RETHINK_GEN_CACHE": str(folder / "cache"), "PYTHONPATH": path}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_finds_the_slips_of_ones_own_data(folder):
    [line] = re.findall(r"^    rethink-gen (scores --plugin .*)$", PAGE, re.MULTILINE)
    python(folder, "-m", "rethink_gen", *shlex.split(line.replace("0..4", "0")), "--epochs", "20")
    table = pd.read_csv(folder / "results" / "suspicious-scans.csv")
    assert len(set(table["index"][:60]) & SLIPS) >= 50
    assert (folder / "results" / "suspicious-scans.png").exists()


def test_the_records_of_a_run_are_exported(folder):
    assert python(folder, "my_records.py") == "(11, 1500)\n"
    table = pd.read_csv(folder / "examples.csv")
    assert table.groupby(["seed", "split"]).size().to_dict() == {
        (0, "test"): 297,
        (0, "train"): 1500,
        (1, "test"): 297,
        (1, "train"): 1500,
    }


def test_a_notebook_ranks_in_a_few_lines(folder):
    shown = python(folder, "my_search.py").splitlines()
    assert shown[0].split() == ["index", "label", "suggested_label", "mean_loss"]
    assert len(SLIPS & {int(line.split()[1]) for line in shown[1:]}) >= 8
    assert (folder / "suspicious.csv").exists()
    assert (folder / "suspicious.png").exists()
