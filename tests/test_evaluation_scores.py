"""Scores against torchmetrics and scikit-learn; boundaries, calibration and agreement against their definitions."""

from __future__ import annotations

import csv
import io
import json
import math

import imagecodecs
import numpy as np
import pytest
import sklearn.metrics
import torch
import torchmetrics.classification as tm
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast import kernels
from bainite_fast.errors import BainiteWarning, InputError
from bainite_fast.evaluation import boundary
from bainite_fast.evaluation.agreement import agree, cohens_kappa
from bainite_fast.evaluation.boundary import boundary_distance, tolerant_counts
from bainite_fast.evaluation.calibration import (
    calibrate,
    expected_error,
    fit_temperature,
    nll,
    reliability,
    two_class,
)
from bainite_fast.evaluation.scores import ImageScores, Scores, from_counts
from bainite_fast.training.dataset import IGNORE


def scores_of(truth, pred, classes):
    counts = kernels.confusion_matrix(truth, pred, classes, ignore=IGNORE)
    names = tuple(f"class {k}" for k in range(classes))
    return Scores(names, counts, (ImageScores("a", counts),), model="m")


@given(st.integers(2, 5), st.integers(0, 9999), st.booleans())
def test_scores_are_those_of_torchmetrics_and_sklearn(classes, seed, some_unknown):
    rng = np.random.default_rng(seed)
    truth, pred = rng.integers(0, classes, (2, 40, 30)).astype(np.uint8)
    pred = np.where(rng.random(truth.shape) < 0.6, truth, pred)
    if some_unknown:
        truth[rng.random(truth.shape) < 0.1] = IGNORE
    scores = scores_of(truth, pred, classes)
    t, p = torch.from_numpy(truth.astype(np.int64)), torch.from_numpy(pred.astype(np.int64))
    kept = truth != IGNORE
    options = {"num_classes": classes, "average": "none", "ignore_index": IGNORE}
    assert list(scores.iou.values()) == pytest.approx(tm.MulticlassJaccardIndex(**options)(p, t).tolist(), abs=1e-6)
    expected = sklearn.metrics.precision_recall_fscore_support(
        truth[kept], pred[kept], labels=range(classes), zero_division=np.nan
    )
    for found, other in zip((scores.precision, scores.recall, scores.f1), expected, strict=False):
        np.testing.assert_allclose(list(found.values()), other, rtol=1e-12)
    assert scores.accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth[kept], pred[kept]))
    jaccard = sklearn.metrics.jaccard_score(truth[kept], pred[kept], average="macro")
    assert scores.mean_iou == pytest.approx(jaccard)
    for k in range(classes):
        error = (pred[kept] == k).mean() - (truth[kept] == k).mean()
        assert scores.fraction_errors[f"class {k}"] == pytest.approx(error, abs=1e-12)


def test_binary_scores_have_both_classes_as_positive():
    truth = np.uint8([[0, 0, 0, 1], [0, 1, 1, 1]])
    pred = np.uint8([[0, 1, 0, 1], [0, 1, 0, 1]])
    scores = scores_of(truth, pred, 2)
    assert scores.iou == {"class 0": 3 / 5, "class 1": 3 / 5}
    assert scores.precision["class 1"] == scores.recall["class 1"] == 3 / 4
    assert scores.fractions_true["class 1"] == scores.fractions_found["class 1"] == 0.5


def test_a_class_that_is_nowhere_has_no_score():
    scores = scores_of(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8), 2)
    assert math.isnan(scores.iou["class 1"])
    assert scores.mean_iou == 1.0
    assert json.loads(scores.to_json())["iou"]["class 1"] is None
    assert "nan" in str(scores)


