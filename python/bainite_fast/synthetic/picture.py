"""A synthetic picture and its true mask as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ._canvas import Canvas
from .presets import Preset, get_preset

CLASSES = ("other", "lath bainite")


def check_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) as plain integers.

    Raises
    ------
    InputError
        If they are not two positive whole numbers.
    """
    try:
        height, width = map(int, shape)
        whole = (height, width) == tuple(shape) and min(height, width) >= 1
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise InputError(f"a synthetic mosaic needs a shape of two positive whole numbers, and got {shape!r}")
    return height, width


def check_seed(seed: int) -> int:
    """Return a seed as a plain integer.

    Raises
    ------
    InputError
        If it is none.
    """
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
        raise InputError(f"seed={seed!r} is refused; use an integer")
    return int(seed)


def make(
    shape: tuple[int, int], *, preset: str | Preset = "lom", seed: int = 0, seams: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw a synthetic picture and its true mask.

    Parameters
    ----------
    shape : (int, int)
        Height and width (px).
    preset : {"lom", "sem", "lom_contrast", "sem_contrast"} or Preset
        Microstructure, magnification and etching.
    seed : int
        Another seed is another steel.
    seams : bool
        Whether stage tiles are misplaced and unevenly bright, as in a badly stitched mosaic.

    Returns
    -------
    image : ndarray of uint8, [height, width]
    mask : ndarray of uint8, [height, width]
        0 where the phase is anything else, 1 where it is lath bainite.

    Raises
    ------
    InputError
        If the shape, the preset or the seed is not valid.

    Examples
    --------
    >>> image, mask = make((256, 256), preset="lom", seed=1)
    >>> image.shape, image.dtype.name, int(mask.max())
    ((256, 256), 'uint8', 1)
    """
    height, width = check_shape(shape)
    return Canvas(get_preset(preset), check_seed(seed), seams=seams).read(0, height, 0, width)
