"""Cross-validation: every fold once, resumable, on whole images and on tiles; the tables hold what was counted."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import bainite_fast
from bainite_fast.errors import InputError, JournalError
from bainite_fast.evaluation import cross_validate, cross_validation, evaluate
from bainite_fast.evaluation.folds import CrossValidation, FoldScores
from bainite_fast.evaluation.scores import Scores
from bainite_fast.training import read_recipe
from bainite_fast.training.dataset import array_dataset
from bainite_fast.training.tiles import scale_dataset, tile_dataset

RECIPE = {
    "name": "tiny",
    "data": {"tile": 32},
    "network": {"kind": "unet", "base": 2, "depth": 1},
    "loss": {"kind": "focal"},
    "epochs": 1,
    "batch": 8,
    "precision": "float32",
}


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Training curves take longer to draw than the networks here to train, and are tested elsewhere."""
    monkeypatch.setattr("bainite_fast.training.api.draw_curve", lambda *_: None)


@pytest.fixture(scope="module")
def steel():
    pairs = [bainite_fast.synthetic.make((64, 96), seed=seed) for seed in (3, 4, 5, 6, 7, 8)]
    return array_dataset(
        [image for image, _ in pairs], [mask for _, mask in pairs], classes=bainite_fast.synthetic.CLASSES
    )


def test_folds_are_scored_kept_and_taken_up_again(steel, tmp_path, monkeypatch):
    out, told = tmp_path / "cv", []
    calls = []
    real = cross_validation.train
    monkeypatch.setattr(cross_validation, "train", lambda *a, **k: (calls.append(k["out"]), real(*a, **k))[1])
    done = cross_validate(RECIPE, steel, out=out, folds=2, tolerance=1, progress=told.append)
    assert [(one.seed, one.fold) for one in done.folds] == [(0, 0), (0, 1)]
    assert done.modes == ("whole images", "tiles of 32 px")
    assert len(calls) == 2
    assert any("fold 2 of 2" in line for line in told)
    assert "images" in told[0]
    assert "steps; cpu" in told[0]  # before hours of silence
    tested = [image.name for one in done.folds for image in one.whole.images]
    assert sorted(tested) == sorted(steel.names)
    # Each fold's scores are those of its own model on its own test images, whole and on tiles.
    one = done.folds[1]
    test = steel.subset([steel.names.index(image.name) for image in one.whole.images])
    assert np.array_equal(evaluate(one.run / "model", test).counts, one.whole.counts)
    assert np.array_equal(evaluate(one.run / "model", test, tiles=32).counts, one.on_tiles.counts)
    # The table holds what was counted.
    rows = list(csv.DictReader((out / "scores.csv").open()))
    assert len(rows) == 4
    assert float(rows[2]["iou lath bainite"]) == one.whole.iou["lath bainite"]
    mean, std = done.mean_std("mean iou", "tiles of 32 px")
    values = [fold.on_tiles.mean_iou for fold in done.folds]
    assert (mean, std) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert f"{mean:.4f} ± {std:.4f}" in (out / "summary.md").read_text()
    assert f"{mean:.4f} ± {std:.4f}" in str(done)
    # What the tolerance was asked for stands in all of them too.
    assert float(rows[2]["mean iou beyond 1 px"]) == one.whole.tolerant_mean_iou(1)
    mean, std = done.mean_std("accuracy beyond 1 px")
    assert mean == pytest.approx(np.mean([fold.whole.tolerant_accuracy(1) for fold in done.folds]))
    summary = (out / "summary.md").read_text()
    assert f"| accuracy beyond 1 px | {mean:.4f} ± {std:.4f} |" in summary
    assert "without the pixels within N px of a true boundary" in summary
    assert "accuracy beyond 1 px" in str(done)
    assert (out / "folds.png").read_bytes()[:4] == b"\x89PNG"
    assert json.dumps(done.to_dict())
    # Broken off after the first fold, and one more seed asked for: only what is missing is trained.
    (out / "seed0" / "fold1" / "scores.json").unlink()
    calls.clear()
    again = cross_validate(RECIPE, steel, out=out, folds=2, seeds=2, tolerance=1, keep_models=False)
    assert [path.relative_to(out).parts[:2] for path in calls] == [
        ("seed0", "fold1"), ("seed1", "fold0"), ("seed1", "fold1"),
    ]  # fmt: skip
    assert np.array_equal(again.folds[1].whole.counts, done.folds[1].whole.counts)
    assert not (out / "seed1" / "fold0" / "run").exists()
    assert np.isfinite(again.seed_std("mean iou"))
    assert "from seed to seed" in (out / "summary.md").read_text()
    for options, said in (
        ({"folds": 3}, "a cross-validation with other folds;"),
        ({"folds": 2, "epochs": 2}, r"another recipe \(epochs was 1 and is 2\)"),
        ({"folds": 2, "tiles": 8, "epochs": 2}, r"with another recipe \(.*\) and other tiles;"),
        ({"folds": 2, "fold_seed": 1}, "a cross-validation with other folds;"),
    ):
        with pytest.raises(JournalError, match=said):
            cross_validate(RECIPE, steel, out=out, tolerance=1, **options)
    # A key of the recipe that the version which began it did not know has its default.
    record = json.loads((out / "cross_validation.json").read_text())
    del record["recipe"]["deterministic"]
    (out / "cross_validation.json").write_text(json.dumps(record))
    calls.clear()
    cross_validate(RECIPE, steel, out=out, folds=2, tolerance=1)
    assert not calls
    (out / "cross_validation.json").write_text("[]")
    with pytest.raises(JournalError, match="is not the record of a cross-validation"):
        cross_validate(RECIPE, steel, out=out, folds=2, tolerance=1)


