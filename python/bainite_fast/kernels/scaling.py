"""Scaling of images, pyramids of labels, and the search for values that are not numbers."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ._checks import (
    as_input_error,
    as_kernel_error,
    checked_image,
    core,
    new_array,
    pair,
    rows_contiguous,
    stream_of,
    whole,
)


def downsample_labels(labels: ArrayLike, *, out: Any = None, threads: int = 0, stream: Any = None) -> NDArray[np.uint8]:
    """Halve a label image: the most frequent label of every 2 x 2 cell.

    Among equally frequent labels the first in raster order wins; cells clipped by the border hold only the pixels that
    exist.

    Parameters
    ----------
    labels : array_like, shape (h, w), uint8
        Labels; rows may be apart. In host memory or on a CUDA device.
    out : array, shape (ceil(h / 2), ceil(w / 2)), uint8, optional
        Written in place, and returned. Labels on a device need it, on the same device.
    threads : int
        0: the cap. Not for device arrays.
    stream : torch.cuda.Stream or int, optional
        For device arrays: the CUDA stream that the work is queued on; the call returns before it is done.

    Returns
    -------
    array, shape (ceil(h / 2), ceil(w / 2)), uint8
        Labels at half the resolution: `out`, or a new NumPy array.

    Raises
    ------
    InputError
        If the labels are not uint8 or not 2-D, or `out` does not fit.
    DeviceError
        If the arrays are on a device that this build or this machine cannot use.
    """
    queue = stream_of(stream, labels, out)
    if queue is not None:
        if out is None:
            raise InputError("labels on a device need out=, an array of half their shape, rounded up, on that device")
        with as_kernel_error(queue):
            core.downsample_labels(cast(Any, labels), out, stream=queue)
        return cast(NDArray[np.uint8], out)
    array = np.asarray(labels)
    if array.dtype != np.uint8 or array.ndim != 2:
        raise InputError(f"labels are {array.dtype} of shape {array.shape}; uint8 of shape (h, w) is needed")
    halved: NDArray[np.uint8] = out
    if out is None:
        halved = np.empty(((array.shape[0] + 1) // 2, (array.shape[1] + 1) // 2), np.uint8)
    with as_input_error():
        core.downsample_labels(rows_contiguous(array), halved, threads=threads)
    return halved


def nonfinite(region: ArrayLike, *, threads: int = 0) -> tuple[int, int, int] | None:
    """Find the first NaN or infinity.

    Parameters
    ----------
    region : array_like, shape (h, w) or (h, w, C), float32
        Intensities; rows may be apart.
    threads : int
        0: the cap.

    Returns
    -------
    (int, int, int) or None
        Row, column and channel of the first one in raster order; None when all values are finite.

    Raises
    ------
    InputError
        If the region is not float32 or of another rank.
    """
    array = np.asarray(region)
    if array.dtype != np.float32 or array.ndim not in (2, 3):
        raise InputError(
            f"region is {array.dtype} of shape {array.shape}; float32 of shape (h, w) or (h, w, C) is needed"
        )
    if array.size == 0:
        return None
    with as_input_error():
        return core.nonfinite(rows_contiguous(array), threads=threads)


def resample_source_range(start: int, stop: int, n: int, n_scaled: int) -> tuple[int, int]:
    """Find the source samples that scaled samples are made of, along one axis.

    Parameters
    ----------
    start, stop : int
        Scaled samples [start, stop), within [0, n_scaled).
    n, n_scaled : int
        Length of the axis before and after scaling.

    Returns
    -------
    (int, int)
        Source samples [first, last) that :func:`resample_region` reads.

    Raises
    ------
    InputError
        If the range is empty or leaves the scaled axis.
    """
    with as_input_error():
        return core.resample_source_range(start, stop, n, n_scaled)


def resample_region(
    block: ArrayLike,
    *,
    origin: tuple[int, int],
    image_shape: tuple[int, int],
    scaled_shape: tuple[int, int],
    out: tuple[int, int, int, int],
    threads: int = 0,
) -> NDArray[np.float32]:
    """Scale one region of an image; any region has the same bits as that part of the whole scaled image.

    Per axis: box averaging with exact fractional edges where the axis shrinks, bilinear with half-pixel centres and
    clamped edges where it grows. Weights come from global integer coordinates; sums run in a fixed order, in float32.

    Parameters
    ----------
    block : array_like, shape (h, w) or (h, w, C), uint8, uint16 or float32
        Part of the image that holds every source sample (see :func:`resample_source_range`).
    origin : (int, int)
        Image pixel (y, x) of the block's first pixel.
    image_shape, scaled_shape : (int, int)
        Rows and columns of the whole image before and after scaling.
    out : (int, int, int, int)
        Region (y, x, height, width) of the scaled image.
    threads : int
        0: the cap.

    Returns
    -------
    ndarray, shape (height, width) or (height, width, C), float32
        The region, in the block's units of intensity.

    Raises
    ------
    InputError
        If a dtype or shape does not fit, the region leaves the scaled image, or the block lacks source samples.
    """
    array = np.asarray(block)
    if array.ndim not in (2, 3) or array.dtype not in (np.uint8, np.uint16, np.float32):
        raise InputError(
            f"block is {array.dtype} of shape {array.shape}; uint8, uint16 or float32 of shape (h, w) or (h, w, C) is "
            "needed"
        )
    if len(out) != 4:
        raise InputError(f"out={out!r} is refused; a region (y, x, height, width) of the scaled image is needed")
    y, x, height, width = (whole(value, "out", 0) for value in out)
    scaled = new_array((height, width, *array.shape[2:]), np.float32, "scale the image in parts")
    if scaled.size:
        with as_input_error():
            core.resample(
                rows_contiguous(array),
                scaled,
                origin=origin,
                image_shape=image_shape,
                scaled_shape=scaled_shape,
                out_origin=(y, x),
                threads=threads,
            )
    return scaled


def resample(image: ArrayLike, scaled_shape: tuple[int, int], *, threads: int = 0) -> NDArray[np.float32]:
    """Scale a whole image; see :func:`resample_region`.

    Parameters
    ----------
    image : array_like, shape (H, W) or (H, W, C), uint8, uint16 or float32
        The image.
    scaled_shape : (int, int)
        Rows and columns of the result.
    threads : int
        0: the cap.

    Returns
    -------
    ndarray, shape (H', W') or (H', W', C), float32
        The scaled image, in the image's units of intensity.

    Raises
    ------
    InputError
        If the dtype or a shape does not fit.
    """
    array = checked_image(image)
    rows, cols = pair(scaled_shape, "scaled_shape", 1)
    return resample_region(
        array,
        origin=(0, 0),
        image_shape=(array.shape[0], array.shape[1]),
        scaled_shape=(rows, cols),
        out=(0, 0, rows, cols),
        threads=threads,
    )
