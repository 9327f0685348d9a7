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
    from .noise import NoiseFloor, noise_floor
    from .reading import read
    from .rotations import euler_from_quaternions, quaternions_from_euler
    from .variants import BoundaryClass, ks_bain_groups, ks_deviation, ks_packets, ks_pair_angles, ks_variants
    from .writing import write
    from .zarr_store import StoredMap, ZarrWriter

_LAZY = {
    "BoundaryClass": "variants",
    "EBSDMap": "map",
    "Grid": "grid",
    "LAUE_GROUPS": "laue",
    "NoiseFloor": "noise",
    "Phase": "laue",
    "StoredMap": "zarr_store",
    "ZarrWriter": "zarr_store",
    "euler_from_quaternions": "rotations",
    "laue_from_oxford": "laue",
    "laue_from_point_group": "laue",
    "laue_from_space_group": "laue",
    "laue_from_tsl": "laue",
    "ks_bain_groups": "variants",
    "ks_deviation": "variants",
    "ks_packets": "variants",
    "ks_pair_angles": "variants",
    "ks_variants": "variants",
    "noise_floor": "noise",
    "quaternions_from_euler": "rotations",
    "read": "reading",
    "write": "writing",
}

__all__ = [
    "LAUE_GROUPS",
    "BoundaryClass",
    "EBSDMap",
    "Grid",
    "NoiseFloor",
    "Phase",
    "StoredMap",
    "ZarrWriter",
    "euler_from_quaternions",
    "laue_from_oxford",
    "laue_from_point_group",
    "laue_from_space_group",
    "laue_from_tsl",
    "ks_bain_groups",
    "ks_deviation",
    "ks_packets",
    "ks_pair_angles",
    "ks_variants",
    "noise_floor",
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
