"""Array kernels: tiles out of images and back, labels out of logits, counts, pyramids, scaling.

Thin, checked faces of the compiled module ``_core``. Arrays are NumPy arrays or anything that speaks DLPack, such as
torch tensors; they are borrowed, never copied, and the GIL is released while a kernel runs. ``threads=0`` means the
process-wide cap (:func:`get_num_threads`); ``threads=1`` takes no lock and starts nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError

try:
    from . import _core
except ImportError as error:
    raise ImportError(
        f"the compiled part of bainite_fast cannot be imported ({error}); it is built when the package is installed: "
        "run `pip install .` in the source folder with the Python in use, and start Python outside of `python/`"
    ) from error

__all__ = [
    "build_info",
    "class_counts",
    "confusion_matrix",
    "cpu_features",
    "downsample_labels",
    "gather",
    "get_num_threads",
    "nonfinite",
    "resample",
    "resample_region",
    "resample_source_range",
    "scatter",
    "set_num_threads",
    "stitch_tiles",
    "tile_image",
    "tune_allocator",
]

PadMode = Literal["mirror", "symmetric", "edge", "constant"]
PAD_MODES: dict[str, int] = {"mirror": 0, "symmetric": 1, "edge": 2, "constant": 3}

build_info = _core.build_info
cpu_features = _core.cpu_features
get_num_threads = _core.get_num_threads
set_num_threads = _core.set_num_threads
tune_allocator = _core.tune_allocator


@contextmanager
def _as_input_error() -> Iterator[None]:
    """Turn the refusals of ``_core`` and of DLPack exporters into InputError."""
    try:
        yield
    except (ValueError, BufferError) as error:
        raise InputError(str(error)) from None


def _pad_code(pad: str) -> int:
    if pad not in PAD_MODES:
        raise InputError(f"pad={pad!r} is unknown; use one of {', '.join(map(repr, PAD_MODES))}")
    return PAD_MODES[pad]


def _whole(value: object, name: str, least: int) -> int:
    """Return an integer argument of at least `least`, or refuse it."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise InputError(f"{name}={value!r} is refused; use an integer of at least {least}")
    return int(value)


def _pair(value: object, name: str, least: int) -> tuple[int, int]:
    """Return (rows, cols) of an integer or a pair of integers."""
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise InputError(f"{name}={value!r} is refused; use one integer or a pair (rows, cols)")
        return _whole(value[0], f"{name}[0]", least), _whole(value[1], f"{name}[1]", least)
    return _whole(value, name, least), _whole(value, name, least)


def _item_bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    """View [..., (H, W)(, C)] as bytes [..., pixel bytes]: tiling moves items, whatever they mean."""
    if array.ndim in (2, 4 - 1) and array.ndim == 2:
        array = array[..., np.newaxis]
    return array.view(np.uint8)


def _checked_image(image: ArrayLike) -> NDArray[Any]:
    array = np.asarray(image)
    if array.ndim not in (2, 3) or array.size == 0:
        raise InputError(f"image has shape {array.shape}; a non-empty (H, W) or (H, W, C) array is needed")
    if array.dtype.hasobject:
        raise InputError(f"image has dtype {array.dtype}; items of a fixed size are needed, such as uint8 or float32")
    return array


def tile_image(
    image: ArrayLike,
    tile: int | tuple[int, int],
    *,
    halo: int = 0,
    pad: PadMode = "mirror",
    threads: int = 0,
) -> NDArray[Any]:
    """Cut an image into tiles with a halo.

    Tiles come in row-major order and cover the image from (0, 0); the last ones are padded, never shifted back.
    :func:`stitch_tiles` undoes it exactly.

    Parameters
    ----------
    image : array_like, shape (H, W) or (H, W, C)
        Any dtype with items of a fixed size.
    tile : int or (int, int)
        Rows and columns of a tile's core, in pixels.
    halo : int
        Pixels of context on every side of a core.
    pad : {"mirror", "symmetric", "edge", "constant"}
        How the image goes on beyond its border: numpy.pad's "reflect", "symmetric", "edge", "constant" (zeros).
    threads : int
        0: the cap.

    Returns
    -------
    ndarray, shape (n, tile + 2 halo, tile + 2 halo) or (n, tile + 2 halo, tile + 2 halo, C)
        The tiles, of the image's dtype.

    Raises
    ------
    InputError
        For an empty image, one of another rank, a dtype of Python objects, or a bad tile, halo or pad.
    """
    array = _checked_image(image)
    rows, cols = _pair(tile, "tile", 1)
    halo = _whole(halo, "halo", 0)
    code = _pad_code(pad)
    height, width = array.shape[:2]
    y, x = np.arange(0, height, rows) - halo, np.arange(0, width, cols) - halo
    corners = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.int64)
    tiles = np.empty((len(corners), rows + 2 * halo, cols + 2 * halo, *array.shape[2:]), array.dtype)
    if tiles.itemsize * tiles.size == 0:
        return tiles
    source = _item_bytes(_rows_contiguous(array))
    fill = np.zeros(source.shape[-1], np.uint8)
    with _as_input_error():
        _core.tile_copy(source, _item_bytes4(tiles), tiles=corners, pad=code, fill=fill, threads=threads)
    return tiles


