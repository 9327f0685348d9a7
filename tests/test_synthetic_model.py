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

    def found(margin: int) -> np.ndarray:
        padded = np.pad(image, margin, mode="reflect") if margin else image
        with torch.inference_mode():
            logits = model.module(torch.from_numpy(model.contract.normalize(padded)))[0].numpy()
        inner = slice(margin, margin + 1024)
        return logits[:, inner, inner].argmax(axis=0).astype(np.uint8)

    mirrored, bare = found(model.contract.halo), found(0)  # as `segment` does it, and with edge="native"
    assert metrics.iou(mask, mirrored, 2)[1] >= 0.92
    assert abs(float(mirrored.mean()) - float(mask.mean())) < 0.01
    assert metrics.iou(mask, bare, 2)[1] >= 0.87


def test_bundled_model_is_small_and_says_what_it_has_seen() -> None:
    model = available()[DEFAULT_MODEL]
    assert model["bytes"] <= 4_000_000
    assert model["synthetic_only"]
    assert model["classes"] == list(CLASSES)
    assert model["um_per_px"] == pytest.approx(get_preset("lom").um_per_px)
    card = (Path(model["path"]) / "card.md").read_text(encoding="utf-8")
    assert "has seen no real steel" in card
