"""`convert`: a mosaic of any format as OME-Zarr."""

from __future__ import annotations

import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import OutputExistsError
from ._zarr import is_url
from .axes import Channel, Plane
from .image_writer import check_group_output, write_image
from .open import open_mosaic
from .pixel_size import check_pixel_size
from .sem_bar import CropBar


def convert(
    source: Any,
    out: str | Path,
    *,
    plane: Plane = None,
    channel: Channel = None,
    level: int = 0,
    crop_bar: CropBar = None,
    storage_options: Mapping[str, Any] | None = None,
    um_per_px: float | None = None,
    ome_version: str = "0.5",
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a mosaic of any format as an OME-Zarr image with a pyramid, in bounded memory.

    Parameters
    ----------
    source, plane, channel, level, crop_bar, storage_options
        See `open_mosaic`.
    out : path
        Folder to create, by custom `<name>.ome.zarr`.
    um_per_px : float, optional
        Size of a pixel, where the source does not say it or says it wrong.
    ome_version : {"0.5", "0.4"}
        0.5 is Zarr v3 with shards, 0.4 Zarr v2.
    overwrite : bool
        Whether an existing OME-Zarr is replaced, its labels too, once the new one is complete.
    progress : callable, optional
        Called with (pixels done, all pixels).

    Returns
    -------
    pathlib.Path
        The OME-Zarr group.

    Raises
    ------
    OutputExistsError
        If `out` exists and `overwrite` is False, or is no OME-Zarr, or holds more than one, or is the source.
    OutputLockedError
        If another process is writing there.
    OutputError
        If `out` is the name of a picture, or the disk is full or cannot be written.
    InputError
        If `um_per_px` is not positive.
    MosaicError
        If the source cannot be read.
    """
    path = check_group_output(out, overwrite=overwrite)
    check_pixel_size(um_per_px)
    _check_apart(source, path)
    borrowed = source
    mosaic = open_mosaic(
        source, plane=plane, channel=channel, level=level, crop_bar=crop_bar, storage_options=storage_options
    )
    try:
        _check_apart(mosaic.describe().get("location"), path)  # of a Mosaic, that which it reads
        return write_image(
            mosaic, out, ome_version=ome_version, um_per_px=um_per_px, overwrite=overwrite, progress=progress
        )
    finally:
        if mosaic is not borrowed:
            mosaic.close()


def _check_apart(source: Any, out: Path) -> None:
    """Refuse to write over the source, or over a folder that holds it."""
    if isinstance(source, (str, Path)) and is_url(source):
        address = urllib.parse.urlsplit(str(source).rpartition("::")[2])
        source = urllib.request.url2pathname(address.path) if address.scheme in ("file", "local") else None
    if isinstance(source, (str, Path)) and str(source) and out.exists():
        place, target = Path(source).resolve(), out.resolve()
        if target == place or target in place.parents or place in target.parents:
            raise OutputExistsError(f"{out} is, or holds, the mosaic that is read; choose another name")
