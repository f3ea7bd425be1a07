"""The verdict of a randomization test, from results that are written down."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from randomized import OTHERS, RUNS, fitted, result

from rethink_gen.analysis import randomization
from rethink_gen.runs import grid
from rethink_gen.study import studies


def said(*results):
    """Sentence → verdict and evidence, of a test that has these results."""
    test = randomization.declare("a_test", [each.run for each in results])
    study = studies.Study(test.at("laptop"), results, Path("results"))
    return {check.statement: (check.holds, check.evidence) for check in study.checks()}


FIT_TRUE = "It fits its training examples with their true labels."
FIT_RANDOM = "It fits labels that are drawn at random."
BITS = "It then holds the random labels in its weights, for nothing else tells them."
GENERALIZE = "It is right on new examples after true labels, and guesses after random ones."
FIT_OTHERS = "It fits the other versions of the data."


def test_verdict_says_what_is_fitted_and_how_much_longer_it_takes():
    results = [fitted(RUNS[0], 4), fitted(RUNS[1], 6, test=0.3), fitted(RUNS[2], 12, test=0.1), fitted(OTHERS[0], 4)]
    found = said(*results, fitted(OTHERS[1], 1))
    assert found[FIT_TRUE] == (True, "fits 200 true labels in 4 epochs")
    assert found[FIT_RANDOM] == (
        True,
        "fits 200 random labels in 12 epochs, 3 times as long as true ones; "
        "fits 200 labels, of which 50 % are random, in 6 epochs, 1.5 times as long as true ones",
    )
    assert found[GENERALIZE] == (
        True,
        "90.0 % right after true labels, 10.0 % right after random labels; a guess among all classes: 10.0 %",
    )
    assert found[FIT_OTHERS] == (
        True,
        "fits shuffled pixels in 4 epochs, as long as true ones; "
        "fits Gaussian noise in 1 epoch, 0.25 times as long as true ones",
    )


def test_epochs_are_means_over_seeds():
    runs = [*grid(RUNS[0], seed=(0, 1)), *grid(RUNS[2], seed=(0, 1))]
    epochs = (4, 6, 9, 12)
    found = said(*(fitted(run, each) for run, each in zip(runs, epochs, strict=True)))
    assert (
        found[FIT_RANDOM][1]
        == "fits 200 random labels in 10.5 epochs (mean of 2 seeds), 2.1 times as long as true ones"
    )


def test_bits_in_the_weights_are_those_of_fanos_inequality():
    """By hand: 200 labels of 4 classes are 400 bits. With one error in a hundred, h = 0.0808 and log2(3) = 1.585."""
    least = 200 * (2 - 0.0808 - 0.01 * 1.585)
    found = said(fitted(RUNS[0], 1, classes=4), result(RUNS[2], (0.2, 0.99), classes=4))
    assert found[BITS] == (
        True,
        "200 labels × log2(4) = 400 bits, 0.4 per parameter; "
        f"at 99.0 % training accuracy the 1,000 parameters hold at least {least:.0f} of them",
    )
    assert randomization._bits_of_a_label(1.0, 8) == 3
    assert randomization._bits_of_a_label(0.125, 8) == 0
    assert randomization._bits_of_a_label(0.05, 8) == 0
    assert math.isclose(randomization._bits_of_a_label(0.5, 2), 0)


def test_without_a_fit_the_weights_hold_less_and_the_sentence_is_not_known():
    found = said(fitted(RUNS[0], 1), result(RUNS[2], (0.1, 0.5)))
    holds, evidence = found[BITS]
    assert holds is None
    assert f"at least {200 * (math.log2(10) - 1 - 0.5 * math.log2(9)):.0f} of them" in evidence


def test_chance_after_true_labels_is_no_generalization():
    assert said(fitted(RUNS[0], 1, test=0.1), fitted(RUNS[2], 1, test=0.1))[GENERALIZE][0] is False
    assert said(fitted(RUNS[0], 1, test=0.9), fitted(RUNS[2], 1, test=0.5))[GENERALIZE][0] is False


LOW = (*[0.1] * 12, 0.3)
FLAT = [2.3, *[1.0] * 12]


@pytest.mark.parametrize(
    ("fields", "values", "reason"),
    [
        ({"learning_rate": 3.0}, {"status": "diverged"}, "it diverged at learning rate 3; try a lower one"),
        ({}, {"losses": [2.3] * 13}, "its loss stayed near that of a guess, 2.30: try another learning rate or"),
        (
            {},
            {"losses": [2.3 - 0.1 * i for i in range(13)]},
            "its loss was still falling, from 1.6 to 1.25 in its second",
        ),
        (
            {},
            {"losses": FLAT},
            "its loss no longer falls: try another learning rate, or a larger network than one of 1,000",
        ),
        ({"weight_decay": 0.1}, {"losses": FLAT}, "; weight decay 0.1 may keep it from fitting"),
        (
            {"dropout": 0.5, "augmentations": ("flip",)},
            {"losses": FLAT},
            "; augmentations flip and dropout 0.5 may keep",
        ),
    ],
)
def test_run_that_does_not_fit_says_why_it_may_not(fields, values, reason):
    true, random = (replace(run, **fields) for run in (RUNS[0], RUNS[2]))
    holds, evidence = said(fitted(true, 1), result(random, LOW, **values))[FIT_RANDOM]
    assert holds is False
    assert evidence.startswith("does not fit random labels: ")
    assert reason in evidence
    assert "docs/fitting.md" in evidence
    assert (Path(__file__).parents[2] / "docs" / "fitting.md").exists()


def test_table_and_figure_tell_levels_apart():
    results = tuple(fitted(run, 2 + i) for i, run in enumerate(RUNS))
    study = studies.Study(randomization.declare("a_test", RUNS).at("laptop"), results, Path("results"))
    times = study.table().query("metric == 'epochs_relative_to_true'")["mean"].tolist()
    assert times == [1, 1.5, 2]
    names = {text.get_text() for axes in study.figure().axes for text in axes.texts}
    assert {"true labels", "50% random labels", "random labels"} <= names


def test_an_older_result_that_does_not_say_its_parameters_is_no_error():
    """Results of a version that did not record them are adopted from other experiments: the check failed on NaN."""
    stayed = result(RUNS[2], accuracy=(0.1, 0.3, 0.3, 0.3), losses=[2.3, 2.0, 2.0, 2.0])
    new = ("num_params", "num_classes")
    older = [
        replace(each, provenance={name: value for name, value in each.provenance.items() if name not in new})
        for each in (fitted(RUNS[0], 4), stayed)
    ]
    told = said(*older)
    assert told[BITS] == (None, "results of an older version do not say how many parameters the network has")
    assert "no longer falls: try another learning rate, or a larger network for 200 labels" in told[FIT_RANDOM][1]
