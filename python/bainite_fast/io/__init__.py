"""Mosaics in, labels out: every format behind one `Mosaic`, every result an OME-Zarr label image."""

from __future__ import annotations

from .mosaic import CroppedMosaic, Mosaic, MosaicSpec
from .open import open_mosaic

__all__ = ["CroppedMosaic", "Mosaic", "MosaicSpec", "open_mosaic"]
