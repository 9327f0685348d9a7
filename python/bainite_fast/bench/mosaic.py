"""A mosaic to measure with, of any size and drawn in a second: one field of synthetic steel, repeated."""

from __future__ import annotations

import math
from pathlib import Path

import dask.array as da

from .. import io
from ..errors import InputError
from ..synthetic import make
from ..synthetic.presets import PRESETS

FIELD = 2048
_LARGEST = 1000.0  # gigapixels


def draw(path: Path, gigapixels: float) -> Path:
    """Write an OME-Zarr of about so many gigapixels, whole fields of 2048 px, and return its path.

    Raises
    ------
    InputError
        If the size is not between one field and 1000 gigapixels.
    """
    least = FIELD**2 / 1e9
    if not least / 2 <= gigapixels <= _LARGEST:
        raise InputError(f"gigapixels={gigapixels:g} cannot be drawn; use {least:.4f} (one field) to {_LARGEST:g}")
    fields = max(1, round(gigapixels * 1e9 / FIELD**2))
    rows = max(1, math.isqrt(fields))
    field = da.from_array(make((FIELD, FIELD), preset="lom", seed=1)[0], chunks=(FIELD, FIELD))  # type: ignore[no-untyped-call]
    return io.convert(da.tile(field, (rows, round(fields / rows))), path, um_per_px=PRESETS["lom"].um_per_px)
