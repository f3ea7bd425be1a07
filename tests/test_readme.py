"""What README says is what the committed results and the code say."""

import math
import re
import shlex
from pathlib import Path

import pytest

import rethink_gen
from rethink_gen.cli import main, parser
from rethink_gen.results import store

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
RESULTS = ROOT / "results"
WITHOUT_REGULARIZERS = {"augmentation": "none", "weight decay": "off"}


def rows(text, header):
    """The rows of the first table in a text whose header begins so: lists of pairs (column, cell)."""
    lines = text[text.index(f"| {header}") :].partition("\n\n")[0].splitlines()
    names, _, *cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [list(zip(names, row, strict=True)) for row in cells]


def test_table_of_readme_is_that_of_the_committed_results():
    """Cell by cell: the rows without explicit regularizers, less the two columns that say so."""
    committed = rows((RESULTS / "table1_regularizers" / "paper" / "table.md").read_text(), "model")
    plain = [row for row in committed if WITHOUT_REGULARIZERS.items() <= dict(row).items()]
    expected = [[cell for cell in row if cell[0] not in WITHOUT_REGULARIZERS] for row in plain]
    shown = rows(README, "model")
    assert sorted(shown) == sorted(expected)
    assert f"All {len(committed)} rows" in README


# Numbers in the text of README: the sentence, and the row of a committed table that has them.
SENTENCES = [
    ("Random labels take 14,430 steps", "fig1a_learning_curves/paper", {"data": "random labels"}, "steps to fit"),
    ("true labels 4,680", "fig1a_learning_curves/paper", {"data": "true labels"}, "steps to fit"),
    ("from 86.62 %", "fig1a_learning_curves/paper", {"data": "true labels"}, "test accuracy, %"),
    ("to 9.97 %", "fig1a_learning_curves/paper", {"data": "random labels"}, "test accuracy, %"),
    ("network of 103,072 weights", "thm1_expressivity/paper", {"num train": "50000", "depth": "2"}, "num weights"),
    ("error of 0.49 %", "sec5_norms/paper", {"gamma": "2.3", "train size": "60000"}, "test error, %"),
]


@pytest.mark.parametrize(("sentence", "place", "row", "column"), SENTENCES)
def test_numbers_in_the_text_are_those_of_committed_tables(sentence, place, row, column):
    assert sentence in " ".join(README.split())
    table = [dict(each) for each in rows((RESULTS / place / "table.md").read_text(), "")]
    [cell] = {each[column] for each in table if row.items() <= each.items()}
    assert re.search(rf"(?<![\d.]){re.escape(cell)}(?![\d.]*\d)", sentence)


def test_bound_of_the_rademacher_complexity_is_that_of_the_committed_runs():
    """McDiarmid: one of n signs in one of m draws moves the mean correlation by 2/(nm) at most."""
    draws = {}
    for result in store.load(RESULTS / "sec2_rademacher" / "laptop"):
        if result.run.model != "mlp_1x512":
            continue
        draws.setdefault(result.run.train_size, []).append(2 * result.curves["train_accuracy"][-1] - 1)
    least = min(sum(c) / len(c) - math.sqrt(2 * math.log(20) / (n * len(c))) for n, c in draws.items())
    shown = float(re.search(r"complexity of at least (\d\.\d+)", " ".join(README.split()))[1])
    assert shown <= least < shown + 1e-4


def test_readme_can_be_read_in_a_few_minutes():
    assert len(README.splitlines()) < 150


def test_every_picture_and_file_that_readme_names_is_there():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


PICTURES = re.findall(r"\]\(results/(\w+)/(\w+)/figure\.png\)", README)


@pytest.mark.parametrize(("name", "scale"), PICTURES)
def test_a_picture_of_readme_is_what_its_command_draws(name, scale, tmp_path):
    """To the byte, with the tested versions; draw it again by the same command where a figure was to change."""
    drawn = tmp_path / "figure.png"
    assert main.main(["plot", name, "--scale", scale, "--results", str(RESULTS), "--output", str(drawn)]) == 0
    assert drawn.read_bytes() == (RESULTS / name / scale / "figure.png").read_bytes()


def test_readme_shows_a_picture():
    assert PICTURES


def test_every_room_of_the_code_is_in_readme():
    package = Path(rethink_gen.__file__).parent
    rooms = [path.parent.name for path in package.glob("*/__init__.py")]
    assert rooms
    assert [room for room in rooms if f"`{room}/`" not in README] == []


COMMANDS = [line.removeprefix("uv run ") for line in README.splitlines() if "rethink-gen " in line.split("#")[0]]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("rethink-gen ")])
def test_every_command_of_readme_is_one(line):
    parser.parse(shlex.split(line, comments=True)[1:])
