"""From the coordinates of measured points to a grid, and each point's place on it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import BainiteWarning
from .grid import MAX_POINTS, Grid, GridKind
from .rotations import CHUNK

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Refuse = Callable[[int | None, str], NoReturn]
"""Raises an error about a row of the file, counted from 0, or about the file as a whole (None)."""

Missing = Literal["refuse", "sparse", "allow"]
"""Places without a point: none; any but a missing end, which is what a truncated file looks like; any."""

TOLERANCE = 0.2
"""Share of a step that a point may lie away from its place."""

FEWEST = 1 << 20
MAX_SPARSENESS = 50
"""A grid of more than FEWEST points is refused where it has more than so many places per measured point."""


@dataclass(frozen=True, slots=True)
class Hint:
    """What a header says about the grid; None where it says nothing."""

    kind: GridKind | None = None
    rows: int | None = None
    columns: int | None = None
    columns_even: int | None = None
    dx: float | None = None
    dy: float | None = None

    def grid(self) -> Grid | None:
        """Return the grid of a header that describes it whole."""
        if self.kind is None or self.rows is None or self.columns is None or not self.dx or not self.dy:
            return None
        even = self.columns_even if self.kind == "hexagonal" else self.columns
        if even not in (self.columns, self.columns - 1) or self.rows * self.columns > MAX_POINTS:
            return None
        return Grid(self.kind, self.rows, self.columns, even, self.dx, self.dy)


@dataclass(frozen=True, slots=True)
class Placement:
    """A grid, and the point of it that each row of the file belongs to; None where they are in order."""

    grid: Grid
    points: Integers | None


def place(x: Floats, y: Floats, hint: Hint, refuse: Refuse, *, missing: Missing) -> Placement:
    """Find the grid of measured points and their places on it.

    Parameters
    ----------
    x, y : ndarray, (n,), float64
        Coordinates in µm, in the order of the file, which may be any order.
    hint : Hint
        What the header says. Where points and header disagree about the kind of grid, the points decide.
    refuse : callable
        Raises the error.
    missing : {"refuse", "sparse", "allow"}
        What places without a point mean.
    """
    for name, values in (("x", x), ("y", y)):
        good = np.isfinite(values)
        if not good.all():
            refuse(int(np.argmin(good)), f"the {name} coordinate is {values[int(np.argmin(good))]}")
    dx = _step_in_row(x, hint.dx, refuse)
    announced = hint.grid()
    if announced is not None and announced.size == x.size and _in_order(x, y, announced, dx):
        spans = (announced.extent[0] / announced.dx, announced.rows - 1.0)
        return Placement(_refined(announced, x, y, spans), None)
    row, dy = _rows(y, hint.dy or _smallest_step(y, refuse), refuse)
    half = _half_columns(x, dx, refuse)
    spans = (int(half.max()) / 2, float(row.max()))
    first = (_steps_to(y, dy), _steps_to(x, dx / 2))
    row, half = _from_origin(row, half, hint, first)
    kind, shifted_first = _kind(row, half, hint, refuse)
    if shifted_first:
        row = row + 1
        hint, missing = _below_an_empty_row(hint, missing, x.size)
    columns, even, column = _columns(row, half >> 1, kind, hint, refuse, _steps_to(x, dx))
    rows = _row_count(row, hint, refuse)
    if kind == "square" and 0 < first[0] < rows - int(row.max()):
        row = row + first[0]
    if rows * columns > max(FEWEST, MAX_SPARSENESS * x.size):
        refuse(None, f"{x.size} points on a grid of {rows} × {columns}: a step or a coordinate is damaged")
    dx, dy = hint.dx or dx, hint.dy or dy
    # A line of points shows one step, and headers leave out the other or say 0.
    if spans[1] == 0 and not hint.dy:
        dy = dx * math.sqrt(3) / 2 if kind == "hexagonal" else dx
    elif spans[0] == 0 and not hint.dx:
        dx = dy
    grid = Grid(kind, rows, columns, even, dx, dy)
    points = (row + 1) // 2 * columns + row // 2 * even + column
    _check_places(points, grid, refuse, missing=missing)
    in_order = points.size == grid.size and bool((points == np.arange(grid.size)).all())
    return Placement(_refined(grid, x, y, spans), None if in_order else points)


def _in_order(x: Floats, y: Floats, grid: Grid, dx: float) -> bool:
    """Whether the points lie on the grid, row by row."""
    x0, y0, dy = float(x[0]), float(y[0]), grid.dy
    if grid.rows > 1:
        dy = (float(y[-1]) - y0) / (grid.rows - 1)
        if not 0.98 * grid.dy < dy < 1.02 * grid.dy:
            return False
    shift = 0.5 if grid.kind == "hexagonal" else 0.0
    period = grid.columns + grid.columns_even
    for start in range(0, grid.size, CHUNK):
        stop = min(start + CHUNK, grid.size)
        pair, place_in_pair = np.divmod(np.arange(start, stop), period)
        even = place_in_pair >= grid.columns
        column = place_in_pair - np.where(even, grid.columns, 0)
        if np.abs((x[start:stop] - x0) / dx - column - np.where(even, shift, 0.0)).max() > TOLERANCE:
            return False
        if np.abs((y[start:stop] - y0) / dy - 2 * pair - even).max() > TOLERANCE:
            return False
    return True


def _step_in_row(x: Floats, announced: float | None, refuse: Refuse) -> float:
    """Return the distance of points in a row: measured along the first one, where that agrees with the header.

    A header's XSTEP is rounded, and over some thousand columns that adds up to a step.
    """
    forward = np.diff(x[: 1 << 20])
    ends = np.flatnonzero(forward <= 0)
    steps = forward[: ends[0]] if ends.size else forward
    if steps.size and steps.max() < 1.5 * steps.min():
        measured = float(steps.sum()) / steps.size
        if announced is None or abs(measured / announced - 1) < 0.02:
            return measured
    return announced or _smallest_step(x, refuse)


def _smallest_step(values: Floats, refuse: Refuse) -> float:
    """Return the smallest distance of neighbouring values, where the header gives none; 1 µm where all are the same."""
    spread = np.diff(np.unique(values))
    # Coordinates are rounded: what differs in the last digit only is the same.
    spread = spread[spread > 1e-4 * max(1e-3, float(np.median(spread)))] if spread.size else spread
    if spread.size == 0:
        return 1.0
    step = float(np.median(spread[spread <= 2 * spread.min()]))
    if not (math.isfinite(step) and step > 0):
        refuse(None, "no step can be told from the coordinates")
    return step


def _rows(y: Floats, dy: float, refuse: Refuse) -> tuple[Integers, float]:
    """Return the row of every point, and the distance of rows."""
    y0 = float(y.min())
    height = float(y.max()) - y0
    if not height / dy < 2**31:
        refuse(int(np.argmax(y)), f"y = {y.max():g} µm is beyond any map with a step of {dy:g} µm")
    steps = round(height / dy)
    # A header's YSTEP is often rounded: over many rows the extent knows the step better.
    if steps > 0 and 0.98 * dy < height / steps < 1.02 * dy:
        dy = height / steps
    exact = (y - y0) / dy
    row = np.rint(exact)
    far = np.abs(exact - row) > TOLERANCE
    if far.any():
        worst = int(np.argmax(far))
        refuse(worst, f"y = {y[worst]:g} µm lies on no row of a grid with a step of {dy:g} µm")
    return row.astype(np.int64), dy


def _half_columns(x: Floats, dx: float, refuse: Refuse) -> Integers:
    """Return the place of every point along its row, in half steps."""
    x0 = float(x.min())
    if not (float(x.max()) - x0) / dx < 2**31:
        refuse(int(np.argmax(x)), f"x = {x.max():g} µm is beyond any map with a step of {dx:g} µm")
    exact = (x - x0) * (2 / dx)
    half = np.rint(exact)
    far = np.abs(exact - half) > 2 * TOLERANCE
    if far.any():
        worst = int(np.argmax(far))
        refuse(worst, f"x = {x[worst]:g} µm lies on no column of a grid with a step of {dx:g} µm")
    return half.astype(np.int64)


def _steps_to(values: Floats, step: float) -> int:
    """Return the steps from 0 to the first of some coordinates; -1 where they are more than any map has."""
    steps = float(values.min()) / step
    return round(steps) if abs(steps) < 2**31 else -1


def _from_origin(row: Integers, half: Integers, hint: Hint, first: tuple[int, int]) -> tuple[Integers, Integers]:
    """Return rows and half columns of a hexagonal map counted from (0, 0), where the header's grid has room for that.

    The upper and the left edge of a sparse map may hold no point. `first`: row and half column of the first ones.
    """
    if hint.kind != "hexagonal" or hint.rows is None or hint.columns is None or min(first) < 0 or max(first) == 0:
        return row, half
    if row.max() + first[0] >= hint.rows or (half.max() + first[1]) // 2 >= hint.columns:
        return row, half
    if ((row + half + sum(first)) & 1).any():
        return row, half
    return row + first[0], half + first[1]


def _kind(row: Integers, half: Integers, hint: Hint, refuse: Refuse) -> tuple[GridKind, bool]:
    """Return the kind of grid, and whether its first row is the shifted one, so that an empty row goes before it."""
    odd = (half & 1).astype(np.bool_)
    odd_row = (row & 1).astype(np.bool_)
    if not odd.any():
        if hint.kind == "hexagonal":
            if not odd_row.any():
                return "hexagonal", False  # one row: only the header can know
            _warn("the header announces a hexagonal grid, but the points lie on a square one, and are read so")
        return "square", False
    wrong = odd != odd_row
    if wrong.any() and not wrong.all():
        worst = int(np.argmax(wrong if wrong.mean() <= 0.5 else ~wrong))
        refuse(worst, "the point lies between the columns of its row, neither on a square nor on a hexagonal grid")
    if hint.kind == "square":
        _warn("the header announces a square grid, but the points lie on a hexagonal one, and are read so")
    return "hexagonal", bool(wrong.all())


def _below_an_empty_row(hint: Hint, missing: Missing, points: int) -> tuple[Hint, Missing]:
    """Return what a header says of the grid once an empty row goes before its first one, and what empty places mean.

    The lengths of the rows are told by the points. Empty places are those of the new row, and of the last column where
    shifted rows are the longer ones, if there are as many points as the header announces.
    """
    least = 0
    if hint.rows is not None and hint.columns is not None and hint.columns_even is not None:
        shorter, longer = sorted((hint.columns, hint.columns_even))
        least = (hint.rows + 1) // 2 * shorter + hint.rows // 2 * longer
    rows = None if hint.rows is None else hint.rows + 1
    placed = replace(hint, rows=rows, columns=None, columns_even=None)
    return placed, "allow" if missing == "refuse" and points >= least else missing


def _warn(text: str) -> None:
    warnings.warn(text, BainiteWarning, stacklevel=2)


def _row_count(row: Integers, hint: Hint, refuse: Refuse) -> int:
    rows = int(row.max()) + 1
    if hint.rows is None or hint.rows == rows:
        return rows
    if hint.rows < rows:
        refuse(int(np.argmax(row >= hint.rows)), f"{rows} rows of points where the header announces {hint.rows}")
    return hint.rows


def _columns(
    row: Integers, column: Integers, kind: GridKind, hint: Hint, refuse: Refuse, origin: int
) -> tuple[int, int, Integers]:
    """Return the columns of odd and even rows, and each point's column.

    `origin` is the place of the first column seen, counted from x = 0, which is where a header's columns start if
    everything fits from there: the left edge of a sparse map may hold no point.
    """
    if kind == "square":
        columns = int(column.max()) + 1
        if hint.columns is None:
            return columns, columns, column
        if columns > hint.columns:
            beyond = int(np.argmax(column >= hint.columns))
            refuse(beyond, f"{columns} columns of points where the header announces {hint.columns}")
        if 0 < origin <= hint.columns - columns:
            column = column + origin
        return hint.columns, hint.columns, column
    shifted = (row & 1).astype(np.bool_)
    odd = int(column[~shifted].max(initial=0)) + 1
    even = int(column[shifted].max(initial=-1)) + 1
    columns = max(odd, even, hint.columns or 0)
    return columns, columns if columns in (even, hint.columns_even) else columns - 1, column


def _check_places(points: Integers, grid: Grid, refuse: Refuse, *, missing: Missing) -> None:
    """Refuse two points in one place, and places without a point where they may not be."""
    seen = np.zeros(grid.size, np.bool_)
    seen[points] = True
    found = int(np.count_nonzero(seen))
    if found < points.size:
        order = np.argsort(points, kind="stable")
        twice = np.zeros(points.size, np.bool_)
        twice[order[1:]] = points[order[1:]] == points[order[:-1]]
        refuse(int(np.argmax(twice)), "a second point in the same place")
    if found == grid.size or missing == "allow":
        return
    remedy = "allow_missing=True reads what is there and leaves the rest not indexed"
    if bool(seen[:found].all()):
        refuse(points.size - 1, f"the file ends here, after {found} of {grid.size} points: it is truncated; {remedy}")
    if missing == "refuse":
        refuse(None, f"{grid.size - found} of the {grid.size} points of the grid ({grid}) are missing; {remedy}")


def _refined(grid: Grid, x: Floats, y: Floats, spans: tuple[float, float]) -> Grid:
    """Return the grid with the steps that its extent confirms; `spans`: steps between the outermost points."""
    dx = _confirmed(grid.dx, float(x.max() - x.min()), spans[0])
    height = float(y.max() - y.min())
    if grid.kind == "hexagonal" and spans[1] > 0:
        nominal = dx * math.sqrt(3) / 2
        if abs(nominal * spans[1] - height) <= 0.02 * nominal:
            return Grid(grid.kind, grid.rows, grid.columns, grid.columns_even, dx, nominal)
    dy = _confirmed(grid.dy, height, spans[1])
    return Grid(grid.kind, grid.rows, grid.columns, grid.columns_even, dx, dy)


def _confirmed(step: float, extent: float, steps: float) -> float:
    """Return the step that gives the extent: the header's, or else the measured one with the fewest digits.

    Coordinates are rounded, so an extent within 2 % of a step will do. Of a header's 0.10000001, 0.1 is meant.
    """
    if steps <= 0 or abs(step * steps - extent) <= 1e-9 * extent:
        return step
    measured = extent / steps
    candidates = (round(measured, digits) for digits in range(1, 9))
    roundest = next((one for one in candidates if one > 0 and _gives(one, extent, steps)), measured)
    return step if _gives(step, extent, steps) and abs(step - roundest) > 1e-6 * step else roundest


def _gives(step: float, extent: float, steps: float) -> bool:
    return abs(step * steps - extent) <= 0.02 * step
