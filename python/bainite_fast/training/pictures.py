"""One image and its mask, from files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import BainiteWarning, InputError, MosaicError, MosaicNotFoundError
from ..geometry import round_up
from ..io import LabelImage, Mosaic, find_bar, open_mosaic, read_labels
from .large import BAND, Shelf, bands

CropBar = Literal["off", "auto"] | int


@dataclass(frozen=True, slots=True)
class Pair:
    """Pixels of an image and of its mask, without annotation bar, and what is known of them.

    Attributes
    ----------
    image, mask : ndarray
        Pixels.
    um_per_px : float or None
        Size of a pixel.
    class_names : tuple of str
        Where the mask says them, else ().
    coloured : bool
        Whether the image has colours, as it is stored.
    maker : str or None
        Model that made the mask, where it is said to be made by one.
    """

    image: NDArray[Any]
    mask: NDArray[Any]
    um_per_px: float | None
    class_names: tuple[str, ...]
    coloured: bool
    maker: str | None


def read_pair(
    image: Path, mask: Path, crop_bar: CropBar, shelf: Shelf, *, gray: bool = True, indexed: bool = True
) -> Pair:
    """Read an image [H, W] or [H, W, 3] and its mask onto a shelf, without the annotation bar.

    `gray` turns colours to gray; `indexed` reads masks with a palette as indices and not as its colours.

    Raises
    ------
    MosaicError
        If a file cannot be read.
    InputError
        If the image has neither one nor three channels, or the bar is higher than the image.
    """
    with ExitStack() as stack:
        picture, drawn = stack.enter_context(open_mosaic(image)), _open_labels(mask, stack, indexed)
        if picture.channels not in (1, 3):
            raise InputError(f"{image} has {picture.channels} channels; gray or RGB is needed")
        bar = _bar_rows(picture, crop_bar)
        height, width = picture.shape
        if bar >= height:
            raise InputError(f"crop_bar={bar} is no less than the {height} rows of {image}")
        shape: tuple[int, ...] = (height - bar, width)
        coloured: list[bool] = []

        def grayed() -> Iterator[NDArray[Any]]:
            for band in _read_bands(picture, height - bar):
                coloured.append(band.ndim == 3 and not is_gray(band))
                yield to_gray(band) if gray and band.ndim == 3 else band

        if picture.channels == 3 and not gray:
            shape = (*shape, 3)
        pixels = shelf.gather(shape, picture.dtype, grayed())
        # A mask that was drawn on the image without its bar is as high as what is left.
        rows = drawn.shape[0] - bar if drawn.shape[0] == height else drawn.shape[0]
        labels = _read_labels(drawn, rows, shelf)
        return Pair(pixels, labels, picture.um_per_px, _class_names(drawn), any(coloured), _maker(drawn))


def read_labels_file(path: Path, shelf: Shelf, *, indexed: bool = True) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Read a mask as it is stored, [H, W] or [H, W, 3], onto a shelf; `indexed` as in :func:`read_pair`.

    Returns
    -------
    ndarray
        The mask.
    tuple of str
        Names of its values from 0, where it says them, else ().

    Raises
    ------
    MosaicError
        If it cannot be read.
    """
    with ExitStack() as stack:
        drawn = _open_labels(path, stack, indexed)
        return _read_labels(drawn, drawn.shape[0], shelf), _class_names(drawn)


def _class_names(drawn: Mosaic | LabelImage) -> tuple[str, ...]:
    """Return the names of the labels 0, 1, … of a label image, where it names just these."""
    if not isinstance(drawn, LabelImage) or [one.value for one in drawn.classes] != list(range(len(drawn.classes))):
        return ()
    return tuple(one.name for one in drawn.classes)


def _maker(drawn: Mosaic | LabelImage) -> str | None:
    """Return the name of the model that made a label image, or None."""
    made = drawn.provenance.get("model") if isinstance(drawn, LabelImage) else None
    return None if made is None else str(made["name"])


def _open_labels(path: Path, stack: ExitStack, indexed: bool) -> Mosaic | LabelImage:
    if path.is_dir():
        with suppress(MosaicError, MosaicNotFoundError):  # no label group, but another Zarr
            return read_labels(path)
    return stack.enter_context(open_mosaic(path, indexed=indexed))


def _read_labels(drawn: Mosaic | LabelImage, rows: int, shelf: Shelf) -> NDArray[Any]:
    if isinstance(drawn, LabelImage):
        shape, dtype = (rows, drawn.shape[1]), np.dtype(drawn.labels.dtype)
    else:
        more = (drawn.channels,) if drawn.channels > 1 else ()
        shape, dtype = (rows, drawn.shape[1], *more), drawn.dtype
    return shelf.gather(shape, dtype, _read_bands(drawn, rows))


def _read_bands(source: Mosaic | LabelImage, rows: int) -> Iterator[NDArray[Any]]:
    """Yield the first rows of a source in bands of whole chunks."""
    chunk = (source.chunk_shape or (1, 1))[0] if isinstance(source, Mosaic) else source.labels.chunks[0]
    step = round_up(max(1, BAND // source.shape[1]), chunk)
    for y in range(0, rows, step):
        yield source.read(y, min(y + step, rows), 0, source.shape[1])


def is_gray(image: NDArray[Any]) -> bool:
    """Say whether the three channels of an image [H, W, 3] are equal."""
    return bool(np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(image[..., 0], image[..., 2]))


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
            f"no annotation bar was found in {picture.name}, so nothing is cut off there; crop_bar=ROWS cuts off so "
            "many rows",
            BainiteWarning,
            stacklevel=4,
        )
    return rows
