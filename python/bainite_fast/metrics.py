"""Scores of a segmentation against the truth, from the confusion matrix.

Definitions after Durmaz et al., Nat. Commun. 12, 6272 (2021): IoU = TP / (TP + FP + FN) of a class, accuracy =
(TP + TN) / all pixels. A class that is absent from both truth and prediction has no IoU: NaN, never 0 or 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .errors import InputError
from .kernels import confusion_matrix

__all__ = [
    "accuracy",
    "accuracy_from_confusion",
    "iou",
    "iou_from_confusion",
    "mean_iou",
    "mean_iou_from_confusion",
]


def iou(
    truth: ArrayLike, pred: ArrayLike, n_classes: int, *, ignore: int | None = None, threads: int = 0
) -> NDArray[np.float64]:
    """Intersection over union of every class: TP / (TP + FP + FN).

    Parameters
    ----------
    truth, pred : array_like, integers, one shape
        Labels 0 … n_classes - 1.
    n_classes : int
        Number of classes.
    ignore : int, optional
        Pixels whose true label has this value are left out.
    threads : int
        0: the cap of :func:`bainite_fast.kernels.get_num_threads`.

    Returns
    -------
    ndarray, shape (n_classes,), float64
        0 … 1 per class; NaN for a class that neither truth nor prediction holds.

    Raises
    ------
    InputError
        If the shapes differ or a label is not an integer within the classes.
    """
    return iou_from_confusion(confusion_matrix(truth, pred, n_classes, ignore=ignore, threads=threads))


def accuracy(
    truth: ArrayLike, pred: ArrayLike, n_classes: int, *, ignore: int | None = None, threads: int = 0
) -> float:
    """Share of pixels whose predicted class is the true one: (TP + TN) / all.

    Parameters
    ----------
    truth, pred : array_like, integers, one shape
        Labels 0 … n_classes - 1.
    n_classes : int
        Number of classes.
    ignore : int, optional
        Pixels whose true label has this value are left out.
    threads : int
        0: the cap of :func:`bainite_fast.kernels.get_num_threads`.

    Returns
    -------
    float
        0 … 1; NaN when no pixel counts.

    Raises
    ------
    InputError
        If the shapes differ or a label is not an integer within the classes.
    """
    return accuracy_from_confusion(confusion_matrix(truth, pred, n_classes, ignore=ignore, threads=threads))


def mean_iou(
    truth: ArrayLike, pred: ArrayLike, n_classes: int, *, ignore: int | None = None, threads: int = 0
) -> float:
    """Mean of :func:`iou` over the classes that truth or prediction holds.

    Parameters
    ----------
    truth, pred : array_like, integers, one shape
        Labels 0 … n_classes - 1.
    n_classes : int
        Number of classes.
    ignore : int, optional
        Pixels whose true label has this value are left out.
    threads : int
        0: the cap of :func:`bainite_fast.kernels.get_num_threads`.

    Returns
    -------
    float
        0 … 1; NaN when no pixel counts.

    Raises
    ------
    InputError
        If the shapes differ or a label is not an integer within the classes.
    """
    return mean_iou_from_confusion(confusion_matrix(truth, pred, n_classes, ignore=ignore, threads=threads))


def iou_from_confusion(counts: ArrayLike) -> NDArray[np.float64]:
    """Return the IoU of every class of a confusion matrix (k, k), row = truth; NaN for an absent class."""
    matrix = _checked(counts)
    intersection = np.diagonal(matrix)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - intersection
    scores = np.full(len(matrix), np.nan)
    np.divide(intersection, union, out=scores, where=union > 0)
    return scores


def accuracy_from_confusion(counts: ArrayLike) -> float:
    """Return trace / total of a confusion matrix (k, k); NaN when it counts nothing."""
    matrix = _checked(counts)
    total = int(matrix.sum())
    return float(np.trace(matrix) / total) if total else float("nan")


def mean_iou_from_confusion(counts: ArrayLike) -> float:
    """Return the mean IoU over the classes present in a confusion matrix (k, k); NaN when it counts nothing."""
    scores = iou_from_confusion(counts)
    present = scores[~np.isnan(scores)]
    return float(present.mean()) if present.size else float("nan")


def _checked(counts: ArrayLike) -> NDArray[np.int64]:
    matrix = np.asarray(counts)
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    if not square or matrix.dtype.kind not in "iu" or (matrix.size and matrix.min() < 0):
        raise InputError(
            f"the confusion matrix is {matrix.dtype} of shape {matrix.shape}; non-negative integers of shape (k, k) "
            "are needed, row = truth"
        )
    return matrix.astype(np.int64)
