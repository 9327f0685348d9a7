"""Where a drawn map and what explains it stand on the page: the grid alone decides, so that maps of one scan match."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

DPI = 200
MAP_INCHES = 6.5  # long side of a map
LEFT, TOP, RIGHT = 0.12, 0.46, 1.25  # inches around it: two lines of title above, a colour bar or triangle at the right
LEGEND, TWO_ROWS = 0.38, 0.56  # inches below it, for one or two rows of a legend
_WIDE = 3.2  # inches of a map whose page holds the legend of boundaries, the widest but for phases, in one row
_LEAST_WIDTH, _LEAST_HEIGHT = 2.6, 1.55  # that a scale bar, a colour bar or the triangle need beside a narrow map
_EDGE = 0.1
_TITLE_LINES = 2
_TITLE_SIZES = (9.0, 8.0, 7.0, 6.0)  # points
LEGEND_SIZE = 8.0  # points


def _whole(inches: float) -> float:
    """Return a length of whole pixels, so that a map begins and ends on the same ones in every picture."""
    return max(1, round(inches * DPI)) / DPI


@dataclass(frozen=True, slots=True)
class Page:
    """A map on its page; all lengths in inches.

    Attributes
    ----------
    map_width, map_height : float
        Of the map, whose upper left corner is LEFT from the left and TOP from the upper edge in every picture.
    width, height : float
        Of the map and the free room that a narrow or flat one has at its right or below it.
    legend : float
        Room for the legend below: what the kinds of map need, or more for many phases; there the page grows at its
        lower end.
    """

    map_width: float
    map_height: float
    width: float
    height: float
    legend: float

    @classmethod
    def of(cls, across: float, down: float) -> Page:
        """Return the page of a map so many units wide and high."""
        scale = MAP_INCHES / max(across, down)
        width, height = _whole(across * scale), _whole(down * scale)
        legend = LEGEND if width >= _WIDE else TWO_ROWS
        return cls(width, height, max(width, _LEAST_WIDTH), max(height, _LEAST_HEIGHT), legend)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the page."""
        return LEFT + self.width + RIGHT, TOP + self.height + self.legend

    def place(self, x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        """Return a rectangle, given from the map's upper left corner, as matplotlib takes it."""
        full_width, full_height = self.size
        bottom = full_height - TOP - y - height
        return (LEFT + x) / full_width, bottom / full_height, width / full_width, height / full_height


def text_width(figure: Any, text: str, points: float) -> float:
    """Return the width of a line of text in inches."""
    from matplotlib.font_manager import FontProperties

    width, _, _ = figure.canvas.get_renderer().get_text_width_height_descent(text, FontProperties(size=points), False)
    return float(width) / float(figure.dpi)


def wrapped(figure: Any, text: str, points: float, width: float) -> list[str]:
    """Return text as lines of at most so many inches; a word that is longer has a line of its own."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(figure, longer, points) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def draw_title(figure: Any, page: Page, title: str) -> None:
    """Write a title above the map, on two lines at most: smaller where it is long, and cut where it has no room."""
    width = page.size[0] - LEFT - _EDGE
    for points in _TITLE_SIZES:
        lines = wrapped(figure, title, points, width)
        if len(lines) <= _TITLE_LINES:
            break
    else:
        lines = [*lines[: _TITLE_LINES - 1], f"{lines[_TITLE_LINES - 1]} …"]
    left, bottom, _, _ = page.place(0.0, -0.05, 0.0, 0.0)
    figure.text(left, bottom, "\n".join(lines), fontsize=points, ha="left", va="bottom", parse_math=False)


def draw_legend(figure: Any, page: Page, handles: list[Any]) -> Page:
    """Put a legend below the map, in as many columns as there is room for; return the page that holds all its rows."""
    labels = [handle.get_label() for handle in handles]
    width, _ = page.size
    room = width - 2 * _EDGE
    for columns in range(min(4, len(handles)), 0, -1):
        if columns == 1:
            swatch = 3.5 * LEGEND_SIZE / 72.0
            labels = ["\n".join(wrapped(figure, label, LEGEND_SIZE, room - swatch)) for label in labels]
        legend = figure.legend(
            handles, labels, loc="upper left", ncols=columns, fontsize=LEGEND_SIZE, frameon=False, borderaxespad=0.0
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
        box = legend.get_window_extent(figure.canvas.get_renderer())
        if box.width / figure.dpi <= room or columns == 1:
            break
        legend.remove()
    needed = _whole(box.height / figure.dpi + _EDGE)
    grown = replace(page, legend=max(page.legend, needed))
    figure.set_size_inches(*grown.size)
    left, top, _, _ = grown.place(-0.05, grown.height + 0.06, 0.0, 0.0)
    legend.set_bbox_to_anchor((left, top), transform=figure.transFigure)
    return grown


def draw_scale_bar(figure: Any, page: Page, um_per_inch: float) -> None:
    """Draw a scale bar on the map, or beside it where it is too narrow or too flat to hold one."""
    from matplotlib.patches import Rectangle

    inside = page.map_width >= 1.4 and page.map_height >= 0.8
    pad, bar, box, edge = 0.07 if inside else 0.0, 0.06, 0.37, 0.15
    length = _round_length(0.25 * (page.map_width if inside else page.width) * um_per_inch)
    long = length / um_per_inch
    left, bottom = edge, page.map_height - edge
    if page.map_width < 1.4:  # at its right
        left = page.map_width + _EDGE
    elif not inside:  # below
        left, bottom = 0.0, page.map_height + _EDGE + box
    axes = figure.add_axes(page.place(0.0, 0.0, page.width, page.height), zorder=5)
    axes.set_axis_off()
    axes.set_xlim(0.0, page.width)
    axes.set_ylim(page.height, 0.0)
    if inside:
        axes.add_patch(Rectangle((left, bottom - box), long + 2 * pad, box, fc="white", ec="none", alpha=0.85))
    axes.add_patch(Rectangle((left + pad, bottom - pad - bar), long, bar, fc="black", ec="none"))
    axes.text(
        left + pad + long / 2 if inside else left + pad,
        bottom - pad - 1.4 * bar,
        f"{length:g} µm" if length >= 1 else f"{1000 * length:g} nm",
        ha="center" if inside else "left",
        va="bottom",
        fontsize=8,
    )


def _round_length(limit: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that is not above `limit`."""
    power = 10.0 ** math.floor(math.log10(limit))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= limit * (1 + 1e-9))
