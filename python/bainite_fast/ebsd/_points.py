"""What the kernels need to know of a map: its grid, the neighbourhood, and which points may be compared."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import BainiteWarning, InputError
from ..kernels.orientations import NEIGHBOURHOODS, GridShape
from .grid import Grid, number_of
from .laue import Phase
from .map import EBSDMap

Neighbourhood = Literal["hexagonal", 8, 4]

LARGEST_DISORIENTATION = {
    "-1": 180.0,
    "2/m": 180.0,
    "mmm": 120.0,
    "4/m": 180.0,
    "4/mmm": 98.4211,
    "-3": 180.0,
    "-3m": 104.4776,
    "6/m": 180.0,
    "6/mmm": 93.841,
    "m-3": 90.0,
    "m-3m": 62.7995,
}
"""Largest disorientation of each Laue group in degrees (A. Morawiec, J. Appl. Cryst. 28 (1995) 289)."""

RADIANS_BELOW = 0.3
"""Smaller angles, in degrees, were probably typed in radians, and are warned of: 0.3 rad are 17°, above the customary
limits of 2, 5, 10 and 15°, and orientations of ordinary (Hough-indexed) patterns scatter by some tenths of a degree."""


def grid_shape(grid: Grid) -> GridShape:
    """Return a grid as the kernels take it."""
    return grid.kind == "hexagonal", grid.rows, grid.columns, grid.columns_even


def neighbourhood_code(neighbourhood: object, hexagonal: bool) -> int:
    """Return the code of a neighbourhood; None is the grid's own: hexagonal, or 8 on a square grid."""
    if neighbourhood is None:
        return 0 if hexagonal else 1
    allowed: tuple[object, ...] = ("hexagonal",) if hexagonal else (8, 4)
    if isinstance(neighbourhood, bool) or neighbourhood not in allowed:
        kind, choice = ("hexagonal", "'hexagonal'") if hexagonal else ("square", "8 or 4")
        raise InputError(f"neighbourhood={neighbourhood!r} is refused; on a {kind} grid use {choice}")
    return NEIGHBOURHOODS.index(neighbourhood)


def nearest_code(hexagonal: bool) -> int:
    """Return the code of the nearest neighbours: 6 on a hexagonal grid, 4 on a square one."""
    return 0 if hexagonal else 2


def angle_argument(value: object, name: str, *, infinite: bool = False) -> float:
    """Return an angle in degrees, above 0 and at most 180, which no disorientation exceeds; or refuse it."""
    number = number_of(value)
    if not 0 < number <= 180 and not (infinite and number == np.inf):
        extra = ", or math.inf for no limit" if infinite else ""
        raise InputError(f"{name}={value!r} is refused; use a positive angle of at most 180 degrees{extra}")
    if number < RADIANS_BELOW:
        # Without the argument's name: what is checked more than once on its way is then said once.
        warnings.warn(
            f"the angle {number:g} is taken as degrees, which is less than the noise of most scans; if radians are "
            f"meant, give {np.rad2deg(number):.4g}",
            BainiteWarning,
            stacklevel=1,
        )
    return number


def grain_tolerance(value: object, name: str, phases: tuple[Phase, ...]) -> float:
    """Return the tolerance of grains in degrees; refuse one that no two orientations of any phase exceed."""
    number = angle_argument(value, name)
    groups = {phase.laue for phase in phases}
    most = max((LARGEST_DISORIENTATION[laue] for laue in groups), default=180.0)
    if number >= most:
        raise InputError(
            f"{name}={value!r} is refused: no two orientations of {', '.join(sorted(groups))} differ by more than "
            f"{most:.2f}°, so a phase would be one grain; use a smaller angle, such as 5 or 15 degrees"
        )
    return number


def grain_ids(grains: Any, points: int) -> NDArray[np.int32]:
    """Return grain ids, of an array or of what has `ids`, as int32 (points,); negative ones are in no grain."""
    ids = np.asarray(getattr(grains, "ids", grains))
    if ids.size != points or ids.dtype.kind not in "iu":
        raise InputError(
            f"grains have shape {ids.shape} and dtype {ids.dtype}; an integer for each of {points} points is needed"
        )
    if ids.dtype.itemsize > 4 or ids.dtype == np.uint32:
        low, high = (int(ids.min()), int(ids.max())) if points else (0, 0)
        if low < -(2**31) or high >= 2**31:
            raise InputError(f"grain ids from {low} to {high} are refused; they must fit in 32 bits")
    return np.ascontiguousarray(ids.reshape(-1), np.int32)


def comparable(
    ebsd: EBSDMap, ids: NDArray[np.int32] | None = None
) -> Iterator[tuple[str, NDArray[np.int16] | NDArray[np.int32], bool]]:
    """Yield (Laue group, labels, keep) for passes over a map that together compare all points that may be compared.

    Labels are equal for points of the same phase and, with `ids`, of the same grain, and negative for what is not
    indexed, in no grain, or left to another pass; `keep` says that such a point is another pass's affair.
    """
    phases = ebsd.phases
    if not phases:
        yield "m-3m", np.full(ebsd.size, -1, np.int16), False
        return
    present = phases
    if len(phases) > 1:
        numbers = np.bincount(ebsd.phase_id + np.int32(1), minlength=2**15 + 1)
        present = tuple(phase for phase in phases if numbers[phase.id + 1]) or phases[:1]
    if ids is None:
        groups: dict[str, list[int]] = {}
        for phase in present:
            groups.setdefault(phase.laue, []).append(phase.id)
        for number, (laue, members) in enumerate(groups.items()):
            labels: NDArray[Any] = ebsd.phase_id
            if len(groups) > 1:
                labels = np.where(np.isin(labels, members), labels, np.asarray(-1, labels.dtype))
            yield laue, labels, number > 0
        return
    for number, phase in enumerate(present):
        yield phase.laue, np.where(ebsd.phase_id == phase.id, ids, np.int32(-1)), number > 0
