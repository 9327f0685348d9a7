"""The annotation bar at the bottom of SEM pictures: found on request, cut off on request."""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import BainiteWarning, InputError
from .axes import is_index
from .mosaic import CroppedMosaic, Mosaic

CropBar = Literal["auto"] | int | tuple[int, int] | None

_LARGEST_SHARE = 0.25  # of the height
_SMALLEST_ROWS = 8
_STRIP_ROWS, _STRIP_COLUMNS = 1024, 8192  # what is looked at: a bar is part of one picture, not of a gigapixel mosaic
_EVEN = 0.45  # share of a row of the bar that has its background value; text leaves that much
_ABOVE = 0.30  # share that the picture above the bar may have of that value
_INK = (0.003, 0.5)  # share of the bar that its text covers


def crop(mosaic: Mosaic, crop_bar: CropBar) -> Mosaic:
    """Return a mosaic without its annotation bar.

    Parameters
    ----------
    mosaic : Mosaic
        The whole picture.
    crop_bar : "auto", int, tuple of int or None
        "auto" looks for a bar, and returns the mosaic as it is, with a warning, where there is none; a number of rows
        to cut off at the bottom; or (top, bottom) rows.

    Raises
    ------
    InputError
        If the rows are not fewer than the mosaic has.
    """
    if crop_bar is None:
        return mosaic
    ends: list[Any] = [0, crop_bar] if is_index(crop_bar) else []
    if isinstance(crop_bar, (tuple, list)):
        ends = list(crop_bar)
    if crop_bar != "auto" and not (len(ends) == 2 and all(is_index(one) for one in ends)):
        raise InputError(f'crop_bar={crop_bar!r} is not understood; use "auto", rows at the bottom, or (top, bottom)')
    if crop_bar == "auto":
        rows = find_bar(mosaic)
        if not rows:
            warnings.warn(
                f"no annotation bar was found in {mosaic.name}, so nothing is cut off; if it has one, say how many "
                "rows it takes: crop_bar=ROWS",
                BainiteWarning,
                stacklevel=4,
            )
            return mosaic
        return CroppedMosaic(mosaic, 0, rows)
    top, bottom = ends
    return CroppedMosaic(mosaic, top, bottom) if top or bottom else mosaic


def find_bar(mosaic: Mosaic) -> int:
    """Return the rows of the annotation bar at the bottom of a mosaic, 0 where there is none.

    An FEI/Thermo file says it. Else a bar is taken for one only if it is a band of at most a quarter of the height with
    an even background, text of strong contrast on it, and a picture above that does not look so: a dark pore or an
    unfilled corner of a mosaic is none. Only the bottom strip is read.
    """
    declared: Any = getattr(mosaic, "databar_rows", None)
    if isinstance(declared, int):
        return declared
    height, width = mosaic.shape
    rows = min(height, int(height * _LARGEST_SHARE) + 2 * _SMALLEST_ROWS, _STRIP_ROWS)
    columns = min(width, _STRIP_COLUMNS)
    left = (width - columns) // 2
    strip = mosaic.read(height - rows, height, left, left + columns)
    return bar_rows(strip, int(height * _LARGEST_SHARE))


def bar_rows(strip: NDArray[Any], most: int) -> int:
    """Return how many of the bottom rows of a strip [h, w] or [h, w, C] are an annotation bar, at most `most`."""
    gray = strip.astype(np.float32) if strip.ndim == 2 else strip.astype(np.float32).mean(axis=2)
    # One per cent of the range is equal: JPEG leaves ripples around text.
    low, high = float(gray.min()), float(gray.max())
    if not (high > low and np.isfinite(high - low)):
        return 0
    levels = np.round((gray - low) / (high - low) * 100).astype(np.int16)
    background = _background(levels)
    if background is None:
        return 0
    even = (np.abs(levels - background) <= 1).mean(axis=1)
    constant = (levels.max(axis=1) - levels.min(axis=1)) <= 2  # a frame line of the bar
    of_bar = (even >= _EVEN) | constant
    rows = len(of_bar) if of_bar.all() else int(np.argmin(of_bar[::-1]))
    if not _SMALLEST_ROWS <= rows <= most or rows == len(levels):
        return 0
    bar, above = levels[-rows:], levels[:-rows]
    away = np.abs(bar - background) > 30
    ink = float(away.mean())
    # A frame line is no text: ink must also begin and end along the rows.
    edges = int((away[:, 1:] != away[:, :-1]).any(axis=1).sum())
    beyond = float((np.abs(above[-4 * _SMALLEST_ROWS :] - background) <= 1).mean())
    found = _INK[0] <= ink <= _INK[1] and edges >= 4 and beyond <= _ABOVE
    return rows if found else 0


def _background(levels: NDArray[np.int16]) -> int | None:
    """Return the value that the lowest even rows share, None where there are none."""
    last = levels[-_SMALLEST_ROWS:]
    values, counts = np.unique(last, return_counts=True)
    value = int(values[np.argmax(counts)])
    near = (np.abs(last - value) <= 1).mean()
    return value if near >= _EVEN else None
