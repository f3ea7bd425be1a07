"""Outcomes: bits of runs as text, and what follows from them, against three runs counted by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rethink_gen import experiment
from rethink_gen.errors import UsageError
from rethink_gen.papers import feldman2020
from rethink_gen.results import outcomes, store
from rethink_gen.results.outcomes import Outcomes
from rethink_gen.results.records import to_text
from rethink_gen.runs import Run
from rethink_gen.study import studies


def bits(*rows):
    return np.array([[char == "1" for char in row] for row in rows])


# Three runs, four training examples, two test examples.
THREE = Outcomes(
    train=bits("1101", "1001", "0101"),
    test=bits("11", "01", "10"),
    seen=bits("1100", "1010", "0111"),
    changed=bits("0010", "0010", "0010"),
)


def result(run):
    """A result with the bits of one of these runs."""
    texts = {name: to_text(each[run]) for name, each in THREE._asdict().items()}
    return store.Result(Run(seed=run), "finished", {"epoch": [0]}, {"num_train": 4, "num_test": 2}, correct=texts)


def test_memorization_is_counted_by_hand():
    found = outcomes.memorization(outcomes.of([result(run) for run in range(3)]))
    # Example 0: right in both runs that have it, wrong in the one without. Example 2 is never right.
    assert found.seen.tolist() == [1, 1, 0, 1]
    assert found.unseen.tolist() == [0, 0, 0, 1]
    assert found.memorization.tolist() == [1, 1, 0, 0]
    assert found.runs.tolist() == [2, 2, 2, 1]


def test_example_that_all_runs_have_seen_has_no_memorization():
    everywhere = THREE._replace(seen=np.ones_like(THREE.seen))
    found = outcomes.memorization(everywhere)
    assert np.isnan(found.memorization).all()
    np.testing.assert_allclose(found.seen, [2 / 3, 2 / 3, 0, 1])
    assert np.isnan(outcomes.influence(everywhere)).all()


def test_accuracies_of_runs_are_counted_by_hand():
    found = outcomes.accuracies(THREE, np.array([True, True, False, True]))
    # Run 0 has seen examples 0 and 1, both right, and not 3, which is right, too.
    assert found["accuracy_seen"].tolist() == [1, 1, 1]
    assert found["accuracy_unseen"].tolist() == [1, 0.5, 0]


def test_influence_is_counted_by_hand():
    # Test example 0: right in runs 0 and 2. With training example 0: in one of two; without it: in one of one.
    found = outcomes.influence(THREE)
    assert found[0].tolist() == [0.5 - 1, 1 - 0]
    np.testing.assert_array_equal(outcomes.influence(THREE, [3]), found[[3]])


def test_runs_without_bits_say_how_to_have_them():
    with pytest.raises(UsageError, match=r"mlp.* has no record of which train examples .* Run\(record='correct'\)"):
        outcomes.of([replace(result(0), correct={})])
    with pytest.raises(UsageError, match="record='correct'"):
        outcomes.of([])


def test_runs_on_different_numbers_of_examples_are_named():
    """They ended in an error of NumPy about shapes."""
    other = replace(result(1), correct={"train": "gA==", "test": "gA=="}, provenance={"num_train": 5, "num_test": 2})
    with pytest.raises(UsageError, match="runs have 4 and 5 training examples"):
        outcomes.of([result(0), other])


def test_committed_ranking_is_that_of_the_committed_runs():
    """Of the 1,000 most memorized images; the experiment leaves some of them out."""
    long_tail = experiment.find("feldman2020_long_tail").at("laptop")
    study = studies.gather(long_tail, Path(__file__).parents[2] / "results")
    runs = [each for each in study.results if (each.run.corruption, each.run.order) == ("true_labels", "subset")]
    found = outcomes.memorization(outcomes.of(runs)).memorization
    ranking = Path(feldman2020.__file__).with_name("memorized.txt").read_text().split()
    assert list(map(int, ranking)) == np.argsort(-found, kind="stable")[:1000].tolist()
