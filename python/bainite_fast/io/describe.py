"""`describe`: what a file holds, for `bainite-fast info`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError, MosaicError
from ._zarr import is_url
from .files import read_group
from .labels import has_own_image
from .ome_metadata import ome_attributes
from .open import open_mosaic
from .read_labels import LabelImage, label_names, read_labels


def describe(source: Any, *, storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Say what a source holds, without reading pixels (PNG, JPEG and BMP are decoded).

    A stack or a choice of channels that `open_mosaic` would ask about is described at its first plane and channel, and
    `choose` says what there is to choose.

    Parameters
    ----------
    source : path, str, ndarray, dask array or Mosaic
        A mosaic of any kind, or a label image.
    storage_options : mapping, optional
        Options of the fsspec file system of a URL.

    Returns
    -------
    dict
        JSON-able: kind, shape, dtype, axes, chunks, µm/px and where it was found, levels, labels (finished and
        unfinished), bytes on disk …

    Raises
    ------
    MosaicNotFoundError, MosaicError, InputError
        As `open_mosaic`.
    """
    local = Path(source) if isinstance(source, (str, os.PathLike)) and not is_url(source) and str(source) else None
    if local is not None and local.is_dir():
        found = _describe_group(local)
        if found is not None:
            return found
    options: dict[str, Any] = {} if storage_options is None else {"storage_options": storage_options}
    extra: dict[str, Any] = {}
    try:
        mosaic = open_mosaic(source, **options)
    except MosaicError:
        raise
    except InputError as error:
        mosaic, extra = _open_first(source, options, error)
    with mosaic:
        described = {**mosaic.describe(), **extra}
    if local is not None and local.is_dir():
        group = mosaic.source_group or local
        described |= {"labels": list(label_names(group)), "unfinished": _unfinished(group)}
    if local is not None:
        described["bytes_on_disk"] = _bytes(local)
    return described


def _open_first(source: Any, options: dict[str, Any], error: InputError) -> tuple[Any, dict[str, Any]]:
    """Open the first plane and channel of what asks for a choice; anything else is an error still."""
    for choice in _FIRST:
        try:
            return open_mosaic(source, **options, **choice), {"choose": str(error), "described": choice}
        except MosaicError:
            raise
        except InputError:
            continue
    raise error


_FIRST: tuple[dict[str, Any], ...] = (
    {"channel": 0},
    {"plane": 0},
    {"plane": 0, "channel": 0},
    {"plane": {"t": 0, "z": 0}},
    {"plane": {"t": 0, "z": 0}, "channel": 0},
)


def _describe_group(path: Path) -> dict[str, Any] | None:
    """Describe labels, or a container that holds nothing but labels; None for anything with an image."""
    try:
        group = read_group(path)
    except MosaicError:
        return None  # an array
    if group is None:
        return None
    ome, _ = ome_attributes(group[0])
    if "image-label" in ome:
        return _describe_labels(read_labels(path))
    if has_own_image(ome) or not (path / "labels").is_dir():
        return None
    return {
        "name": path.name,
        "kind": "labels without an image",
        "location": str(path),
        "labels": [_describe_labels(read_labels(path, name)) for name in label_names(path)],
        "unfinished": _unfinished(path),
        "complete": not _unfinished(path),
        "bytes_on_disk": _bytes(path),
    }


def _describe_labels(image: LabelImage) -> dict[str, Any]:
    height, width = image.shape
    shards = getattr(image.labels, "shards", None)
    return {
        "name": image.name,
        "kind": "labels",
        "location": str(image.path),
        "shape": list(image.shape),
        "gigapixels": height * width / 1e9,
        "dtype": str(image.labels.dtype),
        "axes": ["y", "x"],
        "chunks": list(image.labels.chunks),
        "shards": None if shards is None else list(shards),
        "level_shapes": [list(level.shape) for level in image.levels],
        "um_per_px": image.um_per_px,
        "unit_source": None if image.um_per_px is None else "OME-Zarr scale",
        "classes": {one.name: one.value for one in image.classes},
        "confidence": image.confidence is not None,
        "complete": not image.path.name.endswith(".partial"),
        "provenance": image.provenance,
        "bytes_on_disk": _bytes(image.path),
    }


def _unfinished(group: Path) -> list[str]:
    folder = group / "labels"
    if not folder.is_dir():
        return []
    return sorted(entry.name.removesuffix(".partial") for entry in folder.iterdir() if entry.name.endswith(".partial"))


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a run that writes there moves its files
                total += (Path(folder) / name).stat().st_size
    return total
