"""Synthetic mosaics as inputs that need no disk."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..io import Mosaic, MosaicSpec
from ._canvas import Canvas
from ._render import TILE
from ._speckle import CELL, Speckle
from .picture import check_seed, check_shape
from .presets import Preset, get_preset

UInt8 = NDArray[np.uint8]
# Raised whenever the pixels of a given seed change, so that a journal of older pixels is refused.
VERSION = 1


class SyntheticMosaic(Mosaic):
    """Complex-phase steel of any extent, drawn where it is read.

    Parameters
    ----------
    shape : (int, int)
        Height and width (px). A 100-gigapixel mosaic costs nothing until it is read.
    preset : {"lom", "sem", "lom_contrast", "sem_contrast"} or Preset
        Microstructure, magnification and etching.
    seed : int
        Another seed is another steel.
    seams : bool
        Whether stage tiles are misplaced and unevenly bright, as in a badly stitched mosaic.

    Notes
    -----
    Pixels depend on preset, seed, seams and position alone, not on `shape`. The bits are those of one machine and
    NumPy; another instruction set may round a gray value differently.

    Raises
    ------
    InputError
        If the shape, the preset or the seed is not valid.

    Examples
    --------
    >>> mosaic = SyntheticMosaic((316_228, 316_228), preset="lom", seed=1)
    >>> mosaic.read(200_000, 200_064, 300_000, 300_064).shape
    (64, 64)
    """

    def __init__(
        self, shape: tuple[int, int], *, preset: str | Preset = "lom", seed: int = 0, seams: bool = False
    ) -> None:
        self._preset, self._seed, self._seams = get_preset(preset), check_seed(seed), bool(seams)
        self._canvas = Canvas(self._preset, self._seed, seams=self._seams)
        spec = MosaicSpec(
            shape=check_shape(shape),
            dtype=np.dtype(np.uint8),
            name=f"synthetic-{self._preset.name}-{self._seed}",
            um_per_px=self._preset.um_per_px,
            unit_source=f"synthetic preset {self._preset.name}",
            chunk_shape=(TILE, TILE),
            resident_bytes=self._canvas.resident_bytes,
            synthetic=True,
        )
        super().__init__(spec)

    @property
    def preset(self) -> Preset:
        """Microstructure, magnification and etching."""
        return self._preset

    @property
    def seed(self) -> int:
        """Seed of the steel."""
        return self._seed

    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> UInt8:
        return self._canvas.read(y0, y1, x0, x1)[0]

    def read_mask(self, y0: int, y1: int, x0: int, x1: int) -> UInt8:
        """Return the true mask of rows [y0, y1) and columns [x0, x1).

        Returns
        -------
        ndarray of uint8, [y1 - y0, x1 - x0]
            0 where the phase is anything else, 1 where it is lath bainite.

        Raises
        ------
        InputError
            If the region is empty or not inside the mosaic.
        """
        _check_region(self, y0, y1, x0, x1)
        return self._canvas.read_mask(y0, y1, x0, x1)

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the pixels."""
        return {
            "kind": "synthetic",
            "version": VERSION,
            "shape": list(self.shape),
            "preset": repr(self._preset),
            "seed": self._seed,
            "seams": self._seams,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # Rebuilt where it arrives: the drawn tiles stay behind.
        return _rebuild, (self.shape, self._preset, self._seed, self._seams)


def _rebuild(shape: tuple[int, int], preset: Preset, seed: int, seams: bool) -> SyntheticMosaic:
    return SyntheticMosaic(shape, preset=preset, seed=seed, seams=seams)


class SpeckleMosaic(Mosaic):
    """A source for benchmarks of everything but the source: speckle at the speed of copying memory.

    It looks like nothing: cells of 2048 × 2048 px each show one hashed pattern from another hashed place on. The
    class "speckle" is where the pattern is bright.

    Parameters
    ----------
    shape : (int, int)
        Height and width (px).
    seed : int
        Another seed is another pattern.
    """

    def __init__(self, shape: tuple[int, int], *, seed: int = 0) -> None:
        self._seed = check_seed(seed)
        self._speckle = Speckle(self._seed)
        spec = MosaicSpec(
            shape=check_shape(shape),
            dtype=np.dtype(np.uint8),
            name=f"speckle-{self._seed}",
            um_per_px=1.0,
            unit_source="benchmark source, 1 µm by definition",
            chunk_shape=(CELL, CELL),
            resident_bytes=self._speckle.resident_bytes,
            synthetic=True,
        )
        super().__init__(spec)

    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> UInt8:
        return self._speckle.read(y0, y1, x0, x1)

    def read_mask(self, y0: int, y1: int, x0: int, x1: int) -> UInt8:
        """Return 1 where the pattern is at least `_speckle.THRESHOLD`, else 0: uint8 [y1 - y0, x1 - x0]."""
        _check_region(self, y0, y1, x0, x1)
        return self._speckle.read_mask(y0, y1, x0, x1)

    def fingerprint(self) -> dict[str, Any]:
        """Return what decides the pixels."""
        return {"kind": "speckle", "version": VERSION, "shape": list(self.shape), "seed": self._seed}

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_speckle, (self.shape, self._seed)


def _rebuild_speckle(shape: tuple[int, int], seed: int) -> SpeckleMosaic:
    return SpeckleMosaic(shape, seed=seed)


def _check_region(mosaic: Mosaic, y0: int, y1: int, x0: int, x1: int) -> None:
    height, width = mosaic.shape
    if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
        raise InputError(
            f"region [{y0}:{y1}, {x0}:{x1}] is empty or not inside {mosaic.name}, which is {height} × {width} px"
        )
