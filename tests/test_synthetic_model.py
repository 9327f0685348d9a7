"""The model in the box on synthetic steel that it has not seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bainite_fast import metrics
from bainite_fast.models import DEFAULT_MODEL, available, load
from bainite_fast.synthetic import CLASSES, get_preset, make


@pytest.mark.parametrize(("preset", "seed"), [("lom", 41), ("lom_contrast", 42)])
def test_bundled_model_finds_bainite_on_another_seed(preset: str, seed: int) -> None:
    model = load(DEFAULT_MODEL)
    image, mask = make((1024, 1024), preset=preset, seed=seed)
    with torch.inference_mode():
        logits = model.module(torch.from_numpy(model.contract.normalize(image)))[0].numpy()
    found = logits.argmax(axis=0).astype(np.uint8)
    assert metrics.iou(mask, found, 2)[1] >= 0.87
    assert abs(float(found.mean()) - float(mask.mean())) < 0.02


def test_bundled_model_is_small_and_says_what_it_has_seen() -> None:
    model = available()[DEFAULT_MODEL]
    assert model["bytes"] <= 2_000_000
    assert model["synthetic_only"]
    assert model["classes"] == list(CLASSES)
    assert model["um_per_px"] == pytest.approx(get_preset("lom").um_per_px)
    card = (Path(model["path"]) / "card.md").read_text(encoding="utf-8")
    assert "has seen no real bainite" in card
