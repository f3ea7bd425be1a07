"""Figures hold what the frame holds, name their lines, and come out the same each time."""

import hashlib
import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from frames import MLP, RANDOM, result, seeds, tidy
from matplotlib.colors import to_rgb

from rethink_gen.analysis import figures, style, tables
from rethink_gen.errors import StorageError, UsageError

SLOW = (0.1, 0.2, 0.3, 0.5, 0.8, 1.0)
FAST = (0.1, 0.7, 0.9, 1.0, 1.0, 1.0)
BOTH = [result(MLP, FAST, test=0.5), result(RANDOM, SLOW, test=0.1)]
LEVELS = [
    result(replace(RANDOM, model=model, corruption_level=level), (0.1,) * steps + (1.0,), test=test)
    for model in ("mlp_1x512", "small_inception")
    for level, steps, test in ((0.0, 2, 0.8), (0.5, 3, 0.5), (1.0, 5, 0.1))
]


def texts(figure):
    """Every visible text of a figure."""
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def lines(axes):
    """The lines of the data, by color."""
    return {line.get_color(): np.array(line.get_xydata()) for line in data(axes)}


def data(axes):
    """The lines of the data, which are neither markers nor the thin lines that lead to names."""
    return [line for line in axes.get_lines() if len(line.get_xdata()) > 2 and line.get_linewidth() > 1]


def test_a_curve_is_the_mean_over_seeds_in_the_band_of_their_range():
    frame = tidy(seeds(MLP, "train", [(0.1, 0.5, 1.0), (0.1, 0.7, 1.0), (0.1, 0.9, 1.0)]))
    (axes,) = figures.curves(frame, "epoch", "train_accuracy", hue="corruption").axes
    assert lines(axes)["#0072B2"] == pytest.approx(np.array([[0, 0.1], [1, 0.7], [2, 1.0]]))
    band = axes.collections[0].get_paths()[0].vertices
    assert sorted(set(band[band[:, 0] == 1][:, 1])) == pytest.approx([0.5, 0.9])


def test_a_run_that_stopped_early_keeps_its_last_value():
    frame = tidy(seeds(MLP, "train", [(0.1, 1.0), (0.1, 0.4, 0.6)]))
    (axes,) = figures.curves(frame, "epoch", "train_accuracy", hue="corruption").axes
    assert lines(axes)["#0072B2"][:, 1] == pytest.approx([0.1, 0.7, 0.8])


def test_a_metric_without_a_value_at_first_begins_later():
    (axes,) = figures.curves(tidy(BOTH), "epoch", "running_accuracy", hue="corruption").axes
    assert lines(axes)["#0072B2"][0] == pytest.approx([1, 0.1])


def test_many_steps_are_written_with_a_comma():
    frame = tidy([result(MLP, FAST * 2)])
    (axes,) = figures.curves(frame, "step", "train_loss", hue="corruption").axes
    axes.figure.draw_without_rendering()
    assert axes.get_xlabel() == "steps"
    assert "2,000" in texts(axes)
    assert lines(axes)["#0072B2"][-1, 0] == 11 * 390


def test_diverged_runs_are_counted_and_not_drawn():
    frame = tidy([*BOTH, result(replace(MLP, seed=1), (0.1, 0.0, 0.0), status="diverged")])
    figure = figures.curves(frame, "epoch", "train_accuracy", hue="corruption")
    assert lines(figure.axes[0])["#0072B2"][:, 1] == pytest.approx(FAST)
    assert any("1 diverged run is not drawn" in text for text in texts(figure))


def test_small_print_says_how_many_seeds():
    say = lambda frame: texts(figures.curves(frame, "epoch", "train_accuracy", hue="corruption"))
    assert "One seed." in say(tidy(BOTH))
    assert "Mean and range over 2 seeds." in say(tidy(seeds(MLP, "test", [0.5, 0.6])))
    assert "Mean and range over 1–2 seeds." in say(
        tidy([*seeds(MLP, "test", [0.5, 0.6]), *seeds(RANDOM, "test", [0.1])])
    )
    assert "No runs yet." in say(tidy([]))


