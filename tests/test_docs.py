"""The pages in docs/: every command in them is one, every link leads somewhere, and the notebook runs as it stands."""

import contextlib
import importlib
import importlib.util
import re
import runpy
import shlex
import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import rethink_gen as rg
from rethink_gen import registry
from rethink_gen.analysis import standing
from rethink_gen.cli import parser
from rethink_gen.results.result import METRICS, VALIDATION
from rethink_gen.study import studies

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


@pytest.mark.parametrize("page", [*PAGES, DOCS.parent / "README.md"], ids=lambda page: page.stem)
def test_every_page_with_a_command_says_how_it_is_called(page):
    text = page.read_text()
    assert "rethink-gen " not in text or "uv run" in text


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


def test_generated_tables_are_those_of_the_code():
    """`python docs/components.py` writes them again; test_experiments.py looks at those of experiments."""
    module = runpy.run_path(str(DOCS / "components.py"))
    pages = [page.read_text() for page in module["PAGES"]]
    assert [page for page in pages if module["filled"](page) != page] == []


def test_the_page_of_experiments_says_of_the_quickstart_the_same_after_it_was_run(tmp_path):
    """README's second command tests a checkout in which the first has left its results."""
    smoke = DOCS.parent / "results" / "quickstart" / "smoke"
    told = []
    for scale in ("smoke", "laptop"):
        shutil.copytree(smoke, tmp_path / "quickstart" / scale, ignore=shutil.ignore_patterns("table*", "figure*"))
        [study] = {each.experiment.scale: each for each in studies.survey(["quickstart"], results=tmp_path)}.values()
        assert study.experiment.scale == scale
        told.append(standing.Standing.of(study, study.table(), study.checks()).told)
    assert told[0] == told[1]


def test_every_kind_of_component_has_its_table():
    tables = {kind for page in PAGES for kind in re.findall(r"<!-- table of (\w+) -->", page.read_text())}
    assert tables == {*registry.COMPONENTS, "fields"} - {"dataset"}


@pytest.mark.parametrize("name", sorted(registry.COMPONENTS["optimizer"]))
def test_weight_decay_of_every_optimizer_is_explained(name):
    conventions = [
        line for line in (DOCS / "components.md").read_text().splitlines() if re.match(r"\| (L2|decoup)", line)
    ]
    assert sum(f"`{name}`" in line for line in conventions) == 1


def test_the_choices_of_every_paper_are_on_the_page_of_choices():
    protocols = [path.parent.name for path in DOCS.parent.glob("rethink_gen/papers/*/protocol.py")]
    page = (DOCS / "choices.md").read_text()
    assert len(protocols) > 15
    assert [paper for paper in protocols if f"::: rethink_gen.papers.{paper}.protocol\n" not in page] == []


MODULES = sorted({name for page in PAGES for name in re.findall(r"\brethink_gen(?:\.\w+)+", page.read_text())})


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("rethink_gen.plugins")])
def test_every_module_in_the_documentation_is_one(name):
    module, _, attribute = name.rpartition(".")
    assert importlib.util.find_spec(name) if not hasattr(importlib.import_module(module), attribute) else True


VALIDATED = ("validated_epoch", "validated_test_accuracy")  # of runs that hold examples out


def test_columns_in_the_documentation_are_those_of_a_study():
    page = (DOCS / "reference.md").read_text()
    rows = page[page.index("| column |") :].partition("\n\n")[0].splitlines()[2:]
    columns = [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert len(columns) > 20
    shown = {"fig1a": None, "sec5_norms": "smoke", "randomization_test_learners": "laptop", "wrong_labels": "laptop"}
    studies = [rg.load(name, scale=scale, results=DOCS.parent / "results") for name, scale in shown.items()]
    there = {column for study in studies for column in study.curves} | {*METRICS, *VALIDATION, *VALIDATED}
    assert [name for name in columns if name not in there] == []


def promises_in(page):
    return sorted(set(re.findall(r"`(test_\w+)::(test_\w+)`", (DOCS / page).read_text())))


@pytest.mark.parametrize(("module", "test"), promises_in("hosts.md"))
def test_every_promise_names_a_test_that_exists(module, test):
    [path] = Path(__file__).parent.rglob(f"{module}.py")
    assert f"def {test}(" in path.read_text()


def execute(notebook, folder):
    return NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
    ).execute()


@pytest.mark.long
def test_the_notebook_runs(tmp_path):
    """With fewer epochs than it has; the numbers it shows are in its outputs."""
    notebook = nbformat.from_dict(TUTORIAL)
    for cell in notebook.cells:
        cell.source = cell.source.replace("epochs=40", "epochs=2").replace(
            'rg.run("quickstart")', 'rg.run("quickstart", scale="smoke", only={"corruption": "true_labels"})'
        )
    shown = [output for cell in execute(notebook, tmp_path).cells for output in cell.get("outputs", [])]
    assert {"display_data", "execute_result"} == {output.output_type for output in shown}
    assert [output.data["text/plain"] for output in shown if "run done" in output.data["text/plain"]]


@pytest.mark.slow
def test_the_notebook_finds_what_it_says(tmp_path):
    execute(TUTORIAL, tmp_path)
    table = TUTORIAL.cells[-2].outputs[-1].data["text/plain"].splitlines()
    names, epochs, _, test = (line.split() for line in table)
    epochs, test = (dict(zip(names, map(float, row[1:]), strict=True)) for row in (epochs, test))
    assert epochs["next_class"] < 2 * epochs["true_labels"] < epochs["random_labels"]
    assert test["next_class"] < 0.02 < test["random_labels"] < 0.2 < test["true_labels"]


def test_every_promise_of_the_page_of_reliability_names_a_test_that_is_there():
    named = set(re.findall(r"`(test_\w+)::(test_\w+)`", (DOCS / "reliability.md").read_text()))
    assert len(named) > 40
    for module, test in named:
        assert f"def {test}(" in next(Path(__file__).parent.rglob(f"{module}.py")).read_text(), f"{module}.py::{test}"
