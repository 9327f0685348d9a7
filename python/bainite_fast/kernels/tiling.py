"""Tiles out of images and back, for any item type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..geometry import PadMode
from ._checks import (
    as_input_error,
    checked_image,
    core,
    new_array,
    pad_code,
    pair,
    pixel_bytes,
    rows_contiguous,
    whole,
)


def tile_image(
    image: ArrayLike,
    tile: int | tuple[int, int],
    *,
    halo: int = 0,
    pad: PadMode = "mirror",
    threads: int = 0,
) -> NDArray[Any]:
    """Cut an image into tiles with a halo.

    Tiles come in row-major order and cover the image from (0, 0); the last ones are padded, never shifted back.
    :func:`stitch_tiles` undoes it exactly.

    Parameters
    ----------
    image : array_like, shape (H, W) or (H, W, C)
        Any dtype with items of a fixed size.
    tile : int or (int, int)
        Rows and columns of a tile's core, in pixels.
    halo : int
        Pixels of context on every side of a core.
    pad : {"mirror", "symmetric", "edge", "constant"}
        How the image goes on beyond its border: numpy.pad's "reflect", "symmetric", "edge", "constant" (zeros).
    threads : int
        0: the cap.

    Returns
    -------
    ndarray, shape (n, tile + 2 halo, tile + 2 halo) or (n, tile + 2 halo, tile + 2 halo, C)
        The tiles, of the image's dtype.

    Raises
    ------
    InputError
        For an empty image, one of another rank, a dtype of Python objects, or a bad tile, halo or pad.
    """
    array = checked_image(image)
    rows, cols = pair(tile, "tile", 1)
    halo = whole(halo, "halo", 0)
    code = pad_code(pad)
    height, width = array.shape[:2]
    count = -(-height // rows) * -(-width // cols)
    full = (count, rows + 2 * halo, cols + 2 * halo, *array.shape[2:])
    tiles = new_array(full, array.dtype, "use a smaller tile or halo")
    if tiles.itemsize * tiles.size == 0:
        return tiles
    y, x = np.arange(0, height, rows) - halo, np.arange(0, width, cols) - halo
    corners = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.int64)
    source = pixel_bytes(rows_contiguous(array), 2)
    fill = np.zeros(source.shape[-1], np.uint8)
    with as_input_error():
        core.tile_copy(source, pixel_bytes(tiles, 3), tiles=corners, pad=code, fill=fill, threads=threads)
    return tiles


def stitch_tiles(
    tiles: ArrayLike,
    shape: Sequence[int],
    tile: int | tuple[int, int],
    *,
    halo: int = 0,
    threads: int = 0,
) -> NDArray[Any]:
    """Lay the cores of tiles side by side: the inverse of :func:`tile_image`.

    Parameters
    ----------
    tiles : array_like, shape (n, tile + 2 halo, tile + 2 halo) or (n, tile + 2 halo, tile + 2 halo, C)
        Tiles in row-major order.
    shape : (int, int) or (int, int, int)
        Shape of the image: (H, W) or (H, W, C).
    tile : int or (int, int)
        Rows and columns of a tile's core, in pixels.
    halo : int
        Pixels on every side that do not belong to the core.
    threads : int
        0: the cap.

    Returns
    -------
    ndarray
        The image, of the tiles' dtype.

    Raises
    ------
    InputError
        If the tiles do not fit the shape, tile and halo.
    """
    array = np.asarray(tiles)
    rows, cols = pair(tile, "tile", 1)
    halo = whole(halo, "halo", 0)
    shape = tuple(whole(length, "shape", 1) for length in shape)
    if len(shape) not in (2, 3):
        raise InputError(f"shape={shape} is refused; (H, W) or (H, W, C) is needed")
    if array.dtype.hasobject:
        raise InputError(f"tiles have dtype {array.dtype}; items of a fixed size are needed, such as uint8 or float32")
    count = -(-shape[0] // rows) * -(-shape[1] // cols)
    expected = (count, rows + 2 * halo, cols + 2 * halo, *shape[2:])
    if array.shape != expected:
        raise InputError(
            f"tiles have shape {array.shape}; an image of shape {shape} in tiles of {rows} x {cols} with halo {halo} "
            f"needs {expected}"
        )
    image = np.empty(shape, array.dtype)
    if image.itemsize * image.size == 0:
        return image
    with as_input_error():
        core.stitch_copy(
            pixel_bytes(np.ascontiguousarray(array), 3),
            pixel_bytes(image, 2),
            core=(rows, cols),
            halo=halo,
            threads=threads,
        )
    return image
