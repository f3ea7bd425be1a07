"""Pairs of runs on true and random labels, and the figure of their times to fit."""

from dataclasses import replace

import pandas as pd
import pytest
from frames import MLP, RANDOM, result, tidy

from rethink_gen.analysis import fit_times

ALEXNET = {"model": "small_alexnet", "learning_rate": 0.01}


def fitted(run, epochs, test=0.5):
    """A run that reaches 99 % after so many epochs."""
    return result(run, train=(0.1,) * epochs + (0.995,), test=test)


@pytest.fixture
def frame():
    """An MLP with two seeds; an AlexNet that never fits random labels; one run that has no partner."""
    runs = [fitted(MLP, 2, test=0.4), fitted(RANDOM, 6, test=0.1)]
    runs += [fitted(replace(MLP, seed=1), 4, test=0.4), fitted(replace(RANDOM, seed=1), 4, test=0.1)]
    runs += [fitted(replace(MLP, **ALEXNET), 3), result(replace(RANDOM, **ALEXNET), train=(0.1, 0.2))]
    runs += [fitted(replace(RANDOM, model="mlp_3x512"), 3)]
    return tidy(runs)


def test_a_run_on_random_labels_is_joined_with_that_of_its_model_and_seed(frame):
    both = fit_times.pairs(frame).set_index(["model", "seed"])
    assert both.index.tolist() == [("mlp_1x512", 0), ("mlp_1x512", 1), ("small_alexnet", 0)]
    assert both["times_as_long"].tolist()[:2] == [3, 1]
    assert both["times_as_long"].isna().tolist() == [False, False, True]
    row = both.loc["mlp_1x512", 0]
    assert [row[name] for name in fit_times.METRICS] == [2, 6, 3, 0.995, 0.4, 0.1]


def test_the_number_of_parameters_is_there_if_the_results_hold_it(frame):
    assert set(fit_times.pairs(frame)["parameters"]) == {""}
    assert set(fit_times.pairs(frame.assign(num_params=1_209_866.0))["parameters"]) == {"1,209,866"}


def test_a_point_is_the_mean_over_seeds_and_a_family_that_has_not_fitted_is_named_below(frame):
    both = fit_times.pairs(frame)
    figure = fit_times.scatter(both.assign(family=both["model"]))
    [axes] = figure.axes
    points = {
        line.get_label(): line.get_xydata().tolist() for line in axes.lines if line.get_label() in set(both["model"])
    }
    assert points == {"mlp_1x512": [[3, 5]]}
    assert figure.get_supxlabel() == "Mean and range over 1–2 seeds. Not fitted: small_alexnet."


def test_a_figure_without_runs_says_so(frame):
    both = fit_times.pairs(frame[:0])
    assert fit_times.scatter(both.assign(family=both["model"])).get_supxlabel() == "No runs yet."


def test_names_of_near_points_do_not_cover_each_other(frame):
    both = fit_times.pairs(frame)[:1]
    near = [both.assign(family=f"network {i}", true_labels_epochs_to_fit=9 + 0.1 * i) for i in range(6)]
    figure = fit_times.scatter(pd.concat(near))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text().startswith("network")]
    assert len(boxes) == 6
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