def test_small_print_says_what_points_are_that_are_no_means_over_seeds():
    drawn = figures.against(tidy(LEVELS), "corruption_level", "test_accuracy", hue="model", about="six points of mine")
    assert drawn.get_supxlabel() == "Six points of mine."


def test_runs_that_differ_in_more_than_their_seed_share_no_line():
    frame = tidy([result(MLP), result(replace(MLP, batch_size=64))])
    with pytest.raises(UsageError, match="batch_size"):
        figures.curves(frame, "epoch", "train_accuracy", hue="corruption")
    with pytest.raises(UsageError, match="batch_size"):
        figures.against(frame, "corruption_level", "test_error", hue="model")


def test_an_unknown_column_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'corruption'"):
        figures.curves(tidy(BOTH), "epoch", "train_accuracy", hue="corupption")


def test_a_second_metric_is_dashed_and_named():
    figure = figures.curves(tidy(BOTH), "epoch", "test_accuracy", hue="corruption", dashed="train_accuracy")
    styles = [line.is_dashed() for line in data(figure.axes[0])]
    assert sorted(styles) == [False, False, True, True]
    for name in ("true labels, test", "true labels, train", "random labels, test", "random labels, train"):
        assert name in texts(figure)
    assert figure.axes[0].get_ylabel() == "accuracy"


def test_time_to_fit_is_relative_to_level_zero():
    (axes,) = figures.against(tidy(LEVELS), "corruption_level", "steps_to_fit", hue="model", relative_to=0.0).axes
    assert lines(axes)["#009E73"] == pytest.approx(np.array([[0, 1], [0.5, 1.5], [1, 2.5]]))  # 2, 3 and 5 epochs


def test_a_run_that_never_fitted_is_an_open_triangle_at_the_bound_of_the_mean():
    fitted, never = (
        result(replace(RANDOM, corruption_level=0.7, seed=s), t) for s, t in ((0, (0.1, 1.0)), (1, [0.1] * 9))
    )
    figure = figures.against(tidy([*LEVELS, fitted, never]), "corruption_level", "epochs_to_fit", hue="model")
    (axes,) = figure.axes
    bounds = [line for line in axes.get_lines() if line.get_fillstyle() == "none" and len(line.get_xdata())]
    assert [tuple(line.get_xydata()[0]) for line in bounds] == [(0.7, 4.5)]  # 1 epoch and 8
    assert np.isnan(lines(axes)["#009E73"][:, 1]).tolist() == [False, False, True, False]
    assert any("Triangles: not fitted" in text for text in texts(figure))


def test_a_line_without_a_baseline_is_left_out_and_named():
    never = result(replace(RANDOM, model="small_alexnet", corruption_level=0.0), (0.1,) * 9)
    figure = figures.against(tidy([*LEVELS, never]), "corruption_level", "steps_to_fit", hue="model", relative_to=0.0)
    assert any("No line for AlexNet, which has not fitted at label corruption 0" in text for text in texts(figure))


def test_theory_is_a_line_through_the_points_that_were_measured_with_one_name():
    frame = tidy(LEVELS).assign(predicted=0.5)
    figure = figures.against(frame, "corruption_level", "test_accuracy", hue="model", theory="predicted")
    (axes,) = figure.axes
    points = [line for line in axes.get_lines() if line.get_linestyle() == "None" and len(line.get_xdata()) == 3]
    theory = [line for line in data(axes) if line.get_linestyle() == "-"]
    assert sorted(line.get_ydata()[0] for line in points if line.get_marker() != "^") == [0.8, 0.8]
    assert [line.get_ydata().tolist() for line in theory] == [[0.5] * 3] * 2
    assert sorted(text.get_text() for text in axes.texts) == ["Inception", "MLP 1×512"]
    assert any("Points: measured; lines: theory." in text for text in texts(figure))


def test_the_threshold_is_named_above_every_panel():
    figure = figures.against(
        tidy(LEVELS), "corruption_level", ["test_accuracy", "train_accuracy"], hue="model", threshold=0.5, top=0.9
    )
    assert texts(figure).count("interpolation threshold") == 2
    for axes in figure.axes:
        assert axes.get_ylim() == (0, 0.9)
        assert any(list(line.get_xdata()) == [0.5, 0.5] for line in axes.get_lines())


