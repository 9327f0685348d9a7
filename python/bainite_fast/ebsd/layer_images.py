"""Maps as OME-Zarr images: layers on square pixels, with their µm."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, OutputExistsError
from ..io import open_mosaic, write_image
from ._raster import raster_points
from .grid import Grid, positive_step
from .layers import KINDS, UNKNOWN, Layer, MapOptions, layer_of, source_of
from .map import EBSDMap

if TYPE_CHECKING:
    from .grain_map import Grains


def raster_layer(layer: Layer, grid: Grid, step: float | None = None) -> tuple[NDArray[Any], float]:
    """Return a layer as an image of square pixels, and their size in µm.

    Parameters
    ----------
    layer : Layer
        From `map_layer`.
    grid : Grid
        Of its map.
    step : float, optional
        Size of a pixel in µm; by default the step on a square grid, where each point is one pixel, and half of it on a
        hexagonal one, where each point is 3 or 4.

    Returns
    -------
    image : ndarray, float32 (height, width) or uint8 (height, width, 3)
        Values, NaN where undefined and outside; or colours.
    step : float
    """
    smaller = min(grid.dx, grid.dy)
    size = (smaller if grid.kind == "square" else grid.dx / 2) if step is None else positive_step(step, "step")
    points = raster_points(grid, size)
    channels = layer.channels
    outside: Any = np.full((1, *channels.shape[1:]), np.nan if channels.ndim == 1 else UNKNOWN[0], channels.dtype)
    return np.concatenate([channels, outside])[points], size


def write_layers(
    ebsd: EBSDMap,
    kinds: Iterable[str],
    folder: str | Path,
    *,
    options: MapOptions | None = None,
    grains: Grains | None = None,
    step: float | None = None,
    overwrite: bool = False,
) -> dict[str, Path]:
    """Write kinds of a map as OME-Zarr images, one ``<kind>.ome.zarr`` each, in µm.

    Angles and measured values are float32, NaN where undefined (and in the pyramid wherever a NaN enters a mean);
    boundaries, phases, grains and inverse pole figures are RGB.

    Parameters
    ----------
    ebsd : EBSDMap
        The map.
    kinds : iterable of str
        Of `KINDS`.
    folder : path
        Where the images go; made where it is not there.
    options : MapOptions, optional
        Conventions and limits.
    grains : Grains, optional
        Grains found before.
    step : float, optional
        Size of a pixel in µm, see `raster_layer`.
    overwrite : bool
        Replace images that are there.

    Returns
    -------
    dict of str to pathlib.Path
        The image of each kind.

    Raises
    ------
    InputError, OutputExistsError, OutputError
        If a kind is unknown or lacks its data, an image is there already, or cannot be written.
    """
    wanted = list(dict.fromkeys(kinds))
    unknown = [kind for kind in wanted if kind not in KINDS]
    if unknown or not wanted:
        raise InputError(f"no map is called {', '.join(unknown) or 'nothing'}; use one or more of {', '.join(KINDS)}")
    paths = {kind: Path(folder) / f"{kind}.ome.zarr" for kind in wanted}
    there = [str(path) for path in paths.values() if path.exists()]
    if there and not overwrite:
        raise OutputExistsError(f"{there[0]} exists; choose another folder, or overwrite it (overwrite=True)")
    source = source_of(ebsd, options, grains)
    layers = {kind: layer_of(source, kind) for kind in wanted}
    for kind, path in paths.items():
        write_layer(layers[kind], ebsd.grid, path, step=step, overwrite=overwrite)
    return paths


def write_layer(layer: Layer, grid: Grid, path: Path, *, step: float | None = None, overwrite: bool = False) -> None:
    """Write a layer that is there already as an OME-Zarr image; see `write_layers`."""
    image, size = raster_layer(layer, grid, step)
    attributes = {"ebsd": {"kind": layer.kind, "title": layer.title, "unit": layer.unit}}
    write_image(open_mosaic(image), path, um_per_px=size, overwrite=overwrite, attributes=attributes)