def stitch_tiles(
    tiles: ArrayLike,
    shape: Sequence[int],
    tile: int | tuple[int, int],
    *,
    halo: int = 0,
    threads: int = 0,
) -> NDArray[Any]:
    """Lay the cores of tiles side by side: the inverse of :func:`tile_image`.

    Parameters
    ----------
    tiles : array_like, shape (n, tile + 2 halo, tile + 2 halo) or (n, tile + 2 halo, tile + 2 halo, C)
        Tiles in row-major order.
    shape : (int, int) or (int, int, int)
        Shape of the image: (H, W) or (H, W, C).
    tile : int or (int, int)
        Rows and columns of a tile's core, in pixels.
    halo : int
        Pixels on every side that do not belong to the core.
    threads : int
        0: the cap.

    Returns
    -------
    ndarray
        The image, of the tiles' dtype.

    Raises
    ------
    InputError
        If the tiles do not fit the shape, tile and halo.
    """
    array = np.asarray(tiles)
    rows, cols = _pair(tile, "tile", 1)
    halo = _whole(halo, "halo", 0)
    shape = tuple(_whole(length, "shape", 1) for length in shape)
    if len(shape) not in (2, 3):
        raise InputError(f"shape={shape} is refused; (H, W) or (H, W, C) is needed")
    if array.dtype.hasobject:
        raise InputError(f"tiles have dtype {array.dtype}; items of a fixed size are needed, such as uint8 or float32")
    count = -(-shape[0] // rows) * -(-shape[1] // cols)
    expected = (count, rows + 2 * halo, cols + 2 * halo, *shape[2:])
    if array.shape != expected:
        raise InputError(
            f"tiles have shape {array.shape}; an image of shape {shape} in tiles of {rows} x {cols} with halo {halo} "
            f"needs {expected}"
        )
    image = np.empty(shape, array.dtype)
    if image.itemsize * image.size == 0:
        return image
    with _as_input_error():
        _core.stitch_copy(
            _item_bytes4(np.ascontiguousarray(array)), _item_bytes(image), core=(rows, cols), halo=halo, threads=threads
        )
    return image


def _rows_contiguous(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array itself where each of its rows is one contiguous run, else a contiguous copy."""
    run = array.itemsize
    for axis in range(array.ndim - 1, 0, -1):
        if array.shape[axis] > 1 and array.strides[axis] != run:
            return np.ascontiguousarray(array)
        run *= array.shape[axis]
    if array.strides[0] % array.itemsize and array.shape[0] > 1:
        return np.ascontiguousarray(array)
    return array


def _item_bytes4(tiles: NDArray[Any]) -> NDArray[np.uint8]:
    return (tiles[..., np.newaxis] if tiles.ndim == 3 else tiles).view(np.uint8)


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
) -> None:
    """Fill a batch of network input from a region of an image: pad, scale, normalise, cast in one pass.

    Every value is ``float32(v) * gain[c] + offset[c]``, multiplied and added in float32 without fusing, then rounded
    to the nearest value of the output's type, ties to even.

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
        Raw value of the "constant" mode, before gain and offset; converted to the region's dtype.
    threads : int
        0: the cap.

    Raises
    ------
    InputError
        If a dtype, shape or layout does not fit, or the region lacks pixels that a tile needs.
    """
    channels = int(out.shape[1]) if len(out.shape) == 4 else 1
    with _as_input_error():
        _core.gather(
            region,
            out,
            origin=origin,
            image_shape=image_shape,
            tiles=np.ascontiguousarray(tiles, dtype=np.int64),
            gain=_per_channel(gain, channels, "gain"),
            offset=_per_channel(offset, channels, "offset"),
            pad=_pad_code(pad),
            fill=fill,
            threads=threads,
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
    threads: int = 0,
) -> int:
    """Write the labels of a batch of logits to their places: argmax, confidence and crop in one pass.

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
    threads : int
        0: the cap.

    Returns
    -------
    int
        Pixels with a logit that is NaN or infinite; their labels mean nothing and their confidence is 0.

    Raises
    ------
    InputError
        If a dtype or shape does not fit, or a crop leaves its tile or the labels.
    """
    with _as_input_error():
        return _core.scatter(
            logits,
            labels,
            crops=np.ascontiguousarray(crops, dtype=np.int64),
            confidence=confidence,
            threads=threads,
        )


def _label_rows(labels: ArrayLike, name: str) -> NDArray[Any]:
    """Return labels as a 2-D array of a type that the kernels count; wider integers only where they must be."""
    array = np.asarray(labels)
    if array.dtype.kind not in "bui":
        raise InputError(f"{name} has dtype {array.dtype}; integer labels are needed (convert with .astype(numpy.uint8))")
    if array.dtype not in (np.bool_, np.uint8, np.uint16, np.int32, np.int64) or not array.dtype.isnative:
        array = array.astype(np.int32 if array.dtype.itemsize <= 2 else np.int64)
    return array


def _as_rows(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """View arrays of one shape as rows: 2-D ones with contiguous rows as they are, others flat."""
    if all(a.ndim == 2 and (a.strides[1] == a.itemsize or a.shape[1] <= 1) for a in arrays):
        if not all(a.flags.c_contiguous for a in arrays):
            return list(arrays)
    return [np.ascontiguousarray(a).reshape(1, -1) for a in arrays]


def _class_number(n_classes: int) -> int:
    n_classes = _whole(n_classes, "n_classes", 1)
    if n_classes > 4096:
        raise InputError(f"n_classes={n_classes} is refused; at most 4096 classes are counted")
    return n_classes


def confusion_matrix(
    truth: ArrayLike,
    pred: ArrayLike,
    n_classes: int,
    *,
    ignore: int | None = None,
    threads: int = 0,
) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Parameters
    ----------
    truth, pred : array_like, integers, one shape
        Labels 0 … n_classes - 1; uint8 is fastest.
    n_classes : int
        Number of classes, at most 4096.
    ignore : int, optional
        Pixels whose *true* label has this value are left out, whatever was predicted there.
    threads : int
        0: the cap.

    Returns
    -------
    ndarray, shape (n_classes, n_classes), int64
        Row: true class; column: predicted class.

    Raises
    ------
    InputError
        If the shapes differ, a dtype is not an integer one, or a label is outside of 0 … n_classes - 1.
    """
    true, predicted = _label_rows(truth, "truth"), _label_rows(pred, "pred")
    n_classes = _class_number(n_classes)
    if true.shape != predicted.shape:
        raise InputError(f"truth has shape {true.shape} and pred {predicted.shape}; one shape is needed")
    true, predicted = _as_rows(true, predicted)
    counts = np.zeros((n_classes, n_classes), np.int64)
    with _as_input_error():
        outside = _core.confusion(true, predicted, counts, n_classes=n_classes, ignore=ignore, threads=threads)
    if outside:
        raise InputError(
            f"{outside} pixels have a label outside of 0 … {n_classes - 1} in truth or pred; raise n_classes, or name "
            "the label of unknown truth with ignore="
        )
    return counts


def class_counts(labels: ArrayLike, n_classes: int, *, threads: int = 0) -> NDArray[np.int64]:
    """Count the pixels of every class.

    Parameters
    ----------
    labels : array_like, integers
        Labels 0 … n_classes - 1.
    n_classes : int
        Number of classes, at most 4096.
    threads : int
        0: the cap.

    Returns
    -------
    ndarray, shape (n_classes,), int64
        Pixels per class.

    Raises
    ------
    InputError
        If the dtype is not an integer one, or a label is outside of 0 … n_classes - 1.
    """
    (rows,) = _as_rows(_label_rows(labels, "labels"))
    n_classes = _class_number(n_classes)
    counts = np.zeros(n_classes, np.int64)
    with _as_input_error():
        outside = _core.class_counts(rows, counts, n_classes=n_classes, threads=threads)
    if outside:
        raise InputError(f"{outside} pixels have a label outside of 0 … {n_classes - 1}; raise n_classes")
    return counts


def downsample_labels(labels: ArrayLike, *, threads: int = 0) -> NDArray[np.uint8]:
    """Halve a label image: the most frequent label of every 2 x 2 cell.

    Among equally frequent labels the first in raster order wins; cells clipped by the border hold only the pixels that
    exist.

    Parameters
    ----------
    labels : array_like, shape (h, w), uint8
        Labels; rows may be apart.
    threads : int
        0: the cap.

    Returns
    -------
    ndarray, shape (ceil(h / 2), ceil(w / 2)), uint8
        Labels at half the resolution.

    Raises
    ------
    InputError
        If the labels are not uint8 or not 2-D.
    """
    array = np.asarray(labels)
    if array.dtype != np.uint8 or array.ndim != 2:
        raise InputError(f"labels are {array.dtype} of shape {array.shape}; uint8 of shape (h, w) is needed")
    out = np.empty(((array.shape[0] + 1) // 2, (array.shape[1] + 1) // 2), np.uint8)
    if out.size:
        with _as_input_error():
            _core.downsample_labels(_rows_contiguous(array), out, threads=threads)
    return out


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
    with _as_input_error():
        return _core.nonfinite(_rows_contiguous(array), threads=threads)


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
    with _as_input_error():
        return _core.resample_source_range(start, stop, n, n_scaled)


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
    y, x, height, width = (_whole(value, "out", 0) for value in out)
    scaled = np.empty((height, width, *array.shape[2:]), np.float32)
    if scaled.size:
        with _as_input_error():
            _core.resample(
                _rows_contiguous(array),
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
    array = _checked_image(image)
    rows, cols = _pair(scaled_shape, "scaled_shape", 1)
    return resample_region(
        array,
        origin=(0, 0),
        image_shape=(array.shape[0], array.shape[1]),
        scaled_shape=(rows, cols),
        out=(0, 0, rows, cols),
        threads=threads,
    )
