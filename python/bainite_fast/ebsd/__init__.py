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
    from .noise import NoiseFloor, noise_floor
    from .reading import read
    from .rotations import euler_from_quaternions, quaternions_from_euler
    from .variants import BoundaryClass, ks_bain_groups, ks_deviation, ks_packets, ks_pair_angles, ks_variants
    from .writing import write
    from .zarr_store import StoredMap, ZarrWriter

_LAZY = {
    "BoundaryClass": "variants",
    "Boundaries": "boundary_map",
    "CleanLog": "cleanup",
    "CleanStep": "cleanup",
    "EBSDMap": "map",
    "Grains": "grain_map",
    "Grid": "grid",
    "KamConvention": "misorientation",
    "KamMap": "misorientation",
    "LAUE_GROUPS": "laue",
    "NoiseFloor": "noise",
    "Phase": "laue",
    "StoredMap": "zarr_store",
    "ZarrWriter": "zarr_store",
    "PAPER_CLEANUP": "cleanup",
    "boundaries": "boundary_map",
    "clean": "cleanup",
    "euler_from_quaternions": "rotations",
    "grains": "grain_map",
    "kam": "misorientation",
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
    "PAPER_CLEANUP",
    "Boundaries",
    "CleanLog",
    "CleanStep",
    "EBSDMap",
    "Grains",
    "Grid",
    "NoiseFloor",
    "Phase",
    "StoredMap",
    "ZarrWriter",
    "KamConvention",
    "KamMap",
    "boundaries",
    "clean",
    "euler_from_quaternions",
    "grains",
    "kam",
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
