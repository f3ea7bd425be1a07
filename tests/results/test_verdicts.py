"""Mean, interval and verdict: expected values by hand, from a table of Student's t, or through scipy.stats."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from frames import MLP, RANDOM, result, seeds, tidy
from hypothesis import given, settings
from hypothesis import strategies as st

from rethink_gen.errors import UsageError
from rethink_gen.results.result import FIT_THRESHOLD
from rethink_gen.results.verdicts import Summary, differing, is_fraction, same_scale, summarize, verdict


def one(mean, **others):
    return Summary(mean=mean, **{"n": 1, **others})


def test_three_seeds_have_their_mean_and_students_interval():
    summary = summarize(tidy(seeds(MLP, "test", [0.50, 0.52, 0.54])), "test_accuracy")
    assert (summary.n, summary.interval) == (3, "seeds")
    assert summary.mean == pytest.approx(0.52)
    assert summary.spread == pytest.approx(0.02)
    half = 4.302653 * 0.02 / math.sqrt(3)  # t(0.975, 2 degrees of freedom), from a table
    assert (summary.low, summary.high) == pytest.approx((0.52 - half, 0.52 + half))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.3, 0.7), min_size=2, max_size=6, unique=True))
def test_interval_is_scipys(values):
    if np.std(values) < 1e-9:
        return  # so close together that scipy's own interval is rounding error
    summary = summarize(tidy(seeds(MLP, "test", values)), "test_accuracy")
    low, high = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
    assert (summary.low, summary.high) == pytest.approx((max(low, 0), min(high, 1)))


def test_one_seed_has_wilsons_interval_over_the_test_images():
    frame = tidy([result(MLP, test=0.5, num_test=10_000)])
    summary = summarize(frame, "test_accuracy")
    expected = scipy.stats.binomtest(5_000, 10_000).proportion_ci(method="wilson")
    assert (summary.n, summary.interval) == (1, "test images")
    assert (summary.low, summary.high) == pytest.approx((expected.low, expected.high))
    assert math.isnan(summary.spread)
    training = summarize(frame, "train_accuracy")  # no sample of anything
    assert training.interval == ""
    assert math.isnan(training.low)


@pytest.mark.parametrize("accuracy", [0.0, 1.0])
def test_wilsons_interval_stays_within_0_and_1(accuracy):
    summary = summarize(tidy([result(MLP, test=accuracy, num_test=20)]), "test_accuracy")
    assert 0 <= summary.low <= accuracy <= summary.high <= 1
    assert summary.low < summary.high


def test_equal_seeds_have_an_interval_of_width_zero():
    summary = summarize(tidy(seeds(MLP, "test", [0.1, 0.1, 0.1])), "test_accuracy")
    assert summary == Summary(0.1, 0.1, 0.1, "seeds", 0.0, n=3, fitted=3)


def test_intervals_of_fractions_are_clipped_and_others_are_not():
    frame = tidy(seeds(MLP, "train", [(0.1, 0.99), (0.1, 1.0)]))
    assert summarize(frame, "train_accuracy").high == 1
    assert summarize(frame, "train_loss").low < 0
    gaps = tidy(seeds(MLP, "test", [0.9, 1.0]))  # train 1.0: gaps 0.1 and 0
    assert summarize(gaps, "generalization_gap").low == pytest.approx(0.05 - 12.7062 * 0.05)


@pytest.mark.parametrize("values", [[1.5], [1.4, 1.6], [0.9, 1.6]])
def test_errors_above_one_are_no_fractions(values):
    """Wilson's interval of one such run was a math domain error, and intervals of several ended below their mean."""
    frame = tidy(seeds(MLP, "test", [0.5] * len(values)))
    frame.loc[frame["last"], "test_error_of_mine"] = values
    summary = summarize(frame, "test_error_of_mine")
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.interval == ("seeds" if len(values) > 1 else "")
    assert not summary.high < summary.mean


def test_a_share_that_rounding_makes_negative_is_a_fraction():
    """`train_confused` is 1 minus two accuracies."""
    frame = tidy(seeds(MLP, "test", [0.5, 0.5]))
    frame.loc[frame["last"], "train_confused"] = [1 - 0.9 - 0.1, 0.01]
    assert 1 - 0.9 - 0.1 < 0
    assert summarize(frame, "train_confused").low == 0


