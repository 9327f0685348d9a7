"""Draw the glyph strip that the command line letters its pictures with, from a TrueType font.

Run ``python tools/draw_font.py DejaVuSans.ttf`` (needs Pillow). Row 0 of the strip marks with 255 the first column of
each glyph, in the order of the characters in `CHARACTERS` of ``bainite_fast/cli/_lettering.py``; the rows below are
its coverage.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bainite_fast.cli._lettering import CHARACTERS

SIZE = 22
OUT = Path(__file__).parents[1] / "python/bainite_fast/cli/_font.png"


def draw(font_path: str) -> None:
    """Write the strip of every character, each as wide as its advance."""
    font = ImageFont.truetype(font_path, SIZE)
    ascent, descent = font.getmetrics()
    widths = [round(font.getlength(character)) for character in CHARACTERS]
    strip = np.zeros((1 + ascent + descent, sum(widths)), np.uint8)
    x = 0
    for character, width in zip(CHARACTERS, widths, strict=True):
        glyph = Image.new("L", (width, ascent + descent))
        ImageDraw.Draw(glyph).text((0, 0), character, fill=255, font=font)
        strip[1:, x : x + width] = np.asarray(glyph)
        strip[0, x] = 255
        x += width
    Image.fromarray(strip).save(OUT, optimize=True)


if __name__ == "__main__":
    draw(sys.argv[1])
