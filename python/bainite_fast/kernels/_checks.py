"""The compiled module, and the checks that every kernel makes of its arguments."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import DeviceError, InputError
from ..geometry import PAD_MODES

try:
    from .. import _core
except ImportError as error:
    raise ImportError(
        f"the compiled part of bainite_fast cannot be imported ({error}); it is built when the package is installed: "
        "run `pip install .` in the source folder with the Python in use, and start Python outside of `python/`"
    ) from error

core = _core
"""The compiled module, under a name that the package's own modules may import."""


@contextmanager
def as_input_error() -> Iterator[None]:
    """Turn the refusals of ``_core`` and of DLPack exporters into InputError."""
    try:
        yield
    except (ValueError, BufferError) as error:
        raise InputError(str(error)) from None


_HOST_MEMORY = (1, 3)  # kDLCPU and kDLCUDAHost (pinned) of the DLPack protocol


def in_device_memory(array: object) -> bool:
    """Say whether an array lies outside of host memory, by what it says of itself."""
    told = getattr(array, "__dlpack_device__", None)
    if told is not None:
        return int(told()[0]) not in _HOST_MEMORY
    return hasattr(array, "__cuda_array_interface__")


def stream_of(stream: object, *arrays: object) -> int | None:
    """Return the number of the stream of a call on these arrays; None where all of them are in host memory.

    Raises
    ------
    InputError
        If a stream is given for arrays in host memory, or is none.
    """
    if not any(in_device_memory(array) for array in arrays if array is not None):
        if stream is not None:
            raise InputError("stream= goes with arrays in device memory, and these are in host memory; leave it out")
        return None
    if hasattr(stream, "__cuda_stream__"):
        stream = stream.__cuda_stream__()[1]
    elif hasattr(stream, "cuda_stream"):  # torch.cuda.Stream
        stream = stream.cuda_stream
    if stream is None:
        return 0
    if isinstance(stream, bool) or not isinstance(stream, int) or stream < 0:
        raise InputError(f"stream={stream!r} is no CUDA stream; give a torch.cuda.Stream or the number of a stream")
    return stream


@contextmanager
def as_kernel_error(stream: int | None) -> Iterator[None]:
    """Turn the refusals of ``_core`` into InputError, and what a device or its absence causes into DeviceError."""
    with as_input_error():
        try:
            yield
        except RuntimeError as error:
            if stream is None:
                raise
            raise DeviceError(str(error)) from None


def pad_code(pad: str) -> int:
    if pad not in PAD_MODES:
        raise InputError(f"pad={pad!r} is unknown; use one of {', '.join(map(repr, PAD_MODES))}")
    return PAD_MODES.index(pad)  # the order of the C++ enum


def whole(value: object, name: str, least: int) -> int:
    """Return an integer argument of at least `least`, or refuse it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name}={value!r} is refused; use an integer of at least {least}")
    return int(value)


def pair(value: object, name: str, least: int) -> tuple[int, int]:
    """Return (rows, cols) of an integer or a pair of integers."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise InputError(f"{name}={value!r} is refused; use one integer or a pair (rows, cols)")
        return whole(value[0], f"{name}[0]", least), whole(value[1], f"{name}[1]", least)
    return whole(value, name, least), whole(value, name, least)


def integers(values: ArrayLike, name: str) -> NDArray[np.int64]:
    """Return an array of integers as the kernels take it, or refuse one that the conversion would change."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise InputError(f"{name} has dtype {array.dtype}; integers are needed (round them, and use .astype(int))")
    if array.size and array.dtype == np.uint64 and array.max() > np.iinfo(np.int64).max:
        raise InputError(f"{name} goes up to {array.max()}; integers of 64 bits with a sign are needed")
    return np.ascontiguousarray(array, dtype=np.int64)


def new_array(shape: tuple[int, ...], dtype: Any, remedy: str) -> NDArray[Any]:
    """Return an array of garbage, or refuse a shape that no array can have."""
    try:
        return np.empty(shape, dtype)
    except (ValueError, OverflowError):
        raise InputError(f"the result would have the shape {shape}, more than any array holds; {remedy}") from None


def checked_image(image: ArrayLike) -> NDArray[Any]:
    array = np.asarray(image)
    if array.ndim not in (2, 3) or array.size == 0:
        raise InputError(f"image has shape {array.shape}; a non-empty (H, W) or (H, W, C) array is needed")
    if array.dtype.hasobject:
        raise InputError(f"image has dtype {array.dtype}; items of a fixed size are needed, such as uint8 or float32")
    return array


def rows_contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array itself where each of its rows is one contiguous run, else a contiguous copy."""
    run = array.itemsize
    for axis in range(array.ndim - 1, 0, -1):
        if array.shape[axis] > 1 and array.strides[axis] != run:
            return np.ascontiguousarray(array)
        run *= array.shape[axis]
    if array.strides[0] % array.itemsize and array.shape[0] > 1:
        return np.ascontiguousarray(array)
    return array


def pixel_bytes(array: NDArray[Any], axes: int) -> NDArray[np.uint8]:
    """View `axes` axes of pixels(, channels) as bytes, one pixel on the last axis: tiling moves items, not values."""
    return (array[..., np.newaxis] if array.ndim == axes else array).view(np.uint8)
