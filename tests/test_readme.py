"""What README says is what the committed results and the code say."""

import re
import shlex
from pathlib import Path

import pytest

from rethink_gen import experiment
from rethink_gen.cli import main, parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_every_table_row_of_the_findings_stands_in_a_committed_table():
    found = README.partition("## Start")[0]
    rows = [line for line in found.splitlines() if line.startswith("| ")]
    committed = "\n".join(path.read_text() for path in (ROOT / "results").glob("*/*/table.md"))
    assert rows
    assert [row for row in rows if row not in committed] == []


def test_every_picture_and_file_that_readme_names_is_there():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


PICTURES = re.findall(r"\]\(results/(\w+)/(\w+)/figure\.png\)", README)


@pytest.mark.parametrize(("name", "scale"), PICTURES)
def test_a_picture_of_readme_is_what_its_command_draws(name, scale, tmp_path):
    """To the byte, with the tested versions; draw it anew by the same command where a figure was to change."""
    drawn = tmp_path / "figure.png"
    assert main.main(["plot", name, "--scale", scale, "--results", str(ROOT / "results"), "--output", str(drawn)]) == 0
    assert drawn.read_bytes() == (ROOT / "results" / name / scale / "figure.png").read_bytes()


def test_two_pictures_stand_in_readme():
    assert len(PICTURES) >= 2


def test_every_experiment_is_in_readme():
    assert [name for name in experiment.names() if f"`{name}`" not in README] == []


COMMANDS = [line for line in README.splitlines() if line.startswith("rethink-gen ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_readme_is_one(line):
    parser.parse(shlex.split(line, comments=True)[1:])
