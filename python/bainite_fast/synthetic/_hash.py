"""Hashing of lattice coordinates: the only source of chance in a synthetic mosaic.

Every random number is a hash of (seed, layer, lattice coordinates), so any place can be drawn alone, in any order, by
any process. All arithmetic is on 64-bit or 32-bit unsigned integers and wraps on purpose.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_UNIT = 1.0 / (1 << 53)
_ROW = np.uint64(0xD6E8FEB86659FD93)
_EVEN = np.uint64(0x0000FFFF0000FFFF)
_COLUMN = np.uint64(0xA0761D6478BD642F)

UInt64 = NDArray[np.uint64]
Float64 = NDArray[np.float64]


def _mix(x: UInt64) -> UInt64:
    # The finaliser of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): every input bit reaches every output bit.
    x = x ^ (x >> np.uint64(30))
    x = x * np.uint64(0xBF58476D1CE4E5B9)
    x = x ^ (x >> np.uint64(27))
    x = x * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def layer_key(seed: int, layer: int) -> int:
    """Return the 64-bit key of one layer of one mosaic."""
    start = np.array([(seed * _GOLDEN + layer * 0xD1342543DE82EF95 + _GOLDEN) & _MASK], dtype=np.uint64)
    return int(_mix(_mix(start) ^ np.uint64(layer))[0])


def hash_cells(key: int, i: NDArray[np.int64], j: NDArray[np.int64]) -> UInt64:
    """Hash lattice coordinates (row `i`, column `j`, broadcast against each other) to 64 random bits."""
    rows = _mix(i.astype(np.uint64) * _ROW + np.uint64(key))
    return _mix(rows ^ (j.astype(np.uint64) * _COLUMN))


def rehash(bits: UInt64, salt: int) -> UInt64:
    """Derive independent bits from bits, one stream per `salt`."""
    return _mix(bits ^ np.uint64((salt * _GOLDEN) & _MASK))


def uniform(bits: UInt64, salt: int) -> Float64:
    """Uniform numbers in [0, 1) from hashed bits; streams of different `salt` are independent."""
    numbers: Float64 = (rehash(bits, salt) >> np.uint64(11)).astype(np.float64)
    numbers *= _UNIT
    return numbers


def normal(bits: UInt64, salt: int) -> Float64:
    """Nearly normal numbers from hashed bits: the sum of four 16-bit uniforms, mean 0, variance 1, within ±3.46."""
    words = rehash(bits, salt + 1000)
    pairs = (words & _EVEN) + ((words >> np.uint64(16)) & _EVEN)
    total = (pairs & np.uint64(0xFFFFFFFF)) + (pairs >> np.uint64(32))
    # Four uniforms on 0..65535: mean 4·32767.5, variance 4·65536²/12.
    numbers: Float64 = total.astype(np.float64)
    numbers -= 131070.0
    numbers *= np.sqrt(3.0) / 65536.0
    return numbers


def white_noise(key: int, y0: int, x0: int, shape: tuple[int, int]) -> NDArray[np.float32]:
    """White noise of every pixel of a window: mean 0, standard deviation 1, float32 [h, w].

    A row hash and a column hash are joined by two rounds of a 32-bit mixer (the constants of `lowbias32`, C. Wellons),
    and the four bytes summed: nearly Gaussian, within ±3.5.
    """
    height, width = shape
    rows = hash_cells(key, np.arange(y0, y0 + height, dtype=np.int64), np.zeros(1, np.int64)).astype(np.uint32)
    columns = hash_cells(key, np.arange(x0, x0 + width, dtype=np.int64), np.ones(1, np.int64)).astype(np.uint32)
    x = rows[:, None] + columns[None, :]
    scratch = x >> np.uint32(16)
    x ^= scratch
    x *= np.uint32(0x7FEB352D)
    np.right_shift(x, np.uint32(15), out=scratch)
    x ^= scratch
    x *= np.uint32(0x846CA68B)
    np.right_shift(x, np.uint32(16), out=scratch)
    x ^= scratch
    # Sum of the four bytes: two at a time in the halves of the word, then the halves.
    np.right_shift(x, np.uint32(8), out=scratch)
    scratch &= np.uint32(0x00FF00FF)
    x &= np.uint32(0x00FF00FF)
    x += scratch
    np.right_shift(x, np.uint32(16), out=scratch)
    x &= np.uint32(0xFFFF)
    x += scratch
    noise = x.view(np.int32).astype(np.float32)
    noise -= np.float32(510.0)
    # Four uniforms on 0..255: variance 4·(256² − 1)/12.
    noise *= np.float32(1.0 / 147.80)
    return noise
