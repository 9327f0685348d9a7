"""Mosaics in, labels out: every format behind one `Mosaic`, every result an OME-Zarr label image."""

from __future__ import annotations

from .image_writer import write_image
from .label_store import LabelStore
from .labels import LabelLayout, LabelLevel, LabelTarget, plan_levels
from .mosaic import CroppedMosaic, Mosaic, MosaicSpec
from .open import open_mosaic
from .shards import ShardRecord

__all__ = [
    "CroppedMosaic",
    "LabelLayout",
    "LabelLevel",
    "LabelStore",
    "LabelTarget",
    "Mosaic",
    "MosaicSpec",
    "ShardRecord",
    "open_mosaic",
    "plan_levels",
    "write_image",
]