def test_folds_by_tile_are_scored_on_tiles_alone(steel, tmp_path):
    done = cross_validate(RECIPE, steel, out=tmp_path / "cv", folds=2, by="tile")
    assert done.modes == ("tiles of 32 px",)
    assert sum(len(one.on_tiles.images) for one in done.folds) == len(tile_dataset(steel, 32))
    assert sum(one.on_tiles.counts.sum() for one in done.folds) == 6 * 64 * 96
    # Tiles that reach beyond their image: what is mirrored is not counted.
    wide = {**RECIPE, "data": {"tile": 40}}
    mirrored = cross_validate(wide, steel.subset(range(2)), out=tmp_path / "wide", folds=2, by="tile")
    assert sum(one.on_tiles.counts.sum() for one in mirrored.folds) == 2 * 64 * 96
    with pytest.raises(InputError, match="no score on whole images"):
        _ = done.folds[0].whole
    with pytest.raises(InputError, match="data.tile"):
        cross_validate({**RECIPE, "data": {}}, steel, out=tmp_path / "cv2", folds=2, by="tile")


@pytest.mark.parametrize("when", ["before", "after"])
def test_half_scale_is_tested_at_half_scale(steel, tmp_path, when):
    recipe = {**RECIPE, "data": {"tile": 32, "scale": 0.5, "scale_when": when}}
    split = {"train": list(steel.names[:4]), "test": list(steel.names[4:])}
    done = cross_validate(recipe, steel, out=tmp_path / "cv", split=split)
    assert len(done.folds) == 1
    assert done.folds[0].whole.counts.sum() == 2 * 32 * 48
    assert done.folds[0].on_tiles.counts.sum() == 2 * 32 * 48
    assert done.folds[0].on_tiles.mode == ("tiles of 32 px" if when == "before" else "tiles of 16 px")
    half = scale_dataset(steel.subset([4, 5]), 0.5)
    package = done.folds[0].run / "model"
    assert np.array_equal(evaluate(package, half, scale="as-is").counts, done.folds[0].whole.counts)


def test_scores_of_other_training_images_are_not_taken_up(steel, tmp_path):
    split = {"train": list(steel.names[:2]), "test": [steel.names[5]]}
    begun = cross_validate(RECIPE, steel, out=tmp_path / "cv", split=split)
    with pytest.raises(JournalError, match="holds a cross-validation with other images to train on"):
        cross_validate(RECIPE, steel, out=tmp_path / "cv", split={**split, "train": list(steel.names[2:5])})
    again = cross_validate(RECIPE, steel, out=tmp_path / "cv", split=split)
    assert np.array_equal(again.folds[0].whole.counts, begun.folds[0].whole.counts)


def test_a_fold_without_a_score_is_left_out_of_the_mean():
    both, one = np.int64([[6, 2], [2, 6]]), np.int64([[9, 0], [0, 0]])
    folds = tuple(
        FoldScores(seed, k, {"whole images": Scores(("a", "b"), counts, ())}, Path())
        for seed in (0, 1) for k, counts in enumerate((both, one, both + 1))
    )  # fmt: skip
    done = CrossValidation(read_recipe(RECIPE), Path(), ("a", "b"), folds)
    values = [6 / 10, 7 / 13] * 2
    assert done.mean_std("iou b") == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert done.seed_std("iou b") == 0
    assert np.isnan(done.values("iou b")[1])


def test_bad_cross_validations(steel, tmp_path):
    with pytest.raises(InputError, match="7 folds .* 6 micrograph"):
        cross_validate(RECIPE, steel, out=tmp_path / "a", folds=7)
    with pytest.raises(InputError, match="seeds"):
        cross_validate(RECIPE, steel, out=tmp_path / "a", seeds=0)
    # What no fold could be scored with is refused before one is trained.
    for given, said in (
        ({"tiles": 33}, "tiles of 33 px do not fit .* multiples of 2 px; use tiles of 34 px"),
        ({"tiles": (32, 0)}, "tiles of 0 px"),
        ({"changes": {"data.tile": 31}}, "tiles of 31 px"),
        (
            {"changes": {"data.scale": 0.5, "data.scale_when": "after"}, "tiles": 34},
            "34 px, scaled to 17 px, .* use tiles of 36 px",
        ),
        ({"by": "tile", "tiles": 64}, "tiles=64 is for folds by micrograph; .* their own tiles of 32 px"),
        ({"tolerance": -1}, "tolerance=-1"),
        ({"changes": {"validation.early_stop.patience": 3}}, "folds have parts to train and to test on only"),
    ):
        with pytest.raises(InputError, match=said):
            cross_validate(RECIPE, steel, out=tmp_path / "a", folds=2, **given)
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no cross-validation"):
        cross_validate(RECIPE, steel, out=tmp_path / "b", folds=2)
