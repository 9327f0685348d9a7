"""Learning curves: fine-tuned against from scratch, over the number of training images."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from bainite_fast.errors import InputError
from bainite_fast.evaluation.synthetic_data import synthetic_dataset
from bainite_fast.synthetic import make
from bainite_fast.training import learning_curve, train
from bainite_fast.training.recipe import SyntheticSource
from training_helpers import blobs, small

SPLIT = {"train": ["image 0", "image 1", "image 2", "image 3"], "validation": ["image 4"]}


def test_pretraining_helps_where_images_are_few(tmp_path: Path) -> None:
    pretrained = train(small(epochs=12), blobs(6, seed=9), out=tmp_path / "pretrained")
    recipe = small(epochs=1, optimiser__learning_rate=1e-3)
    seen = []
    options = {"init": pretrained.package, "split": SPLIT, "counts": (1, 4)}
    found = learning_curve(recipe, blobs(5), tmp_path / "curve", progress=seen.append, **options)  # type: ignore[arg-type]
    assert [(p.images, p.start) for p in found.points] == [
        (1, "from scratch"), (1, "fine-tuned"), (4, "from scratch"), (4, "fine-tuned"),
    ]  # fmt: skip
    assert found.scores(1, "fine-tuned")[0] > found.scores(1, "from scratch")[0] + 0.1
    assert tuple(seen) == found.points
    table = list(csv.DictReader((tmp_path / "curve/learning_curve.csv").open()))
    assert [float(row["mean_iou"]) for row in table] == pytest.approx([p.score for p in found.points], abs=1e-6)
    assert (tmp_path / "curve/learning_curve.png").read_bytes().startswith(b"\x89PNG")
    assert "| 1 |" in str(found) and "| 4 |" in str(found)
    runs = [path.name for path in sorted((tmp_path / "curve").iterdir()) if path.is_dir()]
    assert runs == ["001-fine-tuned-0", "001-from-scratch-0", "004-fine-tuned-0", "004-from-scratch-0"]
    epochs = {name: len((tmp_path / "curve" / name / "metrics.csv").read_text().splitlines()) - 1 for name in runs}
    assert epochs == dict(zip(runs, (4, 4, 1, 1), strict=True))  # as many steps each
    again = learning_curve(recipe, blobs(5), tmp_path / "curve", **options)  # type: ignore[arg-type]
    assert again.points == found.points
    with pytest.raises(InputError, match="4 training images"):
        learning_curve(recipe, blobs(5), tmp_path / "more", init=pretrained.package, split=SPLIT, counts=(5,))
    with pytest.raises(InputError, match="init="):
        learning_curve(recipe, blobs(5), tmp_path / "more", init=None, split=SPLIT)


def test_drawn_data_are_those_of_make() -> None:
    data = synthetic_dataset(SyntheticSource(preset="sem", images=2, shape=(300, 200), seed=3))
    assert len(data) == 2 and data.class_names == ("other", "lath bainite")
    for i in range(2):
        image, mask = make((300, 200), preset="sem", seed=3000 + i)
        assert (data.image(i) == image).all() and (data.mask(i) == mask).all()
    assert data.um_per_px == pytest.approx(0.0277, rel=0.01)
