"""What the pages of a TIFF say of their intensities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def white_value(page: Any) -> int:
    """Return the largest intensity that a page can hold, as it is read; 1 of floats."""
    if np.dtype(page.dtype).kind == "f":
        return 1
    return 255 if page.bitspersample == 1 else int(2**page.bitspersample - 1)


def spread_table(page: Any) -> NDArray[np.uint8] | None:
    """Return the 8-bit intensities of what has 2 to 7 bits, as every viewer shows them; None of other pages."""
    if not 1 < page.bitspersample < 8:
        return None
    white = 2**page.bitspersample - 1
    return np.asarray(np.rint(np.arange(white + 1) * (255 / white)), np.uint8)
