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
    from .reading import read
    from .rotations import euler_from_quaternions, quaternions_from_euler
    from .writing import write
    from .zarr_store import StoredMap, ZarrWriter

_LAZY = {
    "EBSDMap": "map",
    "Grid": "grid",
    "LAUE_GROUPS": "laue",
    "Phase": "laue",
    "StoredMap": "zarr_store",
    "ZarrWriter": "zarr_store",
    "euler_from_quaternions": "rotations",
    "laue_from_oxford": "laue",
    "laue_from_point_group": "laue",
    "laue_from_space_group": "laue",
    "laue_from_tsl": "laue",
    "quaternions_from_euler": "rotations",
    "read": "reading",
    "write": "writing",
}

__all__ = [
    "LAUE_GROUPS",
    "EBSDMap",
    "Grid",
    "Phase",
    "StoredMap",
    "ZarrWriter",
    "euler_from_quaternions",
    "laue_from_oxford",
    "laue_from_point_group",
    "laue_from_space_group",
    "laue_from_tsl",
    "quaternions_from_euler",
    "read",
    "write",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
