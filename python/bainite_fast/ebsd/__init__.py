"""EBSD maps: reading, cleaning and mapping orientations on square and hexagonal grids.

Names are imported at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bands import kam_bands
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
    from .reading import read
    from .rotations import euler_from_quaternions, quaternions_from_euler
    from .stored_cleanup import clean_store
    from .stored_grains import StoredGrains, grains_of_store
    from .writing import write
    from .zarr_store import StoredMap, ZarrWriter

_LAZY = {
    "StoredGrains": "stored_grains",
    "clean_store": "stored_cleanup",
    "grains_of_store": "stored_grains",
    "kam_bands": "bands",
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
    "StoredMap": "zarr_store",
    "ZarrWriter": "zarr_store",
    "euler_from_quaternions": "rotations",
    "grains": "grain_map",
    "kam": "misorientation",
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
    "StoredGrains",
    "StoredMap",
    "ZarrWriter",
    "boundaries",
    "clean",
    "clean_store",
    "euler_from_quaternions",
    "grains",
    "grains_of_store",
    "kam",
    "kam_bands",
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