def test_mean_squared_errors_are_no_fractions():
    """Those of an IdentityRun were shown in per cent, and their interval was one of so many test images."""
    assert not is_fraction("test_error_to_input")
    assert not is_fraction("noise_error_to_trained")
    assert is_fraction("test_error")
    assert is_fraction("train_error_untouched")


def test_diverged_runs_are_counted_and_not_averaged():
    frame = tidy(
        [*seeds(MLP, "test", [0.5, 0.6]), result(replace(MLP, seed=2), train=(0.1, 0.2), test=0.1, status="diverged")]
    )
    summary = summarize(frame, "test_accuracy")
    assert (summary.n, summary.diverged, summary.runs, summary.fitted) == (2, 1, 3, 2)
    assert summary.mean == pytest.approx(0.55)


def test_runs_that_never_fitted_are_counted_and_not_averaged():
    frame = tidy(seeds(MLP, "train", [(0.1, 0.5, 1.0), (0.1, 0.5, 0.6)]))
    summary = summarize(frame, "epochs_to_fit")
    assert (summary.mean, summary.n, summary.censored, summary.fitted) == (2.0, 1, 1, 1)


def test_runs_without_any_value_have_no_mean():
    summary = summarize(tidy(seeds(MLP, "train", [(0.1, 0.2)])), "epochs_to_fit")
    assert (summary.n, summary.censored) == (0, 1)
    assert math.isnan(summary.mean)
    assert summarize(tidy([]), "epochs_to_fit") == pytest.approx(Summary(), nan_ok=True)


def test_only_runs_that_differ_in_their_seed_are_averaged():
    frame = tidy([result(MLP), result(replace(MLP, seed=1, weight_decay=0.1, batch_size=64))])
    assert differing(frame) == ["batch_size", "weight_decay"]
    assert differing(frame[["last"]]) == [], "of a frame without any field"
    with pytest.raises(UsageError, match="batch_size, weight_decay"):
        summarize(frame, "test_accuracy")


@pytest.mark.parametrize(
    ("ours", "paper", "expected"),
    [
        (0.5339, 0.5239, "reproduced"),  # one point, and a rounding error above
        (0.5239, 0.5340, "close"),
        (0.5539, 0.5239, "close"),  # three points
        (0.5540, 0.5239, "off"),
        (0.9933, 0.9934, "reproduced"),
    ],
)
def test_verdict_is_by_distance_in_percentage_points(ours, paper, expected):
    assert verdict(one(ours), paper) == verdict(one(paper), ours) == expected


def test_verdict_of_a_failure_to_converge_asks_whether_a_seed_fitted():
    assert verdict(one(0.1), "failed to converge") == "reproduced"
    assert verdict(one(0.1, n=2, fitted=1), "failed to converge") == "off"
    assert verdict(one(math.nan, n=0, diverged=2), "failed to converge") == "reproduced"
    fits, fails = ((0.1, FIT_THRESHOLD), (0.1, FIT_THRESHOLD - 0.001))
    assert (
        verdict(summarize(tidy(seeds(RANDOM, "train", [fails])), "train_accuracy"), "failed to converge")
        == "reproduced"
    )
    assert (
        verdict(summarize(tidy(seeds(RANDOM, "train", [fails, fits])), "train_accuracy"), "failed to converge") == "off"
    )


def test_verdict_is_off_where_as_many_seeds_diverged_as_finished():
    assert verdict(one(0.5, n=2, diverged=1), 0.5) == "reproduced"
    assert verdict(one(0.5, n=2, diverged=2), 0.5) == "off"
    assert verdict(one(math.nan, n=0, diverged=1), 0.5) == "off"


def test_no_verdict_without_runs_or_at_another_scale():
    assert verdict(Summary(), 0.5) == verdict(Summary(), 0.5, same_scale=False) == "not run"
    assert verdict(one(0.5), 0.5, same_scale=False) == "other scale"


@pytest.mark.parametrize("change", [{"dataset": "digits"}, {"train_size": 512}, {"test_size": 512}])
def test_part_of_the_data_or_other_data_are_another_scale(change):
    assert same_scale(tidy([result(MLP)]), "cifar10")
    assert not same_scale(tidy([result(replace(MLP, **change))]), "cifar10")
    assert not same_scale(tidy([result(MLP)], scale="laptop"), "cifar10")


def test_missing_numbers_of_a_users_own_frame_differ_from_numbers_and_not_from_each_other():
    frame = pd.DataFrame({"epochs": pd.array([1, None], "Int64"), "train_size": pd.array([None, None], "Int64")})
    assert differing(frame) == ["epochs"]
