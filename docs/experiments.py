"""Writes the tables of experiments.md from the experiments and their committed results: python docs/experiments.py"""

import re
from pathlib import Path

from rethink_gen import papers
from rethink_gen.analysis.standing import Standing
from rethink_gen.experiment import Study
from rethink_gen.study.studies import survey

PAGES = [Path(__file__).parent / "experiments.md"]
RESULTS = Path(__file__).parent.parent / "results"
MARKED = re.compile(r"(<!-- experiments -->\n).*(<!-- end -->)", re.DOTALL)


def tables() -> str:
    """For each paper, in the order of papers, a table of its experiments: claim, place in the paper, and verdict."""
    of_paper: dict[str, list[Study]] = {}
    shown = set()
    for study in survey(results=RESULTS):
        if study.experiment.name not in shown:  # the first is at the largest scale that is complete
            of_paper.setdefault(study.experiment.paper, []).append(study)
        shown.add(study.experiment.name)
    parts = []
    for name in sorted(of_paper, key=papers.order):
        rows = sorted(map(_row, of_paper[name]))
        heading = papers.find(name).cited or "Our own"
        parts.append(f"## {heading}\n\n| experiment | claim | where | verdict |\n|---|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _row(study: Study) -> str:
    experiment = study.experiment
    found = Standing.of(study, *((study.table(), study.checks()) if study.results else (None, [])))
    cells = (f"`{experiment.name}`", experiment.claim, experiment.locator, f"**{found.verdict}**: {found.told}")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def filled(page: str) -> str:
    """The page with its tables as experiments and results have them now."""
    return MARKED.sub(lambda found: f"{found[1]}{tables()}{found[2]}", page)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text()))
