"""Boundary segments between neighbouring points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ._points import angle_argument
from .describe import with_same_digits
from .grain_map import angles_of
from .grid import Grid
from .map import EBSDMap
from .tables import as_table

LOW, HIGH, PHASE = 0, 1, 2
"""Kinds of a boundary segment: low angle, high angle, between two phases."""


def forward_offsets(grid: Grid) -> list[tuple[int, tuple[int, int]]]:
    """Return rows down, and columns to the right from an even and an odd row, of the nearest neighbours ahead."""
    if grid.kind == "square":
        return [(0, (1, 1)), (1, (0, 0))]
    return [(0, (1, 1)), (1, (-1, 0)), (1, (0, 1))]


@dataclass(frozen=True, eq=False, repr=False, slots=True)
class Boundaries:
    """Boundary segments of a map, one for each pair of nearest neighbours, from :func:`boundaries`.

    Attributes
    ----------
    i, j : ndarray, (segments,), int64
        Indices of the two points, i < j, in the order of i.
    angle : ndarray, (segments,), float32
        Disorientation in degrees; NaN between two phases.
    kind : ndarray, (segments,), uint8
        0 low angle, 1 high angle, 2 between two phases.
    ends : ndarray, (segments, 4), float64
        x0, y0, x1, y1 of the segment in µm, on the side that the cells of the two points share; the first point of the
        map is at (0, 0), y goes down.
    low, high : float
        Degrees: angles from `low` up to and including `high` are low, those above are high.
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    angle: NDArray[np.float32]
    kind: NDArray[np.uint8]
    ends: NDArray[np.float64]
    low: float
    high: float

    def __len__(self) -> int:
        return len(self.i)

    @property
    def is_high(self) -> NDArray[np.bool_]:
        """Whether a segment is a high-angle boundary: bool (segments,)."""
        return np.asarray(self.kind == HIGH)

    @property
    def length_um(self) -> NDArray[np.float64]:
        """Length of every segment in µm: float64 (segments,)."""
        return np.hypot(self.ends[:, 2] - self.ends[:, 0], self.ends[:, 3] - self.ends[:, 1])

    def __repr__(self) -> str:
        names = (f"low angle, {self.low:g} to {self.high:g}°", f"high angle, above {self.high:g}°", "between phases")
        rows = []
        length = with_same_digits(*(float(self.length_um[self.kind == kind].sum()) for kind in range(len(names))))
        for kind, name in enumerate(names):
            mine = self.kind == kind
            angles = self.angle[mine]
            mean = f"{angles.mean():.2f}" if len(angles) and kind != PHASE else "–"
            rows.append((name, f"{len(angles)}", length[kind], mean))
        return as_table(f"{len(self)} boundary segments", ("kind", "segments", "µm", "mean °"), rows)


def boundaries(ebsd: EBSDMap, *, low: float = 2.0, high: float = 15.0, phases: bool = True) -> Boundaries:
    """Find the boundary segments of a map.

    Parameters
    ----------
    ebsd : EBSDMap
        The map.
    low : float
        Least angle of a boundary, in degrees.
    high : float
        Angle above which it is a high-angle boundary, in degrees.
    phases : bool
        Also return the segments between two phases, which have no angle.

    Returns
    -------
    Boundaries
        One segment for each pair of nearest neighbours (6 on a hexagonal grid, 4 on a square one), both indexed, whose
        disorientation is at least `low`, or whose phases differ.

    Raises
    ------
    InputError
        If an argument is wrong.
    """
    if not isinstance(ebsd, EBSDMap):
        raise InputError(f"boundaries() needs an EBSDMap; got {type(ebsd).__name__}")
    low, high = angle_argument(low, "low"), angle_argument(high, "high")
    if low > high:
        raise InputError(f"low={low:g}° is above high={high:g}°; it must be at most that")
    angles = angles_of(ebsd)
    several = phases and len(ebsd.phases) > 1
    parts = []
    for k, offset in enumerate(forward_offsets(ebsd.grid)):
        chosen = angles[:, k] >= np.float32(low)
        if several:
            chosen |= np.isnan(angles[:, k]) & ebsd.indexed
        i = np.flatnonzero(chosen)
        j, inside = ahead(ebsd.grid, i, offset)
        i, j = i[inside], j[inside]
        kept = ~np.isnan(angles[i, k]) | (ebsd.indexed[j] & (ebsd.phase_id[i] != ebsd.phase_id[j]))
        i, j = i[kept], j[kept]
        parts.append((i, j, angles[i, k], segment_ends(ebsd.grid, i, offset)))
    i, j, angle, ends = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(i, kind="stable")
    i, j, angle, ends = i[order], j[order], angle[order], ends[order]
    kind = np.where(np.isnan(angle), PHASE, np.where(angle > np.float32(high), HIGH, LOW)).astype(np.uint8)
    return Boundaries(i, j, angle, kind, ends, low, high)


def ahead(
    grid: Grid, i: NDArray[np.int64], offset: tuple[int, tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the point at an offset from each of the points i, and whether it is on the grid."""
    starts = grid.row_starts()
    row = np.searchsorted(starts, i, side="right") - 1
    down, right = offset
    column = i - starts[row] + np.where(row % 2 == 0, right[0], right[1])
    target = row + down
    on_map = target < grid.rows
    target = np.minimum(target, grid.rows - 1)
    inside = on_map & (column >= 0) & (column < starts[target + 1] - starts[target])
    return np.where(inside, starts[target] + column, 0), inside


def segment_ends(grid: Grid, i: NDArray[np.int64], offset: tuple[int, tuple[int, int]]) -> NDArray[np.float64]:
    """Return x0, y0, x1, y1 in µm of the sides that the cells of points i share with those at an offset."""
    starts = grid.row_starts()
    row = np.searchsorted(starts, i, side="right") - 1
    shifted = (row % 2) * (grid.dx / 2) if grid.kind == "hexagonal" else np.zeros(len(i))
    x, y = (i - starts[row]) * grid.dx + shifted, row * grid.dy
    down, right = offset
    if down == 0:
        # Corners of a hexagonal cell are a third of a row away from the middle of its upright side.
        half = grid.dy / 2 if grid.kind == "square" else grid.dy / 3
        return np.stack([x + grid.dx / 2, y - half, x + grid.dx / 2, y + half], axis=-1)
    if grid.kind == "square":
        return np.stack([x - grid.dx / 2, y + grid.dy / 2, x + grid.dx / 2, y + grid.dy / 2], axis=-1)
    side = grid.dx / 2 if right[0] == 0 else -grid.dx / 2
    return np.stack([x, y + grid.dy * 2 / 3, x + side, y + grid.dy / 3], axis=-1)
