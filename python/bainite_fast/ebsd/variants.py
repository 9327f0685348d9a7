"""The Kurdjumov–Sachs orientation relationship: its 24 variants, and the classes of boundary between them.

G. Kurdjumov, G. Sachs, Z. Phys. 64 (1930) 325: (111)γ ∥ (011)α and [-101]γ ∥ [-1-11]α. Numbering of the variants,
packets and blocks after S. Morito et al., Acta Mater. 51 (2003) 1789, table 1.
"""

from __future__ import annotations

from enum import IntEnum
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ._quaternions import conjugate, cubic_angle, from_matrix, multiply, symmetry_operators

Float64 = NDArray[np.float64]

BAIN_SAME_MAX = 21.1
"""Largest angle (degrees) between two variants of one Bain group; measured 21.06°."""
BAIN_OTHER_MIN = 47.1
"""Smallest angle (degrees) between variants of different Bain groups; measured 47.11°."""

_CHUNK = 1 << 16

# γ plane and, for its three pairs of variants, the γ direction: both of a pair share it, and take α directions
# [-1-11] and [-11-1] of (011).
_PLANES = ((1, 1, 1), (1, -1, 1), (-1, 1, 1), (1, 1, -1))
_DIRECTIONS = (
    ((-1, 0, 1), (0, 1, -1), (1, -1, 0)),
    ((1, 0, -1), (-1, -1, 0), (0, 1, 1)),
    ((0, -1, 1), (-1, 0, -1), (1, 1, 0)),
    ((-1, 1, 0), (0, -1, -1), (1, 0, 1)),
)


class BoundaryClass(IntEnum):
    """Kinds of boundary between two points of ferrite, told by their disorientation.

    Attributes
    ----------
    INTERIOR
        Below the low-angle limit: the same lath, or the same grain.
    LOW_ANGLE
        Up to 15°, but not within the tolerance of a K–S pair.
    BLOCK
        Two variants of one packet: 10.53°, 49.47° or 60.00° about their axes (V1–V4, V1–V6, V1–V2/3/5).
    BAIN
        Two packets, one Bain group: 10.53°, 14.88°, 20.61° or 21.06°.
    PACKET
        Two packets and two Bain groups: 47.11° to 57.21°.
    GAP
        21–47°: no two variants of one parent; prior-austenite or ferrite grain boundaries.
    OTHER
        Any other high-angle boundary, further than the tolerance from all K–S pairs.
    """

    INTERIOR = 0
    LOW_ANGLE = 1
    BLOCK = 2
    BAIN = 3
    PACKET = 4
    GAP = 5
    OTHER = 6


def _unit(vector: ArrayLike) -> Float64:
    array = np.asarray(vector, np.float64)
    return array / np.linalg.norm(array)


@cache
def _variants() -> Float64:
    quaternions = []
    for plane, directions in zip(_PLANES, _DIRECTIONS, strict=True):
        for direction in directions:
            for ferrite in ((-1, -1, 1), (-1, 1, -1)):
                parent = _frame(plane, direction)
                child = _frame((0, 1, 1), ferrite)
                quaternions.append(from_matrix(child @ parent.T))
    return np.array(quaternions)


def _frame(plane: ArrayLike, direction: ArrayLike) -> Float64:
    normal, along = _unit(plane), _unit(direction)
    return np.stack([normal, along, np.cross(normal, along)], axis=1)


def ks_variants() -> Float64:
    """Return the 24 Kurdjumov–Sachs variants V1 … V24.

    Returns
    -------
    ndarray of float64, (24, 4)
        Unit quaternions, scalar first, from the crystal axes of the parent (austenite) to those of the child: with the
        passive orientation p of the parent (sample to crystal), the child has multiply(variant, p). The numbering is
        that of Morito et al. (2003).
    """
    return _variants().copy()


def ks_packets() -> NDArray[np.int64]:
    """Return the packet of each variant, that is its {111}γ plane: int64 (24,), 0 … 3."""
    return np.repeat(np.arange(4), 6)


