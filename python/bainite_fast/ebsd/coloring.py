"""Colours for grains, such that neighbours always differ."""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ._pairs import half_stencil, pairs
from .grid import Grid

# Okabe and Ito's palette, which colour-blind readers can tell apart, and lighter or darker companions; no gray, which
# is for points in no grain.
_PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (148, 203, 148),
    (120, 94, 160),
    (244, 190, 170),
    (110, 70, 30),
    (20, 60, 60),
)


def adjacent_grains(ids: ArrayLike, grid: Grid) -> NDArray[np.int64]:
    """Return the pairs of grains that touch, at a corner of their points too.

    Parameters
    ----------
    ids : array_like of int, (points,) or the map's shape
        Grain of each point, negative where there is none.
    grid : Grid
        6 neighbours on a hexagonal grid, 8 on a square one.

    Returns
    -------
    ndarray of int64, (n, 2)
        Each pair once, the lower number first.
    """
    names, flat = np.unique(_flat(ids, grid), return_inverse=True)
    first = int(np.searchsorted(names, 0))
    found = []
    for offset in half_stencil(grid, 1):
        i, j = pairs(grid, offset)
        a, b = flat[i], flat[j]
        border = (a != b) & (a >= first) & (b >= first)
        # A pair is one number: sorting rows of two takes ten times as long.
        found.append(np.unique(np.minimum(a, b)[border] * len(names) + np.maximum(a, b)[border]))
    joined = np.unique(np.concatenate(found))
    touching: NDArray[np.int64] = names[np.stack(np.divmod(joined, len(names)), axis=1)]
    return touching


def _flat(ids: ArrayLike, grid: Grid) -> NDArray[np.int64]:
    numbers = np.asarray(ids)
    if numbers.size != grid.size or numbers.dtype.kind not in "iu":
        raise InputError(
            f"ids has shape {numbers.shape} and dtype {numbers.dtype}; an integer for each point is needed"
        )
    return numbers.reshape(-1).astype(np.int64)


def grain_colors(ids: ArrayLike, grid: Grid, *, seed: int = 0) -> NDArray[np.uint8]:
    """Return a colour for each grain that differs from those of all grains it touches.

    The grains are taken off one by one, always one with the fewest neighbours left, and coloured in the opposite order
    (smallest last: D. W. Matula, L. L. Beck, J. ACM 30 (1983) 417). Then a grain meets at most as many colours as the
    map is degenerate: 5 in the plane, hardly more where grains touch at corners, so the palette of 12 leaves a choice;
    it is drawn. More colours are made if a map ever needs them.

    Parameters
    ----------
    ids : array_like of int, (points,) or the map's shape
        Grain of each point, 0 … n - 1, negative where there is none.
    grid : Grid
        Of the map.
    seed : int
        Another seed gives another choice.

    Returns
    -------
    ndarray of uint8, (n, 3)
        RGB by grain number.
    """
    flat = _flat(ids, grid)
    count = int(flat.max()) + 1 if flat.size else 0
    numbers = _color_numbers(count, adjacent_grains(flat, grid), seed)
    palette = list(_PALETTE)
    while len(palette) <= (int(numbers.max()) if count else 0):
        hue = (0.618034 * len(palette)) % 1.0
        shade = colorsys.hsv_to_rgb(hue, 0.35 + 0.5 * ((len(palette) * 7) % 5) / 4, 0.9)
        fresh = tuple(round(255 * part) for part in shade)
        while fresh in palette:
            fresh = ((fresh[0] + 1) % 256, *fresh[1:])
        palette.append(fresh)  # type: ignore[arg-type]
    return np.array(palette, np.uint8)[numbers]


def _color_numbers(count: int, edges: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    both = np.concatenate([edges, edges[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    starts = np.searchsorted(both[:, 0], np.arange(count + 1)).tolist()
    others = both[:, 1].tolist()
    degree = [starts[k + 1] - starts[k] for k in range(count)]
    order = _smallest_last(degree, starts, others)
    chance = np.random.default_rng(seed).permuted(np.tile(np.arange(len(_PALETTE)), (count, 1)), axis=1).tolist()
    number = [-1] * count
    for grain in order:
        taken = {number[other] for other in others[starts[grain] : starts[grain + 1]]}
        free = next((one for one in chance[grain] if one not in taken), None)
        if free is None:
            free = next(one for one in range(len(_PALETTE), len(_PALETTE) + count) if one not in taken)
        number[grain] = free
    return np.array(number, np.int64)


def _smallest_last(degree: list[int], starts: list[int], others: list[int]) -> list[int]:
    """Return the grains in the order in which they are to be coloured, in time linear in the number of contacts."""
    left = list(degree)
    buckets: list[list[int]] = [[] for _ in range(max(degree, default=0) + 1)]
    for grain, d in enumerate(left):
        buckets[d].append(grain)
    gone = [False] * len(left)
    order: list[int] = []
    lowest = 0
    while len(order) < len(left):
        while not buckets[lowest]:
            lowest += 1
        grain = buckets[lowest].pop()
        # A grain is put anew into the bucket below whenever a neighbour goes; older entries are skipped.
        if gone[grain] or left[grain] != lowest:
            continue
        gone[grain] = True
        order.append(grain)
        for other in others[starts[grain] : starts[grain + 1]]:
            if not gone[other]:
                left[other] -= 1
                buckets[left[other]].append(other)
                lowest = min(lowest, left[other])
    return order[::-1]
