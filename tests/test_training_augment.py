"""Augmentation: image and mask move together, labels stay labels, a step is a step, and nothing is nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from bainite_fast.training.augment import Augmentation
from bainite_fast.training.recipe import AugmentationRecipe
from property_helpers import examples

EVERYTHING: dict[str, Any] = {
    "probability": 0.8, "flips": True, "quarter_turns": True, "rotation": 30, "scale": 0.3, "shear": 10, "shift": 0.1,
    "elastic": {"amplitude": 4, "smoothness": 9}, "brightness": 0.2, "contrast": 0.3, "gamma": 0.3, "noise": 0.05,
    "blur": 1.5,
}  # fmt: skip
MOVES = {k: v for k, v in EVERYTHING.items() if k not in {"brightness", "contrast", "gamma", "noise", "blur"}}
TONES = {k: v for k, v in EVERYTHING.items() if k not in set(MOVES) - {"probability"}}


def make(values: dict[str, Any], **more: Any) -> Augmentation:
    return Augmentation(AugmentationRecipe.model_validate(values), **more)


def batch(seed: int, shape: tuple[int, int] = (48, 48), classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(4, *shape)), (0, 3, 3))
    labels = np.digitize(smooth, np.quantile(smooth, np.linspace(0, 1, classes + 1)[1:-1]))
    gray = rng.random((4, 1, *shape), dtype=np.float32)
    return torch.from_numpy(gray), torch.from_numpy(labels.astype(np.uint8))


def test_all_strengths_zero_is_the_identity() -> None:
    images, masks = batch(0)
    new_images, new_masks = make({})(images.clone(), masks.clone(), 5)
    assert torch.equal(new_images, images)
    assert torch.equal(new_masks, masks)


@pytest.mark.parametrize("name", sorted(set(EVERYTHING) - {"probability"}))
def test_each_switch_changes_something_and_probability_0_switches_it_off(name: str) -> None:
    images, masks = batch(1)
    changed, _ = make({"probability": 1, name: EVERYTHING[name]})(images.clone(), masks.clone(), 1)
    assert not torch.allclose(changed, images, atol=1e-3)
    if name not in {"flips", "quarter_turns"}:
        same, same_masks = make({"probability": 0, name: EVERYTHING[name]})(images.clone(), masks.clone(), 1)
        torch.testing.assert_close(same, images, atol=1e-5, rtol=0)
        assert torch.equal(same_masks, masks)


@given(st.integers(0, 10**6), st.sampled_from([(48, 48), (32, 80), (80, 32)]))
@examples(25)
def test_an_image_that_is_its_mask_stays_its_mask(seed: int, shape: tuple[int, int]) -> None:
    _, masks = batch(seed, shape, classes=2)
    values = MOVES if shape[0] == shape[1] else {**MOVES, "quarter_turns": False}
    images, moved = make(values, seed=seed)(masks[:, None].float(), masks, seed)
    # Where bilinear sampling met one label only, nearest sampling must have met the same.
    certain = (images[:, 0] < 1e-4) | (images[:, 0] > 1 - 1e-4)
    assert torch.equal(moved[certain], images[:, 0].round()[certain].to(torch.uint8))
    assert certain.float().mean() > 0.5
    assert not torch.equal(moved, masks)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
@examples(25)
def test_labels_and_intensities_stay_in_range(seed: int, step: int) -> None:
    images, masks = batch(seed)
    masks[0, :5] = 255
    new_images, new_masks = make(EVERYTHING, seed=seed)(images, masks, step)
    assert (new_images.shape, new_images.dtype) == (images.shape, torch.float32)
    assert (new_masks.shape, new_masks.dtype) == (masks.shape, torch.uint8)
    assert set(new_masks.unique().tolist()) <= {0, 1, 2, 255}
    assert float(new_images.min()) >= 0 and float(new_images.max()) <= 1


def test_flips_and_quarter_turns_are_exact_and_all_eight_occur() -> None:
    images, masks = batch(2)
    image, mask = images[:1], masks[:1]
    kinds = [torch.rot90(x, k, (-2, -1)) for k in range(4) for x in (image, image.flip(-1))]
    seen = set()
    augmentation = make({"flips": True, "quarter_turns": True})
    for step in range(60):
        new_image, new_mask = augmentation(image.clone(), mask.clone(), step)
        found = [i for i, kind in enumerate(kinds) if torch.equal(kind, new_image)]
        assert len(found) == 1
        seen.add(found[0])
        as_image, _ = augmentation(mask[:, None].float(), mask, step)
        assert torch.equal(as_image[:, 0].to(torch.uint8), new_mask)
    assert seen == set(range(8))


def test_the_affine_map_against_scipy() -> None:
    rng = np.random.default_rng(0)
    shape = (40, 72)
    image = ndimage.gaussian_filter(rng.normal(size=shape), 2).astype(np.float32)
    augmentation = make({"probability": 1, "rotation": 20, "scale": 0.2, "shear": 8, "shift": 0.05}, seed=4)
    tensor, mask = torch.from_numpy(image)[None, None], torch.zeros(1, *shape, dtype=torch.uint8)
    theta = augmentation._affine(1, *shape, _drawn(4, 7))[0].double().numpy()
    found = augmentation(tensor, mask, 7)[0][0, 0].numpy()
    # theta in pixels from the middle of the image, (y, x).
    half = np.array([shape[0] / 2, shape[1] / 2])
    matrix = np.array([[theta[1, 1], theta[1, 0]], [theta[0, 1], theta[0, 0]]]) * half[:, None] / half[None, :]
    shift = np.array([theta[1, 2], theta[0, 2]]) * half
    middle = (np.array(shape) - 1) / 2
    expected = ndimage.affine_transform(image, matrix, middle + shift - matrix @ middle, order=1, mode="reflect")
    # scipy's "reflect" mirrors about the outer edge of the last pixel, as grid_sample does.
    np.testing.assert_allclose(found, expected, atol=2e-5)
    # It is a similarity sheared by at most 8°: in pixels, not in units of the edges.
    singular = np.linalg.svd(matrix)[1]
    shear = math.tan(math.radians(8))
    assert 1 / 1.2 / (1 + shear) <= singular.min() <= singular.max() <= 1.2 * (1 + shear)
    assert abs(math.degrees(math.atan2(matrix[0, 1], matrix[1, 1]))) <= 20.001


def _drawn(seed: int, step: int) -> torch.Generator:
    draw = torch.Generator().manual_seed(seed * 1_000_003 + step)
    torch.rand(1, 2, generator=draw)
    torch.randint(4, (1,), generator=draw)
    return draw


def test_elastic_amplitude_is_in_pixels() -> None:
    recipe = AugmentationRecipe.model_validate({"elastic": {"amplitude": 3, "smoothness": 8}}).elastic
    field = make({"elastic": recipe.model_dump()})._elastic(recipe, (16, 96, 160), torch.Generator().manual_seed(0))
    pixels = field * torch.tensor([80.0, 48.0])
    assert float(pixels.std()) == pytest.approx(3, rel=0.15)
    steps = (pixels[:, :, 1:] - pixels[:, :, :-1]).abs()
    assert float(steps.max()) < 3  # neighbours hardly part: it bends and does not tear


def test_tones_leave_masks_alone_and_gray_values_ordered() -> None:
    images, masks = batch(3)
    ramp = torch.linspace(0.2, 0.8, 48).expand(4, 1, 48, 48).contiguous()
    toned, same = make({**TONES, "probability": 1, "noise": 0, "blur": 0}, seed=1)(ramp.clone(), masks.clone(), 2)
    assert torch.equal(same, masks)
    assert bool((toned.diff(dim=-1) >= 0).all())
    assert not torch.allclose(toned, ramp, atol=1e-2)


def test_other_windows_of_intensity_scale_along() -> None:
    images, masks = batch(4)
    plain, _ = make(TONES, seed=3)(images.clone(), masks.clone(), 9)
    counts, _ = make(TONES, seed=3, window=(100.0, 4100.0))(images * 4000 + 100, masks.clone(), 9)
    torch.testing.assert_close((counts - 100) / 4000, plain, atol=1e-5, rtol=0)


def test_a_step_is_drawn_the_same_again_and_differs_from_the_next() -> None:
    images, masks = batch(5)
    augmentation = make(EVERYTHING, seed=11)
    torch.manual_seed(1)
    first = augmentation(images.clone(), masks.clone(), 3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = make(EVERYTHING, seed=11)(images.clone(), masks.clone(), 3)
    assert torch.equal(torch.get_rng_state(), state)  # the caller's random numbers are not touched
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(augmentation(images.clone(), masks.clone(), 4)[0], first[0])
    assert not torch.equal(make(EVERYTHING, seed=12)(images.clone(), masks.clone(), 3)[0], first[0])


def test_small_tiles_and_rgb() -> None:
    images = torch.rand(2, 3, 16, 16)
    masks = torch.randint(0, 2, (2, 16, 16), dtype=torch.uint8)
    found, _ = make({**EVERYTHING, "probability": 1, "blur": 8})(images, masks, 0)
    assert torch.isfinite(found).all()
