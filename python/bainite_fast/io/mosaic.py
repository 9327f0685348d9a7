"""The Mosaic: what the rest of the package sees of an image, however it is stored."""

from __future__ import annotations

import itertools
import operator
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MosaicError

PIXEL_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))


@dataclass(frozen=True, slots=True)
class MosaicSpec:
    """What is known about a mosaic before a pixel is read.

    Parameters
    ----------
    shape : tuple of int
        Height and width in pixels.
    dtype : numpy.dtype
        uint8, uint16 or float32, native byte order: the dtype that `read` returns.
    channels : int
        1 for gray, 3 for RGB, else the number of chosen channels.
    rgb : bool
        True where the three channels are red, green and blue (and luma makes sense).
    um_per_px : float or None
        Size of a pixel in µm, None where it is unknown.
    unit_source : str or None
        Where `um_per_px` was found.
    chunk_shape : tuple of int or None
        Rows and columns that are stored (and so read) together; None where there is no such grain.
    resident_bytes : int
        Memory that the mosaic holds for as long as it is open (a decoded PNG, a strip cache), in bytes.
    cache_bytes : int
        The part of it that fills only while the mosaic is read.
    origin : tuple of int
        Row and column of the stored image at which pixel (0, 0) lies, not (0, 0) after cropping.
    offset : tuple of float
        Where pixel (0, 0) of the stored image lies in space, (y, x) in pixels.
    pixel : float
        Edge of a pixel on the scale of the file, for what is laid over it; of use where that scale has no unit.
    source_group : pathlib.Path or None
        Local OME-Zarr image group into which labels can be written.
    ome_version : str or None
        "0.4" or "0.5" for an OME-Zarr source.
    level_shapes, level_factors : tuple
        Pyramid of the image from the opened level on: (height, width) and downsampling factor relative to it.
    pyramid_levels : int
        How many levels the whole pyramid has, from the stored level 0 on.
    synthetic : bool
        Whether the image is drawn, and so no micrograph.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    name: str = "mosaic"
    channels: int = 1
    rgb: bool = False
    um_per_px: float | None = None
    unit_source: str | None = None
    chunk_shape: tuple[int, int] | None = None
    resident_bytes: int = 0
    cache_bytes: int = 0
    origin: tuple[int, int] = (0, 0)
    offset: tuple[float, float] = (0.0, 0.0)
    pixel: float = 1.0
    source_group: Path | None = None
    ome_version: str | None = None
    level_shapes: tuple[tuple[int, int], ...] = ()
    level_factors: tuple[float, ...] = ()
    pyramid_levels: int = 1
    synthetic: bool = False

    @property
    def place(self) -> tuple[float, float]:
        """Where pixel (0, 0) lies in space, (y, x) in pixels."""
        return self.origin[0] + self.offset[0], self.origin[1] + self.offset[1]

    def __post_init__(self) -> None:
        height, width = self.shape
        if height < 1 or width < 1:
            raise InputError(f"{self.name} has zero size ({height} × {width} px); at least one pixel is needed")
        if self.dtype not in PIXEL_DTYPES:
            raise InputError(f"{self.name} would read as {self.dtype}; uint8, uint16 or float32 is needed")
        if self.channels < 1 or (self.rgb and self.channels != 3):
            raise InputError(f"{self.name} has {self.channels} channels; RGB needs 3, anything else at least 1")


class Mosaic(ABC):
    """A two-dimensional image of any size that is read region by region.

    A subclass passes a `MosaicSpec` on and implements `_read_region` and `fingerprint`. Reading is thread-safe, and a
    mosaic pickles (files are reopened where it arrives), so that it can travel to worker processes.
    """

    def __init__(self, spec: MosaicSpec) -> None:
        self._spec = spec

    # -- what it is ----------------------------------------------------------------------------------------------------
    @property
    def spec(self) -> MosaicSpec:
        """All attributes in one frozen value."""
        return self._spec

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._spec.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype that `read` returns: uint8, uint16 or float32."""
        return self._spec.dtype

    @property
    def channels(self) -> int:
        """Number of channels: 1 gives [h, w] arrays, more give [h, w, C]."""
        return self._spec.channels

    @property
    def rgb(self) -> bool:
        """Whether the three channels are red, green and blue."""
        return self._spec.rgb

    @property
    def name(self) -> str:
        """Short name, the file's stem where there is a file."""
        return self._spec.name

    @property
    def um_per_px(self) -> float | None:
        """Size of a pixel in µm; None where it is unknown."""
        return self._spec.um_per_px

    @property
    def unit_source(self) -> str | None:
        """Where the size of a pixel was found."""
        return self._spec.unit_source

    @property
    def chunk_shape(self) -> tuple[int, int] | None:
        """Rows and columns that are stored together."""
        return self._spec.chunk_shape

    @property
    def resident_bytes(self) -> int:
        """Memory held for as long as the mosaic is open, in bytes."""
        return self._spec.resident_bytes

    @property
    def origin(self) -> tuple[int, int]:
        """Row and column of the stored image at which pixel (0, 0) lies."""
        return self._spec.origin

    @property
    def source_group(self) -> Path | None:
        """Local OME-Zarr image group into which labels can be written."""
        return self._spec.source_group

    @property
    def ome_version(self) -> str | None:
        """OME-Zarr version of the source, "0.4" or "0.5"."""
        return self._spec.ome_version

    @property
    def level_shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of the pyramid levels from the opened one on; empty where there is no pyramid."""
        return self._spec.level_shapes

    @property
    def level_factors(self) -> tuple[float, ...]:
        """Downsampling factors of `level_shapes` relative to the opened level."""
        return self._spec.level_factors

    @property
    def synthetic(self) -> bool:
        """Whether the image is drawn, and so no micrograph."""
        return self._spec.synthetic

    # -- reading -------------------------------------------------------------------------------------------------------
    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Return the pixels of rows [y0, y1) and columns [x0, x1).

        Parameters
        ----------
        y0, y1, x0, x1 : int
            A region of at least one pixel inside the mosaic.

        Returns
        -------
        ndarray
            [h, w] for one channel, else [h, w, C]; C-contiguous, native byte order, raw intensities.

        Raises
        ------
        InputError
            If the region is empty or not inside the mosaic.
        MosaicError
            If the stored data cannot be read; `place` names file, array and region.
        """
        y0, y1, x0, x1 = operator.index(y0), operator.index(y1), operator.index(x0), operator.index(x1)
        height, width = self.shape
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise InputError(
                f"region [{y0}:{y1}, {x0}:{x1}] is empty or not inside {self.name}, which is {height} × {width} px"
            )
        pixels = self._read_region(y0, y1, x0, x1)
        return np.ascontiguousarray(pixels, dtype=self.dtype)

    @abstractmethod
    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Return [h, w] or [h, w, C] pixels of a region that is known to be valid."""

    @abstractmethod
    def fingerprint(self) -> dict[str, Any]:
        """Return a JSON-able identity: equal for the same pixels, different once the source has changed."""

    def describe(self) -> dict[str, Any]:
        """Return what `bainite-fast info` prints, JSON-able."""
        spec = self.spec
        height, width = spec.shape
        return {
            "name": spec.name,
            "kind": type(self).__name__,
            "shape": list(spec.shape),
            "gigapixels": height * width / 1e9,
            "dtype": str(spec.dtype),
            "channels": spec.channels,
            "rgb": spec.rgb,
            "um_per_px": spec.um_per_px,
            "unit_source": spec.unit_source,
            "chunk_shape": None if spec.chunk_shape is None else list(spec.chunk_shape),
            "resident_bytes": spec.resident_bytes,
            "origin": list(spec.origin),
            "source_group": None if spec.source_group is None else str(spec.source_group),
            "ome_version": spec.ome_version,
            "level_shapes": [list(shape) for shape in spec.level_shapes],
            "level_factors": list(spec.level_factors),
            "synthetic": spec.synthetic,
        }

    # -- life ----------------------------------------------------------------------------------------------------------
    def close(self) -> None:
        """Release open files; reading again reopens them."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        height, width = self.shape
        colour = "RGB" if self.rgb else f"{self.channels} channel{'s' if self.channels > 1 else ''}"
        scale = "unknown scale" if self.um_per_px is None else f"{self.um_per_px:.6g} µm/px ({self.unit_source})"
        return f"<{type(self).__name__} {self.name}: {height} × {width} px, {self.dtype}, {colour}, {scale}>"


