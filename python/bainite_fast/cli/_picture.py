"""``export SRC name.png``: labels over their image as a picture for a report, with legend and scale bar."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MosaicError, OutputExistsError
from ._lettering import draw_text, text_height, text_width
from ._overlay import (
    FAINT,
    INK,
    MARGIN,
    PAPER,
    TINT,
    Color,
    Picture,
    draw_legend,
    draw_scale_bar,
    mix,
    to_gray,
    write_png,
)

if TYPE_CHECKING:
    from ..io import LabelImage

LONGEST = 3000  # px of the longer edge that is shown
_BAND = 512  # rows that are read at a time


def export_picture(source: str | Path, out: Path, *, name: str | None = None, overwrite: bool = False) -> Path:
    """Write labels as a PNG: over the image where the OME-Zarr holds it, at a level of at most 3000 px.

    Parameters
    ----------
    source : path
        Label group, or the OME-Zarr group that holds it.
    out : path
        The PNG.
    name : str, optional
        Which labels, where there are several.
    overwrite : bool
        Whether a file that exists is replaced.

    Raises
    ------
    OutputExistsError
        If `out` exists and `overwrite` is False.
    InputError
        If the labels are no uint8.
    """
    from .. import io

    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} exists; choose another name, or overwrite it (overwrite=True)")
    labels = io.read_labels(source, name)
    if labels.labels.dtype != np.uint8:
        raise InputError(f"{labels.path} has labels of {labels.labels.dtype}; uint8 labels are drawn")
    level = next((k for k, one in enumerate(labels.levels) if max(one.shape) <= LONGEST), len(labels.levels) - 1)
    rows, columns = labels.levels[level].shape
    step = -(-max(rows, columns) // LONGEST)  # of a pyramid without a level that is small enough
    drawn = _thinned(lambda y0, y1: labels.read(y0, y1, 0, columns, level=level), rows, step)
    page = _page(labels, drawn, _image(labels, level, step))
    write_png(out, page)
    return out


def _thinned(read: Callable[[int, int], NDArray[Any]], height: int, step: int) -> NDArray[Any]:
    """Return every so many-th pixel of what reads rows [y0, y1), a band of them at a time."""
    rows = step * max(1, _BAND // step)
    return np.concatenate([read(y, min(y + rows, height))[::step, ::step] for y in range(0, height, rows)])


def _shares(labels: LabelImage) -> NDArray[np.float64]:
    """Return the share of every label value in all pixels, [256].

    They are counted at full resolution: a coarser level loses what is thin, and what a model found may have been
    corrected since.
    """
    height, width = labels.shape
    counts = np.zeros(256, np.int64)
    for y0 in range(0, height, _BAND):
        counts += np.bincount(labels.read(y0, min(y0 + _BAND, height), 0, width).ravel(), minlength=256)
    return np.asarray(counts / counts.sum())


def _image(labels: LabelImage, level: int, step: int) -> Picture | None:
    """Return the image at the size that labels are drawn at, gray in three channels; None where there is none."""
    from .. import io
    from ..io.files import read_group
    from ..io.labels import has_own_image
    from ..io.ome_metadata import ome_attributes

    container = labels.path.parent.parent
    group = read_group(container)
    if group is None or not has_own_image(ome_attributes(group[0])[0]):
        return None
    try:
        with io.open_mosaic(container, level=level) as mosaic:
            if mosaic.shape != tuple(labels.levels[level].shape):
                return None
            height, width = mosaic.shape
            pixels = _thinned(lambda y0, y1: mosaic.read(y0, y1, 0, width), height, step)
    except (InputError, MosaicError):  # several channels or planes to choose among: the labels alone, and it is said
        return None
    return to_gray(pixels if pixels.ndim == 2 else pixels.mean(axis=2))


def _page(labels: LabelImage, drawn: NDArray[np.uint8], image: Picture | None) -> Picture:
    known = {one.value: (one.name, one.colour) for one in labels.classes if 0 <= one.value < 256}
    shares = _shares(labels)
    for value in np.flatnonzero(shares).tolist():
        known.setdefault(value, (f"label {value}", (128, 128, 128)))
    panel = _tinted(image, drawn, {value: colour for value, (_, colour) in known.items()})
    swatches = [
        (
            f"{name} {100 * shares[value]:.1f} %",
            mix(colour) if image is not None and any(colour) else colour if image is None else (190, 190, 190),
        )
        for value, (name, colour) in sorted(known.items())
    ]
    factor = labels.shape[1] / drawn.shape[1]
    draw_scale_bar(panel, None if labels.um_per_px is None else labels.um_per_px * factor)
    return _lay_out(panel, _heading(labels, factor, image is not None), swatches)


def _tinted(image: Picture | None, drawn: NDArray[np.uint8], colours: dict[int, Color]) -> Picture:
    """Return labels over the image, black classes left as they are; or their colours alone."""
    table = np.full((256, 3), 128, np.float32)
    for value, colour in colours.items():
        table[value] = colour
    flat = table[drawn]
    if image is None:
        return flat.astype(np.uint8)
    shown = np.where((flat > 0).any(axis=2, keepdims=True), TINT, 0.0)
    mixed: Picture = np.rint(image + shown * (flat - image)).astype(np.uint8)
    return mixed


def _heading(labels: LabelImage, factor: float, has_image: bool) -> list[str]:
    height, width = labels.shape
    made_by = labels.provenance.get("model")
    model = made_by.get("name") if isinstance(made_by, dict) else None
    scale = "scale unknown" if labels.um_per_px is None else f"{1000 * labels.um_per_px:.4g} nm/px"
    shown = "" if factor == 1 else f", shown at 1 : {factor:.3g}"
    first = f"{labels.name}: {height} × {width} px, {scale}{shown}"
    second = "labels of another program" if model is None else f"model {model}"
    if labels.provenance.get("trained_on") == "synthetic images only":
        second += ", which has seen no real steel"
    return [
        first,
        second
        if has_image
        else f"{second} · labels alone: no gray or RGB image lies with them (segment --with-image copies it there)",
    ]


def _lay_out(panel: Picture, lines: Sequence[str], swatches: Sequence[tuple[str, Color]]) -> Picture:
    line = text_height() + 4
    room = max(panel.shape[1], *(text_width(text) for text in lines), *(text_width(text) + 66 for text, _ in swatches))
    rows: list[list[tuple[str, Color]]] = [[]]
    used = 0
    for swatch in swatches:  # as many to a row as fit
        need = text_width(swatch[0]) + 66
        if rows[-1] and used + need > room:
            rows.append([])
            used = 0
        rows[-1].append(swatch)
        used += need
    top = MARGIN + line * len(lines) + 12
    below = top + panel.shape[0] + 16
    page = np.full((below + line * len(rows) + MARGIN, room + 2 * MARGIN, 3), PAPER, np.uint8)
    for index, text in enumerate(lines):
        draw_text(page, MARGIN + line * index, MARGIN, text, FAINT if index else INK)
    page[top : top + panel.shape[0], MARGIN : MARGIN + panel.shape[1]] = panel
    for index, row in enumerate(rows):
        draw_legend(page, below + line * index, row)
    return page
