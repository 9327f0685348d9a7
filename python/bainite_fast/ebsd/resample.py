"""Parts of a map, and a map on another grid: points are picked, never mixed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kernels._checks import whole
from .grid import Grid, positive_step
from .map import EBSDMap


def pick(ebsd: EBSDMap, points: NDArray[np.int64], grid: Grid) -> EBSDMap:
    """Return a map on `grid` whose points take all values of the given points of `ebsd`."""
    taken = {name: values[points] for name, values in ebsd.properties.items()}
    return ebsd.replace(
        grid=grid,
        quaternions=ebsd.quaternions[points],
        phase_id=ebsd.phase_id[points],
        indexed=ebsd.indexed[points],
        **taken,
    )


def crop(ebsd: EBSDMap, rows: tuple[int, int], columns: tuple[int, int]) -> EBSDMap:
    """Return a part of a map; see :meth:`EBSDMap.crop`."""
    grid = ebsd.grid
    for name, (start, stop), count in (("rows", rows, grid.rows), ("columns", columns, grid.columns)):
        for value in (start, stop):
            whole(value, name, 0)
        if not 0 <= start < stop <= count:
            raise InputError(f"{name} {start} to {stop} are not a part of the map's 0 to {count}")
    if grid.kind == "hexagonal" and rows[0] % 2:
        raise InputError(
            f"row {rows[0]} starts shifted on this hexagonal grid; start at {rows[0] - 1} or {rows[0] + 1}"
        )
    width = columns[1] - columns[0]
    width_even = width - (grid.columns - grid.columns_even)
    starts = grid.row_starts()
    runs = [
        np.arange(starts[row] + columns[0], starts[row] + columns[0] + (width_even if row % 2 else width))
        for row in range(*rows)
    ]
    part = Grid(grid.kind, rows[1] - rows[0], width, width_even, grid.dx, grid.dy)
    return pick(ebsd, np.concatenate(runs), part)


def to_square(ebsd: EBSDMap, step: float) -> EBSDMap:
    """Return a map on a square grid; see :meth:`EBSDMap.to_square`."""
    step = positive_step(step, "step")
    width, height = ebsd.grid.extent
    grid = Grid.square(_count(height, step), _count(width, step), dx=step)
    if grid.size > 64 * ebsd.size + 4096:
        raise InputError(
            f"a step of {step:g} µm makes {grid.size} points of {ebsd.size}; take one nearer to {ebsd.step:g} µm"
        )
    x = np.arange(grid.columns) * np.float64(step)
    points = np.empty(grid.shape, np.int64)
    for row in range(grid.rows):
        points[row] = ebsd.grid.nearest(x, np.full(grid.columns, row * step))
    return pick(ebsd, points.reshape(-1), grid)


def _count(extent: float, step: float) -> int:
    # A last point that rounding puts just beyond the edge still counts.
    return int(extent / step + 1e-6) + 1
