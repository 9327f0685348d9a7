"""What tells lath bainite from polygonal ferrite: numbers for every grain and every boundary of a map."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .._disk import write_text
from ..errors import InputError, OutputExistsError
from ._pairs import nearest_pairs
from ._points import angle_argument
from ._quaternions import conjugate, cubic_angle, disorientation, multiply
from .grid import Grid
from .map import EBSDMap
from .variants import BAIN_OTHER_MIN, BAIN_SAME_MAX, BoundaryClass, ks_deviation

if TYPE_CHECKING:
    from .grain_map import Grains

Float64 = NDArray[np.float64]
_MEAN_POINTS = 5
_BOUNDARY_NAMES = tuple(kind.name.lower() for kind in BoundaryClass if kind is not BoundaryClass.INTERIOR)


@dataclass(frozen=True, slots=True, eq=False)
class BoundaryFeatures:
    """The boundary between grains, one entry for each pair of nearest points in two grains.

    Attributes
    ----------
    i, j : ndarray of int64, (n,)
        The points.
    angle : ndarray of float64, (n,)
        Disorientation of the two points in degrees; NaN between phases.
    deviation : ndarray of float64, (n,)
        Angle in degrees to the nearest misorientation of two Kurdjumov–Sachs variants, of the mean orientations of the
        two grains where both have 5 or more points, else of the two points; NaN where it is not cubic.
    kind : ndarray of int8, (n,)
        `BoundaryClass`, from the same misorientation.
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    angle: Float64
    deviation: Float64
    kind: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.i)


def boundary_features(
    ebsd: EBSDMap, grains: Grains, *, ks_tolerance: float = 6.0, low_angle: float = 15.0
) -> BoundaryFeatures:
    """Classify the boundary between grains after Kurdjumov and Sachs.

    Parameters
    ----------
    ebsd : EBSDMap
        The map.
    grains : Grains
        Its grains.
    ks_tolerance : float
        Angle in degrees up to which a misorientation counts as that of two variants of one parent: two blocks scatter
        by some 2° each, and relationships lie up to 5° from Kurdjumov–Sachs.
    low_angle : float
        Boundaries up to this angle (degrees) that are not of two variants are of low angle.

    Returns
    -------
    BoundaryFeatures
        Of cubic phases; others have the class OTHER.

    Raises
    ------
    InputError
        If an angle is out of range, or the grains are those of another map.
    """
    if isinstance(ks_tolerance, bool) or not 0 < ks_tolerance <= 10:
        raise InputError(f"ks_tolerance={ks_tolerance} is refused; give degrees above 0, up to 10")
    low_angle = angle_argument(low_angle, "low_angle")
    _check_grains(ebsd, grains)
    ids = grains.ids.reshape(-1)
    i, j = nearest_pairs(ebsd.grid)
    border = (ids[i] != ids[j]) & (ids[i] >= 0) & (ids[j] >= 0)
    i, j = i[border], j[border]
    between = multiply(ebsd.quaternions[i], conjugate(ebsd.quaternions[j]))
    # Noise and single laths scatter: blocks are told by their mean orientations, where there is enough to average.
    mean, enough = np.asarray(grains.mean_orientation, np.float64), grains.sizes >= _MEAN_POINTS
    of_grains = multiply(mean[ids[i]], conjugate(mean[ids[j]]))
    related = np.where((enough[ids[i]] & enough[ids[j]])[:, None], of_grains, between)
    angle, deviation = np.full(len(i), np.nan), np.full(len(i), np.nan)
    kind = np.full(len(i), BoundaryClass.OTHER, np.int8)
    same = ebsd.phase_id[i] == ebsd.phase_id[j]
    for phase in ebsd.phases:
        own = np.flatnonzero(same & (ebsd.phase_id[i] == phase.id))
        angle[own] = disorientation(between[own], phase.laue)
        if phase.laue == "m-3m":
            deviation[own], pair = ks_deviation(related[own])
            kind[own] = _kinds(cubic_angle(related[own]), deviation[own], pair, ks_tolerance, low_angle)
    return BoundaryFeatures(i, j, angle, deviation, kind)