def test_tables_hold_the_same_numbers():
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 100, (2, 3, 3))
    names = ("matrix", "network", "particles")
    images = tuple(ImageScores(n, c) for n, c in zip("ab", counts, strict=True))
    tolerance = np.stack([counts.sum(0), counts[0]])
    scores = Scores(names, counts.sum(0), images, "tiles of 64 px", "net", tolerance)
    plain = json.loads(scores.to_json())
    rows = list(csv.DictReader(io.StringIO(scores.to_csv())))
    assert [row["image"] for row in rows] == ["a"] * 3 + ["b"] * 3 + ["total"] * 3
    assert float(rows[7]["iou"]) == plain["iou"]["network"] == scores.iou["network"]
    assert float(rows[3]["fraction_error"]) == plain["images"][1]["fraction_error"]["matrix"]
    assert f"{scores.mean_iou:.4f}" in str(scores)
    assert "1 px: mean IoU" in str(scores)
    assert scores.tolerant_accuracy(1) == np.trace(counts[0]) / counts[0].sum() == plain["tolerance"][1]["accuracy"]
    again = from_counts(plain)
    assert again.to_json() == scores.to_json()
    with pytest.raises(InputError, match="2 px was not counted"):
        scores.tolerant_iou(2)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 3), st.integers(0, 4), st.integers(0, 999))
def test_tolerance_is_the_distance_to_another_class(h, w, classes, tolerance, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (h, w)).astype(np.uint8)
    truth = np.kron(truth, np.ones((3, 3), np.uint8))
    truth[rng.random(truth.shape) < 0.05] = IGNORE
    pred = rng.integers(0, classes, truth.shape).astype(np.uint8)
    rows, columns = np.indices(truth.shape)
    expected = np.full(truth.shape, np.inf)
    for y, x in zip(*np.nonzero(truth != IGNORE), strict=True):
        other = (truth != IGNORE) & (truth != truth[y, x])
        if other.any():
            expected[y, x] = np.hypot(rows[other] - y, columns[other] - x).min()
    np.testing.assert_allclose(boundary_distance(truth), expected, rtol=1e-6)
    counts = tolerant_counts(truth, pred, classes, tolerance)
    for px in range(tolerance + 1):
        kept = (truth != IGNORE) & ((expected > px) | (px == 0))
        t, p = truth[kept].astype(int), pred[kept]
        assert np.array_equal(counts[px], np.bincount(t * classes + p, minlength=classes**2).reshape(classes, classes))
    top, left = tolerance, min(tolerance, truth.shape[1] - 1)
    inner = (slice(min(top, len(truth) - 1), len(truth)), slice(left, None))
    part = tolerant_counts(truth, np.ascontiguousarray(pred[inner]), classes, tolerance, inner=inner)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boundary, "_BAND", 5 * truth.shape[1])
        assert np.array_equal(tolerant_counts(truth, pred, classes, tolerance), counts)
        again = tolerant_counts(truth, np.ascontiguousarray(pred[inner]), classes, tolerance, inner=inner)
        assert np.array_equal(again, part)


@given(st.integers(1, 4), st.integers(0, 999), st.sampled_from([5, 15]))
def test_calibration_error_is_that_of_torchmetrics(classes, seed, bins):
    rng = np.random.default_rng(seed)
    logits = (3 * rng.standard_normal((classes, 500))).astype(np.float32)
    truth = rng.integers(0, max(classes, 2), 500).astype(np.uint8)
    z = two_class(logits)
    metric = tm.MulticlassCalibrationError(num_classes=len(z), n_bins=bins, norm="l1")
    probability = torch.softmax(torch.from_numpy(z.T), dim=1)
    expected = float(metric(probability, torch.from_numpy(truth.astype(np.int64))))
    assert expected_error(reliability(z, truth, bins=bins)) == pytest.approx(expected, abs=1e-4)
    assert nll(z, truth) == pytest.approx(
        float(torch.nn.functional.cross_entropy(torch.from_numpy(z.T), torch.from_numpy(truth.astype(np.int64)))),
        rel=1e-5,
    )


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_planted_temperature_is_found(temperature):
    rng = np.random.default_rng(1)
    true = 2 * rng.standard_normal((3, 60_000))
    probability = np.exp(true) / np.exp(true).sum(0)
    truth = (rng.random(60_000) > probability.cumsum(0)).sum(0).clip(0, 2).astype(np.uint8)
    logits = (true * temperature).astype(np.float32)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.03)
    found = calibrate(logits, truth)
    assert found.ece_after < 0.01
    assert found.nll_after <= found.nll_before
    assert sum(one.pixels for one in found.bins_after) == found.pixels == 60_000
    if temperature != 1.0:
        assert found.ece_before > 0.05
    assert json.dumps(found.to_dict()["temperature"])
    with pytest.raises(InputError, match="no pixel"):
        calibrate(logits, np.full(60_000, IGNORE, np.uint8))
    with pytest.warns(BainiteWarning, match="no better than chance"):
        calibrate(np.float32([[2, 2, 2], [0, 0, 0]]), np.uint8([1, 1, 1]))


