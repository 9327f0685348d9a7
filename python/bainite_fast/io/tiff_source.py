"""Mosaics in TIFF, BigTIFF and OME-TIFF files, streamed: only the tiles or strips of a region are read."""

from __future__ import annotations

import os
import struct
import threading
import warnings
import xml.etree.ElementTree as ElementTree
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from ..errors import BainiteError, InputError, MosaicError
from ._zarr import ZARR_PYTHON, _open_lock, start_zarr_threads
from .axes import AxisPlan, Channel, Plane, plan_axes
from .jpeg_check import check_jpeg
from .mosaic import Mosaic, MosaicSpec, convert_pixels, grid_cells, output_dtype
from .pixel_size import fei_bar_rows, tiff_pixel_size
from .tiff_pages import check_pages, chosen_pages, is_rgb, other_files, spread_table, white_value

# Compressed strips span the mosaic's whole width, so a block reads far more than it needs. A cache of whole strips lets
# the neighbours use the rest.
STRIP_CACHE_BYTES = 256 * 2**20
_BAND_ROWS, _BAND_BYTES = 256, 16 * 2**20  # of what is decoded at a time, but never less than a strip
_MIN_IS_WHITE, _PALETTE = 0, 3
_JPEG = 7


class TiffMosaic(Mosaic):
    """One plane of a TIFF file.

    Tiles and strips are decoded by tifffile and imagecodecs through tifffile's Zarr store; uncompressed contiguous
    pixels are read straight from the file. A file whose zero is white (MinIsWhite) is inverted, 1-bit pixels become 0
    and 255, others of less than 8 bits 0 to 255 too unless `indexed`, palettes are refused unless `indexed`.

    Parameters
    ----------
    path : str or pathlib.Path
        The file.
    plane, channel, level, indexed
        See `open_mosaic`; levels are those of a pyramid in SubIFDs or in pages.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        plane: Plane = None,
        channel: Channel = None,
        level: int = 0,
        indexed: bool = False,
    ) -> None:
        self._path = Path(path)
        self._level = level
        self._indexed = indexed
        self._lock = threading.Lock()
        self._tiff: Any = None
        self._array: Any = None
        try:
            super().__init__(self._look(plane, channel, level))
        except BaseException as error:
            self.close()  # nobody else has it to close
            # The tags of a damaged file may hold anything, and tifffile hands it on.
            if isinstance(error, Exception) and not isinstance(error, (BainiteError, OSError, MemoryError)):
                raise self._no_tiff(error) from error
            raise

    def _look(self, plane: Plane, channel: Channel, level: int) -> MosaicSpec:
        """Open the file, and find out what it holds and which of it is meant."""
        series = self._open()
        self._check(series)
        axes, colour = _axes(series)
        page = series.keyframe
        self._axes, self._plan = (
            axes,
            plan_axes(
                axes,
                series.shape,
                plane=plane,
                channel=channel,
                channel_names=_channel_names(self._tiff),
                colour=colour,
                name=str(self._path),
            ),
        )
        pages = chosen_pages(series, self._plan)
        check_pages(pages, self._path)
        self._others = other_files(pages, self._path)
        self._stored_dtype = np.dtype(series.dtype)
        self._white = white_value(page) if int(page.photometric) == _MIN_IS_WHITE else None
        self._spread = None if self._indexed else spread_table(page)
        self.databar_rows = fei_bar_rows(self._tiff, series.shape[self._plan.y])
        self._choice = {
            "plane": plane if plane is None or isinstance(plane, int) else dict(plane),
            "channel": channel if channel is None or isinstance(channel, (int, str)) else list(channel),
            "level": level,
        }
        self._facts = _facts(self._tiff, series)
        self._strips = _StripCache(STRIP_CACHE_BYTES)
        return self._make_spec(series)

    def _make_spec(self, series: Any) -> MosaicSpec:
        plan, page = self._plan, series.keyframe
        full = self._tiff.series[0].levels
        shape = (series.shape[plan.y], series.shape[plan.x])
        factor = full[0].shape[plan.y] / shape[0] if shape[0] else 1.0
        scale = tiff_pixel_size(self._tiff, str(self._path))
        shapes = tuple((one.shape[plan.y], one.shape[plan.x]) for one in full[self._level :])
        chunk = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip or shape[0], shape[1])
        self._contiguous = _is_contiguous(series)
        self._striped = not page.is_tiled and not self._contiguous
        cache = min(STRIP_CACHE_BYTES, series.nbytes) if self._striped else 0
        return MosaicSpec(
            shape=shape,
            dtype=output_dtype(self._stored_dtype, str(self._path)),
            name=_stem(self._path),
            channels=plan.count,
            rgb=plan.rgb,
            um_per_px=None if scale is None else scale[0] * factor,
            unit_source=None if scale is None else scale[1],
            chunk_shape=(min(int(chunk[0]), shape[0]), min(int(chunk[1]), shape[1])),
            resident_bytes=cache,
            cache_bytes=cache,
            level_shapes=shapes,
            level_factors=tuple(shape[0] / one[0] for one in shapes),
            pyramid_levels=len(full),
        )

    def _check(self, series: Any) -> None:
        page = series.keyframe
        if int(page.photometric) == _PALETTE and not self._indexed:
            raise MosaicError(
                f"{self._path} has palette colours, whose values are no intensities; save it as gray or RGB first. "
                "Labels with a palette are read where masks are asked for",
                place=str(self._path),
            )

    # -- reading -------------------------------------------------------------------------------------------------------
    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        region = (y0, y1, x0, x1)
        with self._lock:
            series = self._open()
        try:
            block = self._stored(series, region)
        except MemoryError:
            raise
        # Codecs raise whatever their library raises: all mean that these pixels cannot be had.
        except Exception as error:
            raise self._unreadable(series, region, error) from error
        try:
            pixels = convert_pixels(self._plan.arrange(block), self.dtype)
        except MosaicError as error:
            raise MosaicError(f"{self._name_place(region)}: {error}", place=self._name_place(region)) from error
        if self._white is not None:
            pixels = np.asarray(np.subtract(self._white, pixels, dtype=self.dtype))
        return pixels if self._spread is None else self._spread[pixels]

    def _stored(self, series: Any, region: tuple[int, int, int, int]) -> NDArray[Any]:
        if self._contiguous:
            return _read_contiguous(self._tiff.filehandle, series, self._plan, region)
        y0, y1, x0, x1 = region
        if not self._striped:
            return np.asarray(self._array[self._plan.selection(*region)])
        grain = max(1, self.chunk_shape[0] if self.chunk_shape else 1)
        row_bytes = self.shape[1] * self.channels * self._stored_dtype.itemsize
        rows = -(-min(_BAND_ROWS, max(1, _BAND_BYTES // row_bytes)) // grain) * grain
        bands = []
        for start in range(y0 // rows * rows, y1, rows):
            stop = min(start + rows, self.shape[0])
            band = self._strips.get(start, lambda a=start, b=stop: self._band(a, b))
            cut = [slice(None)] * band.ndim
            cut[self._plan.y] = slice(max(y0, start) - start, min(y1, stop) - start)
            cut[self._plan.x] = slice(x0, x1)
            bands.append(band[tuple(cut)].copy())  # a view would keep the whole band
        return np.concatenate(bands, axis=self._plan.y)

    def _band(self, start: int, stop: int) -> NDArray[Any]:
        return np.asarray(self._array[self._plan.selection(start, stop, 0, self.shape[1])])

    def _unreadable(self, series: Any, region: tuple[int, int, int, int], error: Exception) -> MosaicError:
        for part in grid_cells(region, self.chunk_shape or self.shape):
            try:
                self._stored(series, part)
            except Exception as cause:  # noqa: PERF203  (as in _read_region)
                region, error = part, cause
                break
        place = self._name_place(region)
        return MosaicError(
            f"cannot read {place}: {type(error).__name__}: {error}. The file is damaged there; restore it from a copy, "
            "or export the mosaic again",
            place=place,
        )

    def _name_place(self, region: tuple[int, int, int, int]) -> str:
        y0, y1, x0, x1 = region
        cell = self.chunk_shape or self.shape
        kind = "strip" if self._striped or self._contiguous else "tile"
        level = f", level {self._level}" if self._level else ""
        return f"{self._path}{level}, {kind} {(y0 // cell[0], x0 // cell[1])}, pixels [{y0}:{y1}, {x0}:{x1}]"

    # -- identity ------------------------------------------------------------------------------------------------------
    def fingerprint(self) -> dict[str, Any]:
        """Return path, size, time and what is chosen."""
        stat = self._path.stat()
        return {
            "kind": "tiff",
            "path": str(self._path.resolve()),
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "shape": list(self.shape),
            "dtype": str(self._stored_dtype),
            "channels": self.channels,
            **({"others": [_stamp(other) for other in self._others]} if self._others else {}),
            **self._choice,
        }

    def describe(self) -> dict[str, Any]:
        """Return the description with what the file says of itself."""
        return {
            **super().describe(),
            "location": str(self._path),
            "axes": list(self._axes),
            "stored_dtype": str(self._stored_dtype),
            "pyramid_levels": self.spec.pyramid_levels,
            **self._facts,
            "advice": "compressed strips are slow to read in blocks: convert to OME-Zarr first"
            if self._striped and self.shape[1] > 8192
            else None,
        }

    # -- life ----------------------------------------------------------------------------------------------------------
    def _open(self) -> Any:
        if self._tiff is None:
            try:
                self._tiff = tifffile.TiffFile(self._path)
                if not len(self._tiff.series):
                    raise MosaicError(f"{self._path} holds no image", place=str(self._path))
                levels = self._tiff.series[0].levels
            except (tifffile.TiffFileError, struct.error, ValueError, IndexError, KeyError) as error:
                if isinstance(error, MosaicError):
                    raise
                raise self._no_tiff(error) from error
            if not 0 <= self._level < len(levels):
                raise InputError(f"level {self._level} is not in {self._path}; use 0 to {len(levels) - 1}")
            _guard_jpeg(levels[self._level])
            self._array = _zarr_array(self._tiff.series[0], self._level)
        return self._tiff.series[0].levels[self._level]

    def _no_tiff(self, error: Exception) -> MosaicError:
        place = str(self._path)
        return MosaicError(f"{place} cannot be read as TIFF ({type(error).__name__}: {error})", place=place)

    def close(self) -> None:
        """Close the file; reading again reopens it."""
        with self._lock:
            if self._tiff is not None:
                self._tiff.close()
            self._tiff = self._array = None

    def __getstate__(self) -> dict[str, Any]:
        gone = {"_tiff": None, "_array": None, "_lock": None, "_strips": None}
        return {**self.__dict__, **gone, "_path": self._path.absolute()}  # another folder may be the current one there

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock, self._strips = threading.Lock(), _StripCache(STRIP_CACHE_BYTES)


class _StripCache:
    """Least recently used bands of whole strips, up to a number of bytes."""

    def __init__(self, limit: int) -> None:
        self._limit, self._bytes = limit, 0
        self._bands: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, start: int, load: Any) -> NDArray[Any]:
        """Return the band that begins at a row, loading it at the first use."""
        with self._lock:
            if start in self._bands:
                self._bands.move_to_end(start)
                return self._bands[start]
        band: NDArray[Any] = load()
        with self._lock:
            if start not in self._bands and band.nbytes <= self._limit:
                self._bands[start] = band
                self._bytes += band.nbytes
                while self._bytes > self._limit:
                    self._bytes -= self._bands.popitem(last=False)[1].nbytes
        return band


def _zarr_array(series: Any, level: int) -> Any:
    start_zarr_threads()
    with _open_lock, zarr.config.set(ZARR_PYTHON), warnings.catch_warnings():
        store = series.aszarr(level=level)
        return zarr.open_array(store=store, mode="r")


def _guard_jpeg(series: Any) -> None:
    """Let the structure of every JPEG tile be checked before it is decoded."""
    page = series.keyframe
    if int(page.compression) != _JPEG:
        return
    decode = page.decode

    def checked(data: bytes | None, *args: Any, **kwargs: Any) -> Any:
        if data is not None:
            check_jpeg(data)
        return decode(data, *args, **kwargs)

    page.__dict__["decode"] = checked  # where tifffile caches its decoder


def _axes(series: Any) -> tuple[tuple[str, ...], bool]:
    """Return axis names ("c" is the samples of a pixel, else the channels), and whether they are colours."""
    letters = series.axes
    page = series.keyframe
    if "S" in letters:
        names = [{"S": "c", "C": "channel"}.get(letter, letter.lower()) for letter in letters]
        return tuple(names), is_rgb(page)
    return tuple(letter.lower() for letter in letters), False


def _is_contiguous(series: Any) -> bool:
    page = series.keyframe
    plain = page.compression == 1 and page.predictor == 1 and page.fillorder == 1 and not page.is_tiled
    packed = page.bitspersample in (8, 16, 32, 64) and page.dtype is not None
    return bool(plain and packed and series.dataoffset is not None and series.transform is None)


def _read_contiguous(handle: Any, series: Any, plan: AxisPlan, region: tuple[int, int, int, int]) -> NDArray[Any]:
    """Read a region of C-ordered pixels with positioned reads.

    A memory map would be shorter, but a file that shrinks or a share that drops out would then kill the process, and
    mapped pages count as memory used.
    """
    y0, y1, x0, x1 = region
    shape, dtype = series.shape, np.dtype(series.keyframe.parent.byteorder + series.dtype.char)
    wanted = plan.selection(y0, y1, x0, x1)
    out = np.empty([part.stop - part.start for part in wanted], dtype)
    strides = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) * dtype.itemsize for axis in range(len(shape))]
    # All axes after x are read with the pixel; runs along x are contiguous when they are taken whole.
    inner = [slice(0, size) for size in shape[plan.x + 1 :]]
    leading = [range(part.start, part.stop) for part in wanted[: plan.x]]
    run = (x1 - x0) * strides[plan.x]
    for index in np.ndindex(*[len(part) for part in leading]):
        offset = series.dataoffset + sum(leading[axis][place] * strides[axis] for axis, place in enumerate(index))
        data = os.pread(handle.fileno(), run, offset + x0 * strides[plan.x])
        if len(data) != run:
            raise OSError(f"the file ends at byte {offset + len(data)}, {run - len(data)} bytes too early")
        pixels = np.frombuffer(data, dtype).reshape([x1 - x0, *[part.stop for part in inner]])
        out[index] = pixels[(slice(None), *wanted[plan.x + 1 :])]
    return out


def _channel_names(tiff: Any) -> tuple[str, ...]:
    if not tiff.is_ome or not tiff.ome_metadata:
        return ()
    try:
        root = ElementTree.fromstring(tiff.ome_metadata)  # noqa: S314  (a local file that the user opens)
    except ElementTree.ParseError as error:
        raise MosaicError(f"{tiff.filename} has OME-XML that cannot be parsed ({error})") from error
    image = root.find("{*}Image/{*}Pixels")
    channels = [] if image is None else image.findall("{*}Channel")
    return tuple(one.get("Name") or str(index) for index, one in enumerate(channels))


def _facts(tiff: Any, series: Any) -> dict[str, Any]:
    page = series.keyframe
    kinds = [kind for kind in ("ome", "imagej", "sem", "fei", "bigtiff") if getattr(tiff, f"is_{kind}", False)]
    software = page.tags.get("Software")
    return {
        "series": len(tiff.series),
        "layout": "tiles" if page.is_tiled else "strips",
        "compression": getattr(page.compression, "name", str(page.compression)).lower(),
        "flavours": kinds,
        "software": None if software is None else str(software.value),
    }


def _stamp(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path), stat.st_size, stat.st_mtime_ns]


def _stem(path: Path) -> str:
    name = path.stem
    return name.removesuffix(".ome") or "mosaic"
