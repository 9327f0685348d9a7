"""The pages of a TIFF: those that a plane is read from, and what they say of their intensities."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MosaicError
from .axes import AxisPlan

_RGB, _YCBCR = 2, 6
_JPEGS = (6, 7, 34892, 33007)  # compressions whose decoder turns YCbCr into RGB
_MOST = 64  # pages that are looked at, where it is not plain which of them are meant


def chosen_pages(series: Any, plan: AxisPlan) -> list[Any]:
    """Return the pages that the chosen plane and channels lie on; None stands for one that is not there."""
    pages, stack = series.pages, series.shape[: len(series.shape) - len(series.keyframe.shape)]
    if len(pages) != math.prod(stack):  # one page may hold a whole stack
        return list(pages[:_MOST])
    wanted = plan.selection(0, 1, 0, 1)[: len(stack)]
    return [pages[index] for index in np.arange(len(pages)).reshape(stack)[wanted].ravel().tolist()]


def check_pages(pages: list[Any], path: Path) -> None:
    """Refuse pages that are not there, whose pixels would be zeros, and such as reach beyond the end of their file.

    Raises
    ------
    MosaicError
        With the remedy.
    """
    if any(page is None for page in pages):
        raise MosaicError(
            f"{path} names a plane in its OME-XML that is neither in it nor in a file beside it; bring the files that "
            "belong to it together, or choose another plane",
            place=str(path),
        )
    for page in pages:
        if not len(page.dataoffsets):
            continue
        end = int(np.max(np.asarray(page.dataoffsets, np.int64) + np.asarray(page.databytecounts, np.int64)))
        file = page.parent.filehandle
        if end > file.size:
            raise MosaicError(
                f"{file.path} is truncated: its pixels should reach byte {end}, and the file has {file.size}; copy or "
                "export it again",
                place=str(file.path),
            )


def other_files(pages: list[Any], path: Path) -> list[Path]:
    """Return the files but this one that pages lie in: an OME-TIFF may be spread over several."""
    own = path.resolve()
    return sorted({place for page in pages if (place := Path(page.parent.filehandle.path).resolve()) != own})


def is_rgb(page: Any) -> bool:
    """Return whether samples are read as red, green and blue. YCbCr without JPEG, CIELab and inks are not."""
    photometric = int(page.photometric)
    return photometric == _RGB or (photometric == _YCBCR and int(page.compression) in _JPEGS)


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