def test_a_line_may_turn_back_and_is_dashed_beyond_the_turn():
    """Of two seeds, the points 1 to 5 lie at x = 10, 20, 40, 30 and 20, in this order; the seeds' mean is 0.5 more."""
    xs, losses = np.array([10, 20, 40, 30, 20]), np.array([3.0, 4, 5, 2, 1])
    of_seed = [{"seed": seed, "size": range(1, 6), "effective": xs + seed, "loss": losses} for seed in (0, 1)]
    frame = pd.concat(map(pd.DataFrame, of_seed)).assign(family="trees", last=True, status="finished")
    figure = figures.turning(frame, ["size", "effective"], "loss", along="size", turn=3, hue="family", top=4.5)
    for axes, x in zip(figure.axes, (np.arange(1, 6), xs + 0.5), strict=True):
        full, dashed = data(axes)
        np.testing.assert_array_equal(full.get_xydata(), np.column_stack([x, losses])[:3])
        np.testing.assert_array_equal(dashed.get_xydata(), np.column_stack([x, losses])[2:])
        assert [line.is_dashed() for line in (full, dashed)] == [False, True]
        assert axes.get_ylim()[1] == 4.5
    assert figure.axes[1].get_xlim()[1] == 1.5 * 30.5, "the point at 40 is above the top"
    assert texts(figure).count("the second axis begins") == 1
    assert "Full: first axis; dashed: second axis." in "".join(texts(figure))


def test_numbers_of_others_are_a_line_of_their_own():
    theirs = pd.DataFrame({"test_accuracy": [0.7, 0.2]}, index=[0.0, 1.0])
    figure = figures.against(
        tidy(LEVELS), "corruption_level", ["test_accuracy", "steps_to_fit"], hue="model", beside=("Others", theirs)
    )
    shown = [line for line in figure.axes[0].get_lines() if line.get_label() == "Others" and len(line.get_xdata()) == 2]
    assert [line.get_ydata().tolist() for line in shown] == [[0.7, 0.2]]
    assert not [line for line in figure.axes[1].get_lines() if line.get_label() == "Others"]


def test_dots_show_ours_and_the_papers_in_per_cent():
    table = tables.beside_paper(tidy(seeds(MLP, "test", [0.5, 0.52])), "table1")
    figure = figures.dots(table[table["model"] == "mlp_1x512"])
    (_, test) = figure.axes
    ours = [line.get_xdata()[0] for line in test.get_lines() if line.get_marker() == "o"]
    bars = [line.get_xdata()[0] for line in test.get_lines() if line.get_color() == "#000000"]
    assert ours == pytest.approx([51])
    assert bars == pytest.approx([50.39, 50.51, 10.61])
    assert {"MLP 1×512", "true labels, weight decay", "true labels", "random labels"} <= set(texts(figure))


def test_dots_put_metrics_that_are_alone_in_one_panel_and_words_for_words():
    table = tables.beside_paper(tidy([result(replace(RANDOM, weight_decay=1e-4))]), "table4")
    figure = figures.dots(table)
    assert len(figure.axes) == 1
    assert "paper: failed to converge" in texts(figure)


@pytest.mark.parametrize("name", ["_hidden", "$x^{", 'a_b<c>&"d"', r"\frac", "%s {} [0]"])
def test_hostile_names_are_shown_as_they_are(name):
    frame = tidy(BOTH)
    frame["corruption"] = frame["corruption"].replace({"random_labels": name})
    for metrics in ("train_accuracy", "test_loss"):  # lines apart, lines in one place
        figure = figures.curves(frame, "epoch", metrics, hue="corruption")
        assert name.replace("a_b", "a b") in texts(figure)
        for kind in figures.KINDS:
            assert figures.draw(figure, kind)


def names(axes):
    """The texts right of a panel and their boxes, from the top down."""
    axes.figure.draw_without_rendering()
    boxes = {text.get_text(): text.get_window_extent() for text in axes.texts}
    assert all(box.x0 > axes.bbox.x1 for box in boxes.values())
    return dict(sorted(boxes.items(), key=lambda item: -item[1].y0))


