"""Synthetic complex-phase steel: pictures with a true mask, deterministic in seed and position, of any size."""

from __future__ import annotations

from .disk import write
from .ebsd import Crystallography, EBSDTruth, Measurement, make_ebsd
from .mosaic import SpeckleMosaic, SyntheticMosaic
from .picture import CLASSES, make
from .presets import PRESETS, Etching, Preset, get_preset

__all__ = [
    "CLASSES",
    "PRESETS",
    "Crystallography",
    "EBSDTruth",
    "Etching",
    "Measurement",
    "Preset",
    "SpeckleMosaic",
    "SyntheticMosaic",
    "get_preset",
    "make",
    "make_ebsd",
    "write",
]