class CroppedMosaic(Mosaic):
    """Rows [top, height − bottom) of another mosaic: what is left once an annotation bar is cut off."""

    def __init__(self, mosaic: Mosaic, top: int, bottom: int) -> None:
        height, width = mosaic.shape
        if top < 0 or bottom < 0 or top + bottom >= height:
            raise InputError(f"cannot crop {top} rows above and {bottom} below from a mosaic of {height} rows")
        rows = height - top - bottom
        oy, ox = mosaic.origin
        # The pyramid that is stored belongs to the whole image, so labels of a part count their levels alone.
        spec = replace(mosaic.spec, shape=(rows, width), origin=(oy + top, ox), level_shapes=())
        super().__init__(spec)
        self._mosaic, self._top, self._bottom = mosaic, top, bottom

    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        return self._mosaic.read(y0 + self._top, y1 + self._top, x0, x1)

    def fingerprint(self) -> dict[str, Any]:
        """Return the identity of the whole mosaic and of the crop."""
        return {**self._mosaic.fingerprint(), "crop": [self._top, self._bottom]}

    def describe(self) -> dict[str, Any]:
        """Return the description of the whole mosaic with the crop told."""
        return {
            **self._mosaic.describe(),
            **super().describe(),
            "kind": self._mosaic.describe()["kind"],
            "cropped_rows": [self._top, self._bottom],
        }

    def close(self) -> None:
        """Release the files of the whole mosaic."""
        self._mosaic.close()


