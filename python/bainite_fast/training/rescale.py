"""Images and masks at another scale."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..errors import InputError
from ..geometry import nearest_index, scaled_shape

MaskScaling = Literal["majority", "nearest"]


def scale_image(image: NDArray[Any], factor: float) -> NDArray[Any]:
    """Return an image scaled by a factor, in its dtype: areas are averaged, growing is bilinear; integers are rounded.

    Parameters
    ----------
    image : ndarray [H, W] or [H, W, C], uint8, uint16 or float32
        The image.
    factor : float
        On height and width; the result has round(H · factor) × round(W · factor) px.
    """
    if factor == 1.0:
        return image
    scaled = kernels.resample(image, scaled_shape(image.shape[:2], factor))
    if image.dtype.kind == "f":
        return scaled
    return np.rint(scaled).clip(0, np.iinfo(image.dtype).max).astype(image.dtype)


def scale_mask(mask: NDArray[np.uint8], factor: float, how: MaskScaling = "majority") -> NDArray[np.uint8]:
    """Return a mask scaled by a factor.

    Parameters
    ----------
    mask : ndarray [H, W], uint8
        Labels.
    factor : float
        On height and width.
    how : {"majority", "nearest"}
        ``"majority"``: the label that covers most of the new pixel's area (weighted bilinearly where the mask grows),
        ties to the lower label. ``"nearest"``: the label of the pixel that holds the new pixel's centre.

    Raises
    ------
    InputError
        If `how` is another word.
    """
    if how not in ("majority", "nearest"):
        raise InputError(f'mask_scaling={how!r} is not understood; use "majority" or "nearest"')
    if factor == 1.0:
        return mask
    shape = scaled_shape((mask.shape[0], mask.shape[1]), factor)
    if how == "nearest":
        rows, columns = (
            np.array([nearest_index(i, new, old) for i in range(new)])
            for old, new in zip(mask.shape, shape, strict=True)
        )
        return np.ascontiguousarray(mask[rows][:, columns])
    best = np.full(shape, -1.0, np.float32)
    label = np.zeros(shape, np.uint8)
    for value in np.unique(mask):
        share = kernels.resample((mask == value).astype(np.uint8), shape)
        # Areas are sums of products in float32: what is equal in exact arithmetic may differ by some 1e-6.
        better = share > best + np.float32(1e-5)
        best[better], label[better] = share[better], value
    return label
