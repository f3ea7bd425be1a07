"""A study of two runs, for tests of the report."""

from dataclasses import replace
from pathlib import Path

from frames import MLP, RANDOM, result

from rethink_gen.analysis.declare import by, lines
from rethink_gen.experiment import Experiment
from rethink_gen.study.studies import Study


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
