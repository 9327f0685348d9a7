"""How much of a KAM is noise of the measurement: the disorientation of neighbours extrapolated to distance zero.

Two measurements of one orientation differ by the noise of both; further apart, by the bending of the lattice too. M.
Kamaya (Ultramicroscopy 111 (2011) 1189) and S. I. Wright et al. (Microsc. Microanal. 21 (2015) 1455 and references
there) draw a straight line through the mean KAM over the distance, and read the noise at distance zero. Angles do not
add up, though, and their squares do: an error vector is independent of the lattice's rotation, so the mean of θ² is
that of the noise plus that of the bending. So here the mean of θ² is extrapolated, as the nugget of a variogram is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..kernels._checks import whole
from ._pairs import half_stencil, pairs
from ._points import grain_ids
from ._quaternions import conjugate, disorientation, multiply
from .map import EBSDMap

if TYPE_CHECKING:
    from .grain_map import Grains

Float64 = NDArray[np.float64]

FLOOR_PER_NOISE = 4.0 / math.sqrt(3.0 * math.pi)
"""Mean angle between two measurements of one orientation over the rms angle of their error, 1.3029.

Errors have three normal components of standard deviation s: rms angle s·√3. The difference of two has s·√2 in each,
and its mean length is s·√2·2·√(2/π) (Maxwell's distribution).
"""
_LENGTHS = (3.0, 5.0, 10.0, math.inf)
"""Lengths L over which bending may saturate, in steps; shorter ones cannot be told from noise."""
_EQUAL = 1e-6  # degrees, up to which two orientations are the same
_CHUNK = 1 << 17
_DRAWN = 1 << 21  # windows drawn at once
_MIN_PAIRS = 40  # of a window; half of one of 8 × 8 points has some 150


@dataclass(frozen=True, slots=True, eq=False)
class NoiseFloor:
    """The noise of a map's orientations, and the disorientation over distance that it came from.

    Attributes
    ----------
    noise : float
        Angle between a measured orientation and the true one, in degrees, root mean square over points.
    interval : (float, float)
        Interval of `noise` at the level `confidence`.
    confidence : float
        0.95 by default.
    distance : ndarray of float64, (n,)
        Distances of neighbours in µm.
    mean_angle : ndarray of float64, (n,)
        Mean disorientation in degrees of the pairs at each distance: the KAM of that neighbour.
    mean_square : ndarray of float64, (n,)
        Mean of the squared disorientation, degrees².
    weighted_square, fitted : ndarray of float64, (n,)
        The same, weighted so that little deformed places count more, and the curve fitted to it.
    kamaya : float
        Mean KAM at distance zero on a straight line, degrees: what has been published so far, for comparison with
        `floor`.
    pairs : int
        Number of pairs used.
    step : float
        Step of the map in µm.
    """

    noise: float
    interval: tuple[float, float]
    confidence: float
    distance: Float64 = field(repr=False)
    mean_angle: Float64 = field(repr=False)
    mean_square: Float64 = field(repr=False)
    weighted_square: Float64 = field(repr=False)
    fitted: Float64 = field(repr=False)
    kamaya: float
    pairs: int
    step: float

    @property
    def floor(self) -> float:
        """The KAM in degrees that noise alone gives: the mean angle between two measurements of one orientation."""
        return FLOOR_PER_NOISE * self.noise

    def deformation(self, distance: float) -> float:
        """Return the rms disorientation in degrees at a distance in µm, without the noise.

        Maps of different steps compare at one distance that all of them cover.

        Raises
        ------
        InputError
            If the distance is outside of those measured.
        """
        near, far = float(self.distance[0]), float(self.distance[-1])
        if not near <= distance <= far:
            raise InputError(f"distance {distance} µm is not between {near:g} and {far:g} µm, which the map covers")
        square = float(np.interp(distance, self.distance, self.mean_square)) - 2.0 * self.noise**2
        return math.sqrt(max(square, 0.0))

    def remove(self, kam: NDArray[np.floating]) -> Float64:
        """Return √(KAM² − floor²), 0 where the KAM is below the floor and NaN where it is NaN, in degrees."""
        values = np.asarray(kam, np.float64)
        cleared: Float64 = np.sqrt(np.maximum(values**2 - self.floor**2, 0.0))
        return cleared

    def __str__(self) -> str:
        low, high = self.interval
        bend = self.deformation(float(self.distance[0]))
        return (
            f"noise {self.noise:.3f}° rms ({low:.3f}–{high:.3f}°, {100 * self.confidence:g} %), KAM floor "
            f"{self.floor:.3f}°; bending {bend:.3f}° rms over {self.distance[0]:g} µm"
        )


def noise_floor(
    ebsd: EBSDMap,
    *,
    order: int = 3,
    max_angle: float = 5.0,
    grains: Grains | NDArray[np.integer] | None = None,
    window: int = 8,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> NoiseFloor:
    """Estimate the noise of the orientations, apart from deformation.

    The mean squared disorientation of neighbours is fitted over their distance d by c₀ + c₁·d + c₂·d²/(1 + (d/L)²), no
    coefficient negative: c₂ is a lattice that bends smoothly and back again over a length L, the best of 3, 5, 10 and
    ∞ steps; c₁ one with walls of dislocations. c₀ is twice the squared noise. The map is cut into windows; each counts
    with 1/(its mean of θ²)², the inverse of the variance of θ², since noise shows best where the lattice bends least.
    The interval is a bootstrap over windows, which keeps the correlation of neighbouring pairs.

    It is the noise of this map as it is: a smoothing filter changes it, and correlates neighbours. A clean-up copies
    orientations from point to point; pairs of equal orientations are left out, so that it hardly matters.

    Parameters
    ----------
    ebsd : EBSDMap
        Of any Laue group; with points that are not indexed left out.
    order : int
        Neighbours up to this order, 2 or more.
    max_angle : float
        Pairs that differ by more (degrees) lie across a boundary and are left out. It must be well above the noise:
        five times or more.
    grains : Grains or ndarray of int, (points,) or the map's shape, optional
        Grain numbers, negative where there is none: pairs across grains are left out too.
    window : int
        Edge of a window in points: smaller ones keep deformed places apart from others, larger ones scatter less.
    confidence : float
        Level of the interval, between 0 and 1.
    resamples : int
        Of the bootstrap.
    seed : int
        Of the bootstrap.

    Returns
    -------
    NoiseFloor

    Raises
    ------
    InputError
        If an argument is out of range, or the map has too few pairs.

    Notes
    -----
    Where the lattice differs much from one point to the next everywhere (laths as wide as the step, no ferrite beside
    them), c₀ is an extrapolation over more than its own size; the interval shows the scatter, and not that the curve
    may be another one. Take a smaller step, or a part of the map with undeformed grains.
    """
    if not isinstance(ebsd, EBSDMap):
        raise InputError(f"noise_floor() needs an EBSDMap; got {type(ebsd).__name__}")
    _check(order, max_angle, window, confidence, resamples)
    seed = whole(seed, "seed", 0)
    numbers = _grain_numbers(ebsd, grains)
    row, column = ebsd.grid.row_and_column()
    across = -(-ebsd.grid.columns // window)
    place = (row // window).astype(np.int64) * across + column // window
    count = int(place.max()) + 1
    offsets = half_stencil(ebsd.grid, order)
    distances, which = np.unique(np.round([offset.distance for offset in offsets], 6), return_inverse=True)
    sums = np.zeros((4, count, len(distances)))  # pairs, θ, θ², equal pairs
    for offset, at in zip(offsets, which, strict=True):
        first, second = pairs(ebsd.grid, offset)
        for start in range(0, len(first), _CHUNK):
            i, j = first[start : start + _CHUNK], second[start : start + _CHUNK]
            kept, angle = _angles(ebsd, numbers, i, j, max_angle)
            if not len(kept):
                continue
            # The pairs of a chunk lie in few windows that follow one another, whatever the size of the map.
            windows = place[kept]
            first_window = int(windows.min())
            windows -= first_window
            terms = (np.ones(len(angle)), angle, angle**2, angle < _EQUAL)
            for total, weights in zip(sums, terms, strict=True):
                found = np.bincount(windows, weights)
                total[first_window : first_window + len(found), at] += found
    return _fit(ebsd, distances, _without_copies(sums), confidence=confidence, resamples=resamples, seed=seed)


def _without_copies(sums: Float64) -> Float64:
    """Leave out the pairs of equal orientations: they add nothing to the sums of angles, only to the number of pairs.

    No two measurements agree to the last digit. A map most of whose pairs do is no measurement, and keeps them.
    """
    number, angle, square, equal = sums
    copied = equal if 2 * equal.sum() <= number.sum() else np.zeros_like(equal)
    return np.stack([number - copied, angle, square])


def _check(order: int, max_angle: float, window: int, confidence: float, resamples: int) -> None:
    # One order gives one distance on some grids, and no line goes through one point.
    if whole(order, "order", 1) < 2:
        raise InputError(f"order={order} gives no distances to extrapolate from; use 2 or more")
    if isinstance(max_angle, bool) or not 0 < max_angle <= 45:
        raise InputError(f"max_angle={max_angle} is refused; give degrees above 0, up to 45")
    if whole(window, "window", 1) < 4:
        raise InputError(f"window={window} is refused; use at least 4 points")
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence} is refused; give a number between 0 and 1, such as 0.95")
    if whole(resamples, "resamples", 1) < 100:
        raise InputError(f"resamples={resamples} is too few for an interval; use at least 100")


def _grain_numbers(ebsd: EBSDMap, grains: Grains | NDArray[np.integer] | None) -> NDArray[np.int64]:
    """Return what must be equal on both sides of a pair, negative where a point does not count: int64 (points,)."""
    if grains is None:
        return ebsd.phase_id.astype(np.int64)
    return np.where(ebsd.indexed, grain_ids(grains, ebsd.size), -1).astype(np.int64)


def _angles(
    ebsd: EBSDMap, numbers: NDArray[np.int64], i: NDArray[np.int64], j: NDArray[np.int64], max_angle: float
) -> tuple[NDArray[np.int64], Float64]:
    """Return the first point and the angle of the pairs that count."""
    phase = ebsd.phase_id
    same = (numbers[i] == numbers[j]) & (numbers[i] >= 0) & (phase[i] == phase[j])
    i, j = i[same], j[same]
    between = multiply(ebsd.quaternions[i], conjugate(ebsd.quaternions[j]))
    angle = np.empty(len(i))
    for one in ebsd.phases:
        own = phase[i] == one.id
        angle[own] = disorientation(between[own], one.laue)
    near = angle <= max_angle
    return i[near], angle[near]


def _fit(
    ebsd: EBSDMap, distances: Float64, sums: Float64, *, confidence: float, resamples: int, seed: int
) -> NoiseFloor:
    number, angle, square = sums
    used = number.sum(axis=1) >= _MIN_PAIRS
    if not used.any() or not (number[used].sum(axis=0) > 0).all():
        raise InputError(
            f"the map has {int(number.sum())} pairs of neighbours within one grain, too few for a noise floor; "
            "take a larger map, or check the phase and the indexed points"
        )
    number, angle, square = number[used], angle[used], square[used]
    # Noise-free maps have windows of θ² = 0: they must not take all the weight from the rest by dividing by nothing.
    mean = square.sum(axis=1) / number.sum(axis=1)
    weight = 1.0 / np.maximum(mean, max(1e-8, 1e-4 * float(np.median(mean)))) ** 2
    weighted_number, weighted_square = weight[:, None] * number, weight[:, None] * square
    total = weighted_number.sum(axis=0)
    curve = weighted_square.sum(axis=0) / total
    # The variance of a mean of θ² goes with its square over the number of pairs.
    precision = number.sum(axis=0) / np.maximum(curve, 1e-12) ** 2
    nugget, fitted = _extrapolate(distances, curve[None], precision)
    resampled = _resampled(weighted_number, weighted_square, resamples, seed)
    nuggets, _ = _extrapolate(distances, resampled, precision)
    tail = 50.0 * (1.0 - confidence)
    low, high = np.sqrt(np.percentile(nuggets, [tail, 100.0 - tail]) / 2.0)
    mean_angle = angle.sum(axis=0) / number.sum(axis=0)
    line = np.polyfit(distances, mean_angle, 1, w=np.sqrt(number.sum(axis=0)))
    return NoiseFloor(
        noise=math.sqrt(nugget[0] / 2.0),
        interval=(float(low), float(high)),
        confidence=confidence,
        distance=distances,
        mean_angle=mean_angle,
        mean_square=square.sum(axis=0) / number.sum(axis=0),
        weighted_square=curve,
        fitted=fitted[0],
        kamaya=float(line[1]),
        pairs=int(number.sum()),
        step=ebsd.grid.dx,
    )


def _resampled(number: Float64, square: Float64, resamples: int, seed: int) -> Float64:
    """Return the mean of θ² at each distance of so many draws of the windows: float64 (resamples, n)."""
    generator, windows = np.random.default_rng(seed), len(number)
    curves = []
    # Draws of a large map's windows would fill gigabytes: some at a time.
    at_once = max(1, _DRAWN // windows)
    for start in range(0, resamples, at_once):
        count = min(at_once, resamples - start)
        drawn = generator.multinomial(windows, np.full(windows, 1 / windows), size=count).astype(np.float64)
        curves.append((drawn @ square) / np.maximum(drawn @ number, 1e-300))
    return np.concatenate(curves)


def _extrapolate(distances: Float64, curves: Float64, precision: Float64) -> tuple[Float64, Float64]:
    """Return each curve's value at distance zero and the fitted curve: float64 (curves,) and (curves, n)."""
    least = np.full(len(curves), np.inf)
    nugget, fitted = np.zeros(len(curves)), np.zeros_like(curves)
    for length in _LENGTHS:
        bent = distances**2 / (1.0 + (distances / (length * distances[0])) ** 2)
        design = np.stack([np.ones_like(distances), distances / distances[-1], bent / bent[-1]], axis=1)
        solution, residual = _not_negative(design, curves, precision)
        better = residual < least
        least[better] = residual[better]
        nugget[better] = solution[better, 0]
        fitted[better] = solution[better] @ design.T
    return nugget, fitted


def _not_negative(design: Float64, curves: Float64, precision: Float64) -> tuple[Float64, Float64]:
    """Fit each curve by least squares with no negative coefficient: float64 (curves, 3), and the residuals (curves,).

    With three coefficients the best of the fits with some of them zero is the solution.
    """
    root = np.sqrt(precision)
    weighted, targets = design * root[:, None], curves * root
    best = np.zeros((len(curves), 3))
    least = np.full(len(curves), np.inf)
    for kept in ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)):
        solution = targets @ np.linalg.pinv(weighted[:, kept]).T
        residual = np.sum((solution @ weighted[:, kept].T - targets) ** 2, axis=1)
        better = (solution >= 0).all(axis=1) & (residual < least)
        least[better] = residual[better]
        rows = np.flatnonzero(better)
        best[rows] = 0.0
        best[rows[:, None], list(kept)] = solution[rows]
    return best, least
