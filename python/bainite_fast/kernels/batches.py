"""Batches for a network: gather makes its input, scatter writes its answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..geometry import PadMode
from ._checks import as_kernel_error, core, integers, pad_code, stream_of


def gather(
    region: Any,
    out: Any,
    *,
    origin: tuple[int, int],
    image_shape: tuple[int, int],
    tiles: ArrayLike,
    gain: ArrayLike = 1.0,
    offset: ArrayLike = 0.0,
    pad: PadMode = "mirror",
    fill: float = 0.0,
    threads: int = 0,
    stream: Any = None,
) -> None:
    """Fill a batch of network input from a region of an image: pad, scale, normalise, cast in one pass.

    Every value is ``float32(v) * gain[c] + offset[c]``, multiplied and added in float32 without fusing, then rounded
    to the nearest value of the output's type, ties to even. Region and batch are both in host memory, or both on one
    CUDA device, where the same values come out and the call returns before the work is done.

    Parameters
    ----------
    region : array, shape (h, w) or (h, w, C), uint8, uint16 or float32
        Part of the image; rows may be apart (any pitch). It must hold every pixel that the tiles touch.
    out : array, shape (n, C', th, tw), float32, bfloat16 or float16
        Written in place; C-contiguous (NCHW) or channels last (NHWC), told from its strides. C' = C, or 1 for a region
        of 3 channels (luma of ITU-R BT.601), or 3 for a region of one (repeated).
    origin : (int, int)
        Image pixel (y, x) of the region's first pixel.
    image_shape : (int, int)
        Rows and columns of the whole image, at whose border the padding starts.
    tiles : array_like, shape (n, 2), integers
        Top-left pixels (y, x) of the tiles, halo included; they may lie outside of the image.
    gain, offset : float or array_like, shape (C',)
        One value, or one per output channel.
    pad : {"mirror", "symmetric", "edge", "constant"}
        As in :func:`tile_image`.
    fill : float
        Raw value of the "constant" mode, before gain and offset: one of the region's dtype, and rounded down to it.
    threads : int
        0: the cap. Not for device arrays.
    stream : torch.cuda.Stream or int, optional
        For device arrays: the CUDA stream that the work is queued on; by default the default stream.

    Raises
    ------
    InputError
        If a dtype, shape or layout does not fit, the region lacks pixels that a tile needs, or the arrays lie in
        different memories.
    DeviceError
        If the arrays are on a device that this build or this machine cannot use.
    """
    channels = int(out.shape[1]) if len(out.shape) == 4 else 1
    queue = stream_of(stream, region, out)
    with as_kernel_error(queue):
        core.gather(
            region,
            out,
            origin=origin,
            image_shape=image_shape,
            tiles=integers(tiles, "tiles"),
            gain=_per_channel(gain, channels, "gain"),
            offset=_per_channel(offset, channels, "offset"),
            pad=pad_code(pad),
            fill=fill,
            threads=threads,
            stream=queue,
        )


def _per_channel(value: ArrayLike, channels: int, name: str) -> NDArray[np.float32]:
    array = np.asarray(value, np.float32)
    if array.ndim > 1 or (array.ndim == 1 and array.shape != (channels,)):
        raise InputError(f"{name} has shape {array.shape}; one value or {channels} (one per output channel) are needed")
    return np.ascontiguousarray(np.broadcast_to(array, (channels,)))


def scatter(
    logits: Any,
    labels: Any,
    *,
    crops: ArrayLike,
    confidence: Any = None,
    temperature: float = 1.0,
    threads: int = 0,
    stream: Any = None,
    bad: Any = None,
) -> int:
    """Write the labels of a batch of logits to their places: argmax, confidence and crop in one pass.

    Logits, labels and confidence are all in host memory, or all on one CUDA device, where the same labels come out.

    Parameters
    ----------
    logits : array, shape (n, K, th, tw), float32, bfloat16 or float16
        Any strides. K >= 2: the label is the class with the largest logit, ties to the lower class. K = 1: the label
        is 1 where the logit is above 0.
    labels : array, shape (h, w), uint8
        Written in place; rows may be apart.
    crops : array_like, shape (n, 6), integers
        Per tile (src_y, src_x, height, width, dst_y, dst_x): that part of the tile goes to that place of `labels`.
        Places must not overlap.
    confidence : array, shape (h, w), uint8, optional
        Written in place: 255 times the softmax (K = 1: the sigmoid) of the winner, rounded.
    temperature : float
        0.001 to 1000. The confidence is that of logits / `temperature` (Guo et al., "On calibration of modern neural
        networks", ICML 2017); labels do not depend on it.
    threads : int
        0: the cap. Not for device arrays.
    stream : torch.cuda.Stream or int, optional
        For device arrays: the CUDA stream that the work is queued on; by default the default stream.
    bad : array, shape (1,), int64, optional
        For device arrays: the number of bad pixels is added to it, on the device, and the call does not wait.

    Returns
    -------
    int
        Pixels with a logit that is NaN or infinite; their labels mean nothing and their confidence is 0. 0 where `bad`
        takes them instead.

    Raises
    ------
    InputError
        If a dtype or shape does not fit, a crop leaves its tile or the labels, or the arrays lie in different memories.
    DeviceError
        If the arrays are on a device that this build or this machine cannot use.
    """
    queue = stream_of(stream, logits, labels, confidence)
    with as_kernel_error(queue):
        return core.scatter(
            logits,
            labels,
            crops=integers(crops, "crops"),
            confidence=confidence,
            temperature=temperature,
            threads=threads,
            stream=queue,
            bad=bad,
        )
