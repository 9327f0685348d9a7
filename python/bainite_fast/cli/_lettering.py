"""Letters on pictures, without a plotting library: the glyphs lie beside this file as one strip."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHARACTERS = "".join(map(chr, range(32, 127))) + "µ²°±×·–…äöüß"
UNKNOWN = "?"


def text_width(text: str) -> int:
    """Return the width of `text` in px."""
    glyphs = _glyphs()
    width: int = sum(glyphs.get(character, glyphs[UNKNOWN]).shape[1] for character in text)
    return width


def text_height() -> int:
    """Return the height of a line in px, from ascender to descender."""
    height: int = _glyphs()[UNKNOWN].shape[0]
    return height


def draw_text(canvas: NDArray[np.uint8], y: int, x: int, text: str, color: tuple[int, int, int]) -> int:
    """Blend `text` into a picture, in place; what falls outside is cut off.

    Parameters
    ----------
    canvas : ndarray of uint8, shape (H, W, 3)
        The picture.
    y, x : int
        Pixel of the text's top left corner.
    text : str
        One line.
    color : tuple of int
        Red, green, blue, 0…255.

    Returns
    -------
    int
        The column after the text.
    """
    glyphs = _glyphs()
    paint = np.asarray(color, np.float32)
    for character in text:
        glyph = glyphs.get(character, glyphs[UNKNOWN])
        patch = canvas[y : y + glyph.shape[0], x : x + glyph.shape[1]]
        cover = glyph[: patch.shape[0], : patch.shape[1], None]
        patch[...] = np.rint(patch + cover * (paint - patch))
        x += glyph.shape[1]
    return x


@cache
def _glyphs() -> dict[str, NDArray[np.float32]]:
    import imagecodecs

    strip = imagecodecs.png_decode(Path(__file__).with_name("_font.png").read_bytes())
    starts = [*np.flatnonzero(strip[0]).tolist(), strip.shape[1]]
    cover = strip[1:].astype(np.float32) / np.float32(255)
    return {
        character: cover[:, start:stop]
        for character, start, stop in zip(CHARACTERS, starts[:-1], starts[1:], strict=True)
    }
