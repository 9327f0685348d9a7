"""Synthetic mosaics written as OME-Zarr, with their true mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..io import LabelLayout, LabelStore, LabelTarget, open_mosaic, write_image
from .mosaic import VERSION, SyntheticMosaic
from .picture import CLASSES
from .presets import Preset

TRUTH = "truth"
_COLORS = ((0, 0, 0), (230, 159, 0))  # as the bundled model paints them
_BLOCK, _CHUNK = 2048, 512


def write(
    out: str | Path,
    shape: tuple[int, int],
    *,
    preset: str | Preset = "lom",
    seed: int = 0,
    seams: bool = False,
    mask: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a synthetic mosaic as an OME-Zarr image, with its true mask on request.

    Memory does not depend on the shape. The image appears whole or not at all; so do the labels, after it.

    Parameters
    ----------
    out : path
        OME-Zarr folder to make.
    shape : (int, int)
        Height and width (px).
    preset, seed, seams
        As for `SyntheticMosaic`.
    mask : bool
        Whether the true phases are written too, as ``labels/truth``: 0 other, 1 lath bainite.
    overwrite : bool
        Replace what is at `out`.
    progress : callable, optional
        Called with (pixels done, all pixels); with a mask, a pixel is done when its label is.

    Returns
    -------
    pathlib.Path
        The image group.

    Raises
    ------
    InputError
        If the shape, the preset or the seed is not valid.
    OutputExistsError
        If there is something at `out` and `overwrite` is false.
    OutputError
        If `out` cannot be written.
    """
    mosaic = SyntheticMosaic(shape, preset=preset, seed=seed, seams=seams)
    pixels = mosaic.shape[0] * mosaic.shape[1]
    passes = 2 if mask else 1

    def tell(done: int) -> None:
        if progress is not None:
            progress(done // passes, pixels)

    origin = {"preset": mosaic.preset.name, "seed": mosaic.seed, "seams": seams, "version": VERSION}
    path = write_image(
        mosaic, out, overwrite=overwrite, attributes={"origin": origin}, progress=lambda done, _: tell(done)
    )
    if mask:
        _write_mask(mosaic, path, lambda done: tell(pixels + done))
    return path


def _write_mask(mosaic: SyntheticMosaic, path: Path, progress: Callable[[int], None]) -> None:
    height, width = mosaic.shape
    with open_mosaic(path) as image:
        target = LabelTarget.resolve(image, name=TRUTH)
        layout = LabelLayout(
            shape=mosaic.shape,
            block=_BLOCK,
            chunk=_CHUNK,
            levels=target.levels(mosaic.shape, _BLOCK),
            ome_version=target.ome_version,
            um_per_px=mosaic.um_per_px,
            classes=tuple(zip(CLASSES, _COLORS, strict=True)),
        )
        store = LabelStore.create(target, layout)
        done = 0
        for y0 in range(0, height, _BLOCK):
            for x0 in range(0, width, _BLOCK):
                labels = mosaic.read_mask(y0, min(y0 + _BLOCK, height), x0, min(x0 + _BLOCK, width))
                store.write_block(y0 // _BLOCK, x0 // _BLOCK, labels)
                done += labels.size
                progress(done)
        store.finish({"synthetic": True, "source": mosaic.fingerprint()})
