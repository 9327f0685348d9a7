"""Images too large, or too many, for memory: work in bands of rows, and pixels in files. Imports no torch."""

from __future__ import annotations

import math
import mmap
import tempfile
import warnings
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._memory import format_bytes, free_memory
from ..errors import BainiteError, BainiteWarning, OutputError

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

    The files lie where ``TMPDIR`` says, have no name, and are gone with the arrays. The first one is told by a
    :class:`~bainite_fast.errors.BainiteWarning`; where there is no room for one, `OutputError` says so.
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
        """
        if array is of:
            return array
        return self._hold(array) if self._fits(array.nbytes) else _in_file(array.shape, array.dtype, bands(array))

    def gather(self, shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
        """Return an array made of bands of rows, which are taken one after the other."""
        if not self._fits(math.prod(shape) * dtype.itemsize):
            return _in_file(shape, dtype, parts)
        array, done = np.empty(shape, dtype), 0
        for part in parts:
            array[done : done + len(part)] = part
            done += len(part)
        return self._hold(array)

    def _fits(self, size: int) -> bool:
        if size > self._left and not self._told:
            self._told = True
            warnings.warn(
                "images and masks take more than half of the free memory; the rest of them lies in temporary files in "
                f"{tempfile.gettempdir()} and is read from there (TMPDIR chooses another folder)",
                BainiteWarning,
                stacklevel=5,
            )
        return size <= self._left

    def _hold(self, array: NDArray[Any]) -> NDArray[Any]:
        self._left -= array.nbytes
        weakref.finalize(array, self._give_back, array.nbytes).atexit = False
        return array

    def _give_back(self, size: int) -> None:
        self._left += size


def _in_file(shape: tuple[int, ...], dtype: np.dtype[Any], parts: Iterable[NDArray[Any]]) -> NDArray[Any]:
    size = math.prod(shape) * dtype.itemsize
    try:
        with tempfile.TemporaryFile(prefix="bainite-images-") as file:
            for part in parts:
                file.write(np.ascontiguousarray(part, dtype).data)
            file.flush()
            pages = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    except OSError as error:
        if isinstance(error, BainiteError):  # of a picture that the parts are read from
            raise
        raise OutputError(
            f"{tempfile.gettempdir()} has no room for {format_bytes(size)} of images that do not fit into memory "
            f"({error}); set TMPDIR to a folder with more room, or take fewer or smaller images"
        ) from error
    return np.frombuffer(pages, dtype).reshape(shape)
