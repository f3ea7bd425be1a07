"""A figure as an SVG of a page: its lines answer the pointer, and its colors can be those of a dark page."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup

from rethink_gen.analysis import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SVG = "{http://www.w3.org/2000/svg}"
COLOR = re.compile(r"#[0-9a-f]{6}\b")  # as matplotlib writes them in an svg


class Picture(NamedTuple):
    """A figure for the page: `switches` are names and colors of its lines, `lines` what the script knows of them."""

    svg: Markup
    switches: list[tuple[str, str]]
    lines: list[dict[str, Any]]


def picture(figure: Figure, prefix: str) -> Picture:
    """A figure with what a script needs to answer the pointer; all that belongs to line k has `data-line="k"`.

    A line is what artists of one label draw, whoever drew the figure: `axes.plot(..., label="MLP 1×512")`.
    """
    artists: list[tuple[Axes, Any]] = [
        (axes, artist)
        for axes in figure.axes
        for artist in axes.get_children()
        if artist.get_label() and not str(artist.get_label()).startswith("_")  # which is what matplotlib calls the rest
    ]
    runs = [artist.get_gid() or "" for _, artist in artists]
    for i, (_, artist) in enumerate(artists):
        artist.set_gid(f"line-{i}")
    root = ElementTree.fromstring(figures.draw(figure, "svg", inline=True))
    colors: dict[str, str] = {}  # of each line; its place is the number of the line
    lines = []
    for run, (axes, artist) in zip(runs, artists, strict=True):
        if _is_curve(axes, artist) and (points := _points(figure, artist)):
            name = str(artist.get_label())
            colors.setdefault(name, _color(artist))
            axis = {"x": axes.get_xlabel(), "y": axes.get_ylabel()}
            lines.append({"line": list(colors).index(name), "run": run, **axis, "points": points})
    names = {f"line-{i}": str(artist.get_label()) for i, (_, artist) in enumerate(artists)}
    _for_a_page(root, prefix, {gid: list(colors).index(name) for gid, name in names.items() if name in colors})
    return Picture(Markup(ElementTree.tostring(root, encoding="unicode")), list(colors.items()), lines)


def dark_page(color: str) -> str:
    """What a color of a figure becomes on a dark page: of the same hue, light and full; a gray is turned over."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    shown = (hue, 0.5 + 0.4 * lightness, max(saturation, 0.6)) if saturation else (0, 0.93 - 0.86 * lightness, 0)
    parts = colorsys.hls_to_rgb(*shown)
    return "#" + "".join(f"{round(255 * part):02x}" for part in parts)


def _named(found: re.Match[str]) -> str:
    """A color as one that the style of a dark page can change; elsewhere it stays what it is."""
    return f"var(--{found[0][1:]}, {found[0]})"


def _for_a_page(root: ElementTree.Element, prefix: str, places: Mapping[str, int]) -> None:
    """Marks the parts of each line, and gives an svg a size and ids of its own; `prefix` is the id of its caption."""
    root.attrib.pop("height")
    root.attrib |= {"role": "img", "aria-labelledby": prefix}
    root.set("width", f"{1.5 * float(root.attrib['width'].removesuffix('pt')):.0f}")
    for parent in list(root.iter()):
        parent.tag = parent.tag.removeprefix(SVG)  # HTML knows it, and takes no prefixes
        for child in list(parent):
            if child.tag == f"{SVG}style" or child.tag.endswith("metadata"):
                parent.remove(child)
        for name, value in list(parent.attrib.items()):
            if name == "id" and value in places:
                parent.set("data-line", str(places[value]))
            if name == "id" and parent.tag not in ("path", "clipPath"):  # which alone are referred to
                del parent.attrib["id"]
            elif name == "id":
                parent.set("id", f"{prefix}-{value}")
            elif name.endswith("}href"):
                del parent.attrib[name]
                parent.set("href", f"#{prefix}-{value.removeprefix('#')}")
            elif name == "style":
                parent.set(name, COLOR.sub(_named, value))
            elif value.startswith("url(#"):
                parent.set(name, f"url(#{prefix}-{value.removeprefix('url(#')}")


def _is_curve(axes: Axes, artist: Any) -> bool:
    """Whether an artist is a line of data, and neither a band nor what leads to a name."""
    from matplotlib.lines import Line2D

    return isinstance(artist, Line2D) and artist.get_transform().contains_branch(axes.transData)


def _color(line: Any) -> str:
    from matplotlib.colors import to_hex

    return to_hex(line.get_color())


def _points(figure: Figure, line: Any) -> list[list[float]]:
    """[x in the svg, y in the svg, x, y] of each point that a line shows, once it has been drawn."""
    import numpy as np

    data = np.asarray(line.get_xydata(), float)
    data = data[np.isfinite(data).all(axis=1)]
    seen = line.get_transform().transform(data) * 72 / figure.dpi
    seen[:, 1] = figure.get_figheight() * 72 - seen[:, 1]
    values = [[float(f"{value:.6g}") for value in row] for row in data]
    return [[*place, *row] for place, row in zip(seen.round(1).tolist(), values, strict=True)]