def _kinds(
    angle: Float64, deviation: Float64, pair: NDArray[np.int64], ks_tolerance: float, low_angle: float
) -> NDArray[np.int8]:
    kind = np.full(len(angle), BoundaryClass.OTHER, np.int8)
    kind[angle <= low_angle] = BoundaryClass.LOW_ANGLE
    # Below 10.53° no two variants differ; a boundary that is only just above the tolerance of grains is no variant's.
    related = (deviation <= ks_tolerance) & (deviation < 0.5 * angle)
    kind[related] = pair[related]
    gap = (angle > BAIN_SAME_MAX) & (angle < BAIN_OTHER_MIN)
    kind[gap & ~related] = BoundaryClass.GAP
    return kind


@dataclass(frozen=True, slots=True, eq=False)
class GrainFeatures:
    """One row per grain.

    Attributes
    ----------
    points : ndarray of int64
        Number of points.
    x_um, y_um : ndarray of float64
        Centre of gravity, from the first point of the map (µm).
    area_um2, diameter_um : ndarray of float64
        Area, and diameter of the circle of the same area.
    aspect_ratio : ndarray of float64
        Long over short axis of the ellipse with the same second moments, 1 or more.
    gos, gam, kam3 : ndarray of float64
        Grain orientation spread, grain average misorientation (pairs), and mean third-order KAM up to 5° within the
        grain (degrees); NaN where a grain is too small.
    boundary_um : ndarray of float64
        Length of the boundary to other grains in µm: each pair of points counts with the side that their cells share.
    low_angle, block, bain, packet, gap, other : ndarray of float64
        Share of that length by `BoundaryClass`; NaN without neighbours.
    edge : ndarray of bool
        Whether the grain is cut by the edge of the map.
    """

    points: NDArray[np.int64]
    x_um: Float64
    y_um: Float64
    area_um2: Float64
    diameter_um: Float64
    aspect_ratio: Float64
    gos: Float64
    gam: Float64
    kam3: Float64
    boundary_um: Float64
    low_angle: Float64
    block: Float64
    bain: Float64
    packet: Float64
    gap: Float64
    other: Float64
    edge: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.points)

    @property
    def ks(self) -> Float64:
        """Share of the boundary that two variants of one parent may have: block, Bain and packet."""
        return self.block + self.bain + self.packet

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return the columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def grain_features(ebsd: EBSDMap, grains: Grains, borders: BoundaryFeatures) -> GrainFeatures:
    """Measure every grain; see `GrainFeatures`.

    Parameters
    ----------
    ebsd : EBSDMap
        The map.
    grains : Grains
        Its grains.
    borders : BoundaryFeatures
        Of these grains, from `boundary_features`.

    Raises
    ------
    InputError
        If the grains are those of another map.
    """
    from .misorientation import kam

    _check_grains(ebsd, grains)
    ids = grains.ids.reshape(-1)
    count = len(grains)
    inside = ids >= 0
    x, y = ebsd.grid.coordinates()
    points, cx, cy, aspect = _shapes(ids[inside], x[inside], y[inside], count, (ebsd.grid.dx, ebsd.grid.dy))
    values = np.asarray(kam(ebsd, 3, grains=grains.ids), np.float64).reshape(-1)
    known = inside & np.isfinite(values)
    number = np.bincount(ids[known], minlength=count)
    with np.errstate(invalid="ignore"):
        kam3 = np.bincount(ids[known], values[known], minlength=count) / number
    row, column = ebsd.grid.row_and_column()
    total, shares = _shares(ids, borders, count, boundary_lengths(ebsd.grid, borders))
    area: Float64 = points.astype(np.float64) * ebsd.grid.point_area
    on_edge = np.zeros(count, np.bool_)
    last = np.where(row % 2, ebsd.grid.columns_even, ebsd.grid.columns) - 1
    rim = inside & ((row == 0) | (row == ebsd.grid.rows - 1) | (column == 0) | (column == last))
    on_edge[ids[rim]] = True
    return GrainFeatures(
        points=points,
        x_um=cx,
        y_um=cy,
        area_um2=area,
        diameter_um=2.0 * np.sqrt(area / np.pi),
        aspect_ratio=aspect,
        gos=np.asarray(grains.gos, np.float64),
        gam=np.asarray(grains.gam("pairs"), np.float64),
        kam3=kam3,
        boundary_um=total,
        edge=on_edge,
        **shares,
    )


