"""How far a network's confidence can be trusted, and the temperature that mends it.

Expected calibration error and temperature scaling after Guo, Pleiss, Sun & Weinberger, "On calibration of modern
neural networks", ICML 2017: the confidence is the softmax of logits / T of the winning class, and T minimises the
negative log-likelihood. Labels do not depend on T.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ..errors import BainiteWarning, InputError
from ..training.dataset import IGNORE

BINS = 15
TEMPERATURES = (0.01, 100.0)  # of T; what lies beyond is no calibration but a broken network

Logits = NDArray[np.float32]
Labels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Bin:
    """Pixels whose confidence lies between `lower` and `upper`: how many, their mean confidence and accuracy."""

    lower: float
    upper: float
    pixels: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration of a model on annotated images.

    Attributes
    ----------
    temperature : float
        That minimises the negative log-likelihood of these pixels.
    ece_before, ece_after : float
        Expected calibration error, 0…1, as the model is, and with the temperature.
    nll_before, nll_after : float
        Mean negative log-likelihood, nats per pixel.
    bins_before, bins_after : tuple of Bin
        Of equal width, for a reliability diagram.
    pixels : int
        How many pixels were looked at, evenly spread.
    """

    temperature: float
    ece_before: float
    ece_after: float
    nll_before: float
    nll_after: float
    bins_before: tuple[Bin, ...]
    bins_after: tuple[Bin, ...]
    pixels: int

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        bins = {
            f"bins_{when}": [
                {name: getattr(one, name) for name in Bin.__slots__} for one in getattr(self, f"bins_{when}")
            ]
            for when in ("before", "after")
        }
        plain = {name: getattr(self, name) for name in self.__slots__ if not name.startswith("bins")}
        return {**plain, **bins}

    def __str__(self) -> str:
        return (
            f"calibration: expected error {100 * self.ece_before:.2f} %, with temperature {self.temperature:.3f} "
            f"{100 * self.ece_after:.2f} % ({self.pixels:,} px)"
        )


def two_class(logits: Logits) -> Logits:
    """Return logits [K, …] of at least two classes: a single one stands against 0."""
    return np.concatenate([np.zeros_like(logits), logits]) if len(logits) == 1 else logits


def nll(logits: Logits, truth: Labels, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood of true classes.

    Parameters
    ----------
    logits : ndarray [K, n], float32
        At least two classes.
    truth : ndarray [n], uint8
        0 … K - 1.
    temperature : float
        Logits are divided by it.
    """
    z = logits.astype(np.float64) / temperature
    peak = z.max(axis=0)
    return float(np.mean(peak + np.log(np.exp(z - peak).sum(axis=0)) - z[truth, np.arange(len(truth))]))


def reliability(logits: Logits, truth: Labels, temperature: float = 1.0, *, bins: int = BINS) -> tuple[Bin, ...]:
    """Return confidence and accuracy of pixels by their confidence, in `bins` bins of equal width over 0…1.

    Parameters
    ----------
    logits, truth, temperature
        As in :func:`nll`.
    bins : int
        How many.
    """
    z = logits.astype(np.float64) / temperature
    winner = z.argmax(axis=0)
    confidence = 1 / np.exp(z - z.max(axis=0)).sum(axis=0)
    # Bins are open below and closed above, as Guo et al. have them.
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    pixels = np.bincount(place, minlength=bins)
    total = np.bincount(place, confidence, bins)
    right = np.bincount(place, winner == truth, bins)
    return tuple(
        Bin(
            k / bins, (k + 1) / bins, int(n), float(total[k] / n) if n else np.nan, float(right[k] / n) if n else np.nan
        )
        for k, n in enumerate(pixels)
    )


def expected_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error: the mean of abs(accuracy − confidence), weighted by pixels."""
    total = sum(one.pixels for one in bins)
    return sum(one.pixels * abs(one.accuracy - one.confidence) for one in bins if one.pixels) / total


def fit_temperature(logits: Logits, truth: Labels) -> float:
    """Return the temperature that minimises :func:`nll`, which is convex in 1 / T."""
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(lambda t: nll(logits, truth, float(np.exp(t))), bounds=(low, high), method="bounded",
                            options={"xatol": 1e-5})  # fmt: skip
    return float(np.exp(found.x))


def calibrate(logits: Logits, truth: Labels, present: float = 1.0) -> Calibration:
    """Measure the calibration of logits, and fit the temperature.

    Parameters
    ----------
    logits : ndarray [K, n], float32
        One column for each pixel.
    truth : ndarray [n], uint8
        True classes; 255 is left out.
    present : float
        Temperature that the model has now.

    Raises
    ------
    InputError
        If the truth of no pixel is known.

    Warns
    -----
    BainiteWarning
        If the best temperature lies at the end of what is tried (0.01 … 100).
    """
    known = truth != IGNORE
    if not known.any():
        raise InputError("no pixel has a known class; a calibration needs masks")
    z, y = two_class(logits[:, known]), truth[known]
    temperature = fit_temperature(z, y)
    if not 1.01 * TEMPERATURES[0] < temperature < TEMPERATURES[1] / 1.01:
        warnings.warn(
            f"the temperature lies at the end of its range, {temperature:.3g}: "
            + ("the model is never wrong on these images" if temperature < 1 else "the model is no better than chance")
            + ", so that its confidence cannot be calibrated on them; take other images, or train it for longer",
            BainiteWarning,
            stacklevel=4,
        )
    before, after = reliability(z, y, present), reliability(z, y, temperature)
    return Calibration(
        temperature=temperature,
        ece_before=expected_error(before),
        ece_after=expected_error(after),
        nll_before=nll(z, y, present),
        nll_after=nll(z, y, temperature),
        bins_before=before,
        bins_after=after,
        pixels=int(known.sum()),
    )