@given(st.integers(2, 5), st.integers(0, 999))
def test_agreement_is_that_of_sklearn_and_symmetric(classes, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, classes, (2, 2, 12, 9)).astype(np.uint8)
    b = np.where(rng.random(a.shape) < 0.5, a, b)
    found, back = agree(list(a), list(b), classes=classes), agree(list(b), list(a), classes=classes)
    assert found.kappa == pytest.approx(sklearn.metrics.cohen_kappa_score(a.ravel(), b.ravel()), nan_ok=True)
    assert found.kappa == pytest.approx(back.kappa, nan_ok=True)
    assert found.iou == pytest.approx(back.iou, nan_ok=True)
    assert found.accuracy == (a == b).mean()
    assert len(found.images) == 2
    assert "kappa" in str(found)
    assert found.to_dict()["pixels"] == a.size


def test_agreement_leaves_out_what_either_left_open(tmp_path):
    a, b = np.uint8([[0, 1, 1, 255]]), np.uint8([[0, 1, 255, 1]])
    assert agree([a], [b], classes=2, mask_values={0: 0, 1: 1, 255: 255}).counts.tolist() == [[1, 0], [0, 1]]
    assert math.isnan(cohens_kappa(np.zeros((2, 2), np.int64)))
    assert math.isnan(cohens_kappa(np.int64([[5, 0], [0, 0]])))
    with pytest.raises(InputError, match="one size"):
        agree([a], [b[:, 1:]])
    with pytest.raises(InputError, match="2 names are given for 1 pair"):
        agree([a], [b], names=["x", "y"])
    with pytest.raises(InputError, match="as many of each"):
        agree([a], [])
    with pytest.raises(InputError, match="two folders"):
        agree(str(tmp_path), [a])


def test_two_annotators_are_spoken_of_as_such(tmp_path):
    mask = np.uint8([[0, 1], [1, 0]])
    for folder, name in (("a", "x_label.png"), ("b", "x_mask.png"), ("c", "y.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes(imagecodecs.png_encode(mask))
    assert agree(tmp_path / "a", tmp_path / "b").accuracy == 1  # what marks a mask is overlooked in both
    for second, complaint in (
        ("a", "first annotator's masks and second annotator's masks are the same folder"),
        ("c", "no first annotator's mask of .* has a second annotator's mask of its name"),
        ("d", "folder of second annotator's masks, .*, does not exist"),
    ):
        with pytest.raises((InputError, FileNotFoundError), match=complaint) as told:
            agree(tmp_path / "a", tmp_path / second)
        assert "image" not in str(told.value)


def test_two_annotators_of_uhcs(data_dir):
    folder = data_dir / "uhcs"
    found = agree(folder / "labels", folder / "labels_decost2019")
    # The newer labels draw particles, the older ones the region around them: what differs is matrix.
    assert found.accuracy == pytest.approx(0.4166, abs=1e-4)
    assert found.counts[0, 2] > 0.99 * (found.counts.sum() - np.trace(found.counts))
    assert len(found.images) == 24
    one, other = (
        imagecodecs.png_decode((folder / k / "uhcs0006.png").read_bytes()) for k in ("labels", "labels_decost2019")
    )
    assert np.trace(found.images[0].counts) == (one == other).sum()
