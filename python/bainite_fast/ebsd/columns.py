"""What readers collect, part by part, and the map that they make of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .laue import Phase
from .map import EBSDMap
from .placing import Hint, Missing, Placement, Refuse, place

X_ALONG_A_STAR = frozenset({"-3", "-3m", "6/m", "6/mmm"})
"""Laue groups whose crystal frame has x ∥ a* in Oxford Instruments' files, 30° from the x ∥ a of this package."""

FULL_TURNS = 2.0
"""No Euler angle is larger than this many turns."""

_FILL = {"ci": -1.0, "bands": 0.0}


@dataclass(slots=True)
class Columns:
    """Values per measured point, in the order of the file.

    Parameters
    ----------
    parts : dict
        Name → arrays that follow one another.
    """

    parts: dict[str, list[NDArray[Any]]] = field(default_factory=dict)

    def add(self, **values: NDArray[Any]) -> None:
        """Append a part of every column."""
        for name, part in values.items():
            self.parts.setdefault(name, []).append(part)

    def take(self, name: str) -> NDArray[Any]:
        """Return a column whole, and let go of its parts."""
        parts = self.parts.pop(name)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def is_four_pi(angle: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where PHI, at most π, is 4π = 12.56637: what TSL writes where nothing was indexed."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(angle - 4 * np.pi) < 1e-3)


def check_angles(euler: NDArray[Any], indexed: NDArray[np.bool_], first: int, turn: float, refuse: Refuse) -> None:
    """Refuse Euler angles of indexed points that are not finite, or are in the other unit.

    Parameters
    ----------
    euler : ndarray, (n, 3)
        Angles as the file has them.
    indexed : ndarray, (n,), bool
        Points that count.
    first : int
        Index of the first point in the file.
    turn : float
        A full turn in the file's unit.
    refuse : callable
        Raises the error.
    """
    with np.errstate(invalid="ignore"):
        good = (np.abs(euler) <= FULL_TURNS * turn + 1e-3).all(axis=1) | ~indexed
    if not good.all():
        point = int(np.argmin(good))
        unit = "radians" if turn < 7 else "degrees"
        refuse(first + point, f"the Euler angles {euler[point].tolist()} are no angles in {unit}")


def phases_of(ids: NDArray[Any], first: int, phases: tuple[Phase, ...], refuse: Refuse) -> NDArray[np.int16]:
    """Return phase ids as int16, or refuse those that the header does not know; negative ones pass.

    Parameters
    ----------
    ids : ndarray, (n,)
        As the file has them; whole numbers.
    first : int
        Index of the first point in the file.
    phases : tuple of Phase
        The phases of the header.
    refuse : callable
        Raises the error.
    """
    with np.errstate(invalid="ignore"):
        known = (ids < 0) & (ids == np.floor(ids))
        for phase in phases:
            known |= ids == phase.id
    if not known.all():
        point = int(np.argmin(known))
        listed = ", ".join(map(str, phases)) or "none"
        refuse(first + point, f"phase {ids[point]:g} is not in the header, which has {listed}")
    out: NDArray[np.int16] = np.maximum(ids, -1).astype(np.int16)
    return out


@dataclass(frozen=True, slots=True)
class Frame:
    """What a map needs besides its columns."""

    phases: tuple[Phase, ...]
    hint: Hint
    missing: Missing
    source: str
    metadata: Mapping[str, Any]


def assemble(columns: Columns, frame: Frame, refuse: Refuse) -> EBSDMap:
    """Return the map of collected columns: x, y, quaternions, phase_id and properties by their names in EBSDMap."""
    placement = place(columns.take("x"), columns.take("y"), frame.hint, refuse, missing=frame.missing)
    return arrange(columns, placement, frame)


def arrange(columns: Columns, placement: Placement, frame: Frame) -> EBSDMap:
    """Return the map of collected columns whose places are known."""
    made: dict[str, Any] = {}
    for name in tuple(columns.parts):
        values = columns.take(name)
        if placement.points is not None:
            fill = -1 if name == "phase_id" else _FILL.get(name, np.nan)
            placed = np.full((placement.grid.size, *values.shape[1:]), fill, values.dtype)
            placed[placement.points] = values
            values = placed
        made[name] = values
    return EBSDMap(grid=placement.grid, phases=frame.phases, source=frame.source, metadata=frame.metadata, **made)


def oxford_euler(
    euler: NDArray[Any], phase_id: NDArray[Any], phases: tuple[Phase, ...], turn: float
) -> NDArray[np.float64]:
    """Return Euler angles of an Oxford file with the crystal's x axis on a, not a*: φ2 less 30° where it matters.

    Parameters
    ----------
    euler : ndarray, (n, 3)
        Bunge angles as the file has them. The file format's specification (h5oina, "Definition of Coordinate
        Systems") puts z along c and x perpendicular to b and c, that is along a*: 30° from a, towards b, in the
        hexagonal axes of trigonal and hexagonal phases.
    phase_id : ndarray, (n,)
        The phases.
    phases : tuple of Phase
        Their Laue groups.
    turn : float
        A full turn in the unit of `euler`.
    """
    out = np.array(euler, np.float64)
    for phase in phases:
        if phase.laue in X_ALONG_A_STAR:
            out[phase_id == phase.id, 2] -= turn / 12
    return out
