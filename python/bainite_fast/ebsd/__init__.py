"""EBSD maps: reading, cleaning and mapping orientations on square and hexagonal grids.

Names are imported at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .grid import Grid
    from .laue import (
        LAUE_GROUPS,
        Phase,
        laue_from_oxford,
        laue_from_point_group,
        laue_from_space_group,
        laue_from_tsl,
    )
    from .map import EBSDMap
    from .rotations import euler_from_quaternions, quaternions_from_euler

_LAZY = {
    "EBSDMap": "map",
    "Grid": "grid",
    "LAUE_GROUPS": "laue",
    "Phase": "laue",
    "euler_from_quaternions": "rotations",
    "laue_from_oxford": "laue",
    "laue_from_point_group": "laue",
    "laue_from_space_group": "laue",
    "laue_from_tsl": "laue",
    "quaternions_from_euler": "rotations",
}

__all__ = [
    "LAUE_GROUPS",
    "EBSDMap",
    "Grid",
    "Phase",
    "euler_from_quaternions",
    "laue_from_oxford",
    "laue_from_point_group",
    "laue_from_space_group",
    "laue_from_tsl",
    "quaternions_from_euler",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
