"""Pictures of what a model got wrong, in the paper's colours: over-prediction red, under-prediction blue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..training.dataset import IGNORE

OVER = (226, 38, 38)  # foreground was predicted, and the truth is background
UNDER = (38, 92, 226)  # the truth is foreground, and background was predicted
OTHER = (230, 159, 0)  # one foreground class was taken for another
TINT = 0.6


def overlay(image: NDArray[Any], truth: NDArray[np.uint8], pred: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image with the errors of a prediction on it, uint8 [H, W, 3].

    Parameters
    ----------
    image : ndarray [H, W] or [H, W, 3]
        Any intensities: stretched from the 0.5th to the 99.5th percentile.
    truth, pred : ndarray [H, W], uint8
        Classes; class 0 is the background. Where truth is 255 nothing is marked.
    """
    values = image.astype(np.float32) if image.ndim == 2 else image.astype(np.float32).mean(axis=2)
    low, high = np.percentile(values, (0.5, 99.5))
    gray = np.clip((values - low) / max(float(high - low), 1e-12), 0, 1) * 255
    picture = np.repeat(gray[..., None], 3, axis=2)
    wrong = (truth != pred) & (truth != IGNORE)
    for where, colour in (
        (wrong & (truth == 0), OVER),
        (wrong & (pred == 0), UNDER),
        (wrong & (truth != 0) & (pred != 0), OTHER),
    ):
        picture[where] += TINT * (np.array(colour, np.float32) - picture[where])
    drawn: NDArray[np.uint8] = np.rint(picture).astype(np.uint8)
    return drawn


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture as PNG, whole or not at all."""
    import imagecodecs

    scratch = path.with_name(path.name + ".partial")
    scratch.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(picture), level=6))
    scratch.replace(path)