@cache
def _bain_groups() -> NDArray[np.int64]:
    # The Bain strain compresses one ⟨001⟩γ, which stays a cube axis of the child; the other two turn by 45°.
    axes = np.eye(3)
    groups = []
    for matrix in _to_matrices(_variants()):
        nearest = np.abs(matrix @ axes).max(axis=0)
        groups.append(int(np.argmax(nearest)))
    return np.array(groups)


def _to_matrices(q: Float64) -> Float64:
    w, x, y, z = q.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def ks_bain_groups() -> NDArray[np.int64]:
    """Return the Bain group of each variant, the ⟨001⟩γ that its Bain strain compresses: int64 (24,), 0 … 2."""
    return _bain_groups().copy()


@cache
def _pair_operators() -> tuple[Float64, NDArray[np.int64]]:
    """Misorientations between V1 and the others as operators in the child's axes, and the class of each."""
    variants, packets, bain = _variants(), ks_packets(), _bain_groups()
    same_packet, same_bain = packets[1:] == packets[0], bain[1:] == bain[0]
    classes = np.where(same_packet, BoundaryClass.BLOCK, np.where(same_bain, BoundaryClass.BAIN, BoundaryClass.PACKET))
    return multiply(variants[1:], conjugate(variants[0])), classes.astype(np.int64)


def ks_pair_angles() -> Float64:
    """Return the disorientation of V1 to V1 … V24 in degrees: float64 (24,)."""
    variants = _variants()
    return cubic_angle(multiply(variants, conjugate(variants[0])))


def ks_deviation(misorientation: ArrayLike) -> tuple[Float64, NDArray[np.int64]]:
    """Compare boundaries with those between the variants of one parent.

    Parameters
    ----------
    misorientation : array_like, (n, 4)
        Misorientations q₁·q₂⁻¹ between two points of cubic ferrite: unit quaternions, scalar first.

    Returns
    -------
    deviation : ndarray of float64, (n,)
        Angle in degrees to the nearest of the 23 misorientations between variants.
    kind : ndarray of int64, (n,)
        The `BoundaryClass` of that one.
    """
    given = np.asarray(misorientation, np.float64)
    if given.ndim != 2 or given.shape[1] != 4:
        raise InputError(f"misorientations have shape {given.shape}; (n, 4) with w, x, y, z is needed")
    targets, kinds = _equivalents()
    # |⟨q, t⟩| = cos(ω/2) of the rotation between them, greatest over all equivalents where both are sorted alike.
    ordered = np.sort(np.abs(given), axis=1)[:, ::-1]
    best = np.zeros(len(given))
    which = np.zeros(len(given), np.int64)
    for start in range(0, len(given), _CHUNK):
        cosines = ordered[start : start + _CHUNK] @ targets.T
        nearest = np.argmax(cosines, axis=1)
        best[start : start + _CHUNK] = np.take_along_axis(cosines, nearest[:, None], 1)[:, 0]
        which[start : start + _CHUNK] = kinds[nearest]
    return np.degrees(2.0 * np.arccos(np.minimum(best, 1.0))), which


@cache
def _equivalents() -> tuple[Float64, NDArray[np.int64]]:
    """Return the misorientations between variants with components sorted, a ≥ b ≥ c ≥ d ≥ 0, and their classes.

    Cubic symmetry of both crystals, and that neither of them comes first, allow any permutation and any signs of the
    four components (H. Grimmer, Acta Cryst. A30 (1974) 685), so of all equivalents only few differ when sorted.
    Misorientations that occur inside a packet as well as between packets count as BLOCK.
    """
    operators, classes = _pair_operators()
    order = np.argsort(classes, kind="stable")
    symmetry = symmetry_operators("m-3m")
    every = multiply(symmetry[:, None], operators[order][None, :])
    flat = np.sort(np.abs(every.reshape(-1, 4)), axis=1)[:, ::-1]
    kinds = np.tile(classes[order], len(symmetry))
    flat, kinds = flat[np.argsort(kinds, kind="stable")], np.sort(kinds, kind="stable")
    _, first = np.unique(np.round(flat, 9), axis=0, return_index=True)
    return np.ascontiguousarray(flat[first]), kinds[first]
