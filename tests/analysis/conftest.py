"""Pages of the report: one of a study of two runs, and one of committed results."""

from pathlib import Path

import pytest
from reports import study

from rethink_gen.analysis import report
from rethink_gen.study import studies

ROOT = Path(__file__).parents[2]
SHOWN = ("fig1a_learning_curves", "table4_random_labels_regularized")


@pytest.fixture(scope="session")
def plain():
    """The page of a study of two runs."""
    return report.render([study()])


@pytest.fixture(scope="session")
def committed():
    """The page of committed results."""
    return report.render(studies.survey(SHOWN, results=ROOT / "results"))
