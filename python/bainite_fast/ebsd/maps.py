"""Maps to look at: PNG with a colour bar and a scale bar."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._disk import beside
from .._optional import require
from ..errors import InputError, OutputExistsError
from ._page import DPI, MAP_INCHES, Page, draw_legend, draw_scale_bar, draw_title
from ._raster import raster_points
from .grid import Grid
from .ipf import triangle_key
from .layers import (
    BOUNDARY_COLORS,
    CUBIC,
    NOT_INDEXED,
    UNKNOWN,
    UNKNOWN_ON_GRAY,
    Layer,
    MapOptions,
    map_layer,
)
from .map import EBSDMap

if TYPE_CHECKING:
    from .grain_map import Grains

_LONG_SIDE = 1600  # pixels that a drawn map aims at
_LINE_POINTS = 0.9  # width of a boundary
_SEGMENTS = 500  # of a boundary that are drawn as one path
_LEAST_PITCH = 5  # pixels from point to point that such boundaries need


def draw(
    ebsd: EBSDMap,
    kind: str,
    path: str | Path,
    *,
    options: MapOptions | None = None,
    grains: Grains | None = None,
    limits: tuple[float, float] | None = None,
    outlines: bool = False,
    overwrite: bool = False,
) -> Path:
    """Draw one kind of map as PNG, with what its colours mean and a scale bar.

    Every picture of one scan has the map in the same place and of the same size, so that they can be laid side by side
    or over one another. Hexagonal points are drawn as hexagons. Points without a value are gray, and light blue on gray
    scales.

    Parameters
    ----------
    ebsd : EBSDMap
        The map.
    kind : str
        One of `KINDS`, see `map_layer`.
    path : path
        PNG to write.
    options : MapOptions, optional
        Conventions and limits of what is computed.
    grains : Grains, optional
        Grains found before.
    limits : (float, float), optional
        Ends of the colour scale in the unit of the map; by default 0 (angles) or the least value, and the 99 %
        quantile.
    outlines : bool
        Draw the high-angle boundaries over the map.
    overwrite : bool
        Replace what is at `path`.

    Returns
    -------
    pathlib.Path
        The picture.

    Raises
    ------
    InputError
        If there is no such kind, or the map lacks what it needs.
    OutputExistsError, OutputError
        If there is something at `path`, or it cannot be written.
    MissingExtraError
        Without matplotlib.
    """
    target = _checked_target(path, overwrite=overwrite)
    layer = map_layer(ebsd, kind, options=options, grains=grains)
    lines = map_layer(ebsd, "boundaries", options=options) if outlines and kind != "boundaries" else None
    return draw_layer(layer, ebsd.grid, target, limits=limits, outlines=lines, overwrite=overwrite)


def _checked_target(path: str | Path, *, overwrite: bool) -> Path:
    target = Path(path)
    if target.suffix.lower() != ".png":
        raise InputError(f"{target}: maps are drawn as PNG; give a name that ends with .png")
    if target.exists() and not overwrite:
        raise OutputExistsError(f"{target} exists; choose another name, or overwrite it (overwrite=True)")
    return target


def draw_layer(
    layer: Layer,
    grid: Grid,
    path: str | Path,
    *,
    limits: tuple[float, float] | None = None,
    outlines: Layer | None = None,
    overwrite: bool = False,
) -> Path:
    """Draw a layer that is there already as PNG; see `draw`."""
    target = _checked_target(path, overwrite=overwrite)
    values = _scale_of(layer, limits)
    require("matplotlib", "plots", "drawing a map")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = max(grid.columns, grid.rows * grid.dy / grid.dx)
    step = (
        grid.dx / max(1.0, min(24.0, round(_LONG_SIDE / columns)))
        if columns <= _LONG_SIDE
        else (columns * grid.dx / _LONG_SIDE)
    )
    points = raster_points(grid, step)
    height, width = points.shape
    page = Page.of(width, height)
    figure = Figure(figsize=page.size, dpi=DPI)
    FigureCanvasAgg(figure)  # measures text
    handles = _legend_handles(layer, values)
    if handles:
        page = draw_legend(figure, page, handles)
    axes = figure.add_axes(page.place(0.0, 0.0, page.map_width, page.map_height))
    extent = (0.0, width * step, height * step, 0.0)
    axes.imshow(
        _picture(layer, points, values),
        extent=extent,
        interpolation="nearest" if step < grid.dx else None,
        aspect="auto",
    )
    _draw_lines(axes, layer if layer.boundaries is not None else outlines, grid, outlined=layer.boundaries is None)
    axes.set_xlim(0.0, width * step)
    axes.set_ylim(height * step, 0.0)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(color="0.6", linewidth=0.5)
    draw_title(figure, page, layer.title)
    draw_scale_bar(figure, page, width * step / page.map_width)
    if layer.key == "triangle":
        _draw_triangle(figure, page, layer)
    elif values is not None:
        _draw_color_bar(figure, page, layer, values)
    with beside(target) as made:
        figure.savefig(made, format="png", dpi=DPI)
    return target


def _scale_of(layer: Layer, limits: tuple[float, float] | None) -> tuple[float, float] | None:
    """Return the ends of the colour scale, None for colours."""
    if layer.key not in ("scale", "gray") or layer.values is None:
        if limits is not None:
            raise InputError(f"limits={limits!r}: the map {layer.kind!r} has no colour scale; leave them out")
        return None
    if limits is not None:
        low, high = limits
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise InputError(f"limits={limits!r} are refused; give two finite numbers, the smaller first")
        return float(low), float(high)
    finite = layer.values[np.isfinite(layer.values)]
    if not finite.size:
        return 0.0, 1.0
    if layer.limits is not None:
        return layer.limits
    low, high = np.quantile(finite, [0.01, 0.99]).tolist()
    if layer.unit == "°":
        low = 0.0
    return (low, high) if high > low else (low, low + 1.0)


def _picture(layer: Layer, points: NDArray[np.int64], scale: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Return the pixels of a map: RGBA, uint8 (height, width, 4), transparent outside."""
    if scale is not None and layer.values is not None:
        low, high = scale
        unit = np.clip((layer.values - low) / (high - low), 0.0, 1.0)
        table = _color_table(layer)
        known = np.isfinite(unit)
        colors = np.full((len(unit), 3), _unknown(layer), np.uint8)
        colors[known] = table[np.rint(unit[known] * (len(table) - 1)).astype(np.int64)]
    elif layer.boundaries is not None:
        unknown = ~np.isfinite(layer.values) if layer.values is not None else np.zeros(points.max() + 1, np.bool_)
        colors = np.where(unknown[:, None], np.array(UNKNOWN, np.uint8), np.uint8(255))
    elif layer.colors is not None:
        colors = layer.colors
    else:
        raise InputError(f"the map {layer.kind!r} has neither values nor colours")
    opaque = np.concatenate([colors, np.full((len(colors), 1), 255, np.uint8)], axis=1)
    # The last row stands for -1, outside of all cells.
    table = np.concatenate([opaque, np.zeros((1, 4), np.uint8)])
    picture: NDArray[np.uint8] = table[points]
    return picture


