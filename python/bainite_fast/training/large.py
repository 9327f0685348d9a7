"""Images too large, or too many, for memory: work in bands of rows, and pixels in files. Imports no torch."""

from __future__ import annotations

import mmap
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._memory import format_bytes, free_memory
from ..errors import BainiteWarning, OutputError

BAND = 1 << 23  # px
_SHARE = 0.5  # of the free memory, that a data set may take
_DENSE = 1 << 20  # px from which distinct colours are found in a table and not by sorting


def bands(image: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield an image [H, W, …] in bands of whole rows, from the top: :data:`BAND` px or, where it is wider, one row."""
    rows = max(1, BAND // max(1, image.shape[1]))
    for y in range(0, len(image), rows):
        yield image[y : y + rows]


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values that an array holds, each once, in ascending order, as ``numpy.unique`` does."""
    if values.dtype in (np.uint8, np.uint16):
        return np.flatnonzero(np.bincount(values.ravel())).astype(values.dtype)
    if values.dtype == np.int64 and values.size >= _DENSE and values.min() >= 0 and values.max() < 1 << 24:
        seen = np.zeros(1 << 24, np.bool_)
        seen[values.ravel()] = True
        return np.flatnonzero(seen)
    return np.unique(values)


class Shelf:
    """Keeps arrays: in memory up to half of what is free, and beyond that in temporary files, mapped into memory.

    The files lie where ``TMPDIR`` says, have no name, and are gone with the arrays.
    """

    def __init__(self) -> None:
        self._left = int(_SHARE * free_memory())
        self._told = False

    def keep(self, array: NDArray[Any], *, of: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return an array of the same values, which the caller holds in place of the given one.

        Parameters
        ----------
        array : ndarray
            To keep.
        of : ndarray, optional
            What it was made of, and is kept: where it is the same array, nothing is done.

        Raises
        ------
        OutputError
            If a file is needed and there is no room for it.

        Warns
        -----
        BainiteWarning
            When the first array goes to a file.
        """
        if array is of:
            return array
        if array.nbytes <= self._left:
            self._left -= array.nbytes
            weakref.finalize(array, self._give_back, array.nbytes).atexit = False
            return array
        if not self._told:
            self._told = True
            warnings.warn(
                "images and masks take more than half of the free memory; the rest of them lies in temporary files in "
                f"{tempfile.gettempdir()} and is read from there (TMPDIR chooses another folder)",
                BainiteWarning,
                stacklevel=4,
            )
        return _in_file(np.ascontiguousarray(array))

    def _give_back(self, size: int) -> None:
        self._left += size


def _in_file(array: NDArray[Any]) -> NDArray[Any]:
    try:
        with tempfile.TemporaryFile(prefix="bainite-images-") as file:
            file.write(array.data)
            file.flush()
            pages = mmap.mmap(file.fileno(), array.nbytes, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise OutputError(
            f"{tempfile.gettempdir()} has no room for {format_bytes(array.nbytes)} of images that do not fit into "
            f"memory ({error}); set TMPDIR to a folder with more room, or train on fewer or smaller images"
        ) from error
    return np.frombuffer(pages, array.dtype).reshape(array.shape)