def _shapes(
    ids: NDArray[np.int32], x: Float64, y: Float64, count: int, cell: tuple[float, float]
) -> tuple[NDArray[np.int64], Float64, Float64, Float64]:
    """Return points, centre and aspect ratio of each grain."""
    points = np.bincount(ids, minlength=count)
    safe = np.maximum(points, 1)
    cx, cy = np.bincount(ids, x, minlength=count) / safe, np.bincount(ids, y, minlength=count) / safe
    dx, dy = x - cx[ids], y - cy[ids]
    # A point stands for its cell, whose own second moment keeps a row of points from being infinitely thin.
    xx = np.bincount(ids, dx * dx, minlength=count) / safe + cell[0] ** 2 / 12
    yy = np.bincount(ids, dy * dy, minlength=count) / safe + cell[1] ** 2 / 12
    xy = np.bincount(ids, dx * dy, minlength=count) / safe
    middle, apart = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
    aspect = np.sqrt((middle + apart) / np.maximum(middle - apart, 1e-12))
    return points, cx, cy, aspect


def boundary_lengths(grid: Grid, borders: BoundaryFeatures) -> Float64:
    """Return the length in µm of every piece of boundary: of the side that the cells of its two points share."""
    row = grid.row_and_column()[0]
    if grid.kind == "square":
        in_row, between_rows = grid.dy, grid.dx
    else:
        in_row, between_rows = grid.dy * 2 / 3, float(np.hypot(grid.dx / 2, grid.dy / 3))
    return np.where(row[borders.i] == row[borders.j], in_row, between_rows)


def _check_grains(ebsd: EBSDMap, grains: Grains) -> None:
    if grains.point_ids.size != ebsd.size:
        raise InputError(
            f"the grains are of a map of {grains.point_ids.size} points, and this one has {ebsd.size}; find its own"
        )


def _shares(
    ids: NDArray[np.int32], borders: BoundaryFeatures, count: int, length: Float64
) -> tuple[Float64, dict[str, Float64]]:
    """Return the length of the boundary of each grain and its shares by class."""
    grain = np.concatenate([ids[borders.i], ids[borders.j]]).astype(np.int64)
    kind = np.concatenate([borders.kind, borders.kind]).astype(np.int64)
    weight = np.concatenate([length, length])
    table = np.bincount(grain * 7 + kind, weight, minlength=7 * count).reshape(count, 7).astype(np.float64)
    total = table.sum(axis=1)
    with np.errstate(invalid="ignore"):
        shares = table / total[:, None]
    return total, {name: shares[:, BoundaryClass[name.upper()]] for name in _BOUNDARY_NAMES}


def write_table(path: Path, columns: dict[str, NDArray[np.generic]], *, overwrite: bool) -> Path:
    """Write columns of equal length as CSV, one row per grain, moved into place when complete."""
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists; choose another name, or overwrite it (overwrite=True)")
    rows = [",".join(("grain", *columns))]
    for number, row in enumerate(zip(*(column.tolist() for column in columns.values()), strict=True)):
        rows.append(",".join([str(number), *(_cell(value) for value in row)]))
    write_text(path, "\n".join(rows) + "\n")
    return path


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return str(value)