def _unknown(layer: Layer) -> tuple[int, int, int]:
    return UNKNOWN_ON_GRAY if layer.key == "gray" else UNKNOWN


def _color_table(layer: Layer) -> NDArray[np.uint8]:
    from matplotlib import colormaps

    steps = np.linspace(0.0, 1.0, 256)
    table: NDArray[np.uint8] = colormaps[_color_map(layer)](steps, bytes=True)[:, :3]
    return table


def _color_map(layer: Layer) -> str:
    return "gray" if layer.key == "gray" else "viridis"


def _draw_lines(axes: Any, lines: Layer | None, grid: Grid, *, outlined: bool) -> None:
    """Draw boundary segments: all kinds in their colours, or the high-angle ones in black over another map."""
    if lines is None or lines.boundaries is None or not len(lines.boundaries):
        return
    found = lines.boundaries
    shown = found.kind >= 1 if outlined else np.ones(len(found), np.bool_)
    # From the middle of the first point to the corner of its cell, where the picture begins.
    shift = np.array([grid.dx / 2, grid.dy / 2 if grid.kind == "square" else grid.dy * 2 / 3])
    ends = found.ends[shown].reshape(-1, 2, 2) + shift
    if outlined:
        _add_segments(axes, ends, colors="black", linewidths=0.5, capstyle="round")
        return
    # A line thinner than two pixels is smoothed to a paler colour than its legend has: where there is no room for
    # wider ones, each is one pixel wide and not smoothed.
    room = max(grid.columns, grid.rows) * _LEAST_PITCH <= MAP_INCHES * DPI
    for kind, color in enumerate(BOUNDARY_COLORS.values()):  # high angles over low ones
        _add_segments(
            axes,
            ends[found.kind == kind],
            colors=np.array(color) / 255.0,
            linewidths=_LINE_POINTS if room else 72.0 / DPI,
            antialiaseds=room,
            capstyle="round" if room else "projecting",
        )


