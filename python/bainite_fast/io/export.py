"""`export_labels`: labels as OME-TIFF for Fiji, MIPAR and ZEN, and a table of areas."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from .._disk import beside, write_text
from ..errors import InputError
from .image_writer import check_output
from .read_labels import LabelClass, LabelImage, read_labels

_TILE, _BAND = 512, 2048
_SUFFIXES = (".tif", ".tiff", ".btf")


def export_labels(
    source: str | Path,
    out: str | Path,
    *,
    name: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write labels as a tiled, compressed BigTIFF OME-TIFF, and the area of every class as CSV beside it.

    Memory holds a few bands of tiles, whatever the size. The pixel values are the label values. Class colours are in
    the TIFF's palette, which Fiji shows; names, values and colours are in the CSV and in the OME-XML.

    Parameters
    ----------
    source : path
        Label group, or the OME-Zarr group that holds it.
    out : path
        The OME-TIFF, by custom `<name>.ome.tif`; an existing folder takes `<name>.ome.tif`.
    name : str, optional
        Which labels, where there are several.
    overwrite : bool
        Whether existing files are replaced, once the new ones are complete.
    progress : callable, optional
        Called with (pixels done, all pixels).

    Returns
    -------
    list of pathlib.Path
        The OME-TIFF and the CSV (columns class, value, colour, pixels, area_um2, fraction).

    Raises
    ------
    OutputExistsError
        If a file exists and `overwrite` is False.
    OutputError
        If the disk is full or cannot be written.
    InputError
        If the labels are not uint8, or `out` is no name of a TIFF.
    """
    image = read_labels(source, name)
    if image.labels.dtype != np.uint8:
        raise InputError(f"{image.path} has labels of {image.labels.dtype}; uint8 labels are exported")
    path = Path(out) / f"{image.name}.ome.tif" if Path(out).is_dir() else Path(out)
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{path} is no TIFF name; use for example {path.stem}.ome.tif")
    table = path.with_name(_stem(path) + ".csv")
    for one in (path, table):
        check_output(one, overwrite=overwrite)
    counts = np.zeros(256, np.int64)
    with beside(path) as made:
        _write_tiff(made, image, counts, progress)
    write_text(table, _table(image, counts))
    return [path, table]


def _stem(path: Path) -> str:
    name = path.name
    for suffix in (*_SUFFIXES, ".ome"):
        name = name[: -len(suffix)] if name.lower().endswith(suffix) else name
    return name


def _write_tiff(
    path: Path, image: LabelImage, counts: NDArray[np.int64], progress: Callable[[int, int], None] | None
) -> None:
    height, width = image.shape
    metadata: dict[str, object] = {"axes": "YX", "Name": image.name}
    resolution = None
    if image.um_per_px is not None:
        metadata |= {
            "PhysicalSizeX": image.um_per_px,
            "PhysicalSizeY": image.um_per_px,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeYUnit": "µm",
        }
        resolution = (1e4 / image.um_per_px,) * 2
    metadata["Description"] = "; ".join(f"{one.value} = {one.name}" for one in image.classes)
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
        writer.write(
            _tiles(image, counts, progress),
            shape=(height, width),
            dtype=np.uint8,
            tile=(_TILE, _TILE),
            photometric="palette",
            colormap=_palette(image.classes),
            compression="zlib",
            compressionargs={"level": 4},
            resolution=resolution,
            resolutionunit=None if resolution is None else "CENTIMETER",
            metadata=metadata,
            maxworkers=2,
        )


def _tiles(
    image: LabelImage, counts: NDArray[np.int64], progress: Callable[[int, int], None] | None
) -> Iterator[NDArray[np.uint8]]:
    """Yield tiles in row-major order from blocks as wide as a shard, counting on the way."""
    height, width = image.shape
    done = 0
    for y0 in range(0, height, _TILE):
        y1 = min(y0 + _TILE, height)
        for x0 in range(0, width, _BAND):
            x1 = min(x0 + _BAND, width)
            block = image.read(y0, y1, x0, x1)
            counts += np.bincount(block.ravel(), minlength=256)
            done += block.size
            if progress is not None:  # before the tiles: the writer does not come back after the last one
                progress(done, height * width)
            for x in range(0, x1 - x0, _TILE):
                yield np.ascontiguousarray(block[:, x : x + _TILE])


def _palette(classes: tuple[LabelClass, ...]) -> NDArray[np.uint16]:
    """Return the [3, 256] uint16 colour map; values without a class are gray by value."""
    palette = np.repeat(np.arange(256, dtype=np.uint16)[None] * 257, 3, axis=0)
    for one in classes:
        if 0 <= one.value < 256:  # others do not occur in uint8 labels
            palette[:, one.value] = np.array(one.colour, np.uint16) * 257
    return palette


def _table(image: LabelImage, counts: NDArray[np.int64]) -> str:
    """Return the CSV; every declared class has a row, and so has any other value that occurs."""
    named = {one.value: one for one in image.classes}
    values = sorted({*named, *np.flatnonzero(counts).tolist()})
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["class", "value", "colour", "pixels", "area_um2", "fraction"])
    total = int(counts.sum())
    for value in values:
        one = named.get(value)
        pixels = int(counts[value])
        area = "" if image.um_per_px is None else repr(float(f"{pixels * image.um_per_px**2:.12g}"))
        colour = "" if one is None else "#{:02x}{:02x}{:02x}".format(*one.colour)
        rows.writerow([str(value) if one is None else one.name, value, colour, pixels, area, repr(pixels / total)])
    return text.getvalue()
