"""Laths: sequences of log-normal widths, drawn once per mosaic and looked up by every packet.

A packet of bainite is a stack of parallel laths with carbide films between them. Across the laths only one coordinate
matters, so the stack is a one-dimensional table: distance to the nearest film and number of the lath. A packet picks
one of several periodic sequences and a place in it; the period is 64 median widths, longer than a packet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._hash import hash_cells, layer_key, normal, uniform
from .presets import Preset

SEQUENCES = 16
SAMPLES = 2048
PER_WIDTH = 32  # samples per median lath width
BREAKS = 256  # sampled profiles of film thickness along a film, and samples in each


@dataclass(frozen=True, slots=True)
class LathLibrary:
    """Tables of one mosaic.

    Attributes
    ----------
    widths : list of ndarray of float64
        Lath widths of each sequence (µm).
    distance : ndarray of float32, [SEQUENCES * SAMPLES]
        Distance to the nearest film (px).
    film, lath : ndarray of intp, [SEQUENCES * SAMPLES]
        Number of the nearest film and of the lath, each in 0 … BREAKS - 1.
    thickness : ndarray of float32, [BREAKS * BREAKS]
        Relative film thickness along each film, 0 where it is broken.
    tone : ndarray of float32, [BREAKS]
        Standard normal gray of each lath.
    samples_per_px : float
        Samples across the laths per pixel.
    breaks_per_px : float
        Samples along the films per pixel.
    """

    widths: list[NDArray[np.float64]]
    distance: NDArray[np.float32]
    film: NDArray[np.intp]
    lath: NDArray[np.intp]
    thickness: NDArray[np.float32]
    tone: NDArray[np.float32]
    samples_per_px: float
    breaks_per_px: float


def make_laths(preset: Preset, seed: int) -> LathLibrary:
    """Draw the lath library of a mosaic."""
    key = layer_key(seed, 40)
    median_px = preset.lath_um / preset.um_per_px
    widths, distance, film, lath = [], [], [], []
    for sequence in range(SEQUENCES):
        bits = hash_cells(key, np.array([sequence]), np.arange(128, dtype=np.int64))
        drawn = np.exp(preset.lath_sigma * normal(bits, 0))
        count = int(np.argmin(np.abs(np.cumsum(drawn) - SAMPLES / PER_WIDTH))) + 1
        # The sum misses the period by less than one lath in sixty: stretch it to close the ring.
        drawn = drawn[:count] * (SAMPLES / PER_WIDTH / drawn[:count].sum())
        widths.append(drawn * preset.lath_um)
        ends = np.cumsum(drawn) * PER_WIDTH
        starts = np.concatenate([[0.0], ends[:-1]])
        position = np.arange(SAMPLES) + 0.5
        number = np.minimum(np.searchsorted(ends, position), count - 1)
        before, after = position - starts[number], ends[number] - position
        nearest = np.where(before < after, number, (number + 1) % count)
        distance.append(np.minimum(before, after) / PER_WIDTH * median_px)
        film.append((nearest + 37 * sequence) % BREAKS)
        lath.append((number + 37 * sequence) % BREAKS)
    tone = normal(hash_cells(key, np.array([-1]), np.arange(BREAKS, dtype=np.int64)), 0)
    return LathLibrary(
        widths=widths,
        distance=np.concatenate(distance).astype(np.float32),
        film=np.concatenate(film).astype(np.intp),
        lath=np.concatenate(lath).astype(np.intp),
        thickness=_thickness(key),
        tone=tone.astype(np.float32),
        samples_per_px=PER_WIDTH / median_px,
        breaks_per_px=preset.um_per_px / 0.11,
    )


def _thickness(key: int) -> NDArray[np.float32]:
    # Films neck and break every micrometre or two: smoothed chance, cut at zero.
    bits = hash_cells(key, np.arange(-2 - BREAKS, -2, dtype=np.int64)[:, None], np.arange(BREAKS, dtype=np.int64))
    chance = uniform(bits, 0) - 0.5
    offsets = np.arange(-12, 13)
    kernel = np.exp(-0.5 * (offsets / 4.5) ** 2)
    smooth = sum(weight * np.roll(chance, int(shift), axis=1) for shift, weight in zip(offsets, kernel, strict=True))
    smooth = smooth / (np.sqrt(np.sum(kernel**2)) / np.sqrt(12.0))
    thickness: NDArray[np.float32] = np.clip(0.95 + 0.95 * smooth, 0.0, 1.8).astype(np.float32).ravel()
    return thickness
