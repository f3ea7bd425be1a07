"""The pages in docs/: every command in them is one, every link leads somewhere, and the notebook runs as it stands."""

import contextlib
import re
import shlex
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from rethink_gen.cli import parser

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
COMMANDS = sorted(
    {line.strip() for page in PAGES for line in page.read_text().splitlines() if line.startswith("    rethink-gen ")}
    | {text for page in PAGES for text in re.findall(r"`(rethink-gen \w[^`…]*)`", page.read_text())}
)
TUTORIAL = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
BENCHMARK = (DOCS.parent / "benchmarks" / "results" / "throughput.md").read_text()
MADE_BY_THE_BUILD = {"report.html"}


@pytest.mark.parametrize("line", [line for line in COMMANDS if not re.search(r"\b[A-Z]{2,}\b", line)])
def test_every_command_in_the_documentation_is_one(line):
    with contextlib.suppress(SystemExit):  # of --help
        parser.parse(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_in_the_documentation_leads_somewhere(page):
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", page.read_text()) if "://" not in link]
    assert [link for link in links if not (DOCS / link).exists() and link not in MADE_BY_THE_BUILD] == []


def test_the_speeds_in_the_documentation_are_those_of_the_benchmark():
    cells = [[cell.strip() for cell in line.split("|")] for line in BENCHMARK.splitlines() if "float32" in line]
    rows = [[ours, eager, ratio, compiled, beside] for *_, ours, eager, ratio, _, compiled, beside, _, _ in cells]
    assert len(rows) == 4
    shown = (DOCS / "setup.md").read_text()
    assert [row for row in rows if f"| {' | '.join(row)} |" not in shown] == []


def test_every_page_is_in_the_contents():
    contents = (DOCS.parent / "mkdocs.yml").read_text()
    assert [page.name for page in PAGES if f": {page.name}\n" not in contents] == []


def execute(notebook, folder):
    return NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()


def test_the_notebook_runs(tmp_path):
    """With fewer epochs than it has; the numbers it shows are in its outputs."""
    notebook = nbformat.from_dict(TUTORIAL)
    for cell in notebook.cells:
        cell.source = cell.source.replace("epochs=40", "epochs=2").replace(
            'rg.run("quickstart")', 'rg.run("quickstart", scale="smoke", only={"corruption": "true_labels"})'
        )
    shown = [output for cell in execute(notebook, tmp_path).cells for output in cell.get("outputs", [])]
    assert {"display_data", "execute_result"} == {output.output_type for output in shown}
    assert [output.data["text/plain"] for output in shown if "runs done" in output.data["text/plain"]]


@pytest.mark.slow
def test_the_notebook_finds_what_it_says(tmp_path):
    execute(TUTORIAL, tmp_path)
    table = TUTORIAL.cells[-2].outputs[-1].data["text/plain"].splitlines()
    names, epochs, _, test = (line.split() for line in table)
    epochs, test = (dict(zip(names, map(float, row[1:]), strict=True)) for row in (epochs, test))
    assert epochs["next_class"] < 2 * epochs["true_labels"] < epochs["random_labels"]
    assert test["next_class"] < 0.02 < test["random_labels"] < 0.2 < test["true_labels"]