def _add_segments(axes: Any, ends: NDArray[np.float64], *, colors: Any, **style: Any) -> None:
    """Add segments (n, 2, 2) in one style, some hundred to a path: one object for each would take a minute of a map."""
    from matplotlib.collections import PathCollection
    from matplotlib.path import Path as Outline

    # Upright and level ones are put on whole pixels, where all of a path are such.
    slanted = (ends[:, 0] != ends[:, 1]).all(axis=1)
    paths = []
    for alike in (ends[~slanted], ends[slanted]):
        for start in range(0, len(alike), _SEGMENTS):
            points = alike[start : start + _SEGMENTS].reshape(-1, 2)
            codes = np.tile(np.array([Outline.MOVETO, Outline.LINETO], np.uint8), len(points) // 2)
            paths.append(Outline(points, codes))
    if paths:
        collection = PathCollection(paths, facecolors="none", edgecolors=[colors], **style)
        axes.add_collection(collection, autolim=False)


def _draw_color_bar(figure: Any, page: Page, layer: Layer, scale: tuple[float, float]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    known = np.empty(0) if layer.values is None else layer.values[np.isfinite(layer.values)]
    above = bool(known.size) and float(known.max()) > scale[1]
    below = bool(known.size) and float(known.min()) < scale[0]
    extend = {(False, False): "neither", (True, False): "max", (False, True): "min", (True, True): "both"}
    bar = figure.colorbar(
        ScalarMappable(Normalize(*scale), _color_map(layer)),
        cax=figure.add_axes(page.place(page.width + 0.12, 0.0, 0.14, page.height)),
        extend=extend[above, below],
    )
    bar.set_label(f"{layer.kind.upper() if layer.unit == '°' else layer.title}{f' ({layer.unit})' * bool(layer.unit)}")
    bar.ax.tick_params(labelsize=8)


def _legend_handles(layer: Layer, scale: tuple[float, float] | None) -> list[Any]:
    """Return what a legend shows of the classes of a map, and of points without a value."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    classes = {"no value": _unknown(layer)} if scale is not None and _has_unknown(layer) else layer.legend
    return [
        Line2D([], [], color=color, linewidth=2 * _LINE_POINTS, label=name)
        if layer.boundaries is not None and name != NOT_INDEXED
        else Patch(facecolor=color, edgecolor="0.4", linewidth=0.4, label=name)
        for name, color in ((name, f"#{bytes(rgb).hex()}") for name, rgb in classes.items())
    ]


def _has_unknown(layer: Layer) -> bool:
    return layer.values is not None and not bool(np.isfinite(layer.values).all())


def _draw_triangle(figure: Any, page: Page, layer: Layer) -> None:
    """Draw the colour key of an inverse pole figure at the lower right, under its Laue group."""
    picture, corners = triangle_key(300)
    height, width = picture.shape[:2]
    across = 0.85
    down = across * height / width
    axes = figure.add_axes(page.place(page.width + 0.2, page.height - down - 0.18, across, down))
    axes.imshow(picture, interpolation="antialiased", aspect="auto")
    axes.set_axis_off()
    for name, (x, y) in corners.items():
        up = name == "111"
        axes.annotate(
            name,
            (x, y),
            xytext=(0, 3 if up else -3),
            textcoords="offset points",
            fontsize=8,
            ha={"001": "left", "101": "right", "111": "right"}[name],
            va="bottom" if up else "top",
            annotation_clip=False,
        )
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.annotate(
        f"sample {layer.kind[-1].upper()}\n{CUBIC}",
        (0, 0),
        xytext=(0, 16),
        textcoords="offset points",
        fontsize=8,
        ha="left",
        va="bottom",
        annotation_clip=False,
    )
