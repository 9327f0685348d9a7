"""Bunge Euler angles and quaternions, passive (sample to crystal), scalar first."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..kernels._checks import core

CHUNK = 1 << 18
"""Points handled at once, so that what is computed in between stays in the cache."""


def quaternions_from_euler(euler: ArrayLike, *, degrees: bool = False) -> NDArray[np.float64]:
    """Return unit quaternions of Bunge Euler angles.

    Parameters
    ----------
    euler : array_like, (..., 3)
        φ1, Φ, φ2 in radians, or in degrees.
    degrees : bool
        The angles are in degrees.

    Returns
    -------
    ndarray, (..., 4), float64
        w, x, y, z with w ≥ 0, passive: Rowenhorst et al., Modelling Simul. Mater. Sci. Eng. 23 (2015) 083501,
        appendix A, with P = 1. NaN where an angle is not finite.
    """
    angles = np.asarray(euler)
    if angles.ndim < 1 or angles.shape[-1] != 3:
        raise InputError(f"euler has shape {angles.shape}; (..., 3) with φ1, Φ, φ2 is needed")
    flat = angles.reshape(-1, 3)
    out = np.empty((flat.shape[0], 4))
    half = np.pi / 360 if degrees else 0.5
    for start in range(0, flat.shape[0], CHUNK):
        part = np.asarray(flat[start : start + CHUNK], np.float64)
        # Columns of a wider table are read where they are.
        usable = part.strides[1] == part.itemsize and part.strides[0] > 0
        rows = part if usable else np.ascontiguousarray(part)
        core.quaternions_of_euler(rows.data, out[start : start + CHUNK].data, half=half)
    return out.reshape(*angles.shape[:-1], 4)


def euler_from_quaternions(quaternions: ArrayLike, *, degrees: bool = False) -> NDArray[np.float64]:
    """Return Bunge Euler angles of unit quaternions, the inverse of :func:`quaternions_from_euler`.

    Parameters
    ----------
    quaternions : array_like, (..., 4)
        w, x, y, z, passive.
    degrees : bool
        Return degrees.

    Returns
    -------
    ndarray, (..., 3), float64
        φ1 and φ2 from 0 up to, not including, 2π, Φ from 0 to π. Where Φ is 0 or π only φ1 ± φ2 is defined, and φ2
        is 0.
    """
    array = np.asarray(quaternions, np.float64)
    if array.ndim < 1 or array.shape[-1] != 4:
        raise InputError(f"quaternions have shape {array.shape}; (..., 4) with w, x, y, z is needed")
    flat = array.reshape(-1, 4)
    out = np.empty((flat.shape[0], 3))
    for start in range(0, flat.shape[0], CHUNK):
        w, x, y, z = flat[start : start + CHUNK].T
        cosine, sine = np.hypot(w, z), np.hypot(x, y)
        half_sum = np.arctan2(-z, w)
        half_difference = np.arctan2(-y, -x)
        half_difference = np.where(sine < 1e-12, half_sum, half_difference)
        half_sum = np.where(cosine < 1e-12, half_difference, half_sum)
        into = out[start : start + CHUNK]
        into[:, 0] = half_sum + half_difference
        into[:, 1] = 2 * np.arctan2(sine, cosine)
        into[:, 2] = half_sum - half_difference
        into[:, ::2] %= 2 * np.pi
        # A remainder of a tiny negative angle rounds to the whole turn.
        into[:, ::2] = np.where(into[:, ::2] >= 2 * np.pi, 0.0, into[:, ::2])
    if degrees:
        np.rad2deg(out, out=out)
    return out.reshape(*array.shape[:-1], 3)
