"""Mosaics in PNG, JPEG and BMP files: decoded whole, once."""

from __future__ import annotations

import struct
import threading
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from ..errors import MosaicError
from .axes import Channel, Plane, plan_axes
from .jpeg_check import check_jpeg
from .mosaic import Mosaic, MosaicSpec, convert_pixels, output_dtype

_DECODERS = {"PNG": imagecodecs.png_decode, "JPEG": imagecodecs.jpeg8_decode, "BMP": imagecodecs.bmp_decode}
_PNG, _PNG_PALETTE = b"\x89PNG\r\n\x1a\n", 3
_SIGNATURES = {_PNG: "PNG", b"\xff\xd8\xff": "JPEG", b"BM": "BMP"}


def picture_format(head: bytes) -> str | None:
    """Return "PNG", "JPEG" or "BMP" by the first bytes of a file, else None."""
    return next((kind for signature, kind in _SIGNATURES.items() if head.startswith(signature)), None)


def _with_indices_as_gray(data: bytes) -> bytes | None:
    """Return a PNG file of palette indices with each colour of the palette as gray as its index, or None of others.

    What is decoded are the indices then, those of equal colours too.
    """
    if data[len(_PNG) + 17] != _PNG_PALETTE:  # colour type, in the header, which comes first
        return None
    start, parts = len(_PNG), [_PNG]
    while start + 12 <= len(data):
        length = int.from_bytes(data[start : start + 4], "big")
        kind, chunk = data[start + 4 : start + 8], data[start : start + length + 12]
        if kind == b"PLTE":
            body = kind + bytes(index for index in range(length // 3) for _ in range(3))
            parts.append(chunk[:4] + body + zlib.crc32(body).to_bytes(4, "big"))
        elif kind != b"tRNS":  # transparent colours are indices like others
            parts.append(chunk)
        start += len(chunk)
    return b"".join(parts)


def _check_bmp(data: bytes) -> None:
    """Refuse a BMP file that is shorter than its header says: the decoder would read beyond its end, and crash.

    Raises
    ------
    ValueError
        If rows without compression do not fit.
    """
    old = int.from_bytes(data[14:18], "little") == 12  # the header of OS/2
    width, height, bits = struct.unpack_from("<HH2xH" if old else "<ii2xH", data.ljust(54, b"\0"), 18)
    packed = not old and int.from_bytes(data[30:34], "little") in (1, 2)  # run lengths
    end = int.from_bytes(data[10:14], "little") + (abs(width) * bits + 31) // 32 * 4 * abs(height)
    if not packed and end > len(data):
        raise ValueError(f"its header says {width} × {height} px, up to byte {end}, and it has {len(data)}")


class PictureMosaic(Mosaic):
    """A PNG, JPEG or BMP file, held decoded in memory (`resident_bytes`).

    Gray, RGB, and opaque RGBA are read; palettes come out of the decoder as RGB, unless `indexed`, 1-bit pixels as 0
    and 255. An EXIF orientation is not applied: rows stay as the microscope wrote them.

    Parameters
    ----------
    path : str or pathlib.Path
        The file.
    plane, channel, indexed
        See `open_mosaic`.
    """

    def __init__(
        self, path: str | Path, *, plane: Plane = None, channel: Channel = None, indexed: bool = False
    ) -> None:
        self._path, self._indexed = Path(path), indexed
        self._lock = threading.Lock()
        self._pixels: NDArray[Any] | None = None
        stored = self._decoded()
        dtype = output_dtype(stored.dtype, str(self._path))
        self._plan = plan_axes(
            ("y", "x", "c")[: stored.ndim],
            stored.shape,
            plane=plane,
            channel=channel,
            colour=True,
            name=str(self._path),
        )
        self._choice = {"channel": channel if channel is None or isinstance(channel, (int, str)) else list(channel)}
        super().__init__(
            MosaicSpec(
                shape=(stored.shape[0], stored.shape[1]),
                dtype=dtype,
                name=self._path.stem or "mosaic",
                channels=self._plan.count,
                rgb=self._plan.rgb,
                resident_bytes=stored.nbytes,
            )
        )
        if self._plan.alpha is not None:
            try:
                self._plan.arrange(stored)  # refuses what is not opaque now and not in the middle of a run
            except MosaicError as error:
                raise MosaicError(f"{self._path}: {error}", place=str(self._path)) from error

    def _decoded(self) -> NDArray[Any]:
        with self._lock:
            if self._pixels is None:
                data = self._path.read_bytes()
                kind = picture_format(data[:16])
                try:
                    # A picture is refused with its file name, whatever the codec library calls the damage.
                    if kind == "JPEG":
                        check_jpeg(data)
                    elif kind == "BMP":
                        _check_bmp(data)
                    gray = _with_indices_as_gray(data) if self._indexed and kind == "PNG" else None
                    pixels = np.asarray(_DECODERS[kind or "PNG"](gray or data))
                    if gray is not None and pixels.ndim == 3:
                        pixels = np.ascontiguousarray(pixels[..., 0])
                except (RuntimeError, ValueError, OSError, TypeError) as error:
                    place = str(self._path)
                    raise MosaicError(f"{place} cannot be decoded as {kind} ({error})", place=place) from error
                self._pixels = pixels
            return self._pixels

    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        block = self._decoded()[self._plan.selection(y0, y1, x0, x1)]
        return np.array(convert_pixels(self._plan.arrange(block), self.dtype), dtype=self.dtype, order="C")

    def fingerprint(self) -> dict[str, Any]:
        """Return path, size, time and what is chosen."""
        stat = self._path.stat()
        return {
            "kind": "picture",
            "path": str(self._path.resolve()),
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "channels": self.channels,
            **({"indexed": True} if self._indexed else {}),
            **self._choice,
        }

    def describe(self) -> dict[str, Any]:
        """Return the description with the file's location."""
        return {**super().describe(), "location": str(self._path), "axes": list("yxc"[: self._decoded().ndim])}

    def close(self) -> None:
        """Drop the decoded pixels; reading again decodes the file again."""
        with self._lock:
            self._pixels = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_pixels": None, "_path": self._path.absolute()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
