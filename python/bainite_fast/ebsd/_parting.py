"""KAM over the length that tells bent from quiet lattice, and grains parted where the one meets the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ._pairs import half_stencil, nearest_pairs, pairs
from .noise import FLOOR_PER_NOISE, NoiseFloor

if TYPE_CHECKING:
    from .grain_map import Grains
    from .grid import Grid
    from .map import EBSDMap

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
_QUIET_SHARE, _LEAST_BENT_UM2 = 0.6, 1.0
_ORDERS = range(1, 11)
_SCATTER = math.sqrt(3.0 * math.pi / 8.0 - 1.0)
"""Standard deviation over mean of the angle between two measurements of one orientation, 0.422."""
_ERROR_OF_MEAN = 0.45
"""Relative standard error of the mean KAM that noise gives, times the root of the number of points."""


def order_of_reach(grid: Grid, reach: float) -> int:
    """Return the order of KAM whose pairs are `reach` µm apart in the mean, as nearly as an order can be.

    The noise of a pair is the same at any distance, its bending grows with the distance up to `reach`: at a step of
    0.1 µm the third-order KAM of bent and of quiet lattice differ by less than it scatters. At a step of 0.4 µm it
    reaches twice as far as the bending grows, and shows subgrain boundaries and bainite beside quiet ferrite in all of
    a small grain.
    """
    return min(_ORDERS, key=lambda order: abs(_distance(grid, order) - reach))


@dataclass(frozen=True, slots=True)
class Bent:
    """Where quiet lattice ends and bent lattice begins, for the KAM of one order on one map.

    Attributes
    ----------
    floor : NoiseFloor
        Of the map.
    angle : float
        Bending over the pairs of the KAM in degrees, without noise, from which on a lattice counts as bent.
    """

    floor: NoiseFloor
    angle: float

    @classmethod
    def over(cls, grid: Grid, order: int, floor: NoiseFloor, bent: tuple[float, float]) -> Bent:
        """Return the limit for a lattice `bent` by °/µm over up to a length in µm."""
        curvature, reach = bent
        return cls(floor, curvature * min(_distance(grid, order), reach))

    @property
    def kam_at(self) -> float:
        """The KAM in degrees, measured with this noise, of a lattice at the limit. Squares add up."""
        return float(np.hypot(self.floor.floor, self.angle))

    def contrast(self, kam: Float64, points: NDArray[np.int64], width: float) -> Float64:
        """Return by how much each grain is bent rather than quiet, -1 … 1, from its mean KAM; 0 where it has none.

        It is the tanh of the logarithm of bending over its limit, over `width`. The standard error of the squared
        bending is added to both squares: it has a part from the number of points and one from the interval of the
        noise floor. So noise takes the say from few points, and not from many.
        """
        known = np.isfinite(kam)
        square = np.where(known, kam, self.kam_at) ** 2
        low, high = self.floor.interval
        sigmas = 2.0 * NormalDist().inv_cdf(0.5 + 0.5 * self.floor.confidence)
        of_floor = 2.0 * self.floor.floor * FLOOR_PER_NOISE * (high - low) / sigmas
        of_mean = 2.0 * square * _ERROR_OF_MEAN / np.sqrt(points)
        error = np.hypot(of_mean, of_floor) + 1e-9
        ratio = (np.maximum(square - self.floor.floor**2, 0.0) + error) / (self.angle**2 + error)
        found: Float64 = np.tanh(0.5 * np.log(ratio) / width)
        return found


def mean_kam(ebsd: EBSDMap, grains: Grains, order: int) -> Float64:
    """Return the mean KAM of each grain in degrees, float64 (grains,); NaN where no point has one."""
    known, values = _point_kam(ebsd, grains, order)
    ids, count = grains.ids.reshape(-1)[known], len(grains)
    with np.errstate(invalid="ignore"):
        mean: Float64 = np.bincount(ids, values[known], minlength=count) / np.bincount(ids, minlength=count)
    return mean


def part_grains(ebsd: EBSDMap, grains: Grains, order: int, *, limit: Bent, reach: float, diameter: float) -> Grains:
    """Part grains that are quiet here and bent there.

    A ferrite grain and a block of bainite beside it with the same variant are one grain by their angle; their KAM tells
    them apart. Only a quiet part as large as polygonal ferrite (of `diameter` µm) is parted from the rest. What lies
    apart is a grain of its own: its shape is judged. Islands too small for that go with what is around them.
    """
    ids = grains.ids.reshape(-1)
    known, values = _point_kam(ebsd, grains, order)
    rounds = _rounds(ebsd.grid, limit, reach)
    smooth = _smoothed(ebsd, ids, (known, values), rounds)
    # A boundary of low angle raises the KAM as far as its order reaches and the mean over neighbours spreads, by
    # 0.4 points² a round.
    bent = _wide(ebsd, ids, known & (smooth >= limit.kam_at), round(order + 1.5 * np.sqrt(0.4 * rounds)))
    area, count = ebsd.grid.point_area, len(grains)
    calm_um2 = np.bincount(ids[known & ~bent], minlength=count) * area
    bent_um2 = np.bincount(ids[bent], minlength=count) * area
    least, least_bent = 0.25 * np.pi * (_QUIET_SHARE * diameter) ** 2, max(_LEAST_BENT_UM2, 10 * area)
    parted = (calm_um2 >= least) & (bent_um2 >= least_bent)
    if not parted.any():
        return grains
    # Points without a KAM have no neighbour in their grain within its 5°: they go with the bent part.
    quiet, inside = known & ~bent, (ids >= 0) & parted[ids]
    islands = _islands(ebsd, ids, inside, quiet)
    small = np.bincount(islands[inside], minlength=ebsd.size) * area < least_bent
    quiet ^= inside & small[islands]
    islands = _islands(ebsd, ids, inside, quiet)
    return _renumbered(grains, np.where(inside, count + islands, ids))


def _islands(ebsd: EBSDMap, ids: NDArray[np.int32], inside: Bool, quiet: Bool) -> NDArray[np.int64]:
    """Return a number for each connected region of points `inside` that are of one grain, and all quiet or all not."""
    found = [pairs(ebsd.grid, offset) for offset in half_stencil(ebsd.grid, 1)]  # diagonal ones, too
    i, j = (np.concatenate(ends) for ends in zip(*found, strict=True))
    same = inside[i] & (ids[i] == ids[j]) & (quiet[i] == quiet[j])
    links = coo_array((np.ones(int(same.sum()), np.bool_), (i[same], j[same])), shape=(ebsd.size, ebsd.size))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _rounds(grid: Grid, limit: Bent, reach: float) -> int:
    """Return how often the KAM is averaged over neighbours before its limit is drawn.

    Each time spreads by 0.4 points², so that it is over some 5 points more. It must be over `reach`, and over as many
    points as bring noise down to a third of what the limit is above the floor.
    """
    floor = limit.floor.floor
    scatter = _SCATTER * floor / max(limit.kam_at - floor, 1e-6)
    return int(np.clip(max(2.0 * (reach / grid.dx) ** 2, (3.0 * scatter) ** 2 / 5.0), 4, 60))


def _distance(grid: Grid, order: int) -> float:
    return float(np.mean([offset.distance for offset in half_stencil(grid, order)]))


def _point_kam(ebsd: EBSDMap, grains: Grains, order: int) -> tuple[Bool, Float64]:
    """Return where the KAM within the grains is known, and its values, each (points,)."""
    from .misorientation import kam

    values = np.asarray(kam(ebsd, order, grains=grains.ids), np.float64).reshape(-1)
    return np.isfinite(values) & (grains.ids.reshape(-1) >= 0), values


def _smoothed(ebsd: EBSDMap, ids: NDArray[np.int32], kam: tuple[Bool, Float64], rounds: int) -> Float64:
    """Return the mean of the KAM over neighbours within the grain, taken `rounds` times."""
    known, values = kam
    i, j = nearest_pairs(ebsd.grid)
    inside = (ids[i] == ids[j]) & known[i] & known[j]
    a, b = np.concatenate([i[inside], j[inside]]), np.concatenate([j[inside], i[inside]])
    weight = 1 + np.bincount(a, minlength=ebsd.size)
    smooth: Float64 = np.where(known, values, 0.0)
    # A mean over neighbours spreads by about half a step's square each time.
    for _ in range(rounds):
        smooth = (smooth + np.bincount(a, smooth[b], minlength=ebsd.size)) / weight
    return smooth


def _wide(ebsd: EBSDMap, ids: NDArray[np.int32], bent: Bool, steps: int) -> Bool:
    """Keep what is bent where it is more than `2·steps` points wide: an opening within the grain.

    Narrower bands are a boundary of low angle between subgrains, or between two grains that are one within the
    tolerance, or noise at their rim: no block of bainite. Points without a value go with what is around them.
    """
    i, j = nearest_pairs(ebsd.grid)
    same = (ids[i] == ids[j]) & (ids[i] >= 0)
    i, j = i[same], j[same]
    deep = bent.copy()
    for _ in range(steps):
        outer = np.zeros(ebsd.size, np.bool_)
        outer[i[~deep[j]]] = True
        outer[j[~deep[i]]] = True
        deep &= ~outer
    for _ in range(steps):
        grown = deep.copy()
        grown[i[deep[j]]] = True
        grown[j[deep[i]]] = True
        deep = grown & bent
    return deep


def _renumbered(grains: Grains, numbers: NDArray[np.int64]) -> Grains:
    """Return grains of other numbers, in the order of their first points as those of `grains` are."""
    from ..kernels.grains import grain_table

    inside = numbers >= 0
    found, which = np.unique(numbers[inside], return_inverse=True)
    first = np.full(len(found), numbers.size, np.int64)
    np.minimum.at(first, which, np.flatnonzero(inside))
    rank = np.empty(len(found), np.int32)
    rank[np.argsort(first, kind="stable")] = np.arange(len(found), dtype=np.int32)
    point_ids = np.full(numbers.size, -1, np.int32)
    point_ids[inside] = rank[which]
    starts, sizes = grain_table(point_ids, len(found))
    return type(grains)(
        ebsd=grains.ebsd, tolerance=grains.tolerance, min_points=1, point_ids=point_ids, first=starts, sizes=sizes
    )
