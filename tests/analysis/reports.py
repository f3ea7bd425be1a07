"""A study of two runs and pages of the report, for its tests."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from frames import MLP, RANDOM, result

from rethink_gen.analysis import report
from rethink_gen.analysis.declare import by, lines
from rethink_gen.experiment import Experiment
from rethink_gen.study import studies
from rethink_gen.study.studies import Study

ROOT = Path(__file__).parents[2]
SHOWN = ("fig1a_learning_curves", "table4_random_labels_regularized")


def two_are_done(study):
    """Two are done."""
    return study.runs["run"].nunique() == 2, "counted"


def study(name="mine", results=None, **changes):
    """A study of two runs, drawn and tabled by the plainest functions."""
    results = [result(MLP, (0.1, 0.6, 1.0)), result(RANDOM, (0.1, 0.2, 0.99))] if results is None else results
    plain = Experiment(
        claim="Labels matter.",
        locator="Section 2, in a footnote",
        runs=(MLP, RANDOM, replace(RANDOM, seed=1)),
        laptop=(),
        table=by("corruption", metrics=["test_accuracy"]),
        figure=lines(x="epoch", y="train_accuracy", hue="corruption"),
        checks=[two_are_done],
        name=name,
        doc="Two runs.\n\nFound: both are `fitted`.",
    )
    return Study(replace(plain, **changes), tuple(results), Path("nowhere"))


@cache
def plain_page():
    return report.render([study()])


@cache
def committed_page():
    return report.render(studies.survey(SHOWN, results=ROOT / "results"))
