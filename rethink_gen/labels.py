"""Names written beside their lines, where a reader's eye already is; a legend only where there is no room."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

# In heights of a label:
REACH = (0.6, 1.4, 2.4)  # distances from a line at which its label may stand; the far ones need a leader
CLEAR = 0.4  # between a label and any line, so that markers stay free
SAME = 0.7  # lines nearer than this, for most of their length and at the end, are one to the eye: either name is right
SIDES = [(a / 2, b / 2) for a in range(-2, 3) for b in range(-2, 3) if max(abs(a), abs(b)) == 2]  # around a point


class Label(NamedTuple):
    text: str
    color: str
    line: Line2D


class Place(NamedTuple):
    """Where a label goes, in pixels, and how good that is."""

    score: float
    center: np.ndarray
    anchor: np.ndarray
    reach: float


def label_lines(figure: Figure, panels: list[Axes], labels: list[list[Label]]) -> None:
    """Names each line in the first panel where all names find room clear of lines and of each other; else a legend."""
    if max(map(len, labels), default=0) < 2:
        return
    figure.draw_without_rendering()  # fixes the layout, so that pixels mean something
    for wrap in (False, True):
        for axes, lines in zip(panels, labels, strict=True):
            shown = [line._replace(text=line.text.replace(" ", "\n", 1)) for line in lines] if wrap else lines
            if len(lines) > 1 and (places := _places(axes, shown)):
                for line, place in zip(shown, places, strict=True):
                    _write(axes, line, place)
                return
    _legend(figure, max(labels, key=len))


def _places(axes: Axes, lines: list[Label]) -> list[Place] | None:
    """A place for every label, found greedily: the label with the fewest good places first; None if one has none."""
    import numpy as np

    sizes = [_size(axes, line.text) for line in lines]
    height = _size(axes, "x y")[1]
    paths = [_path(axes, line.line, height / 2) for line in lines]
    drawn = np.concatenate([*(_path(axes, line, height / 2) for line in axes.get_lines()), *map(_corners, axes.texts)])
    found = {i: _candidates(axes, paths, i, drawn, sizes[i], height) for i in range(len(lines))}
    places: dict[int, Place] = {}
    while found:
        i = min(found, key=lambda i: (len(found[i]), i))
        if not found[i]:
            return None
        places[i] = best = max(found.pop(i), key=lambda place: place.score)
        for j, others in found.items():
            room = (sizes[i] + sizes[j]) / 2 + 0.2 * height
            found[j] = [place for place in others if (np.abs(place.center - best.center) > room).any()]
    return [places[i] for i in range(len(lines))]


def _candidates(
    axes: Axes, paths: list[np.ndarray], i: int, drawn: np.ndarray, size: np.ndarray, height: float
) -> list[Place]:
    """The places for label i that cover nothing drawn and are nearer to its own line than to any other.

    Near its line beats far, then clear of the others, then to the right, where lines end.
    """
    import numpy as np

    own = paths[i]
    if not len(own):
        return []
    others = [path for j, path in enumerate(paths) if j != i and len(path)]
    apart = [path for path in others if not _same(own, path, SAME * height)]
    rivals = np.concatenate([*apart, np.empty((0, 2))])
    anchors = own[np.linspace(0, len(own) - 1, 60).round().astype(int)]
    low, high = np.array(axes.bbox.min) + 0.2 * height, np.array(axes.bbox.max) - 0.1 * height
    places = []
    for reach in REACH:
        for side in SIDES:
            centers = anchors + np.array(side) * (size / 2 + reach * height)
            keep: np.ndarray = (centers - size / 2 > low).all(1) & (centers + size / 2 < high).all(1)
            keep[keep] = _box_distance(centers[keep], size, drawn) > CLEAR * height
            mine = _box_distance(centers[keep], size, own) / height
            theirs = _box_distance(centers[keep], size, rivals) / height
            for center, anchor, near, far in zip(centers[keep], anchors[keep], mine, theirs, strict=True):
                if far > 1.3 * near + 0.2 and (reach == REACH[0] or _clear(anchor, center, rivals, height)):
                    right = (center[0] - axes.bbox.x0) / axes.bbox.width
                    score = min(far, 1.5) - 1.5 * max(near, 0.8) + 0.5 * right - 3 * (reach > REACH[0])
                    places.append(Place(float(score), center, anchor, reach))
    return places


def _write(axes: Axes, line: Label, place: Place) -> None:
    from matplotlib.patheffects import withStroke

    to_data = axes.transData.inverted()
    (x, y), (tip_x, tip_y) = to_data.transform([place.center, place.anchor])
    if place.reach > REACH[0]:
        axes.plot([x, tip_x], [y, tip_y], color=line.color, linewidth=0.6, zorder=2.5)
    halo = [withStroke(linewidth=2, foreground="white")]
    text = axes.text(x, y, line.text, color=line.color, ha="center", va="center", path_effects=halo, parse_math=False)
    text.set_in_layout(False)


def _legend(figure: Figure, lines: list[Label]) -> None:
    columns = min(len(lines), 3)  # more would be wider than a panel
    legend = figure.legend([line.line for line in lines], ["."] * len(lines), loc="outside upper center", ncols=columns)
    for text, line in zip(
        legend.get_texts(), lines, strict=True
    ):  # as given to legend(), a name like "_a" would be dropped
        text.set(text=line.text, color=line.color, parse_math=False)


def _size(axes: Axes, text: str) -> np.ndarray:
    """Width and height of a text, in pixels."""
    import numpy as np

    artist = axes.text(0, 0, text, parse_math=False)
    extent = artist.get_window_extent()
    artist.remove()
    return np.array([extent.width, extent.height])


def _path(axes: Axes, line: Line2D, step: float) -> np.ndarray:
    """float[N, 2]: points along a line, a step of pixels apart, those within the axes."""
    import numpy as np

    points = line.get_transform().transform(line.get_xydata())
    points = points[np.isfinite(points).all(1)]
    pieces = [
        a + (b - a) * np.linspace(0, 1, max(2, int(np.hypot(*(b - a)) / step) + 1))[:, None]
        for a, b in itertools.pairwise(points)
    ]
    path = np.concatenate([*pieces, points])
    return path[((path >= np.array(axes.bbox.min) - 1) & (path <= np.array(axes.bbox.max) + 1)).all(1)]


def _corners(text: Text) -> np.ndarray:
    import numpy as np

    return np.array(text.get_window_extent().corners())


def _same(a: np.ndarray, b: np.ndarray, limit: float) -> bool:
    near = _distance(a, b) < limit
    return bool(near.mean() > 0.8 and near[-1])


def _distance(points: np.ndarray, path: np.ndarray) -> np.ndarray:
    """From each point to the nearest of a path."""
    import numpy as np

    return _box_distance(points, np.zeros(2), path)


def _box_distance(centers: np.ndarray, size: np.ndarray, points: np.ndarray) -> np.ndarray:
    """From each box to the nearest point; 0 inside, infinite without points."""
    import numpy as np

    if not len(points):
        return np.full(len(centers), np.inf)
    width, height = (
        np.maximum(np.abs(np.subtract.outer(centers[:, i], points[:, i])) - size[i] / 2, 0) for i in (0, 1)
    )
    return np.sqrt((width * width + height * height).min(1))


def _clear(start: np.ndarray, end: np.ndarray, path: np.ndarray, height: float) -> bool:
    """Whether a leader crosses no other line."""
    import numpy as np

    if not len(path):
        return True
    leader = start + (end - start) * np.linspace(0, 1, 20)[:, None]
    return bool(_distance(leader, path).min() > 0.25 * height)
