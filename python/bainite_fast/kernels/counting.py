"""Counts over labels."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ._checks import as_input_error, as_kernel_error, core, stream_of, whole


def confusion_matrix(
    truth: ArrayLike,
    pred: ArrayLike,
    n_classes: int,
    *,
    ignore: int | None = None,
    threads: int = 0,
    stream: Any = None,
) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Parameters
    ----------
    truth, pred : array_like, integers, one shape
        Labels 0 … n_classes - 1; uint8 is fastest. Both may be on one CUDA device: then of shape (h, w), rows
        contiguous, uint8, uint16, int32 or int64; only the counts come to the host.
    n_classes : int
        Number of classes, at most 4096.
    ignore : int, optional
        Pixels whose *true* label has this value are left out, whatever was predicted there.
    threads : int
        0: the cap. Not for device arrays.
    stream : torch.cuda.Stream or int, optional
        For device arrays: the CUDA stream that the counting is queued on, and waited for.

    Returns
    -------
    ndarray, shape (n_classes, n_classes), int64
        Row: true class; column: predicted class.

    Raises
    ------
    InputError
        If the shapes differ, a dtype is not an integer one, or a label is outside of 0 … n_classes - 1.
    DeviceError
        If the labels are on a device that this build or this machine cannot use.
    """
    queue = stream_of(stream, truth, pred)
    if queue is not None:
        n_classes = _class_number(n_classes)
        counts = np.zeros((n_classes, n_classes), np.int64)
        left_out = _label_of(ignore, None)
        with as_kernel_error(queue):
            outside = core.confusion(
                cast(Any, truth), cast(Any, pred), counts, n_classes=n_classes, ignore=left_out, stream=queue
            )
        return _all_inside(counts, outside)
    truth = np.asarray(truth)
    true, predicted = _label_rows(truth, "truth"), _label_rows(pred, "pred")
    n_classes = _class_number(n_classes)
    left_out = _label_of(ignore, truth.dtype)
    if true.shape != predicted.shape:
        raise InputError(f"truth has shape {true.shape} and pred {predicted.shape}; one shape is needed")
    true, predicted = _as_rows(true, predicted)
    counts = np.zeros((n_classes, n_classes), np.int64)
    with as_input_error():
        outside = core.confusion(true, predicted, counts, n_classes=n_classes, ignore=left_out, threads=threads)
    return _all_inside(counts, outside)


def _all_inside(counts: NDArray[np.int64], outside: int) -> NDArray[np.int64]:
    if outside:
        raise InputError(
            f"{outside} pixels have a label outside of 0 … {len(counts) - 1} in truth or pred; raise n_classes, or "
            "name the label of unknown truth with ignore="
        )
    return counts


def class_counts(labels: ArrayLike, n_classes: int, *, threads: int = 0, stream: Any = None) -> NDArray[np.int64]:
    """Count the pixels of every class.

    Parameters
    ----------
    labels : array_like, integers
        Labels 0 … n_classes - 1. On a CUDA device: of shape (h, w), rows contiguous, uint8, uint16, int32 or int64.
    n_classes : int
        Number of classes, at most 4096.
    threads : int
        0: the cap. Not for device arrays.
    stream : torch.cuda.Stream or int, optional
        For device arrays: the CUDA stream that the counting is queued on, and waited for.

    Returns
    -------
    ndarray, shape (n_classes,), int64
        Pixels per class.

    Raises
    ------
    InputError
        If the dtype is not an integer one, or a label is outside of 0 … n_classes - 1.
    DeviceError
        If the labels are on a device that this build or this machine cannot use.
    """
    queue = stream_of(stream, labels)
    rows: Any = labels
    if queue is None:
        (rows,) = _as_rows(_label_rows(labels, "labels"))
    n_classes = _class_number(n_classes)
    counts = np.zeros(n_classes, np.int64)
    with as_kernel_error(queue):
        outside = core.class_counts(rows, counts, n_classes=n_classes, threads=threads, stream=queue)
    if outside:
        raise InputError(f"{outside} pixels have a label outside of 0 … {n_classes - 1}; raise n_classes")
    return counts


def _label_rows(labels: ArrayLike, name: str) -> NDArray[Any]:
    """Return labels as a 2-D array of a type that the kernels count; wider integers only where they must be."""
    array = np.asarray(labels)
    if array.dtype.kind not in "bui":
        raise InputError(
            f"{name} has dtype {array.dtype}; integer labels are needed (convert with .astype(numpy.uint8))"
        )
    if array.dtype not in (np.bool_, np.uint8, np.uint16, np.int32, np.int64) or not array.dtype.isnative:
        array = array.astype(np.int32 if array.dtype.itemsize <= 2 else np.int64)
    return array


def _label_of(ignore: int | None, dtype: np.dtype[Any] | None) -> int | None:
    """Return `ignore` as it is counted, an integer of 64 bits with a sign; None where no label of `dtype` is it."""
    if ignore is None:
        return None
    if not isinstance(ignore, (int, np.integer)):
        raise InputError(f"ignore={ignore!r} is refused; use an integer label, or None to count all pixels")
    label = int(ignore)
    wide = dtype is not None and dtype.kind == "u" and dtype.itemsize == 8
    if wide and 2**63 <= label < 2**64:
        return label - 2**64  # what uint64 becomes
    return label if (0 if wide else -(2**63)) <= label < 2**63 else None


def _as_rows(*arrays: NDArray[Any]) -> list[NDArray[Any]]:
    """View arrays of one shape as rows: 2-D ones with contiguous rows as they are, others flat."""
    pitched = all(
        a.ndim == 2 and (a.strides[1] == a.itemsize or a.shape[1] <= 1) and a.strides[0] % a.itemsize == 0
        for a in arrays
    )
    if pitched and not all(a.flags.c_contiguous for a in arrays):
        return list(arrays)
    return [np.ascontiguousarray(a).reshape(1, -1) for a in arrays]


def _class_number(n_classes: int) -> int:
    n_classes = whole(n_classes, "n_classes", 1)
    if n_classes > 4096:
        raise InputError(f"n_classes={n_classes} is refused; at most 4096 classes are counted")
    return n_classes
