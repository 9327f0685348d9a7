"""Losses against values computed by hand, and against references in float64 that share no code with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast.errors import InputError
from bainite_fast.training.losses import (
    IGNORE,
    class_weights,
    cross_entropy,
    dice_loss,
    focal_loss,
    make_loss,
    positive_weight,
    weighted_bce,
)
from bainite_fast.training.recipe import Recipe


def sample(seed: int, classes: int, logits: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    z = torch.from_numpy(rng.normal(0, 2, (2, logits or classes, 5, 4)))
    t = rng.integers(0, classes, (2, 5, 4))
    t[rng.random(t.shape) < 0.2] = IGNORE
    t[0, 0, 0] = 0
    return z, torch.from_numpy(t)


def pixels(z: torch.Tensor, t: torch.Tensor) -> list[tuple[list[float], int]]:
    """The known pixels: softmax probabilities and label, by plain Python."""
    found = []
    for n in range(t.shape[0]):
        for y in range(t.shape[1]):
            for x in range(t.shape[2]):
                if int(t[n, y, x]) == IGNORE:
                    continue
                logits = [float(v) for v in z[n, :, y, x]]
                logits = [0.0, *logits] if len(logits) == 1 else logits
                e = [math.exp(v) for v in logits]
                found.append(([v / sum(e) for v in e], int(t[n, y, x])))
    return found


def test_focal_loss_of_two_pixels_by_hand() -> None:
    # Both true classes have probability 3/4 and 1/4: (1/4)² · ln(4/3) · 1.5 and (3/4)² · ln 4 · 1.
    z = torch.tensor([[[[0.0, 0.0]], [[math.log(3), math.log(3)]]]])
    t = torch.tensor([[[1, 0]]])
    by_hand = (1.5 * 0.0625 * 0.28768207 + 0.5625 * 1.38629436) / 2
    assert float(focal_loss(z, t, alpha=1.5, gamma=2.0)) == pytest.approx(by_hand, rel=1e-6)
    assert by_hand == pytest.approx(0.403380, abs=1e-6)


@given(st.integers(0, 10**6), st.sampled_from([(2, 1), (2, 2), (4, 4)]), st.floats(0.2, 4), st.floats(0, 5))
def test_focal_loss_is_the_formula(seed: int, kind: tuple[int, int], alpha: float, gamma: float) -> None:
    z, t = sample(seed, *kind)
    weights = [0.5 + c for c in range(kind[0])]
    expected = [-(alpha if c else 1) * weights[c] * (1 - p[c]) ** gamma * math.log(p[c]) for p, c in pixels(z, t)]
    found = focal_loss(z, t, alpha=alpha, gamma=gamma, class_weights=weights)
    assert float(found) == pytest.approx(sum(expected) / len(expected), rel=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 0.99, 1.0, 2.0])
def test_focal_loss_of_a_pixel_that_is_quite_right_has_a_gradient(gamma: float) -> None:
    z = torch.tensor([[40.0, -40.0], [-40.0, 40.0]]).T.reshape(1, 2, 1, 2).requires_grad_()
    loss = focal_loss(z, torch.tensor([[[0, 1]]]), gamma=gamma)
    loss.backward()
    assert float(loss.detach()) < 1e-30
    assert z.grad is not None and float(z.grad.abs().max()) < 1e-30  # and not NaN


@given(st.integers(0, 10**6), st.sampled_from([(2, 1), (2, 2), (4, 4)]))
def test_focal_loss_without_gamma_and_alpha_is_cross_entropy(seed: int, kind: tuple[int, int]) -> None:
    z, t = sample(seed, *kind)
    expected = [-math.log(p[c]) for p, c in pixels(z, t)]
    assert float(focal_loss(z, t, alpha=1, gamma=0)) == pytest.approx(sum(expected) / len(expected), rel=1e-9)
    assert float(cross_entropy(z, t)) == pytest.approx(sum(expected) / len(expected), rel=1e-9)


@given(st.integers(0, 10**6), st.sampled_from([(2, 1), (4, 4)]))
def test_weighted_cross_entropy_is_a_weighted_mean(seed: int, kind: tuple[int, int]) -> None:
    z, t = sample(seed, *kind)
    w = [0.25 + c for c in range(kind[0])]
    known = pixels(z, t)
    expected = sum(-w[c] * math.log(p[c]) for p, c in known) / sum(w[c] for _, c in known)
    assert float(cross_entropy(z, t, class_weights=w)) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 10**6), st.floats(0, 0.9), st.booleans())
def test_cross_entropy_is_pytorchs(seed: int, smoothing: float, weighted: bool) -> None:
    z, t = sample(seed, 4)
    w = [0.3, 1.0, 2.0, 0.7] if weighted else None
    tensor = None if w is None else torch.tensor(w, dtype=torch.float64)
    expected = torch.nn.functional.cross_entropy(z, t, weight=tensor, ignore_index=255, label_smoothing=smoothing)
    found = cross_entropy(z, t, class_weights=w, label_smoothing=smoothing)
    assert float(found) == pytest.approx(float(expected), rel=1e-9)


@given(st.integers(0, 10**6), st.sampled_from([1, 2]), st.floats(0.1, 20))
def test_weighted_bce_of_two_classes(seed: int, logits: int, weight: float) -> None:
    z, t = sample(seed, 2, logits)
    known = pixels(z, t)
    expected = sum(-(weight if c else 1) * math.log(p[c]) for p, c in known) / len(known)
    assert float(weighted_bce(z, t, positive_weight=weight)) == pytest.approx(expected, rel=1e-9)


def test_weighted_bce_of_more_classes_is_each_against_the_rest() -> None:
    z, t = sample(3, 3)
    known = t != IGNORE
    terms = []
    for c in range(3):
        p = 1 / (1 + np.exp(-z[:, c].numpy()))
        y = (t == c).numpy()
        terms.append(-np.where(y, 2.5 * np.log(p), np.log(1 - p))[known.numpy()].mean())
    assert float(weighted_bce(z, t, positive_weight=2.5)) == pytest.approx(np.mean(terms), rel=1e-9)


@given(st.integers(0, 10**6), st.sampled_from([(2, 1), (2, 2), (4, 4)]))
def test_dice_loss_is_the_formula(seed: int, kind: tuple[int, int]) -> None:
    z, t = sample(seed, *kind)
    known = pixels(z, t)
    scores = []
    for c in range(kind[0]):
        both = sum(p[c] for p, label in known if label == c)
        sizes = sum(p[c] for p, _ in known) + sum(label == c for _, label in known)
        scores.append((2 * both + 1.0) / (sizes + 1.0))
    assert float(dice_loss(z, t)) == pytest.approx(1 - sum(scores) / len(scores), rel=1e-9)


def test_a_sum_of_losses_weighs_them() -> None:
    z, t = sample(1, 4)
    terms = [
        {"weight": 0.5, "loss": {"kind": "focal", "alpha": 2.0}},
        {"weight": 3.0, "loss": {"kind": "dice"}},
    ]
    loss = make_loss(Recipe.model_validate({"loss": {"kind": "sum", "terms": terms}}).loss, [1, 1, 1, 1])
    expected = 0.5 * focal_loss(z, t, alpha=2.0) + 3 * dice_loss(z, t)
    assert float(loss(z, t)) == pytest.approx(float(expected), rel=1e-12)


LOSSES = [
    {"kind": "focal"},
    {"kind": "cross_entropy", "class_weights": "balanced", "label_smoothing": 0.1},
    {"kind": "weighted_bce"},
    {"kind": "dice"},
]


@pytest.mark.parametrize("values", LOSSES, ids=lambda x: x["kind"])
@pytest.mark.parametrize("logits", [1, 2])
def test_ignored_pixels_change_nothing_and_get_no_gradient(values: dict[str, object], logits: int) -> None:
    z, t = sample(5, 2, logits)
    loss = make_loss(Recipe.model_validate({"loss": values}).loss, [3, 1])
    other = torch.where((t == IGNORE)[:, None], z + 7, z).requires_grad_()
    found = loss(other, t)
    assert float(found.detach()) == pytest.approx(float(loss(z, t)), rel=1e-9)
    found.backward()
    assert other.grad is not None
    assert not other.grad[(t == IGNORE)[:, None].expand_as(z)].any()
    assert other.grad[(t != IGNORE)[:, None].expand_as(z)].all()
    nothing = loss(other, torch.full_like(t, IGNORE))
    assert float(nothing.detach()) == 0
    nothing.backward()
    assert torch.isfinite(other.grad).all()


@pytest.mark.parametrize("values", LOSSES, ids=lambda x: x["kind"])
def test_extreme_logits_stay_finite(values: dict[str, object]) -> None:
    z = torch.tensor([[[[200.0, -200.0]], [[-200.0, 200.0]]]], requires_grad=True)
    loss = make_loss(Recipe.model_validate({"loss": values}).loss, [1, 1])(z, torch.tensor([[[1, 1]]]))
    loss.backward()
    assert torch.isfinite(loss)
    assert z.grad is not None and torch.isfinite(z.grad).all()


def test_weights_from_the_data() -> None:
    assert class_weights("balanced", [75, 25]) == pytest.approx((2 / 3, 2.0))
    assert class_weights("sqrt", [75, 25]) == pytest.approx(((2 / 3) ** 0.5, 2.0**0.5))
    assert class_weights("none", [75, 25]) is None
    assert class_weights([1, 5], [75, 25]) == (1.0, 5.0)
    assert positive_weight([75, 20, 5]) == 3.0
    with pytest.raises(InputError, match="class 1 has no pixel"):
        class_weights("balanced", [5, 0, 5])
    with pytest.raises(InputError, match="3 class weights for 2 classes"):
        class_weights([1, 2, 3], [5, 5])
    with pytest.raises(InputError, match="both background and foreground"):
        positive_weight([5, 0])
