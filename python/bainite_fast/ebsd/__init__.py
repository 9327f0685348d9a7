"""EBSD maps: reading, cleaning and mapping orientations on square and hexagonal grids.

Names are imported at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .boundary_map import Boundaries, boundaries
    from .cleanup import PAPER_CLEANUP, CleanLog, CleanStep, clean
    from .grain_map import Grains, grains
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
    from .misorientation import KamConvention, KamMap, kam
    from .rotations import euler_from_quaternions, quaternions_from_euler

_LAZY = {
    "Boundaries": "boundary_map",
    "CleanLog": "cleanup",
    "CleanStep": "cleanup",
    "EBSDMap": "map",
    "Grains": "grain_map",
    "Grid": "grid",
    "KamConvention": "misorientation",
    "KamMap": "misorientation",
    "LAUE_GROUPS": "laue",
    "PAPER_CLEANUP": "cleanup",
    "Phase": "laue",
    "boundaries": "boundary_map",
    "clean": "cleanup",
    "euler_from_quaternions": "rotations",
    "grains": "grain_map",
    "kam": "misorientation",
    "laue_from_oxford": "laue",
    "laue_from_point_group": "laue",
    "laue_from_space_group": "laue",
    "laue_from_tsl": "laue",
    "quaternions_from_euler": "rotations",
}

__all__ = [
    "LAUE_GROUPS",
    "PAPER_CLEANUP",
    "Boundaries",
    "CleanLog",
    "CleanStep",
    "EBSDMap",
    "Grains",
    "Grid",
    "KamConvention",
    "KamMap",
    "Phase",
    "boundaries",
    "clean",
    "euler_from_quaternions",
    "grains",
    "kam",
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
