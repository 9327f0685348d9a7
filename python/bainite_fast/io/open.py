"""`open_mosaic`: one door for every kind of source."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, MosaicError, MosaicNotFoundError
from ._zarr import is_url
from .arrays import DaskMosaic, NumpyMosaic
from .axes import Channel, Plane, check_choice, plain
from .mosaic import Mosaic
from .picture_source import PictureMosaic, picture_format
from .sem_bar import CropBar, crop
from .tiff_source import TiffMosaic
from .zarr_source import ZarrMosaic

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HDF5 = b"\x89HDF"
_EBSD = (".ang", ".ctf", ".cpr", ".crc")
_READS = "OME-Zarr or Zarr (folder, zip or URL), TIFF, PNG, JPEG and BMP files, NumPy and dask arrays are read"


def open_mosaic(
    source: Any,
    *,
    plane: Plane = None,
    channel: Channel = None,
    level: int = 0,
    crop_bar: CropBar = None,
    storage_options: Mapping[str, Any] | None = None,
    indexed: bool = False,
) -> Mosaic:
    """Open a mosaic of any kind; no pixels are read (PNG, JPEG and BMP are decoded whole).

    Parameters
    ----------
    source : path, str, ndarray, dask array or Mosaic
        OME-Zarr 0.4 or 0.5 image or one level of it, bare Zarr v2 or v3 array, as a folder, a zip file or an fsspec URL
        (``s3://``, ``https://``, ``memory://``, ``zip::…``); TIFF, BigTIFF, OME-TIFF; PNG, JPEG, BMP; an array
        [H, W], [H, W, 3], or a stack of these; a Mosaic is returned as it is.
    plane : int or mapping of str to int, optional
        Index on the one stack axis that is longer than 1, or by name: ``{"z": 3, "t": 0}``.
    channel : int, str, sequence or None
        Index or name of a channel, several of them, or ``"rgb"``. Colours are read as three channels without asking:
        RGB TIFF and pictures, arrays [..., 3], OME-Zarr channels that ``omero`` colours red, green, blue, and three
        uint8 channels that it says nothing about.
    level : int
        Pyramid level, 0 is the full resolution.
    crop_bar : "auto", int, tuple of int or None
        Annotation bar of an SEM picture: found, or so many rows at the bottom, or (top, bottom).
    storage_options : mapping, optional
        Options of the fsspec file system.
    indexed : bool
        Whether a TIFF or PNG with palette colours is read as the indices that it stores, which is right for labels.
        Otherwise such a TIFF is refused, for its values are no intensities, and a PNG is read as the colours.

    Returns
    -------
    Mosaic
        To be read region by region.

    Raises
    ------
    MosaicNotFoundError
        If there is nothing at the path or URL.
    MosaicError
        If what is there is damaged or not a kind that is read.
    InputError
        If a choice is missing or out of range; the message lists axes and sizes.
    """
    plane, channel, level, crop_bar = plain(plane), plain(channel), plain(level), plain(crop_bar)
    check_choice(plane, channel, level)
    if isinstance(source, Mosaic):
        if plane is not None or channel is not None or level:
            raise InputError("plane, channel and level choose among what a file holds; a Mosaic is already chosen")
        return crop(source, crop_bar)
    if storage_options and not is_url(source):
        raise InputError("storage_options are for URLs such as s3://bucket/mosaic.ome.zarr")
    if not isinstance(source, (str, os.PathLike)):
        return crop(_open_array(source, plane, channel, level), crop_bar)
    if not os.fspath(source):
        raise InputError(f"the path of the mosaic is empty; {_READS}")
    if is_url(source):
        return crop(_open_url(str(source), plane, channel, level, storage_options), crop_bar)
    return crop(_open_path(Path(source), plane, channel, level, indexed), crop_bar)


def _open_array(source: Any, plane: Plane, channel: Channel, level: int) -> Mosaic:
    if level:
        raise InputError(f"level={level} is asked for, but an array has no pyramid")
    if isinstance(source, np.ma.MaskedArray):
        raise InputError("a masked array is not read, for its mask would be lost; fill it first: array.filled(0)")
    if isinstance(getattr(source, "_meta", None), np.ma.MaskedArray):
        raise InputError(
            "a masked array is not read, for its mask would be lost; fill it first: dask.array.ma.filled(array, 0)"
        )
    if isinstance(source, np.ndarray):
        return NumpyMosaic(source, plane=plane, channel=channel)
    if hasattr(source, "dask") and hasattr(source, "chunks") and hasattr(source, "dtype"):
        return DaskMosaic(source, plane=plane, channel=channel)
    raise InputError(f"a mosaic cannot be read from {type(source).__name__}; {_READS}")


def _open_url(
    url: str, plane: Plane, channel: Channel, level: int, storage_options: Mapping[str, Any] | None
) -> Mosaic:
    if url.lower().split("?")[0].endswith((".tif", ".tiff", ".png", ".jpg", ".jpeg")):
        raise MosaicError(
            f"{url}: only Zarr is read from URLs; download the file, or convert it to OME-Zarr", place=url
        )
    return ZarrMosaic(url, plane=plane, channel=channel, level=level, storage_options=storage_options)


def _open_path(path: Path, plane: Plane, channel: Channel, level: int, indexed: bool) -> Mosaic:
    if not path.exists():
        raise MosaicNotFoundError(f"{path} does not exist; check the path (relative paths start at {Path.cwd()})")
    if path.is_dir():
        if not any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
            raise MosaicError(f"{path} is a folder without Zarr metadata; {_READS}", place=str(path))
        return ZarrMosaic(path, plane=plane, channel=channel, level=level)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise MosaicError(f"{path} cannot be read ({error})", place=str(path)) from error
    if head.startswith(b"PK"):
        return ZarrMosaic(path, plane=plane, channel=channel, level=level)
    if head[:4] in _TIFF:
        return TiffMosaic(path, plane=plane, channel=channel, level=level, indexed=indexed)
    if picture_format(head):
        if level:
            raise InputError(f"level={level} is asked for, but {path} has no pyramid")
        return PictureMosaic(path, plane=plane, channel=channel, indexed=indexed)
    if head.startswith(_HDF5) or path.suffix.lower() in _EBSD:
        what = "an HDF5 file, perhaps an EBSD scan," if head.startswith(_HDF5) else "an EBSD scan,"
        raise MosaicError(f"{path} is {what} and no image: read it with bainite_fast.ebsd.read()", place=str(path))
    what = "is empty" if not head else f"begins with {head[:4]!r}, which is no format that is known"
    raise MosaicError(f"{path} {what}; {_READS}", place=str(path))


def image_format(head: bytes) -> str | None:
    """Return "TIFF", "PNG", "JPEG" or "BMP" by the first bytes of a file, else None."""
    return "TIFF" if head[:4] in _TIFF else picture_format(head)