def test_names_stand_beside_the_ends_of_their_lines():
    axes = figures.curves(tidy(BOTH), "epoch", ["train_loss", "test_accuracy"], hue="corruption").axes
    assert not axes[0].texts
    for name, end in (("true labels", 0.5), ("random labels", 0.1)):
        box = names(axes[1])[name]
        assert box.y0 < axes[1].transData.transform((0, end))[1] < box.y1


def test_names_of_lines_that_end_together_are_in_the_order_of_the_lines():
    middle = replace(MLP, corruption="gaussian")
    frame = tidy([result(MLP, FAST), result(middle, (0.1, 0.6, 0.8, 1.0, 1.0, 1.0)), result(RANDOM, SLOW)])
    for metric, order in (("train_loss", -1), ("train_accuracy", 1)):
        (axes,) = figures.curves(frame, "epoch", metric, hue="corruption").axes
        assert list(names(axes))[::order] == ["true labels", "Gaussian", "random labels"]


@pytest.mark.parametrize("end", [0.0, 0.5, 1.0])
def test_names_in_a_crowd_do_not_overlap(end):
    crowd = [result(replace(MLP, corruption=f"number_{i}"), (0.1, 0.2, end)) for i in range(14)]
    (axes,) = figures.curves(tidy(crowd), "epoch", "train_accuracy", hue="corruption").axes
    boxes = list(names(axes).values())
    assert len(boxes) == 14
    assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))
    assert boxes[-1].y1 > axes.bbox.y0
    assert boxes[0].y0 < axes.bbox.y1


def test_a_line_without_points_has_no_name():
    frame = tidy([BOTH[0], result(RANDOM, status="diverged")])
    (axes,) = figures.curves(frame, "epoch", "train_accuracy", hue="corruption").axes
    assert list(names(axes)) == ["true labels"]


def test_settings_of_a_model_stand_together_below_its_name():
    (axes,) = figures.dots(tables.beside_paper(tidy([]), "table4")).axes
    ticks = [text.get_text() for text in sorted(axes.get_yticklabels(), key=lambda text: text.get_position()[1])]
    assert ticks[:4] == [
        "Inception",
        "random labels, weight decay, train accuracy",
        "random labels, random crop, running accuracy",
        "random labels, flip, rotation, running accuracy",
    ]


def test_a_name_has_the_same_look_in_every_figure_and_a_new_name_has_one():
    first = figures.curves(tidy(BOTH), "epoch", "train_accuracy", hue="corruption").axes[0]
    second = figures.curves(tidy(BOTH[1:]), "step", "train_loss", hue="corruption").axes[0]
    assert lines(first).keys() == {"#0072B2", "#D55E00"}
    assert lines(second).keys() == {"#D55E00"}
    frame = tidy([result(replace(MLP, corruption="flipped_labels"), FAST)])
    (new,) = lines(figures.curves(frame, "epoch", "train_accuracy", hue="corruption").axes[0])
    both = tidy([*BOTH, result(replace(MLP, corruption="flipped_labels"), FAST)])
    assert new in lines(figures.curves(both, "epoch", "train_accuracy", hue="corruption").axes[0])


def test_names_of_one_figure_that_would_share_a_color_get_two():
    """mixup and cross-entropy were drawn in one olive; seven colors are as many as there are."""
    names = ["mixup", "cross-entropy", "ELR", "GCE"]
    assert style.look("mixup").color == style.look("cross-entropy").color
    assert len({style.look(name, names).color for name in names}) == 4
    assert len({style.look(str(i), [str(i) for i in range(7)]).color for i in range(7)}) == 7
    assert style.look("cross-entropy", names) == style.look("cross-entropy"), "the first keeps its own"


def test_looks_of_one_kind_differ_in_color_marker_and_contrast():
    names = list(style.LOOKS)
    for kind in (names[:5], names[5:10], names[10:17], names[31:]):  # corruptions, models, regularizers, regimes
        looks = [style.LOOKS[name] for name in kind]
        assert len({look.color for look in looks}) == len({look.marker for look in looks}) == len(kind)
    learners = names[17:31]  # more than there are markers
    assert len({style.LOOKS[name].color for name in learners}) == len(learners)
    for look in style.LOOKS.values():
        red, green, blue = to_rgb(style.dark(look.color))
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.6  # dark enough for text on white


