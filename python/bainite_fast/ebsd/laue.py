"""Phases, and the 11 Laue groups under the names and numbers that EBSD software gives them."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass

import numpy as np

from ..errors import BainiteWarning, InputError

LAUE_GROUPS = ("-1", "2/m", "mmm", "4/m", "4/mmm", "-3", "-3m", "6/m", "6/mmm", "m-3", "m-3m")
"""The 11 Laue groups; Oxford Instruments number them 1 … 11 in this order."""

TSL_SYMMETRY = {
    1: "-1",
    2: "2/m",
    20: "2/m",
    21: "2/m",
    22: "mmm",
    4: "4/m",
    42: "4/mmm",
    3: "-3",
    32: "-3m",
    6: "6/m",
    62: "6/mmm",
    23: "m-3",
    43: "m-3m",
}
"""Symmetry numbers of TSL and EDAX files: the rotation group, such as 43 for 432."""

_OTHER_AXIS = {2: "c", 21: "a"}  # 20: b; after EbsdLib (BlueQuartz Software)
_SPACE_GROUPS_31M = frozenset({149, 151, 153, 157, 159, 162, 163})  # point groups 312, 31m, -31m
_LAST_SPACE_GROUP = (2, 15, 74, 88, 142, 148, 167, 176, 194, 206, 230)
_TSL_OF = {"2/m": 20} | {name: number for number, name in TSL_SYMMETRY.items() if name != "2/m"}

# Point groups of each Laue group in Hermann–Mauguin symbols (International Tables A, table 3.2.3.2), without spaces.
_POINT_GROUPS = {
    "-1": ("1", "-1"),
    "2/m": ("2", "m", "2/m", "112", "121", "211"),
    "mmm": ("222", "mm2", "mmm", "2/m2/m2/m"),
    "4/m": ("4", "-4", "4/m"),
    "4/mmm": ("422", "4mm", "-42m", "-4m2", "4/mmm", "4/m2/m2/m"),
    "-3": ("3", "-3"),
    "-3m": ("32", "3m", "-3m", "321", "312", "-3m1", "-31m", "3m1", "31m", "-32/m"),
    "6/m": ("6", "-6", "6/m"),
    "6/mmm": ("622", "6mm", "-6m2", "-62m", "6/mmm", "6/m2/m2/m"),
    "m-3": ("23", "m-3", "m3", "2/m-3"),
    "m-3m": ("432", "-43m", "m-3m", "m3m", "4/m-32/m"),
}
_LAUE_OF_POINT_GROUP = {symbol: laue for laue, symbols in _POINT_GROUPS.items() for symbol in symbols}


def laue_from_tsl(symmetry: int) -> str:
    """Return the Laue group of a TSL or EDAX symmetry number, such as "m-3m" for 43.

    Warns
    -----
    BainiteWarning
        For monoclinic phases whose unique axis is not b.
    """
    if symmetry in _OTHER_AXIS:
        warnings.warn(
            f"symmetry number {symmetry} is monoclinic with the unique axis {_OTHER_AXIS[symmetry]}, and here the axis "
            "of 2/m is b: angles between orientations of this phase are not right. Reindex it with b as unique axis",
            BainiteWarning,
            stacklevel=2,
        )
    try:
        return TSL_SYMMETRY[symmetry]
    except KeyError:
        known = ", ".join(map(str, sorted(TSL_SYMMETRY)))
        raise InputError(f"symmetry number {symmetry} is unknown; TSL and EDAX files have one of {known}") from None


def laue_to_tsl(laue: str) -> int:
    """Return the TSL and EDAX symmetry number of a Laue group."""
    return _TSL_OF[checked_laue(laue)]


def laue_from_oxford(number: int) -> str:
    """Return the Laue group of an Oxford Instruments number, 1 … 11."""
    if not 1 <= number <= len(LAUE_GROUPS):
        raise InputError(f"Laue group number {number} is unknown; Oxford files have 1 (-1) to 11 (m-3m)")
    return LAUE_GROUPS[number - 1]


def laue_of_oxford(number: int, space_group: int) -> str:
    """Return the Laue group that a file of Oxford Instruments gives by its number, or by the space group; 0: not given.

    Warns
    -----
    BainiteWarning
        As :func:`laue_from_space_group`.
    """
    if not number:
        return laue_from_space_group(space_group)
    if space_group in _SPACE_GROUPS_31M:
        _warn_of_31m(f"space group {space_group}")
    return laue_from_oxford(number)


def laue_to_oxford(laue: str) -> int:
    """Return the Oxford Instruments number, 1 … 11, of a Laue group."""
    return LAUE_GROUPS.index(checked_laue(laue)) + 1


def laue_from_space_group(number: int) -> str:
    """Return the Laue group of a space group, 1 … 230 (International Tables for Crystallography, volume A).

    Warns
    -----
    BainiteWarning
        For those of -31m, which is treated as -3m1.
    """
    if number in _SPACE_GROUPS_31M:
        _warn_of_31m(f"space group {number}")
    if not 1 <= number <= _LAST_SPACE_GROUP[-1]:
        raise InputError(f"space group {number} is unknown; they are numbered 1 … 230")
    return next(laue for laue, last in zip(LAUE_GROUPS, _LAST_SPACE_GROUP, strict=True) if number <= last)


def laue_from_point_group(symbol: str) -> str:
    """Return the Laue group of a point group's Hermann–Mauguin symbol, such as "432", "m3m" or "6/mmm".

    EDAX's way of writing one, as in "Cubic (Oh) [m3m]", is read too.

    Warns
    -----
    BainiteWarning
        For 312, 31m and -31m, which are treated as -3m1.
    """
    bracket = re.search(r"\[([^\]]+)\]", symbol)
    bare = re.sub(r"[\s_]", "", bracket[1] if bracket else symbol).replace("\u2212", "-")
    if bare in ("312", "31m", "-31m"):
        _warn_of_31m(f"point group {bare}")
    try:
        return _LAUE_OF_POINT_GROUP[bare]
    except KeyError:
        raise InputError(f"point group {symbol!r} is unknown; a symbol such as 'm-3m' or '6/mmm' is needed") from None


def _warn_of_31m(what: str) -> None:
    warnings.warn(
        f"{what} is of the Laue class -31m, whose twofold axes lie 30° from those of -3m1, and here -3m is -3m1: large "
        "angles between orientations of this phase are not right. Small ones, as in KAM and within grains, are",
        BainiteWarning,
        stacklevel=3,
    )


def checked_laue(laue: str) -> str:
    """Return a Laue group's name as it is, or refuse it."""
    if laue not in LAUE_GROUPS:
        raise InputError(f"Laue group {laue!r} is unknown; use one of {', '.join(LAUE_GROUPS)}")
    return laue


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase of an EBSD map.

    Parameters
    ----------
    id : int
        What :attr:`EBSDMap.phase_id` calls it; 0 or more.
    name : str
        Such as "Ferrite".
    laue : str
        One of :data:`LAUE_GROUPS`.
    lattice : tuple of float, optional
        a, b, c in Å and alpha, beta, gamma in degrees; None where the file gives none. Lengths of 0, which is what
        files say of a lattice that is not known, become None.
    """

    id: int
    name: str
    laue: str = "m-3m"
    lattice: tuple[float, float, float, float, float, float] | None = None

    def __post_init__(self) -> None:
        known = isinstance(self.id, (int, np.integer)) and not isinstance(self.id, bool)
        if not known or not 0 <= self.id < 2**15:
            raise InputError(f"phase id {self.id!r} is refused; use an integer from 0 to 32767")
        object.__setattr__(self, "id", int(self.id))
        checked_laue(self.laue)
        if self.lattice is not None:
            numbers = tuple(float(number) for number in self.lattice)
            if len(numbers) != 6 or not all(math.isfinite(number) and number >= 0 for number in numbers):
                raise InputError(
                    f"lattice {self.lattice!r} of phase {self.name!r} is refused; give a, b, c in Å and alpha, beta, "
                    "gamma in degrees"
                )
            object.__setattr__(self, "lattice", numbers if any(numbers[:3]) else None)

    def __str__(self) -> str:
        return f"{self.id} {self.name} ({self.laue})"
