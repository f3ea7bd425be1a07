"""A corruption, a model, a data set and an experiment of one's own: each in one place, in at most twenty lines."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Place → code, as the page for readers has it.
EXAMPLES = dict(
    re.findall(r"<!-- (.+?) -->\n```python\n(.+?)```", (ROOT / "docs" / "adding.md").read_text(), re.DOTALL)
)


def add(path, code, line=None):
    """Puts code before the last table of a module, and a line at the head of that table; a new file without a line."""
    assert len(code.strip().splitlines()) + (line is not None) <= 20
    if line is None:
        path.write_text(code)
        return
    before, _, table = path.read_text().rpartition("\n\n\n")
    head, _, entries = table.partition("\n")
    path.write_text(f"{before}\n\n\n{code}\n\n{head}\n{line}{entries}")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with one of each added."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "rethink_gen", folder / "rethink_gen", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "experiments", folder / "experiments")
    add(folder / "rethink_gen" / "corruptions.py", EXAMPLES["corruptions.py"], EXAMPLES["a line of CORRUPTIONS"])
    add(folder / "rethink_gen" / "models.py", EXAMPLES["models.py"], EXAMPLES["a line of MODELS"])
    add(folder / "experiments" / "flipped.py", EXAMPLES["experiments/flipped.py"])
    datasets = folder / "rethink_gen" / "datasets.py"
    before, arrays, after = datasets.read_text().partition("\n\nARRAYS")
    entry = EXAMPLES["the entry of BUNDLED"].strip().rstrip(",")
    after = after.replace('{"digits": digits}', f'{{"digits": digits, {entry}}}')
    datasets.write_text(f"{before}\n\n{EXAMPLES['datasets.py']}{arrays}{after}")
    return folder


def command(project, *words):
    done = subprocess.run(
        [sys.executable, "-m", "rethink_gen", *words],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("corruptions", "flipped_labels"),
        ("models", "linear"),
        ("datasets", "binary_digits"),
        ("experiments", "flipped"),
    ],
)
def test_what_was_added_is_listed(project, kind, name):
    assert name in command(project, "list", kind)


def test_what_was_added_runs_and_is_tabulated_and_drawn(project):
    assert "2 of 2 runs" in command(project, "run", "flipped", "--results", "results")
    folder = project / "results" / "flipped" / "laptop"
    assert len(list(folder.glob("linear-flipped_labels-*.json"))) == 2
    assert (folder / "table.md").exists()
    assert (folder / "figure.png").exists()
