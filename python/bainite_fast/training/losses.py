"""Losses of a segmentation network, on logits; ignored pixels count for nothing.

Every function takes logits [N, K, H, W] and targets [N, H, W] (integers; :data:`IGNORE` where the truth is unknown)
and returns a scalar float32 (float64 for float64 logits). K = 1 is two classes with one logit z, which is the same as
the two logits (0, z). A batch without a known pixel has the loss 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from ..errors import InputError
from .dataset import IGNORE
from .recipe import CrossEntropyLoss, DiceLoss, FocalLoss, Loss, SumLoss, WeightedBCELoss

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def focal_loss(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    alpha: float = 1.5,
    gamma: float = 2.0,
    class_weights: Sequence[float] | None = None,
) -> torch.Tensor:
    """Focal loss of Lin et al., ICCV (2017), foreground × α, background × 1 as in Durmaz et al. (2021).

    With p the softmax probability of a pixel's true class c, the pixel's loss is −a(c) · (1 − p)^γ · ln p, and the mean
    over all known pixels is returned. a(0) = 1 and a(c) = α for two classes; for more, every class but the first is
    foreground in that sense. ``class_weights`` [K] come as further factors.

    Parameters
    ----------
    logits : Tensor [N, K, H, W]
    target : Tensor [N, H, W], integers
    alpha : float
        Factor of the foreground.
    gamma : float
        How strongly pixels that are right already are played down; 0 gives cross-entropy.
    class_weights : sequence of K floats, optional
        Further factors.
    """
    known, true_log = _true_log_probability(logits, target)
    factors = torch.full((_classes(logits),), float(alpha), dtype=true_log.dtype, device=logits.device)
    factors[0] = 1.0
    if class_weights is not None:
        factors = factors * _weights(class_weights, logits, true_log.dtype)
    labels = target.where(known, 0).long()
    # Below γ = 1 the slope of x^γ is infinite at 0, and the gradient of a pixel that is quite right would be NaN.
    least = torch.finfo(true_log.dtype).eps / 2 if 0 < gamma < 1 else 0.0
    per_pixel = -factors[labels] * (1 - true_log.exp()).clamp_min(least).pow(gamma) * true_log
    return _mean(per_pixel, known)


def cross_entropy(
    logits: torch.Tensor,
    target: torch.Tensor,
    *,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy: the mean of −w(c) · ln p over known pixels, divided by the mean of w(c).

    Parameters
    ----------
    logits : Tensor [N, K, H, W]
    target : Tensor [N, H, W], integers
    class_weights : sequence of K floats, optional
        w; all 1 by default.
    label_smoothing : float
        Share of the probability mass of the truth that is spread over all classes.
    """
    log_p = two_logits(logits).to(_precise(logits)).log_softmax(dim=1)
    known = target != IGNORE
    labels = target.where(known, 0).long()
    given = (1.0,) * _classes(logits) if class_weights is None else class_weights
    weights = _weights(given, logits, log_p.dtype)
    per_pixel = -weights[labels] * log_p.gather(1, labels[:, None])[:, 0]
    if label_smoothing:
        even = -(log_p * weights.view(1, -1, 1, 1)).mean(dim=1)
        per_pixel = (1 - label_smoothing) * per_pixel + label_smoothing * even
    # Not functional.cross_entropy: on a GPU its gradient differs from run to run.
    whole = weights[labels].where(known, 0).sum()
    return per_pixel.where(known, 0).sum() / whole.where(whole > 0, 1)


def weighted_bce(logits: torch.Tensor, target: torch.Tensor, *, positive_weight: float = 1.0) -> torch.Tensor:
    """Weighted binary cross-entropy: the mean of −(w · t · ln σ(z) + (1 − t) · ln(1 − σ(z))) over known pixels.

    Two classes have the one logit z, or z is the difference of their two logits. More classes are taken each against
    the rest, with their own logit as z, and the mean over the classes counts.

    Parameters
    ----------
    logits : Tensor [N, K, H, W]
    target : Tensor [N, H, W], integers
    positive_weight : float
        w, the weight of foreground pixels.
    """
    known = target != IGNORE
    full = logits.to(_precise(logits))
    labels = target.where(known, 0).long()
    if logits.shape[1] <= 2:
        z = full if full.shape[1] == 1 else full[:, 1:] - full[:, :1]
        truth = (labels == 1).to(z.dtype)[:, None]
    else:
        z, truth = full, functional.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(full.dtype)
    weight = torch.full((), float(positive_weight), dtype=full.dtype, device=full.device)
    per_pixel = functional.binary_cross_entropy_with_logits(z, truth, pos_weight=weight, reduction="none").mean(dim=1)
    return _mean(per_pixel, known)


