"""The picture that a demonstration leaves: a field of the mosaic, what the network said, and where it was wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .._disk import beside
from ..errors import InputError
from ._lettering import draw_text, text_height, text_width

Color = tuple[int, int, int]
Picture = NDArray[np.uint8]  # (H, W, 3), red, green, blue

PAPER: Color = (255, 255, 255)
INK: Color = (28, 30, 34)
FAINT: Color = (110, 114, 122)
OVER: Color = (226, 38, 38)
UNDER: Color = (38, 92, 226)
TINT = 0.38
ERROR_TINT = 0.6
MARGIN = 28
GAP = 20


@dataclass(frozen=True, slots=True)
class Field:
    """One rectangle of a mosaic with its labels and the truth, all of shape (H, W)."""

    image: NDArray[np.generic]
    labels: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    um_per_px: float | None

    def __post_init__(self) -> None:
        if not self.image.shape == self.labels.shape == self.truth.shape:
            raise InputError(
                f"image {self.image.shape}, labels {self.labels.shape} and truth {self.truth.shape} must be the same"
                " rectangle of a gray mosaic"
            )


def to_gray(image: NDArray[np.generic]) -> Picture:
    """Stretch a gray image of any dtype, 0.5th to 99.5th percentile, to an 8-bit picture."""
    values = image.astype(np.float32)
    low, high = np.percentile(values, (0.5, 99.5))
    gray = np.clip((values - low) / max(float(high - low), 1e-12), 0, 1)
    return np.repeat(np.rint(gray * 255).astype(np.uint8)[..., None], 3, axis=2)


def tinted(field: Field, colors: Sequence[Color]) -> Picture:
    """Return the gray image with classes above 0 tinted, over-prediction red and under-prediction blue.

    Parameters
    ----------
    field : Field
        What to show.
    colors : sequence of (int, int, int)
        One colour a class; that of class 0, the background, is not used.
    """
    picture = to_gray(field.image).astype(np.float32)
    right = field.labels == field.truth
    layers = [(right & (field.labels == index), color, TINT) for index, color in enumerate(colors) if index]
    layers += [(~right & (field.labels > 0), OVER, ERROR_TINT), (~right & (field.labels == 0), UNDER, ERROR_TINT)]
    for where, color, alpha in layers:
        picture[where] += alpha * (np.asarray(color, np.float32) - picture[where])
    return np.rint(picture).astype(np.uint8)


def bar_length(width_px: int, um_per_px: float | None) -> tuple[int, str]:
    """Return a round scale-bar length, at most a quarter of the picture, as (px, text with its unit).

    Without a scale the bar counts px.
    """
    unit = um_per_px if um_per_px is not None else 1.0
    longest = max(width_px / 4 * unit, 1e-9)
    decade = 10.0 ** math.floor(math.log10(longest))
    length = max(step * decade for step in (1, 2, 5) if step * decade <= longest * (1 + 1e-9))
    if um_per_px is None:
        return round(length), f"{length:g} px"
    factor, name = (1e-3, "mm") if length >= 1000 else (1, "µm") if length >= 1 else (1e3, "nm")
    return max(1, round(length / unit)), f"{length * factor:g} {name}"


def draw_scale_bar(picture: Picture, um_per_px: float | None) -> None:
    """Put a scale bar on a dark plate into the lower right corner, in place."""
    length, text = bar_length(picture.shape[1], um_per_px)
    inner = max(length, text_width(text))
    height, width = text_height() + 24, inner + 28
    if height + 12 > picture.shape[0] or width + 12 > picture.shape[1]:
        return  # a picture of a few dozen px has no room for a bar
    y, x = picture.shape[0] - height - 12, picture.shape[1] - width - 12
    plate = picture[y : y + height, x : x + width]
    plate[...] = np.rint(plate * 0.25)
    draw_text(picture, y + 4, x + (width - text_width(text)) // 2, text, PAPER)
    left = x + (width - length) // 2
    picture[y + height - 13 : y + height - 7, left : left + length] = PAPER


def compose(field: Field, colors: Sequence[Color], classes: Sequence[str], lines: Sequence[str]) -> Picture:
    """Lay out a page: heading, the bare image beside the tinted one, each with a scale bar, and a legend.

    Parameters
    ----------
    field : Field
        What to show.
    colors, classes : sequence
        One colour and one name a class; class 0 is the background.
    lines : sequence of str
        Heading, then any number of smaller lines beneath it.

    Returns
    -------
    ndarray of uint8, shape (H, W, 3)
    """
    panels = [to_gray(field.image), tinted(field, colors)]
    for panel in panels:
        draw_scale_bar(panel, field.um_per_px)
    swatches = [
        *((name, mix(color)) for name, color in list(zip(classes, colors, strict=True))[1:]),
        ("found too much", OVER),
        ("missed", UNDER),
    ]
    rows, columns = field.image.shape
    line = text_height() + 4
    top = MARGIN + line * len(lines) + 12
    legend = sum(text_width(name) + 66 for name, _ in swatches)
    widest = max(2 * columns + GAP, legend, *(text_width(text) for text in lines))
    page = np.full((top + rows + 16 + line + MARGIN, widest + 2 * MARGIN, 3), PAPER, np.uint8)
    for index, text in enumerate(lines):
        draw_text(page, MARGIN + line * index, MARGIN, text, FAINT if index else INK)
    for index, panel in enumerate(panels):
        x = MARGIN + index * (columns + GAP)
        page[top : top + rows, x : x + columns] = panel
    draw_legend(page, top + rows + 16, swatches)
    return page


def mix(color: Color) -> Color:
    """Return how a class tint looks on a light gray."""
    red, green, blue = (round(190 + TINT * 1.6 * (part - 190)) for part in color)
    return red, green, blue


def draw_legend(page: Picture, y: int, swatches: Sequence[tuple[str, Color]]) -> None:
    x = MARGIN
    for name, color in swatches:
        page[y + 4 : y + 24, x : x + 28] = INK
        page[y + 5 : y + 23, x + 1 : x + 27] = color
        x = draw_text(page, y, x + 38, name, INK) + 28


def write_png(path: Path, picture: Picture) -> None:
    """Write a picture as PNG, whole or not at all."""
    import imagecodecs

    with beside(path) as made:
        made.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(picture), level=6))
