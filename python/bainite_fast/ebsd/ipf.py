"""Inverse pole figure colours of cubic crystals: which direction of the crystal points along an axis of the sample."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ._quaternions import rotate

Float64 = NDArray[np.float64]
Axis = Literal["x", "y", "z"]
AXES: dict[str, tuple[float, float, float]] = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}


def ipf_colors(quaternions: ArrayLike, axis: Axis | ArrayLike = "z") -> NDArray[np.uint8]:
    """Return the inverse pole figure colours of cubic (m-3m) orientations.

    Parameters
    ----------
    quaternions : array_like, (..., 4)
        Orientations, scalar first, passive (sample to crystal).
    axis : {"x", "y", "z"} or array_like, (3,)
        Direction of the sample.

    Returns
    -------
    ndarray of uint8, (..., 3)
        Red where ⟨001⟩ points along the axis, green where ⟨101⟩ does, blue where ⟨111⟩ does, see `direction_colors`.

    Raises
    ------
    InputError
        If a shape is wrong, or the axis is unknown or zero.
    """
    q = np.asarray(quaternions, np.float64)
    if q.ndim < 1 or q.shape[-1] != 4:
        raise InputError(f"quaternions have shape {q.shape}; (..., 4) with w, x, y, z is needed")
    return direction_colors(rotate(q, _axis(axis)))


def _axis(axis: Axis | ArrayLike) -> Float64:
    if isinstance(axis, str):
        if axis not in AXES:
            raise InputError(f"axis={axis!r} is unknown; use 'x', 'y', 'z' or a direction of three numbers")
        return np.array(AXES[axis])
    direction = np.asarray(axis, np.float64)
    length = float(np.linalg.norm(direction)) if direction.shape == (3,) else 0.0
    if not (np.isfinite(length) and length > 0):
        raise InputError(f"axis={axis!r} is refused; use 'x', 'y', 'z' or a direction of three numbers, not all zero")
    return np.asarray(direction / length, np.float64)


def direction_colors(directions: ArrayLike) -> NDArray[np.uint8]:
    """Return the colours of directions of a cubic crystal in the standard triangle 001–101–111.

    With the components of the direction sorted to a ≤ b ≤ c by their size, the equivalent direction in the triangle is
    (c - b)·[001] + (b - a)·[011] + a·[111]; its shares of the three corners, of unit length each, are red, green and
    blue, brought to full brightness by their largest.

    Parameters
    ----------
    directions : array_like, (..., 3)
        Of any length but zero.

    Returns
    -------
    ndarray of uint8, (..., 3)
    """
    a, b, c = np.moveaxis(np.sort(np.abs(np.asarray(directions, np.float64)), axis=-1), -1, 0)
    shares = np.stack([c - b, (b - a) * np.sqrt(2.0), a * np.sqrt(3.0)], axis=-1)
    shares /= np.maximum(shares.max(axis=-1, keepdims=True), 1e-300)
    return np.rint(255.0 * shares).astype(np.uint8)


def triangle_key(size: int = 256) -> tuple[NDArray[np.uint8], dict[str, tuple[float, float]]]:
    """Draw the colour key: the standard triangle in stereographic projection.

    Parameters
    ----------
    size : int
        Width in pixels.

    Returns
    -------
    picture : ndarray of uint8, (height, size, 4)
        RGBA, transparent outside of the triangle; 001 at the lower left, 101 at the lower right, 111 above.
    corners : dict
        Place (x, y) in pixels, from the upper left, of "001", "101" and "111".
    """
    right = np.tan(np.radians(22.5))  # 101 is 45° from 001
    top = 1.0 / (1.0 + np.sqrt(3.0))  # 111: (1, 1)/(√3 + 1)
    height = max(2, round(size * top / right))
    x = (np.arange(size) + 0.5) / size * right
    y = (height - np.arange(height) - 0.5) / height * top
    px, py = np.meshgrid(x, y)
    squared = px**2 + py**2
    direction = np.stack([2 * px, 2 * py, 1.0 - squared], axis=-1)
    # 0 ≤ k ≤ h ≤ l for directions (h, k, l).
    inside = (direction[..., 1] <= direction[..., 0]) & (direction[..., 0] <= direction[..., 2])
    picture = np.zeros((height, size, 4), np.uint8)
    picture[..., :3] = direction_colors(direction)
    picture[..., 3] = np.where(inside, 255, 0)
    corners = {"001": (0.0, float(height)), "101": (float(size), float(height)), "111": (size * top / right, 0.0)}
    return picture, corners
