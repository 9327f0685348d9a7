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


@cache
def _cubic() -> Float64:
    root = np.sqrt(0.5)
    found = [np.array([1.0, 0, 0, 0])]
    axes = np.eye(3)
    found += [np.concatenate([[0.0], axis]) for axis in axes]
    found += [np.concatenate([[root], sign * root * axis]) for axis in axes for sign in (1, -1)]
    found += [0.5 * np.array([1.0, x, y, z]) for x in (1, -1) for y in (1, -1) for z in (1, -1)]
    diagonals = [(1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1)]
    found += [np.concatenate([[0.0], root * np.array(axis, float)]) for axis in diagonals]
    return np.array(found)


def cubic_operators() -> Float64:
    """Return the 24 rotations of the cube (432): float64 (24, 4)."""
    return _cubic().copy()


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
