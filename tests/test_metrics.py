"""IoU and accuracy, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast import metrics
from bainite_fast.errors import InputError


@given(
    shape=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    classes=st.integers(1, 6),
    present=st.integers(1, 6),
    ignore=st.sampled_from([None, 0, 255]),
    seed=st.integers(0, 2**16),
)
def test_scores_are_their_definitions(
    shape: tuple[int, int], classes: int, present: int, ignore: int | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    truth, pred = rng.integers(0, min(classes, present), (2, *shape)).astype(np.uint8)
    if ignore is not None:
        truth[rng.random(shape) < 0.2] = ignore
    kept = np.ones(shape, bool) if ignore is None else truth != ignore
    t, p = truth[kept], pred[kept]
    expected = []
    for k in range(classes):
        tp, fp, fn = ((t == k) & (p == k)).sum(), ((t != k) & (p == k)).sum(), ((t == k) & (p != k)).sum()
        expected.append(tp / (tp + fp + fn) if tp + fp + fn else np.nan)
    scores = metrics.iou(truth, pred, classes, ignore=ignore)
    assert scores.dtype == np.float64
    np.testing.assert_array_equal(scores, expected)
    right = metrics.accuracy(truth, pred, classes, ignore=ignore)
    mean = metrics.mean_iou(truth, pred, classes, ignore=ignore)
    if t.size:
        assert right == (t == p).mean()
        assert mean == pytest.approx(np.nanmean(expected))
    else:
        assert math.isnan(right)
        assert math.isnan(mean)


def test_two_classes_by_hand() -> None:
    truth, pred = np.array([[1, 1, 0, 0]]), np.array([[1, 0, 1, 0]])
    assert metrics.iou(truth, pred, 3)[:2].tolist() == [1 / 3, 1 / 3]
    assert math.isnan(metrics.iou(truth, pred, 3)[2])
    assert metrics.accuracy(truth, pred, 2) == 0.5  # (TP + TN) / all = (1 + 1) / 4


def test_a_perfect_and_an_opposite_prediction() -> None:
    truth = np.array([0, 1, 1])
    assert metrics.iou(truth, truth, 2).tolist() == [1, 1]
    assert metrics.iou(truth, 1 - truth, 2).tolist() == [0, 0]
    assert metrics.mean_iou(truth, 1 - truth, 2) == 0


@pytest.mark.parametrize(
    "counts", [np.zeros((2, 3), int), np.zeros((2, 2)), np.array([[-1, 0], [0, 1]]), np.zeros(4, int)]
)
def test_what_is_no_confusion_matrix_is_refused(counts: np.ndarray) -> None:
    for score in (metrics.iou_from_confusion, metrics.accuracy_from_confusion, metrics.mean_iou_from_confusion):
        with pytest.raises(InputError, match="confusion matrix"):
            score(counts)


def test_labels_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="outside"):
        metrics.iou(np.array([0, 2]), np.array([0, 1]), 2)
