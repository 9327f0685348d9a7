"""Quaternion arithmetic in NumPy for what is drawn, compared or summed up beside the kernels; scalar first."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64 = NDArray[np.float64]


def multiply(a: ArrayLike, b: ArrayLike) -> Float64:
    """Return the Hamilton product a·b, broadcast: float64 (..., 4)."""
    aw, ax, ay, az = np.moveaxis(np.asarray(a, np.float64), -1, 0)
    bw, bx, by, bz = np.moveaxis(np.asarray(b, np.float64), -1, 0)
    product = [
        aw * bw - ax * bx - ay * by - az * bz,
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
    ]
    return np.stack(product, axis=-1)


def conjugate(q: ArrayLike) -> Float64:
    """Return the inverse of unit quaternions: float64 (..., 4)."""
    inverse: Float64 = np.asarray(q, np.float64) * np.array([1.0, -1.0, -1.0, -1.0])
    return inverse


def rotate(q: ArrayLike, vectors: ArrayLike) -> Float64:
    """Return q·v·q⁻¹, broadcast: float64 (..., 3); an orientation takes a direction of the sample to the crystal's."""
    quaternion = np.asarray(q, np.float64)
    v = np.asarray(vectors, np.float64)
    w, u = quaternion[..., :1], quaternion[..., 1:]
    twice = 2.0 * np.cross(u, v)
    return v + w * twice + np.cross(u, twice)


def from_rotation_vector(vectors: ArrayLike) -> Float64:
    """Return the rotation about each vector by its length in radians: float64 (..., 4)."""
    r = np.asarray(vectors, np.float64)
    half = 0.5 * np.linalg.norm(r, axis=-1, keepdims=True)
    # sin(h)/h, whole near zero.
    return np.concatenate([np.cos(half), 0.5 * np.sinc(half / np.pi) * r], axis=-1)


def from_matrix(matrix: ArrayLike) -> Float64:
    """Return the quaternion of one rotation matrix, w ≥ 0: float64 (4,) (S. W. Shepperd, J. Guid. Control 1, 223)."""
    m = np.asarray(matrix, np.float64)
    squares = np.array(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ]
    )
    products = np.array(
        [
            [squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], squares[1], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
            [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], squares[2], m[1, 2] + m[2, 1]],
            [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[3]],
        ]
    )
    row: Float64 = products[int(np.argmax(squares))]
    unit: Float64 = row / np.linalg.norm(row)
    return -unit if unit[0] < 0 else unit


def cubic_angle(misorientation: ArrayLike) -> Float64:
    """Return the disorientation angle in degrees of misorientations between two cubic crystals: float64 (...).

    With |q| sorted to a ≥ b ≥ c ≥ d, the least of the 24 equivalent angles has cos(ω/2) = max(a, (a+b)/√2,
    (a+b+c+d)/2) (H. Grimmer, Acta Cryst. A30 (1974) 685); it is taken from the sine, which is exact for small angles.
    """
    d, c, b, a = np.moveaxis(np.sort(np.abs(np.asarray(misorientation, np.float64)), axis=-1), -1, 0)
    cosines = np.stack([a, (a + b) * np.sqrt(0.5), 0.5 * (a + b + c + d)])
    sines = np.stack(
        [
            b * b + c * c + d * d,
            0.5 * (a - b) ** 2 + c * c + d * d,
            0.25 * ((a + b - c - d) ** 2 + (a - b + c - d) ** 2 + (a - b - c + d) ** 2),
        ]
    )
    best = np.argmax(cosines, axis=0)[None]
    squared = np.take_along_axis(sines, best, 0)[0]
    angle: Float64 = np.degrees(2.0 * np.arcsin(np.sqrt(np.minimum(squared, 1.0))))
    return angle


_AXIS = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0), "d": (1.0, 1.0, 1.0)}
# Generators of each rotation group as (axis, order): c along z, a along x, the twofold axis of 2/m along b, y.
_GENERATORS: dict[str, tuple[tuple[str, int], ...]] = {
    "-1": (),
    "2/m": (("y", 2),),
    "mmm": (("z", 2), ("x", 2)),
    "4/m": (("z", 4),),
    "4/mmm": (("z", 4), ("x", 2)),
    "-3": (("z", 3),),
    "-3m": (("z", 3), ("x", 2)),
    "6/m": (("z", 6),),
    "6/mmm": (("z", 6), ("x", 2)),
    "m-3": (("z", 2), ("d", 3)),
    "m-3m": (("z", 4), ("d", 3)),
}


@cache
def _operators(laue: str) -> Float64:
    found = np.array([[1.0, 0.0, 0.0, 0.0]])
    generators = []
    for axis, order in _GENERATORS[laue]:
        direction = np.array(_AXIS[axis])
        generators.append(from_rotation_vector(2.0 * np.pi / order * direction / np.linalg.norm(direction)))
    while generators:
        products = np.concatenate([found, *(multiply(generator, found) for generator in generators)])
        products = products * np.where(_leading(products) < 0, -1.0, 1.0)[:, None]
        _, first = np.unique(np.round(products, 6) + 0.0, axis=0, return_index=True)
        if len(first) == len(found):
            break
        found = products[np.sort(first)]
    return found


def _leading(q: Float64) -> Float64:
    # The first component that is not zero: its sign decides between q and -q.
    at = np.argmax(np.abs(q) > 1e-9, axis=-1)
    leading: Float64 = np.take_along_axis(q, at[..., None], -1)[..., 0]
    return leading


def symmetry_operators(laue: str) -> Float64:
    """Return the rotations of a Laue group: float64 (n, 4), n from 1 to 24."""
    return _operators(laue).copy()


def disorientation(misorientation: ArrayLike, laue: str) -> Float64:
    """Return the least of the equivalent angles of misorientations between two crystals of one Laue group, in degrees.

    Parameters
    ----------
    misorientation : array_like, (..., 4)
        q₁·q₂⁻¹.
    laue : str
        One of `LAUE_GROUPS`.

    Returns
    -------
    ndarray of float64, (...)
    """
    if laue == "m-3m":
        return cubic_angle(misorientation)
    q = np.asarray(misorientation, np.float64)
    least = np.full(q.shape[:-1], np.inf)
    for operator in _operators(laue):
        np.minimum(least, np.sum(multiply(operator, q)[..., 1:] ** 2, axis=-1), out=least)
    angle: Float64 = np.degrees(2.0 * np.arcsin(np.sqrt(np.minimum(least, 1.0))))
    return angle
