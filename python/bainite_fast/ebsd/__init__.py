"""EBSD maps: reading, cleaning and mapping orientations on square and hexagonal grids.

Names are imported at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bainite import BainiteMap, find_bainite
    from .bands import kam_bands
    from .boundary_map import Boundaries, boundaries
    from .cleanup import PAPER_CLEANUP, CleanLog, CleanStep, clean
    from .coloring import adjacent_grains, grain_colors
    from .criteria import BainiteCriteria
    from .features import BoundaryFeatures, GrainFeatures, boundary_features, grain_features
    from .grain_map import Grains, grains
    from .grid import Grid
    from .ipf import ipf_colors
    from .laue import LAUE_GROUPS, Phase, laue_from_oxford, laue_from_point_group, laue_from_space_group, laue_from_tsl
    from .layer_images import raster_layer, write_layers
    from .layers import KINDS, Layer, MapOptions, available_kinds, map_layer
    from .map import EBSDMap
    from .maps import draw, draw_layer
    from .misorientation import KamConvention, KamMap, kam
    from .noise import NoiseFloor, noise_floor
    from .reading import read
    from .rotations import euler_from_quaternions, quaternions_from_euler
    from .stored_cleanup import clean_store
    from .stored_grains import StoredGrains, grains_of_store
    from .variants import BoundaryClass, ks_bain_groups, ks_deviation, ks_packets, ks_pair_angles, ks_variants
    from .writing import write
    from .zarr_store import StoredMap, ZarrWriter

_LAZY = {
    "StoredGrains": "stored_grains",
    "clean_store": "stored_cleanup",
    "grains_of_store": "stored_grains",
    "kam_bands": "bands",
    "KINDS": "layers",
    "LAUE_GROUPS": "laue",
    "PAPER_CLEANUP": "cleanup",
    "BainiteCriteria": "criteria",
    "BainiteMap": "bainite",
    "Boundaries": "boundary_map",
    "BoundaryClass": "variants",
    "BoundaryFeatures": "features",
    "CleanLog": "cleanup",
    "CleanStep": "cleanup",
    "EBSDMap": "map",
    "GrainFeatures": "features",
    "Grains": "grain_map",
    "Grid": "grid",
    "KamConvention": "misorientation",
    "KamMap": "misorientation",
    "Layer": "layers",
    "MapOptions": "layers",
    "NoiseFloor": "noise",
    "Phase": "laue",
    "StoredMap": "zarr_store",
    "ZarrWriter": "zarr_store",
    "adjacent_grains": "coloring",
    "available_kinds": "layers",
    "boundaries": "boundary_map",
    "boundary_features": "features",
    "clean": "cleanup",
    "draw": "maps",
    "draw_layer": "maps",
    "euler_from_quaternions": "rotations",
    "find_bainite": "bainite",
    "grain_colors": "coloring",
    "grain_features": "features",
    "grains": "grain_map",
    "ipf_colors": "ipf",
    "kam": "misorientation",
    "ks_bain_groups": "variants",
    "ks_deviation": "variants",
    "ks_packets": "variants",
    "ks_pair_angles": "variants",
    "ks_variants": "variants",
    "laue_from_oxford": "laue",
    "laue_from_point_group": "laue",
    "laue_from_space_group": "laue",
    "laue_from_tsl": "laue",
    "map_layer": "layers",
    "noise_floor": "noise",
    "quaternions_from_euler": "rotations",
    "raster_layer": "layer_images",
    "read": "reading",
    "write": "writing",
    "write_layers": "layer_images",
}

__all__ = [
    "KINDS",
    "LAUE_GROUPS",
    "PAPER_CLEANUP",
    "BainiteCriteria",
    "BainiteMap",
    "Boundaries",
    "BoundaryClass",
    "BoundaryFeatures",
    "CleanLog",
    "CleanStep",
    "EBSDMap",
    "GrainFeatures",
    "Grains",
    "Grid",
    "KamConvention",
    "KamMap",
    "Layer",
    "MapOptions",
    "NoiseFloor",
    "Phase",
    "StoredGrains",
    "StoredMap",
    "ZarrWriter",
    "adjacent_grains",
    "available_kinds",
    "boundaries",
    "boundary_features",
    "clean",
    "clean_store",
    "draw",
    "draw_layer",
    "euler_from_quaternions",
    "find_bainite",
    "grain_colors",
    "grain_features",
    "grains",
    "grains_of_store",
    "ipf_colors",
    "kam",
    "kam_bands",
    "ks_bain_groups",
    "ks_deviation",
    "ks_packets",
    "ks_pair_angles",
    "ks_variants",
    "laue_from_oxford",
    "laue_from_point_group",
    "laue_from_space_group",
    "laue_from_tsl",
    "map_layer",
    "noise_floor",
    "quaternions_from_euler",
    "raster_layer",
    "read",
    "write",
    "write_layers",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
