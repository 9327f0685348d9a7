"""The grid of an EBSD scan: square, or hexagonal with rows that alternate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

GridKind = Literal["square", "hexagonal"]

MAX_POINTS = 2**40
"""More points than any scan has; a header that claims more is damaged."""


def number_of(value: object) -> float:
    """Return a number as a float; NaN for anything else, truth values included."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return math.nan
    return float(value)


def positive_step(value: object, name: str) -> float:
    """Return a positive step in µm, or refuse it."""
    step = number_of(value)
    if not (math.isfinite(step) and step > 0):
        raise InputError(f"{name}={value!r} is refused; a positive step in µm is needed")
    return step


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the points of a scan are: row by row, x to the right and y down, (0, 0) at the first point.

    Parameters
    ----------
    kind : {"square", "hexagonal"}
        On a hexagonal grid the second, fourth … row starts `dx` / 2 further to the right than the first, third …
    rows : int
        Number of rows.
    columns : int
        Points in the first, third … row (NCOLS_ODD of an ``.ang`` file).
    columns_even : int
        Points in the second, fourth … row (NCOLS_EVEN): `columns` on a square grid, `columns` or `columns` - 1 on a
        hexagonal one.
    dx, dy : float
        Distance of neighbouring points in a row, and of neighbouring rows, in µm. Nominally dy = dx·√3/2 on a
        hexagonal grid; files round it.

    Raises
    ------
    InputError
        If a number is not positive and finite, or the columns do not fit the kind.
    """

    kind: GridKind
    rows: int
    columns: int
    columns_even: int
    dx: float
    dy: float

    def __post_init__(self) -> None:
        if self.kind not in ("square", "hexagonal"):
            raise InputError(f"kind={self.kind!r} is unknown; use 'square' or 'hexagonal'")
        for name in ("rows", "columns", "columns_even"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise InputError(f"{name}={value!r} is refused; use an integer")
            object.__setattr__(self, name, int(value))
        if self.rows < 1 or self.columns < 1:
            raise InputError(f"a grid of {self.rows} rows × {self.columns} columns is refused; both must be at least 1")
        if self.kind == "square" and self.columns_even != self.columns:
            raise InputError(f"columns_even={self.columns_even} must equal columns={self.columns} on a square grid")
        if self.columns_even not in (self.columns, self.columns - 1):
            raise InputError(
                f"columns_even={self.columns_even} must be columns={self.columns} or one less on a hexagonal grid"
            )
        for name in ("dx", "dy"):
            object.__setattr__(self, name, positive_step(getattr(self, name), name))
        if self.rows * self.columns > MAX_POINTS:
            raise InputError(f"a grid of {self.rows} × {self.columns} points is beyond any scan")

    @classmethod
    def square(cls, rows: int, columns: int, *, dx: float, dy: float | None = None) -> Grid:
        """Return a square grid; `dy` is `dx` where it is not given."""
        return cls("square", rows, columns, columns, dx, dx if dy is None else dy)

    @classmethod
    def hexagonal(
        cls, rows: int, columns: int, *, dx: float, columns_even: int | None = None, dy: float | None = None
    ) -> Grid:
        """Return a hexagonal grid; `columns_even` is `columns` - 1 and `dy` is dx·√3/2 where they are not given."""
        even = columns - 1 if columns_even is None else columns_even
        return cls("hexagonal", rows, columns, even, dx, dx * math.sqrt(3) / 2 if dy is None else dy)

    @property
    def size(self) -> int:
        """Number of points."""
        return (self.rows + 1) // 2 * self.columns + self.rows // 2 * self.columns_even

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array with one value per point: (rows, columns) on a square grid, (points,) on a hexagonal."""
        return (self.rows, self.columns) if self.kind == "square" else (self.size,)

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height in µm from the first to the last point."""
        shifted = self.dx / 2 if self.kind == "hexagonal" and self.rows > 1 else 0.0
        width = max((self.columns - 1) * self.dx, (self.columns_even - 1) * self.dx + shifted)
        return width, (self.rows - 1) * self.dy

    @property
    def point_area(self) -> float:
        """Area that one point stands for, in µm²."""
        return self.dx * self.dy

    def row_starts(self) -> NDArray[np.int64]:
        """Return the index of every row's first point, and the number of points after it: int64 (rows + 1,)."""
        row = np.arange(self.rows + 1, dtype=np.int64)
        return (row + 1) // 2 * self.columns + row // 2 * self.columns_even

    def row_and_column(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the row and the column, counted from 0, of every point: two int32 (points,)."""
        starts = self.row_starts()
        row = np.repeat(np.arange(self.rows, dtype=np.int32), np.diff(starts))
        column = (np.arange(self.size, dtype=np.int64) - starts[row]).astype(np.int32)
        return row, column

    def coordinates(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return x and y of every point in µm, the first at (0, 0): two float64 (points,)."""
        row, column = self.row_and_column()
        x: NDArray[np.float64] = column * np.float64(self.dx)
        if self.kind == "hexagonal":
            x += (row % 2) * (self.dx / 2)
        return x, row * np.float64(self.dy)

    def nearest(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the index of the point nearest to each (x, y) in µm; outside of the grid, the nearest at its edge."""
        if self.kind == "square":
            row = np.clip(np.rint(y / self.dy), 0, self.rows - 1).astype(np.int64)
            column = np.clip(np.rint(x / self.dx), 0, self.columns - 1).astype(np.int64)
            return row * self.columns + column
        upper = np.clip(np.floor(y / self.dy), 0, self.rows - 1).astype(np.int64)
        first, to_first = self._nearest_in_row(upper, x, y)
        second, to_second = self._nearest_in_row(np.minimum(upper + 1, self.rows - 1), x, y)
        return np.where(to_second < to_first, second, first)

    def _nearest_in_row(
        self, row: NDArray[np.int64], x: NDArray[np.float64], y: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the index of the nearest point in the given row, and its squared distance."""
        even = row % 2
        last = np.where(even, self.columns_even, self.columns) - 1
        column = np.clip(np.rint(x / self.dx - even / 2), 0, last).astype(np.int64)
        distance = ((column + even / 2) * self.dx - x) ** 2 + (row * self.dy - y) ** 2
        return (row + 1) // 2 * self.columns + row // 2 * self.columns_even + column, distance

    def __str__(self) -> str:
        columns = f"{self.columns}" if self.columns == self.columns_even else f"{self.columns}/{self.columns_even}"
        nominal = self.dx if self.kind == "square" else self.dx * math.sqrt(3) / 2
        step = f"{self.dx:g}" if abs(self.dy - nominal) < 1e-3 * nominal else f"{self.dx:g} µm across × {self.dy:g}"
        below = "" if step == f"{self.dx:g}" else " down"
        return f"{self.kind}, {self.rows} rows × {columns} columns, step {step} µm{below}"
