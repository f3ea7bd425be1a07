"""Studies → one HTML page: each paper as a map, and a section for each of its claims.

Reads no file of results, no clock and no name of a machine: the same studies give the same bytes. The page needs no
network, and forbids itself any by its Content-Security-Policy. Claims, names and notes are text of other people: the
template escapes them, and matplotlib those that stand in a figure.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
from markupsafe import Markup

from rethink_gen import papers
from rethink_gen.analysis import figures, page_pictures, rendering, standing
from rethink_gen.analysis.standing import Standing
from rethink_gen.errors import UsageError
from rethink_gen.experiment import Check
from rethink_gen.words import duration

if TYPE_CHECKING:
    import pandas as pd

    from rethink_gen.experiment import Experiment, Study


HERE = Path(__file__).parent
MOST_IN_A_SHARED_MAP = 2  # claims of a paper; one with more has a map of its own
MOST_SIZES = 6  # of data sets that are each named
FEWEST_EPOCHS = 3  # of which a curve says something


class _Other(NamedTuple):
    """What the page says of an experiment at another scale, which is not complete."""

    study: Study
    layout: rendering.Layout
    checks: list[Check]
    runs: str


class _Section(NamedTuple):
    """What the page says of one experiment."""

    study: Study
    others: list[_Other]
    place: str  # where in the paper, in two words; without a paper, the name of the experiment
    standing: Standing
    layout: rendering.Layout | None
    checks: list[Check]
    figure: page_pictures.Picture | None
    runs: page_pictures.Picture | None
    about: dict[str, str]
    settings: dict[str, str]
    title: str
    notes: list[str]
    found: list[str]  # the notes that say how results differ from what was expected, and why
    commands: list[str]


class Group(NamedTuple):
    """The experiments about one paper."""

    paper: papers.Paper
    sections: list[_Section]
    protocol: list[str]  # paragraphs

    @property
    def large(self) -> bool:
        """Whether the paper has a map of its own; others share one."""
        return len(self.sections) > MOST_IN_A_SHARED_MAP

    @property
    def totals(self) -> Counter[str]:
        """Verdict → how many claims have it."""
        return Counter(section.standing.verdict for section in self.sections)

    @property
    def in_part(self) -> Counter[str]:
        """Verdict → how many claims have it in part."""
        return Counter(section.standing.verdict for section in self.sections if section.standing.in_part)


def render(studies: Iterable[Study], broken: list[UsageError] | None = None) -> str:
    """The page of these studies, by paper and in its order.

    Of several studies of one experiment, the first is shown whole; the others follow it, with tables and checks.

    Args:
      broken: takes the errors of experiments whose table or figure fails; None: the first is raised.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["prose"] = _prose
    groups = _groups(studies, broken)
    script = (HERE / "report.js").read_text(encoding="utf-8")
    sections = [section for group in groups for section in group.sections]
    drawn = [shown.svg for section in sections for shown in (section.figure, section.runs) if shown]
    colors = sorted({color for svg in drawn for color in page_pictures.COLOR.findall(svg)})
    alone = groups[0].paper.title if len(groups) == 1 else ""
    page = environment.get_template("report.html.jinja").render(
        groups=groups,
        small=[group for group in groups if not group.large],
        none_yet=Counter(),
        title=alone or "Memorization and generalization",
        verdicts=standing.VERDICTS,
        marks=rendering.ONE_RUN + rendering.OUTSIDE,
        style=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        dark={color: page_pictures.dark_page(color) for color in colors},
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return page.strip() + "\n"


def _section(study: Study, others: Sequence[Study] = ()) -> _Section:
    """All that the page says of a study; of one without results, what it asks and how to run it.

    Args:
      others: the same experiment at scales that are not complete.
    """
    experiment, frame = study.experiment, study.curves
    table = study.table() if study.results else None
    checks = study.checks() if study.results else []
    title, *notes = _paragraphs(experiment.doc) or [experiment.name]
    deep = frame[frame.groupby("run")["epoch"].transform("nunique") >= FEWEST_EPOCHS]
    drawn = study.figure() if study.results else None
    curves = figures.runs(deep) if len(deep) and deep["train_accuracy"].notna().any() else None
    return _Section(
        study=study,
        others=[_other(each) for each in others if each.results],
        place=_place(experiment),
        standing=Standing.of(study, table, checks),
        layout=None if table is None else rendering.lay_out(table),
        checks=checks,
        figure=drawn and page_pictures.picture(drawn, f"{experiment.name}-figure"),
        runs=curves and page_pictures.picture(curves, f"{experiment.name}-runs"),
        about=_about(study),
        settings=_settings(study),
        title=title,
        notes=[text for text in notes if not text.startswith("Found")],
        found=[text for text in notes if text.startswith("Found")],
        commands=_commands(study),
    )


def _place(experiment: Experiment) -> str:
    """Where in the paper, in two words: the first of what the locator names; without a paper, the name."""
    first = re.split(r"[,;]| and ", experiment.locator)[0]
    return re.sub(r"^(Section|Table|Figure)s\b", r"\1", first) if experiment.paper else experiment.name


def _prose(text: str) -> Markup:
    """A paragraph of a docstring: `code`, lists of lines that begin with a star, and indented blocks as they are."""
    if text.startswith("    "):
        return Markup("<pre>{}</pre>").format("\n".join(line.removeprefix("    ") for line in text.splitlines()))
    code = lambda words: Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(" ".join(words.split()))))
    first, *items = re.split(r"^\* ", text, flags=re.MULTILINE)
    listed = Markup("").join(Markup("<li>{}</li>").format(code(item)) for item in items)
    return (Markup("<p>{}</p>").format(code(first)) if first else Markup("")) + (
        Markup("<ul>{}</ul>").format(listed) if items else Markup("")
    )


