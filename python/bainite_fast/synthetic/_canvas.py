"""Any region of a synthetic mosaic, put together from tiles that are always drawn whole."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ._render import TILE, Renderer, draw_mask, draw_tile
from .presets import Preset

UInt8 = NDArray[np.uint8]
_CACHED_TILES = 48
_DRAWING_BYTES = 2 * 24 * 2**20  # scratch of two threads that draw, 22 MiB each as measured


class Canvas:
    """An endless synthetic mosaic.

    A region is the crop of whole tiles on a fixed grid, each a function of the preset, the seed and its place alone.
    So any region equals the crop of any larger one, bit for bit, and reads may come from many threads in any order. The
    tiles used last are kept, because neighbouring reads overlap by the halo of a network.
    """

    def __init__(self, preset: Preset, seed: int, *, seams: bool) -> None:
        self._renderer = Renderer.create(preset, seed, seams=seams)
        self._lock = threading.Lock()
        self._pictures: OrderedDict[tuple[int, int], tuple[UInt8, UInt8]] = OrderedDict()

    @property
    def resident_bytes(self) -> int:
        """Memory of the tiles that are kept, and of two threads that draw."""
        return _CACHED_TILES * 2 * TILE * TILE + _DRAWING_BYTES

    def read(self, y0: int, y1: int, x0: int, x1: int) -> tuple[UInt8, UInt8]:
        """Image and mask of rows y0 … y1 and columns x0 … x1: uint8 [y1 - y0, x1 - x0] each."""
        image = np.empty((y1 - y0, x1 - x0), dtype=np.uint8)
        mask = np.empty_like(image)
        for ty, tx, target, source in _pieces(y0, y1, x0, x1):
            tile_image, tile_mask = self._tile(ty, tx)
            image[target] = tile_image[source]
            mask[target] = tile_mask[source]
        return image, mask

    def read_mask(self, y0: int, y1: int, x0: int, x1: int) -> UInt8:
        """Mask alone, several times as fast."""
        mask = np.empty((y1 - y0, x1 - x0), dtype=np.uint8)
        for ty, tx, target, source in _pieces(y0, y1, x0, x1):
            with self._lock:
                known = self._pictures.get((ty, tx))
            mask[target] = (known[1] if known else draw_mask(self._renderer, ty, tx))[source]
        return mask

    def _tile(self, ty: int, tx: int) -> tuple[UInt8, UInt8]:
        with self._lock:
            known = self._pictures.get((ty, tx))
            if known is not None:
                self._pictures.move_to_end((ty, tx))
                return known
        # Two threads may draw the same tile at once: they get the same bytes, and neither waits.
        image, mask = draw_tile(self._renderer, ty, tx)
        with self._lock:
            self._pictures[ty, tx] = (image, mask)
            while len(self._pictures) > _CACHED_TILES:
                self._pictures.popitem(last=False)
        return image, mask


def _pieces(y0: int, y1: int, x0: int, x1: int) -> Iterator[tuple[int, int, tuple[slice, slice], tuple[slice, slice]]]:
    """Tiles that meet a region, each with where its part goes and where it comes from."""
    for ty in range(y0 // TILE, -(-y1 // TILE)):
        top, bottom = max(y0, ty * TILE), min(y1, (ty + 1) * TILE)
        for tx in range(x0 // TILE, -(-x1 // TILE)):
            left, right = max(x0, tx * TILE), min(x1, (tx + 1) * TILE)
            target = (slice(top - y0, bottom - y0), slice(left - x0, right - x0))
            source = (slice(top - ty * TILE, bottom - ty * TILE), slice(left - tx * TILE, right - tx * TILE))
            yield ty, tx, target, source
