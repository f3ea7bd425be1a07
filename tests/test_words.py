"""Numbers are said as a reader says them."""

import pytest
from frames import MLP, result, tidy

from rethink_gen.analysis import tables
from rethink_gen.experiment import Experiment
from rethink_gen.study import studies
from rethink_gen.words import count, part


@pytest.mark.parametrize(
    ("some", "every", "said"),
    [
        (1, 1, "1 run"),
        (0, 1, "0 of 1 run"),
        (1, 2, "1 of 2 runs"),
        (11, 11, "11 of 11 runs"),
        ("ab", "abc", "2 of 3 runs"),
    ],
)
def test_part_of_all_is_said_in_words(some, every, said):
    assert part(some, every, "run") == said


def test_many_are_told_in_thousands():
    assert count(1_234, "result") == "1,234 results"


def test_table_of_one_run_of_one_epoch_says_one_run_and_one_epoch():
    found = result(MLP)
    study = studies.Study(Experiment(name="own", claim="", locator="", runs=(MLP,), laptop=(MLP,)), (found,), None)
    assert "\n1 run done. " in study.text()
    assert " · 1 run · seed 0 · 1 epoch · " in tables.describe(tidy([found]))
