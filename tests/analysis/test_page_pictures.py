"""The points that answer the pointer are where the lines are, and colors can be told apart on a dark page."""

import itertools
import re
from dataclasses import replace

import numpy as np
from frames import MLP, RANDOM, result, tidy
from matplotlib.colors import to_rgb

from rethink_gen.analysis import figures, page_pictures, style


def test_the_points_that_answer_are_where_the_lines_are_drawn():
    frame = tidy([result(MLP, (0.1, 0.6, 1.0))])
    shown = page_pictures.picture(figures.curves(frame, "step", "train_accuracy", hue="corruption"), "here")
    [line] = shown.lines
    assert [point[2:] for point in line["points"]] == [[0, 0.1], [390, 0.6], [780, 1]]
    paths = [np.array(re.findall(r"[\d.]+", path), float) for path in re.findall(r'd="(M[^"CZz]*)"', shown.svg)]
    points = np.array([point[:2] for point in line["points"]])
    assert sum(len(path) == points.size and np.abs(path - points.ravel()).max() < 0.06 for path in paths) == 1


def test_every_run_has_a_line_of_its_own_and_every_setting_a_switch():
    runs = [MLP, replace(MLP, seed=1), RANDOM]
    shown = page_pictures.picture(figures.runs(tidy([result(run, (0.1, 0.5, 1.0)) for run in runs])), "here")
    assert [name for name, _ in shown.switches] == ["true labels", "random labels"]
    assert [line["run"] for line in shown.lines] == [run.id for run in runs] * 2
    assert {line["y"] for line in shown.lines} == {"training accuracy", "test accuracy"}


def test_runs_that_differ_in_their_seeds_alone_are_drawn():
    """The first experiment of one's own ended the report with an error: nothing told its lines apart."""
    runs = [MLP, replace(MLP, seed=1)]
    shown = page_pictures.picture(figures.runs(tidy([result(run, (0.1, 0.5, 1.0)) for run in runs])), "here")
    assert [name for name, _ in shown.switches] == ["MLP 1×512"]
    assert [line["run"] for line in shown.lines] == [run.id for run in runs] * 2


def contrast(color, page):
    """Of WCAG 2: from 1, which cannot be seen, to 21; a line needs 3."""
    light = lambda x: x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4
    ours, theirs = (np.dot((0.2126, 0.7152, 0.0722), [*map(light, to_rgb(each))]) + 0.05 for each in (color, page))
    return max(ours, theirs) / min(ours, theirs)


def test_colors_can_be_seen_and_told_apart_on_a_dark_page():
    """Turned over, as they once were, very dark colors became the same pale one."""
    names, levels = list(style.LOOKS), [i / 5 for i in range(6)]
    colors = [style.LOOKS[name].color for name in names]
    kinds = (
        colors[:5],
        colors[5:10],
        colors[10:17],
        colors[17:31],
        colors[31:],
        style.PALETTE,
        [style.look(level, levels).color for level in levels],
    )
    for kind in kinds:
        shown = [page_pictures.dark_page(color) for color in kind]
        assert min(contrast(color, "#161a20") for color in shown) > 4
        assert min(np.hypot.reduce(np.subtract(*map(to_rgb, pair))) for pair in itertools.combinations(shown, 2)) > 0.1
    assert page_pictures.dark_page("#000000") == "#ededed"
    assert page_pictures.dark_page("#ffffff") == "#121212"
