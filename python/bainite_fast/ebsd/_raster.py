"""Maps as pictures of square pixels: each pixel shows the point in whose cell its centre lies."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .grid import Grid

_ROWS_AT_ONCE = 1 << 21  # pixels


def raster_points(grid: Grid, step: float) -> NDArray[np.int64]:
    """Return the point that each pixel shows: int64 (height, width), -1 outside of all cells.

    The cell of a point is what lies nearest to it: a rectangle of dx × dy on a square grid, a hexagon on a hexagonal
    one, so hexagons are drawn as hexagons where pixels are much smaller than the step. The picture reaches from the
    left and upper edge of the first cell, (-dx/2, -dy/2), as far as the cells do; a pixel is `step` µm wide.
    """
    width, height = grid.extent
    cell_height = grid.dy if grid.kind == "square" else grid.dy * 4 / 3
    columns = max(1, math.ceil((width + grid.dx) / step - 1e-6))
    rows = max(1, math.ceil((height + cell_height) / step - 1e-6))
    x = -grid.dx / 2 + (np.arange(columns) + 0.5) * step
    y = -cell_height / 2 + (np.arange(rows) + 0.5) * step
    px, py = grid.coordinates()
    result = np.empty((rows, columns), np.int64)
    at_once = max(1, _ROWS_AT_ONCE // columns)
    for start in range(0, rows, at_once):
        yy = np.repeat(y[start : start + at_once], columns)
        xx = np.tile(x, len(yy) // columns)
        nearest = grid.nearest(xx, yy)
        outside = ~_in_cell(grid, np.abs(xx - px[nearest]), np.abs(yy - py[nearest]))
        nearest[outside] = -1
        result[start : start + at_once] = nearest.reshape(-1, columns)
    return result


def _in_cell(grid: Grid, across: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.bool_]:
    slack = 1e-6 * grid.dx
    if grid.kind == "square":
        return (across <= grid.dx / 2 + slack) & (down <= grid.dy / 2 + slack)
    # Halfway to the six neighbours at (±dx, 0) and (±dx/2, ±dy).
    slanted = across * grid.dx / 2 + down * grid.dy <= (grid.dx**2 / 4 + grid.dy**2) / 2 + slack * grid.dx
    return (across <= grid.dx / 2 + slack) & slanted