def dice_loss(logits: torch.Tensor, target: torch.Tensor, *, smooth: float = 1.0) -> torch.Tensor:
    """Soft Dice loss of Milletari et al., 3DV (2016), over the known pixels of the whole batch.

    1 − mean over the classes of (2 Σ p·t + s) / (Σ p + Σ t + s), with p the probability of a class and t its truth
    (0 or 1). A class that the batch does not hold takes part: predicting it costs.

    Parameters
    ----------
    logits : Tensor [N, K, H, W]
    target : Tensor [N, H, W], integers
    smooth : float
        s, in pixels.
    """
    known = target != IGNORE
    full = two_logits(logits).to(_precise(logits))
    p = full.softmax(dim=1) * known[:, None]
    truth = functional.one_hot(target.where(known, 0).long(), full.shape[1]).movedim(-1, 1).to(p.dtype) * known[:, None]
    both, sizes = (p * truth).sum(dim=(0, 2, 3)), (p + truth).sum(dim=(0, 2, 3))
    return 1 - ((2 * both + smooth) / (sizes + smooth)).mean() if bool(known.any()) else full.sum() * 0


def make_loss(recipe: Loss, counts: Sequence[int]) -> LossFunction:
    """Return the loss of a recipe.

    Parameters
    ----------
    recipe : Loss
        Kind and parameters.
    counts : sequence of int
        Training pixels of every class, for weights that come from the data.

    Raises
    ------
    InputError
        If weights are given for another number of classes, or come from data that lacks a class.
    """
    if isinstance(recipe, SumLoss):
        parts = [(term.weight, make_loss(term.loss, counts)) for term in recipe.terms]
        return lambda logits, target: torch.stack([w * part(logits, target) for w, part in parts]).sum()
    if isinstance(recipe, FocalLoss):
        weights = class_weights(recipe.class_weights, counts)
        return lambda z, t: focal_loss(z, t, alpha=recipe.alpha, gamma=recipe.gamma, class_weights=weights)
    if isinstance(recipe, CrossEntropyLoss):
        weights = class_weights(recipe.class_weights, counts)
        return lambda z, t: cross_entropy(z, t, class_weights=weights, label_smoothing=recipe.label_smoothing)
    if isinstance(recipe, WeightedBCELoss):
        positive = positive_weight(counts) if recipe.positive_weight == "data" else recipe.positive_weight
        return lambda z, t: weighted_bce(z, t, positive_weight=positive)
    if isinstance(recipe, DiceLoss):
        return lambda z, t: dice_loss(z, t, smooth=recipe.smooth)
    raise InputError(f"there is no loss of type {type(recipe).__name__}")


def class_weights(choice: str | Sequence[float], counts: Sequence[int]) -> tuple[float, ...] | None:
    """Return one weight per class, or None for none.

    Parameters
    ----------
    choice : {"none", "balanced", "sqrt"} or sequence of float
        ``"balanced"`` is n / (K · n(c)) with n(c) the training pixels of class c and n all of them, so that every class
        weighs the same; ``"sqrt"`` is the square root of that.
    counts : sequence of int
        n(c).

    Raises
    ------
    InputError
        If there is another number of weights than classes, or a class has no pixel.
    """
    if choice == "none":
        return None
    if not isinstance(choice, str):
        if len(choice) != len(counts):
            raise InputError(f"{len(choice)} class weights for {len(counts)} classes; give one for each")
        return tuple(float(x) for x in choice)
    if min(counts) == 0:
        raise InputError(
            f"class {list(counts).index(0)} has no pixel in the training images, so its weight cannot come from them; "
            "give class_weights as a list, or images that show the class"
        )
    power = 0.5 if choice == "sqrt" else 1.0
    return tuple(float((sum(counts) / (len(counts) * n)) ** power) for n in counts)


def positive_weight(counts: Sequence[int]) -> float:
    """Return background pixels by foreground pixels: the weight that balances the two.

    Raises
    ------
    InputError
        If there is no foreground or no background.
    """
    background, foreground = counts[0], sum(counts[1:])
    if not background or not foreground:
        raise InputError("positive_weight: data needs both background and foreground in the training images")
    return background / foreground


def two_logits(logits: torch.Tensor) -> torch.Tensor:
    """Return [N, max(2, K), H, W]: one logit z becomes (0, z), whose softmax is the sigmoid of z."""
    return torch.cat((torch.zeros_like(logits), logits), dim=1) if logits.shape[1] == 1 else logits


def _classes(logits: torch.Tensor) -> int:
    return max(2, int(logits.shape[1]))


def _precise(logits: torch.Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def _weights(values: Sequence[float], logits: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if len(values) != _classes(logits):
        raise InputError(f"{len(values)} class weights for {_classes(logits)} classes; give one for each")
    return torch.tensor(tuple(values), dtype=dtype, device=logits.device)


def _true_log_probability(logits: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return where the truth is known, and the log-probability of the true class there (of class 0 elsewhere)."""
    known = target != IGNORE
    log_p = two_logits(logits).to(_precise(logits)).log_softmax(dim=1)
    return known, log_p.gather(1, target.where(known, 0).long()[:, None])[:, 0]


def _mean(per_pixel: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    return per_pixel.where(known, 0).sum() / known.sum().clamp_min(1)