def test_numbers_as_hue_go_from_dark_to_light():
    colors = [style.look(level, (0.0, 0.5, 1.0)).color for level in (0.0, 0.5, 1.0)]
    brightness = [sum(to_rgb(color)) for color in colors]
    assert brightness == sorted(brightness)


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_the_same_frame_gives_the_same_bytes_whatever_the_users_settings(kind, tmp_path):
    draw = lambda: figures.against(tidy(LEVELS), "corruption_level", "test_error", hue="model", chance=0.9)
    path = figures.save(draw(), tmp_path / f"new/figure.{kind}")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": "other"}):
        assert figures.draw(draw(), kind) == path.read_bytes()


def test_a_figure_is_the_same_in_another_process():
    code = """
import hashlib, sys
sys.path[:0] = ["tests", "tests/analysis"]
from test_figures import BOTH, figures, tidy
figure = figures.curves(tidy(BOTH), "epoch", "test_accuracy", hue="corruption")
print(hashlib.sha256(figures.draw(figure, "svg")).hexdigest())
"""
    here = figures.draw(figures.curves(tidy(BOTH), "epoch", "test_accuracy", hue="corruption"), "svg")
    root = Path(__file__).parents[2]
    there = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert there.stdout.strip() == hashlib.sha256(here).hexdigest()


def test_a_logarithmic_axis_shows_the_same_points_and_names_powers_of_ten_plainly():
    frame = tidy([result(replace(RANDOM, train_size=n), FAST, test=1 / n) for n in (10, 1000, 10_000)])
    frame = frame.assign(num_train=frame["train_size"])
    (axes,) = figures.against(frame, "num_train", "test_accuracy", hue="model", log="xy").axes
    assert next(iter(lines(axes).values())) == pytest.approx(np.array([[10, 0.1], [1000, 0.001], [10_000, 0.0001]]))
    axes.figure.draw_without_rendering()
    assert {"10", "100", "1,000", "10,000", "0.01"} <= set(texts(axes))
    end = axes.transData.transform((10_000, 0.0001))[1]
    box = names(axes)["MLP 1×512"]
    assert box.y0 < end < box.y1


def test_metrics_of_whole_runs_have_a_panel_each():
    figure = figures.against(tidy(LEVELS), "corruption_level", ["test_error", "steps_to_fit"], hue="model")
    assert [axes.get_ylabel() for axes in figure.axes] == ["test error", "steps to fit"]
    assert [len(lines(axes)) for axes in figure.axes] == [2, 2]


def test_a_number_as_hue_is_named_with_what_it_is():
    frame = tidy([result(replace(RANDOM, momentum=momentum), FAST) for momentum in (0.0, 0.9)])
    (axes,) = figures.curves(frame, "epoch", "train_accuracy", hue="momentum").axes
    assert sorted(names(axes)) == ["momentum 0", "momentum 0.9"]


def test_a_figure_that_cannot_be_saved_says_why(tmp_path):
    figure = figures.curves(tidy(BOTH), "epoch", "train_accuracy", hue="corruption")
    with pytest.raises(UsageError, match=r"known: \.pdf, \.png, \.svg"):
        figures.save(figure, tmp_path / "figure.jpeg")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        figures.save(figure, tmp_path / "file" / "figure.png")


def test_no_runs_give_an_empty_figure():
    empty = tidy([])
    assert figures.draw(figures.curves(empty, "step", ["train_accuracy", "test_accuracy"], hue="corruption"), "png")
    assert figures.draw(figures.against(empty, "corruption_level", "steps_to_fit", hue="model", relative_to=0.0), "png")
    assert figures.draw(figures.dots(tables.beside_paper(empty, "table1")), "png")


def test_of_very_many_runs_the_first_of_each_setting_are_drawn(monkeypatch):
    monkeypatch.setattr(figures, "MOST_LINES", 4)
    many = tidy([*seeds(MLP, "test", [0.5] * 3), *seeds(RANDOM, "test", [0.1] * 3)])
    figure = figures.runs(many)
    assert [len(axes.lines) for axes in figure.axes] == [4, 4]
    assert figure.get_supxlabel() == "The first 2 runs of each setting."
    assert [len(axes.lines) for axes in figures.runs(many[many["corruption"] == "true_labels"]).axes] == [3, 3]
