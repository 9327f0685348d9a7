"""Mosaics in, labels out: every format behind one `Mosaic`, every result an OME-Zarr label image."""

from __future__ import annotations

from ._zarr import codec_pipeline
from .convert import convert
from .describe import describe
from .export import export_labels
from .image_writer import write_image
from .label_store import LabelStore
from .labels import LabelLayout, LabelLevel, LabelTarget, plan_levels
from .mosaic import CroppedMosaic, Mosaic, MosaicSpec
from .open import open_mosaic
from .read_labels import LabelClass, LabelImage, image_group, label_names, read_labels
from .sem_bar import find_bar
from .shards import ShardRecord

__all__ = [
    "CroppedMosaic",
    "LabelClass",
    "LabelImage",
    "LabelLayout",
    "LabelLevel",
    "LabelStore",
    "LabelTarget",
    "Mosaic",
    "MosaicSpec",
    "ShardRecord",
    "codec_pipeline",
    "convert",
    "describe",
    "export_labels",
    "find_bar",
    "image_group",
    "label_names",
    "open_mosaic",
    "plan_levels",
    "read_labels",
    "write_image",
]
