"""Counts over labels, against the NumPy oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast import _reference, kernels
from bainite_fast.errors import InputError

INTEGERS = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", ">i4"]


@given(
    shape=st.one_of(
        st.tuples(st.integers(0, 40), st.integers(0, 40)), st.tuples(st.integers(0, 900)), st.just((3, 4, 5))
    ),
    classes=st.sampled_from([1, 2, 3, 4, 5, 8, 9, 16, 17, 100]),
    dtypes=st.tuples(st.sampled_from(INTEGERS), st.sampled_from(INTEGERS)),
    ignore=st.one_of(st.none(), st.integers(-1, 101)),
    view=st.sampled_from(["whole", "pitched", "transposed"]),
    threads=st.integers(0, 2),
    seed=st.integers(0, 2**16),
)
def test_confusion_matrix_counts_every_pair(
    shape: Any, classes: int, dtypes: Any, ignore: Any, view: str, threads: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    truth, pred = (rng.integers(0, classes, shape).astype(dtype) for dtype in dtypes)
    if ignore is not None and np.iinfo(truth.dtype).min <= ignore <= np.iinfo(truth.dtype).max:
        truth[rng.random(shape) < 0.3] = ignore
    elif ignore is not None:
        ignore = None
    if view == "pitched" and len(shape) == 2:
        truth, pred = truth[:, 1:], pred[:, 1:]
    elif view == "transposed":
        truth, pred = truth.T, pred.T
    truth.flags.writeable = False
    counts = kernels.confusion_matrix(truth, pred, classes, ignore=ignore, threads=threads)
    assert counts.dtype == np.int64
    assert np.array_equal(counts, _reference.confusion_matrix(truth, pred, classes, ignore))
    known = truth[truth != ignore] if ignore is not None else truth
    assert np.array_equal(
        kernels.class_counts(known, classes, threads=threads),
        np.bincount(known.ravel().astype(np.int64), minlength=classes),
    )


@pytest.mark.parametrize("classes", [2, 4, 7, 16, 40, 256])
@pytest.mark.parametrize("ignore", [None, 255, 0])
def test_large_label_images(classes: int, ignore: int | None) -> None:
    rng = np.random.default_rng(classes)
    truth, pred = (rng.integers(0, classes, (1100, 1300)).astype(np.uint8) for _ in range(2))
    truth[:300] = 1  # long runs of one label: what segmentations are made of
    pred[:200] = 1
    if ignore is not None:
        truth[rng.random(truth.shape) < 0.2] = ignore
    counts = kernels.confusion_matrix(truth, pred, classes, ignore=ignore)
    assert np.array_equal(counts, _reference.confusion_matrix(truth, pred, classes, ignore))
    assert np.array_equal(kernels.class_counts(pred, classes), np.bincount(pred.ravel(), minlength=classes))


@pytest.mark.parametrize("classes", [2, 5, 20, 300])
def test_a_label_out_of_range_is_refused_wherever_it_is(classes: int) -> None:
    clean = np.zeros((70, 90), np.int64)
    for value in (classes, -1, 2**40, 65535, 65534, 65536):
        dirty = clean.copy()
        dirty[-1, -1] = value
        if value == 65535 and classes > value:
            continue
        with pytest.raises(InputError, match="1 pixels"):
            kernels.confusion_matrix(dirty, clean, classes)
        with pytest.raises(InputError, match="1 pixels"):
            kernels.confusion_matrix(clean, dirty, classes)
        with pytest.raises(InputError, match="1 pixels"):
            kernels.class_counts(dirty, classes)
        assert kernels.confusion_matrix(dirty, clean, classes, ignore=value).sum() == 70 * 90 - 1
    for value in (classes, 254, 255):
        if value > 255 or value < classes:
            continue
        small = clean.astype(np.uint8)
        small[3, 4] = value
        with pytest.raises(InputError, match="1 pixels"):
            kernels.confusion_matrix(small, clean.astype(np.uint8), classes)
        with pytest.raises(InputError, match="1 pixels"):
            kernels.confusion_matrix(clean.astype(np.uint8), small, classes)
        # An ignored truth hides whatever was predicted there.
        assert kernels.confusion_matrix(small, small, classes, ignore=value).sum() == 70 * 90 - 1


def test_labels_of_64_bits_without_a_sign() -> None:
    labels = np.array([[0, 1, 2**64 - 1], [1, 1, 2**64 - 1]], np.uint64)
    assert kernels.confusion_matrix(labels, labels, 2, ignore=2**64 - 1).tolist() == [[1, 0], [0, 3]]
    with pytest.raises(InputError, match="2 pixels"):
        kernels.confusion_matrix(labels, labels, 2, ignore=-1)  # which no such label is
    few = labels[:, :2].astype(np.uint8)
    assert kernels.confusion_matrix(few, few, 2, ignore=2**70).tolist() == [[1, 0], [0, 3]]


def test_rows_that_are_no_whole_items_apart() -> None:
    rows = np.ndarray((3, 4), np.int32, np.zeros(3 * 17, np.uint8), strides=(17, 4))
    rows[1, 2] = 1
    assert kernels.class_counts(rows, 2).tolist() == [11, 1]
    assert kernels.confusion_matrix(rows, rows, 2).tolist() == [[11, 0], [0, 1]]


def test_torch_and_bool_labels() -> None:
    truth = torch.tensor([[True, False], [True, True]])
    pred = torch.tensor([[1, 0], [0, 1]])
    assert kernels.confusion_matrix(truth, pred, 2).tolist() == [[1, 0], [1, 2]]  # type: ignore[arg-type]
    assert kernels.class_counts(pred, 2).tolist() == [2, 2]  # type: ignore[arg-type]


def test_counting_refuses() -> None:
    labels = np.zeros((3, 4), np.uint8)
    for first, second, classes, message in [
        (labels.astype(np.float32), labels, 2, "float32"),
        (labels, labels.astype(complex), 2, "complex"),
        (labels, labels[:2], 2, r"\(3, 4\) and pred \(2, 4\)"),
        (labels, labels, 0, "n_classes=0"),
        (labels, labels, 5000, "4096"),
        (labels, labels, 2.0, "integer"),
    ]:
        with pytest.raises(InputError, match=message):
            kernels.confusion_matrix(first, second, classes)  # type: ignore[arg-type]
    for ignore in (255.0, "255"):
        with pytest.raises(InputError, match="ignore=.*integer label"):
            kernels.confusion_matrix(labels, labels, 2, ignore=ignore)  # type: ignore[arg-type]
