"""Grains of a map: connected points of like orientation, and how orientations spread within them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kernels import grains as sums
from ..kernels._checks import whole
from ..kernels.orientations import FORWARD, add_links, kam_values, laue_code, neighbour_angles
from ._points import comparable, grain_tolerance, grid_shape, nearest_code
from .describe import with_same_digits
from .map import EBSDMap
from .tables import as_table

MAX_ROUNDS = 50
"""Rounds of the search for a mean orientation; two or three are needed."""


def grains(ebsd: EBSDMap, tolerance: float = 5.0, min_points: int = 1) -> Grains:
    """Find the grains of a map.

    A grain is a connected component of points: nearest neighbours (6 on a hexagonal grid, 4 on a square one) of the
    same phase, both indexed, belong together where their disorientation is at most the tolerance. Found by union-find;
    angles are compared in float64.

    Parameters
    ----------
    ebsd : EBSDMap
        The map.
    tolerance : float
        Degrees, less than any two orientations can differ by (62.8° in cubic phases). OIM uses 5°, MTEX 15° or 10°.
    min_points : int
        Grains of fewer points are none: their points get the id -1. OIM's default is 2.

    Returns
    -------
    Grains
        The grains, numbered in the order of their first points.

    Raises
    ------
    InputError
        If an argument is wrong.
    """
    if not isinstance(ebsd, EBSDMap):
        raise InputError(f"grains() needs an EBSDMap; got {type(ebsd).__name__}")
    angle = grain_tolerance(tolerance, "tolerance", ebsd.phases)
    least = whole(min_points, "min_points", 1)
    ids, count = grain_labels(ebsd, angle)
    first, sizes = sums.grain_table(ids, count)
    if least > 1:
        ids, first, sizes = without_small(ids, first, sizes, least)
    return Grains(ebsd=ebsd, tolerance=angle, min_points=least, point_ids=ids, first=first, sizes=sizes)


def links_of(ebsd: EBSDMap, tolerance: float, neighbourhood: int) -> NDArray[np.uint8]:
    """Return which forward neighbours of every point are alike: bits, uint8 (points,)."""
    links = np.zeros(ebsd.size, np.uint8)
    for laue, labels, _ in comparable(ebsd):
        add_links(
            ebsd.quaternions,
            labels,
            links,
            grid=grid_shape(ebsd.grid),
            laue=laue,
            neighbourhood=neighbourhood,
            tolerance=tolerance,
        )
    return links


def grain_labels(ebsd: EBSDMap, tolerance: float) -> tuple[NDArray[np.int32], int]:
    """Return the grain of every point, int32 (points,), and the number of grains."""
    code = nearest_code(ebsd.grid.kind == "hexagonal")
    links = links_of(ebsd, tolerance, code)
    return sums.label_grains(links, ebsd.phase_id, grid=grid_shape(ebsd.grid), neighbourhood=code)


def without_small(
    ids: NDArray[np.int32], first: NDArray[np.int64], sizes: NDArray[np.int64], least: int
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Drop the grains of fewer than `least` points and number the others anew."""
    kept = sizes >= least
    number = np.full(len(sizes) + 1, -1, np.int32)  # the last entry is for id -1
    number[:-1][kept] = np.arange(int(kept.sum()), dtype=np.int32)
    return number[ids], first[kept], sizes[kept]


