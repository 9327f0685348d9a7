"""One image and its mask, from files."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import BainiteWarning, InputError
from ..io import Mosaic, find_bar, open_mosaic
from .large import bands

CropBar = Literal["off", "auto"] | int


@dataclass(frozen=True, slots=True)
class Pair:
    """Pixels of an image and of its mask, without annotation bar."""

    image: NDArray[Any]
    mask: NDArray[Any]
    um_per_px: float | None


def read_pair(image: Path, mask: Path, crop_bar: CropBar, gray: bool) -> Pair:
    """Read an image [H, W] or [H, W, 3] and its mask, and cut the annotation bar off both.

    Raises
    ------
    MosaicError
        If a file cannot be read.
    InputError
        If the image has neither one nor three channels, or the bar is higher than the image.
    """
    with open_mosaic(image) as picture, open_mosaic(mask, indexed=True) as drawn:
        if picture.channels not in (1, 3):
            raise InputError(f"{image} has {picture.channels} channels; gray or RGB is needed")
        bar = _bar_rows(picture, crop_bar)
        height, width = picture.shape
        if bar >= height:
            raise InputError(f"crop_bar={bar} is no less than the {height} rows of {image}")
        pixels = picture.read(0, height - bar, 0, width)
        # A mask that was drawn on the image without its bar is as high as what is left.
        rows = drawn.shape[0] - bar if drawn.shape[0] == height else drawn.shape[0]
        labels = drawn.read(0, rows, 0, drawn.shape[1])
        scale = picture.um_per_px
    return Pair(to_gray(pixels) if gray and pixels.ndim == 3 else pixels, labels, scale)


def read_labels_file(path: Path) -> NDArray[Any]:
    """Read a mask as it is stored, [H, W] or [H, W, 3].

    Raises
    ------
    MosaicError
        If it cannot be read.
    """
    with open_mosaic(path, indexed=True) as drawn:
        return drawn.read(0, drawn.shape[0], 0, drawn.shape[1])


def to_gray(image: NDArray[Any]) -> NDArray[Any]:
    """Return the luma of an RGB image [H, W, 3] in its dtype: 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601)."""
    gray, done = np.empty(image.shape[:2], image.dtype), 0
    for band in bands(image):
        luma = band.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
        gray[done : done + len(band)] = luma if image.dtype.kind == "f" else np.rint(luma)
        done += len(band)
    return gray


def _bar_rows(picture: Mosaic, crop_bar: CropBar) -> int:
    if isinstance(crop_bar, int) and not isinstance(crop_bar, bool) and crop_bar >= 0:
        return crop_bar
    if crop_bar == "off":
        return 0
    if crop_bar != "auto":
        raise InputError(f'crop_bar={crop_bar!r} is not understood; use "off", "auto", or rows at the bottom')
    rows = find_bar(picture)
    if not rows:
        warnings.warn(
            f"no annotation bar was found in {picture.name}, so nothing is cut off there; crop_bar=44 cuts off 44 rows",
            BainiteWarning,
            stacklevel=4,
        )
    return rows