def _order(study: Study) -> tuple[str, str, str]:
    """By section, then figures before tables; what has no section in the paper comes last."""
    found = re.search(r"Sections? (\d)|Appendix (\w)", study.experiment.locator)
    return (found[1] or found[2] if found else "~", study.experiment.locator, study.experiment.name)


def _groups(studies: Iterable[Study], broken: list[UsageError] | None) -> list[Group]:
    """The sections of the page: by paper, the oldest first, and in the order of the paper."""
    of_experiment: dict[str, list[Study]] = {}
    for study in studies:
        of_experiment.setdefault(study.experiment.name, []).append(study)
    of_paper: dict[str, list[_Section]] = {}
    for study, *others in sorted(of_experiment.values(), key=lambda found: _order(found[0])):
        try:
            section = _section(study, others)
        except UsageError as error:
            if broken is None:
                raise
            broken.append(error)
            continue
        of_paper.setdefault(study.experiment.paper, []).append(section)
    return [
        Group(papers.find(name), of_paper[name], _paragraphs(papers.protocol(name)))
        for name in sorted(of_paper, key=papers.order)
    ]


def _other(study: Study) -> _Other:
    return _Other(study, rendering.lay_out(study.table()), study.checks(), standing.done(study))


def _about(study: Study) -> dict[str, str]:
    """How the runs were done."""
    runs, missing, results = len(study.experiment.runs), len(study.missing), study.results
    bad = {
        "diverged": sum(result.status == "diverged" for result in results),
        "failed": len(study.failures),
        "damaged and left out": len(study.damaged),
    }
    about = {"runs": ", ".join([f"{runs - missing} of {runs} done", *(f"{n} {what}" for what, n in bad.items() if n)])}
    if not results:
        return about
    ends = study.curves[study.curves["last"]]
    sizes = [
        f"{papers.label(name)}: {_numbers(data['num_train'])} training images, {_numbers(data['num_test'])} test images"
        if data["num_test"].any()
        else f"{papers.label(name)}: {_numbers(data['num_train'])} examples; the test error is exact"
        for name, data in ends.groupby("dataset", sort=False)
    ]
    seconds = ends["seconds_compile"].fillna(0) + ends["seconds_train"].fillna(0)
    each = dict.fromkeys([duration(seconds.min()), duration(seconds.max())])
    epochs = dict.fromkeys([int(ends["epoch"].min()), int(ends["epoch"].max())])
    versions: dict[str, set[str]] = {}
    for result in results:
        for name, version in result.provenance.get("versions", {}).items():
            versions.setdefault(name, set()).add(str(version))
    about |= {
        "data": "; ".join(sizes),
        "seeds": ", ".join(map(str, sorted(ends["seed"].unique()))),
        "epochs": " to ".join(map(str, epochs)) if max(epochs) else "none: solved, not trained",
        "device": ", ".join(sorted(ends["device"].unique())),
        "time": f"{duration(seconds.sum())} in all, {' to '.join(each)} a run",
        "versions": ", ".join(f"{name} {' and '.join(sorted(found))}" for name, found in versions.items()),
    }
    return {name: text for name, text in about.items() if text}


def _numbers(sizes: pd.Series) -> str:
    """The sizes that there are; of many, the least and the largest."""
    few = sorted(sizes.unique())
    return " or ".join(f"{n:,}" for n in few) if len(few) <= MOST_SIZES else f"{few[0]:,} to {few[-1]:,}"


def _settings(study: Study) -> dict[str, str]:
    """The fields that all runs share, in words."""
    runs = [dataclasses.asdict(run) for run in study.experiment.runs]
    shared = {name: value for name, value in runs[0].items() if all(run.get(name) == value for run in runs)}

    def show(name: str, value: Any) -> str:
        if value is None:
            return "all" if name.endswith("_size") else "none"
        return ", ".join(value) or "none" if isinstance(value, tuple) else str(value)

    return {papers.label(name): papers.label(show(name, value)) for name, value in shared.items()}


def _commands(study: Study) -> list[str]:
    """The commands that fill what is missing, here and at the scale of the paper."""
    scales = [study.experiment.scale] * bool(study.missing)
    scales += ["paper"] * (study.experiment.scale != "paper" and not (study.results and standing.same_as_laptop(study)))
    return [f"rethink-gen run {shlex.quote(study.experiment.name)} --scale {scale}" for scale in dict.fromkeys(scales)]


def _paragraphs(doc: str) -> list[str]:
    return [text.strip("\n") for text in re.split(r"\n\s*\n", doc) if text.strip()]
