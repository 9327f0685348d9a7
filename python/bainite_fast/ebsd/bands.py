"""Maps larger than memory: KAM and grains in bands of rows of a Zarr store, with the results of the whole map."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .boundary_map import forward_offsets
from .grid import Grid
from .map import EBSDMap
from .misorientation import checked_order, kam
from .zarr_store import StoredMap

BAND_POINTS = 1 << 21
"""Points of a band, about: some 300 MiB with all that is computed of them."""


@dataclass(frozen=True, slots=True)
class Band:
    """Some rows of a map, and around them a halo of rows that only help to compute.

    Attributes
    ----------
    ebsd : EBSDMap
        The rows with their halo.
    start, stop : int
        Points of the whole map that the band stands for, from `start` up to, not including, `stop`.
    skip : int
        Points of `ebsd` before the first of them.
    rows : int
        Rows without the halo.
    """

    ebsd: EBSDMap
    start: int
    stop: int
    skip: int
    rows: int

    @property
    def inner(self) -> slice:
        """Points of `ebsd` that are no halo."""
        return slice(self.skip, self.skip + self.stop - self.start)

    @property
    def grid(self) -> Grid:
        """Grid of the rows without the halo."""
        return dataclasses.replace(self.ebsd.grid, rows=self.rows)


def rows_of_band(grid: Grid, rows: int | None) -> int:
    """Return the rows of a band: even, so that bands of a hexagonal grid begin alike."""
    if rows is None:
        rows = BAND_POINTS // grid.columns
    elif isinstance(rows, bool) or not isinstance(rows, (int, np.integer)) or rows < 1:
        raise InputError(f"rows={rows!r} is refused; use an integer of at least 1")
    return max(2, int(rows) + int(rows) % 2)


def bands(source: StoredMap, rows: int | None, *, above: int = 0, below: int = 0) -> Iterator[Band]:
    """Yield a map from top to bottom in bands with a halo of so many rows above and below."""
    grid, step = source.grid, rows_of_band(source.grid, rows)
    starts = grid.row_starts()
    for first in range(0, grid.rows, step):
        last = min(first + step, grid.rows)
        top = max(0, first - above - above % 2)
        part = source.rows(top, min(last + below, grid.rows))
        start, stop = int(starts[first]), int(starts[last])
        yield Band(part, start, stop, start - int(starts[top]), last - first)


def kam_bands(
    source: StoredMap, order: int = 3, *, rows: int | None = None, grains: Any = None, **options: Any
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Compute KAM band by band; the bits are those of the whole map.

    Parameters
    ----------
    source : StoredMap
        The map.
    order : int
        As in :func:`bainite_fast.kam`.
    rows : int, optional
        Rows of a band; about two million points by default.
    grains : StoredGrains, Grains or array of int, (points,), optional
        Grain of every point; of a NumPy or Zarr array a band is read at a time.
    **options
        `perimeter`, `max_angle`, `neighbourhood` and `device` as in :func:`bainite_fast.kam`.

    Yields
    ------
    points : slice
        Points of the map.
    values : ndarray, (points,), float32
        Their KAM in degrees.

    Raises
    ------
    InputError
        If an argument is wrong.
    """
    order = checked_order(order)
    ids = getattr(grains, "ids", grains)
    if ids is not None and tuple(np.shape(ids)) not in ((source.grid.size,), source.grid.shape):
        raise InputError(
            f"grains have shape {np.shape(ids)}; an integer for each of {source.grid.size} points is needed"
        )
    if ids is not None and np.ndim(ids) > 1:
        ids = np.asarray(ids).reshape(-1)
    for band in bands(source, rows, above=order, below=order):
        first = band.start - band.skip
        of_band = None if ids is None else np.asarray(ids[first : first + band.ebsd.size])
        values = kam(band.ebsd, order, grains=of_band, **options)
        yield slice(band.start, band.stop), np.asarray(values).reshape(-1)[band.inner]


def seam(grid: Grid, row: int, links: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the columns of a row and of the one below it that its links join."""
    upper, lower = [], []
    for k, (down, right) in enumerate(forward_offsets(grid)):
        if down == 1:
            column = np.flatnonzero(links >> k & 1)
            upper.append(column)
            lower.append(column + right[row % 2])
    return np.concatenate(upper), np.concatenate(lower)
