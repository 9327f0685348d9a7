"""Mosaics that are NumPy or dask arrays."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MosaicError
from .axes import AxisPlan, Channel, Plane, guess_axes, plan_axes
from .mosaic import Mosaic, MosaicSpec, convert_pixels, output_dtype

# Hashing every byte of an array of gigabytes would be a second pass: rows spread over it are enough to tell two apart.
_DIGEST_ROWS = 64


def _plan(array: Any, name: str, plane: Plane, channel: Channel) -> tuple[AxisPlan, MosaicSpec]:
    dtype = output_dtype(np.dtype(array.dtype), name)
    axes = guess_axes(array.shape, np.dtype(array.dtype))
    # The only arrays taken as colour without being told are those that every imaging library means so: (..., H, W, 3|4)
    plan = plan_axes(
        axes,
        array.shape,
        plane=plane,
        channel=channel,
        colour=axes[-1] == "c" and array.shape[-1] >= 3,
        name=name,
    )
    spec = MosaicSpec(
        shape=(array.shape[plan.y], array.shape[plan.x]), dtype=dtype, name=name, channels=plan.count, rgb=plan.rgb
    )
    return plan, spec


class NumpyMosaic(Mosaic):
    """A NumPy array in memory (or memory-mapped).

    Parameters
    ----------
    array : ndarray
        [H, W], [H, W, 3] (RGB), [H, W, 4] (RGBA, opaque) or a stack of these with `plane`.
    plane, channel
        See `open_mosaic`.
    """

    def __init__(self, array: NDArray[Any], *, plane: Plane = None, channel: Channel = None) -> None:
        self._plan, spec = _plan(array, "array", plane, channel)
        self._array = array
        super().__init__(spec)

    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        block = self._plan.arrange(self._array[self._plan.selection(y0, y1, x0, x1)])
        # A copy, so that the caller may write into what it was given.
        return np.array(convert_pixels(block, self.dtype), dtype=self.dtype, order="C")

    def fingerprint(self) -> dict[str, Any]:
        """Return shape, dtype and a digest of rows spread over the array."""
        height, width = self.shape
        digest = hashlib.sha256()
        for row in sorted(set(np.linspace(0, height - 1, min(height, _DIGEST_ROWS)).astype(int).tolist())):
            digest.update(self.read(row, row + 1, 0, width).tobytes())
        return {
            "kind": "numpy",
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "channels": self.channels,
            "sampled_rows_sha256": digest.hexdigest(),
        }


class DaskMosaic(Mosaic):
    """A dask array; regions are computed on the calling thread's own scheduler call.

    Parameters
    ----------
    array : dask.array.Array
        Shapes as for `NumpyMosaic`.
    plane, channel
        See `open_mosaic`.
    """

    def __init__(self, array: Any, *, plane: Plane = None, channel: Channel = None) -> None:
        if any(math.isnan(size) for size in array.shape):
            raise InputError("the dask array does not know its shape; call its compute_chunk_sizes() first")
        self._plan, spec = _plan(array, "dask array", plane, channel)
        chunks = (int(max(array.chunks[self._plan.y])), int(max(array.chunks[self._plan.x])))
        self._array = array
        super().__init__(replace(spec, chunk_shape=chunks))

    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        # Synchronous: the caller already runs many of these in parallel, and a worker of a cluster must not wait for
        # a task that needs a worker.
        part = self._array[self._plan.selection(y0, y1, x0, x1)]
        block = np.asarray(part.compute(scheduler="synchronous"))
        if output_dtype(block.dtype, self.name) != self.dtype or block.shape != part.shape:
            raise MosaicError(
                f"the dask array says that rows {y0}:{y1}, columns {x0}:{x1} are {part.dtype} of shape {part.shape}, "
                f"and computes {block.dtype} of shape {block.shape}; tell map_blocks, or what else made it, the dtype "
                "and the chunks that its function returns",
                place=self.name,
            )
        return np.array(convert_pixels(self._plan.arrange(block), self.dtype), dtype=self.dtype, order="C")

    def fingerprint(self) -> dict[str, Any]:
        """Return shape, dtype, dask's own token of the graph and what is chosen of it."""
        return {
            "kind": "dask",
            "shape": list(self.shape),
            "dtype": str(self.dtype),
            "channels": self.channels,
            "dask_name": str(self._array.name),
            "planes": [list(axis_and_index) for axis_and_index in self._plan.fixed],
            "chosen_channels": list(self._plan.channels),
        }
