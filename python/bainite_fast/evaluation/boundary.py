"""Distance to true boundaries, where annotators disagree and most errors sit. Imports no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .. import kernels
from ..training.dataset import IGNORE

_BAND = 1 << 21  # px
_ALL = (slice(None), slice(None))


def boundary_distance(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return how far each pixel is from the nearest pixel of another class, between centres, in px.

    Parameters
    ----------
    mask : ndarray [H, W], uint8
        True classes; 255 is unknown: it is no class, and makes no boundary.

    Returns
    -------
    ndarray [H, W], float32
        1 beside a boundary; infinite in unknown pixels, and where no other class is.
    """
    distance = np.full(mask.shape, np.inf, np.float32)
    known = mask != IGNORE
    for label in np.unique(mask[known]):
        here, other = mask == label, known & (mask != label)
        if other.any():
            distance[here] = ndimage.distance_transform_edt(~other)[here]
    return distance


def tolerant_counts(
    truth: NDArray[np.uint8],
    pred: NDArray[np.uint8],
    n_classes: int,
    tolerance: int,
    *,
    inner: tuple[slice, slice] = _ALL,
) -> NDArray[np.int64]:
    """Count pixels by true and predicted class, without those within 0 … `tolerance` px of a true boundary.

    Parameters
    ----------
    truth, pred : ndarray [H, W], uint8
        Classes; truth 255 is left out.
    n_classes : int
        Number of classes, k.
    tolerance : int
        Largest distance, px.
    inner : (slice, slice)
        The part of `truth` that `pred` covers and that is counted; around it lies what only makes boundaries.

    Returns
    -------
    ndarray (tolerance + 1, k, k), int64
        Entry t lacks the pixels with a :func:`boundary_distance` of at most t.
    """
    counts = np.zeros((tolerance + 1, n_classes, n_classes), np.int64)
    top, columns = inner[0].start or 0, inner[1]
    counts[0] = kernels.confusion_matrix(truth[inner], pred, n_classes, ignore=IGNORE, threads=1)
    if not tolerance:
        return counts
    # Whether a boundary is near is known from the rows around: distances of bands take little memory.
    rows = max(1, _BAND // truth.shape[1])
    for start in range(0, len(pred), rows):
        found = pred[start : start + rows]
        first = max(0, top + start - tolerance)
        around = truth[first : top + start + len(found) + tolerance]
        own = (slice(top + start - first, top + start - first + len(found)), columns)
        distance = boundary_distance(around)[own]
        for px in range(1, tolerance + 1):
            kept = np.where(distance > px, around[own], np.uint8(IGNORE))
            counts[px] += kernels.confusion_matrix(kept, found, n_classes, ignore=IGNORE, threads=1)
    return counts