def output_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return the dtype in which pixels of a stored dtype are read.

    uint8, uint16 and float32 stay as they are. bool becomes uint8 with 0 and 255 (so that it scales like any 8-bit
    picture), float16 becomes float32 without loss, float64 is rounded to float32. Anything else is refused: signed and
    32-bit integers have no agreed white, complex and text no intensity at all.

    Raises
    ------
    MosaicError
        If the dtype is not an intensity that a network can be given.
    """
    native = dtype.newbyteorder("=")
    if native in PIXEL_DTYPES:
        return native
    if native == np.bool_:
        return np.dtype(np.uint8)
    if native in (np.dtype(np.float16), np.dtype(np.float64)):
        return np.dtype(np.float32)
    raise MosaicError(
        f"{name} has dtype {dtype}; a mosaic holds uint8, uint16 or float intensities. Convert it first "
        "(for integers: scale to uint16, or divide by the white value and store float32)",
        place=name,
    )


def convert_pixels(pixels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return stored pixels in the dtype that `output_dtype` chose for them."""
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    return pixels.astype(dtype, copy=False)


def grid_cells(region: tuple[int, int, int, int], cell: tuple[int, int]) -> Iterator[tuple[int, int, int, int]]:
    """Yield (y0, y1, x0, x1) of the parts of a region that lie in one cell each of a grid anchored at (0, 0)."""
    y0, y1, x0, x1 = region
    rows = range(y0 // cell[0], -(-y1 // cell[0]))
    columns = range(x0 // cell[1], -(-x1 // cell[1]))
    for row, column in itertools.product(rows, columns):
        yield (
            max(y0, row * cell[0]),
            min(y1, (row + 1) * cell[0]),
            max(x0, column * cell[1]),
            min(x1, (column + 1) * cell[1]),
        )
