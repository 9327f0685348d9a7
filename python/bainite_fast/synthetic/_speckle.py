"""A pattern read at the speed of copying memory, for benchmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ._fields import Window, smooth_noise
from ._hash import hash_cells, layer_key, white_noise

UInt8 = NDArray[np.uint8]
CELL = 2048
THRESHOLD = 128
_OFFSET_LAYER, _SMOOTH_LAYER, _NOISE_LAYER = 90, 91, 92


class Speckle:
    """Cells of CELL × CELL pixels that show one periodic pattern from hashed places on."""

    def __init__(self, seed: int) -> None:
        self._key = layer_key(seed, _OFFSET_LAYER)
        pattern = smooth_noise(layer_key(seed, _SMOOTH_LAYER), Window(0, 0, CELL), 24.0)
        pattern *= np.float32(30.0)
        pattern += np.float32(8.0) * white_noise(layer_key(seed, _NOISE_LAYER), 0, 0, (CELL, CELL))
        pattern += np.float32(THRESHOLD)
        self._image = np.clip(pattern, 0.0, 255.0).astype(np.uint8)
        self._mask = (self._image >= THRESHOLD).view(np.uint8)

    @property
    def resident_bytes(self) -> int:
        """Memory of the pattern and its mask."""
        return self._image.nbytes + self._mask.nbytes

    def read(self, y0: int, y1: int, x0: int, x1: int) -> UInt8:
        """Image of a region: uint8 [y1 - y0, x1 - x0]."""
        return self._copy(self._image, (y0, y1), (x0, x1))

    def read_mask(self, y0: int, y1: int, x0: int, x1: int) -> UInt8:
        """Mask of a region: uint8 [y1 - y0, x1 - x0]."""
        return self._copy(self._mask, (y0, y1), (x0, x1))

    def _copy(self, pattern: UInt8, rows: tuple[int, int], columns: tuple[int, int]) -> UInt8:
        out = np.empty((rows[1] - rows[0], columns[1] - columns[0]), dtype=np.uint8)
        for i in range(rows[0] // CELL, -(-rows[1] // CELL)):
            for j in range(columns[0] // CELL, -(-columns[1] // CELL)):
                bits = int(hash_cells(self._key, np.array([i]), np.array([j]))[0])
                for target_y, source_y in _runs(rows, i, bits % CELL):
                    for target_x, source_x in _runs(columns, j, (bits >> 32) % CELL):
                        out[target_y, target_x] = pattern[source_y, source_x]
        return out


def _runs(span: tuple[int, int], cell: int, offset: int) -> list[tuple[slice, slice]]:
    """Cut the part of a span that lies in a cell where the pattern wraps: (place in the span, place in the pattern)."""
    start, stop = max(span[0], cell * CELL), min(span[1], (cell + 1) * CELL)
    runs = []
    while start < stop:
        source = (start - cell * CELL + offset) % CELL
        length = min(stop - start, CELL - source)
        runs.append((slice(start - span[0], start - span[0] + length), slice(source, source + length)))
        start += length
    return runs