@dataclass(eq=False, repr=False, kw_only=True)
class Grains:
    """Grains of a map, from :func:`grains`. What is not needed is not computed.

    Attributes
    ----------
    ebsd : EBSDMap
        The map they were found in.
    tolerance : float
        Degrees up to which neighbours belong together.
    min_points : int
        Points of the smallest grain that counts.
    point_ids : ndarray, (points,), int32
        Grain of every point, -1 in none.
    first : ndarray, (grains,), int64
        Index of the first point of every grain.
    sizes : ndarray, (grains,), int64
        Number of points.
    """

    ebsd: EBSDMap
    tolerance: float
    min_points: int
    point_ids: NDArray[np.int32] = field()
    first: NDArray[np.int64] = field()
    sizes: NDArray[np.int64] = field()

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def ids(self) -> NDArray[np.int32]:
        """Grain of every point in the shape of the map, -1 where there is none: int32."""
        return self.point_ids.reshape(self.ebsd.shape)

    @property
    def phase_id(self) -> NDArray[np.int16] | NDArray[np.int32]:
        """Phase of every grain: (grains,)."""
        return self.ebsd.phase_id[self.first]

    @property
    def area_um2(self) -> NDArray[np.float64]:
        """Area of every grain in µm², its points times the area of one: float64 (grains,)."""
        return np.asarray(self.sizes * self.ebsd.grid.point_area, np.float64)

    @cached_property
    def mean_orientation(self) -> NDArray[np.float64]:
        """Mean orientation of every grain: unit quaternions w, x, y, z with w ≥ 0, float64 (grains, 4).

        The eigenvector of the largest eigenvalue of Σ q qᵀ over the symmetric copies q nearest to the mean, repeated
        from the first point's orientation on until the copies stay the same (after Humbert et al., Textures
        Microstruct. 26 (1996) 409, and Markley et al., J. Guid. Control Dyn. 30 (2007) 1193).
        """
        reference = self.ebsd.quaternions[self.first]
        relative = np.zeros((len(self), 4))
        relative[:, 0] = 1.0
        moments = np.full((len(self), 10), -1, np.int64)
        for _ in range(MAX_ROUNDS):
            found = np.zeros_like(moments)
            sums.add_moments(
                self.ebsd.quaternions,
                self.point_ids,
                self.laue_codes,
                reference=reference,
                mean=relative,
                moments=found,
            )
            if np.array_equal(found, moments):
                break
            moments = found
            relative = sums.moment_means(moments)
        return times(relative, reference)

    @cached_property
    def laue_codes(self) -> NDArray[np.uint8]:
        """The kernels' code of every grain's Laue group: uint8 (grains,)."""
        table = np.zeros(2**15, np.uint8)
        for phase in self.ebsd.phases:
            table[phase.id] = laue_code(phase.laue)
        return table[self.phase_id]

    @cached_property
    def _deviation(self) -> NDArray[np.float32]:
        return sums.grain_deviation(self.ebsd.quaternions, self.point_ids, self.laue_codes, mean=self.mean_orientation)

    @property
    def grod(self) -> NDArray[np.float32]:
        """Grain reference orientation deviation: disorientation of every point to the mean orientation of its grain.

        Degrees, float32 in the shape of the map; NaN where there is no grain.
        """
        return self._deviation.reshape(self.ebsd.shape)

    @cached_property
    def gos(self) -> NDArray[np.float64]:
        """Grain orientation spread: the mean of GROD over every grain, in degrees, float64 (grains,)."""
        total, count = np.zeros((2, len(self)), np.int64)
        sums.add_values(self._deviation, self.point_ids, sums=total, counts=count)
        return mean_of(total, count)

    def gam(self, kind: Literal["pairs", "kam"] = "pairs") -> NDArray[np.float64]:
        """Return the grain average misorientation of every grain.

        Parameters
        ----------
        kind : {"pairs", "kam"}
            "pairs": the mean over the pairs of nearest neighbours within the grain, each once. "kam": the KAM of first
            order within the grain, averaged over its points (MTEX). No pair is left out for its angle.

        Returns
        -------
        ndarray, (grains,), float64
            Degrees; NaN for a grain of one point.

        Raises
        ------
        InputError
            If the kind is unknown.
        """
        if kind not in ("pairs", "kam"):
            raise InputError(f"kind={kind!r} is unknown; use 'pairs' or 'kam'")
        total, count = np.zeros((2, len(self)), np.int64)
        grid, code = grid_shape(self.ebsd.grid), nearest_code(self.ebsd.grid.kind == "hexagonal")
        if kind == "kam":
            values = inner_kam(self.ebsd, self.point_ids)
            sums.add_values(values, self.point_ids, sums=total, counts=count)
        else:
            angles = angles_of(self.ebsd)
            sums.add_pairs(angles, self.point_ids, sums=total, counts=count, grid=grid, neighbourhood=code)
        return mean_of(total, count)

    def __repr__(self) -> str:
        names, lengths = [], []
        for phase in self.ebsd.phases:
            mine = self.phase_id == phase.id
            if not mine.any():
                continue
            area = self.area_um2[mine]
            diameter = float(np.median(2 * np.sqrt(area / math.pi)))
            share = float(self.sizes[mine].sum()) / max(1, self.ebsd.size)
            names.append((str(phase), f"{len(area)}", f"{100 * share:.1f} %"))
            lengths.append((float(area.mean()), float(area.max()), diameter))
        columns = [with_same_digits(*column) for column in zip(*lengths, strict=True)]
        rows = [(*name, *row) for name, row in zip(names, zip(*columns, strict=True), strict=True)]
        head = ("phase", "grains", "of the map", "mean µm²", "largest µm²", "median diameter µm")
        title = f"{len(self)} grains at {self.tolerance:g}°, of {self.min_points} or more points"
        return as_table(title, head, rows)


def mean_of(total: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return sums of angles over their number, in degrees; NaN for none."""
    return np.where(count > 0, total / sums.DEGREE / np.maximum(count, 1), np.nan)


def times(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the products of unit quaternions (n, 4), of unit length and with w ≥ 0."""
    w1, x1, y1, z1 = a.T
    w2, x2, y2, z2 = b.T
    product = np.stack(
        [
            w1 * w2 - x1 * x2 - y1 * y2 - z1 * z2,
            w1 * x2 + x1 * w2 + y1 * z2 - z1 * y2,
            w1 * y2 - x1 * z2 + y1 * w2 + z1 * x2,
            w1 * z2 + x1 * y2 - y1 * x2 + z1 * w2,
        ],
        axis=-1,
    )
    product /= np.linalg.norm(product, axis=-1, keepdims=True)
    return np.where(product[:, :1] < 0, -product, product)


def angles_of(ebsd: EBSDMap) -> NDArray[np.float32]:
    """Return the disorientation of every point to its nearest forward neighbours: degrees, (points, 2 or 3); or NaN."""
    code = nearest_code(ebsd.grid.kind == "hexagonal")
    out = np.empty((ebsd.size, FORWARD[code]), np.float32)
    for laue, labels, keep in comparable(ebsd):
        neighbour_angles(
            ebsd.quaternions, labels, out, grid=grid_shape(ebsd.grid), laue=laue, neighbourhood=code, keep=keep
        )
    return out


def inner_kam(ebsd: EBSDMap, ids: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the KAM of first order among nearest neighbours of the same grain, without a limit: float32 (points,)."""
    out = np.empty(ebsd.size, np.float32)
    for laue, labels, keep in comparable(ebsd, ids):
        kam_values(
            ebsd.quaternions,
            labels,
            out,
            grid=grid_shape(ebsd.grid),
            laue=laue,
            neighbourhood=nearest_code(ebsd.grid.kind == "hexagonal"),
            order=1,
            max_angle=math.inf,
            keep=keep,
        )
    return out
