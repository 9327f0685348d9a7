"""Pictures of what a model got wrong, in the paper's colours: over-prediction red, under-prediction blue.

Where there are several foreground classes, one taken for another is orange.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._disk import beside
from ..training.dataset import IGNORE
from ..training.large import BAND, bands

OVER = (226, 38, 38)  # foreground was predicted, and the truth is background
UNDER = (38, 92, 226)  # the truth is foreground, and background was predicted
OTHER = (230, 159, 0)  # one foreground class was taken for another
TINT = 0.6
LEGEND = "legend.txt"


def overlay(image: NDArray[Any], truth: NDArray[np.uint8], pred: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image with the errors of a prediction on it, uint8 [H, W, 3].

    Parameters
    ----------
    image : ndarray [H, W] or [H, W, 3]
        Any intensities: stretched from the 0.5th to the 99.5th percentile (of large images, of evenly spaced pixels).
    truth, pred : ndarray [H, W], uint8
        Classes; class 0 is the background. Where truth is 255 nothing is marked.
    """
    step = max(1, round((truth.size / BAND) ** 0.5))  # of large images, every n-th row and column is enough
    low, high = np.percentile(_values(image[::step, ::step]), (0.5, 99.5))
    picture, done = np.empty((*truth.shape, 3), np.uint8), 0
    for parts in zip(bands(image), bands(truth), bands(pred), strict=True):
        picture[done : done + len(parts[0])] = _drawn(*parts, float(low), float(high))
        done += len(parts[0])
    return picture


def _values(image: NDArray[Any]) -> NDArray[np.float32]:
    values = image.astype(np.float32)
    return values if image.ndim == 2 else values.mean(axis=2)


def _drawn(
    image: NDArray[Any], truth: NDArray[np.uint8], pred: NDArray[np.uint8], low: float, high: float
) -> NDArray[np.uint8]:
    """Return the picture of a band of an image that is black at `low` and white at `high`."""
    gray = np.clip((_values(image) - np.float32(low)) / np.float32(max(high - low, 1e-12)), 0, 1) * 255
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


def legend(class_names: Sequence[str]) -> str:
    """Return what the colours of :func:`overlay` mean, a line each.

    Parameters
    ----------
    class_names : sequence of str
        Of the label values, from 0: the background.
    """
    background, *others = class_names
    foreground = others[0] if len(others) == 1 else "a foreground class"
    lines = [
        f"red    {_hex(OVER)}  over-prediction: {foreground} was predicted, and the truth is {background}",
        f"blue   {_hex(UNDER)}  under-prediction: {background} was predicted, and the truth is {foreground}",
    ]
    if len(others) > 1:
        names = ", ".join(others)
        lines.append(f"orange {_hex(OTHER)}  one foreground class ({names}) was predicted, and the truth is another")
    lines.append(
        f"The colours cover the image to {100 * TINT:.0f} %. What is gray is right, or its truth is not known."
    )
    return "\n".join(lines) + "\n"


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def write_png(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture as PNG, whole or not at all."""
    import imagecodecs

    with beside(path) as made:
        made.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(picture), level=3))
