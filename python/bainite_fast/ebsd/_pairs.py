"""Neighbouring points of a grid as pairs of indices, each pair once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .grid import Grid

Index = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Offset:
    """From a point to a neighbour: `rows` down, `halves` half columns to the right, `distance` in µm."""

    rows: int
    halves: int
    distance: float


def half_stencil(grid: Grid, order: int) -> list[Offset]:
    """Return one offset of each pair of opposite ones up to an order, nearest first.

    The order is the number of steps between nearest neighbours on a hexagonal grid, and max(|Δrow|, |Δcolumn|) on a
    square one.
    """
    offsets = []
    for rows in range(order + 1):
        for halves in range(-2 * order, 2 * order + 1):
            if rows == 0 and halves <= 0:
                continue
            if grid.kind == "square":
                if halves % 2 or abs(halves) > 2 * order:
                    continue
            elif (rows + halves) % 2 or max(rows, (rows + abs(halves)) // 2) > order:
                continue
            offsets.append(Offset(rows, halves, float(np.hypot(rows * grid.dy, halves * grid.dx / 2))))
    return sorted(offsets, key=lambda offset: (round(offset.distance, 9), offset.rows, offset.halves))


def nearest_offsets(grid: Grid) -> list[Offset]:
    """Return the offsets to the nearest neighbours, three of 6 on a hexagonal grid and two of 4 on a square one."""
    offsets = half_stencil(grid, 1)
    return [o for o in offsets if grid.kind == "hexagonal" or o.rows == 0 or o.halves == 0]


def pairs(grid: Grid, offset: Offset) -> tuple[Index, Index]:
    """Return the indices of all pairs of points that are `offset` apart: two int64 (n,)."""
    starts = grid.row_starts()
    ones, others = [], []
    for parity in (0, 1) if grid.kind == "hexagonal" else (0,):
        rows = np.arange(parity, grid.rows - offset.rows, 2 if grid.kind == "hexagonal" else 1, dtype=np.int64)
        if not len(rows):
            continue
        shift = parity if grid.kind == "hexagonal" else 0
        target = (parity + offset.rows) % 2 if grid.kind == "hexagonal" else 0
        step = (shift + offset.halves - target) // 2
        width, target_width = (grid.columns_even if odd else grid.columns for odd in (shift, target))
        columns = np.arange(max(0, -step), min(width, target_width - step), dtype=np.int64)
        ones.append((starts[rows][:, None] + columns).ravel())
        others.append((starts[rows + offset.rows][:, None] + columns + step).ravel())
    if not ones:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(ones), np.concatenate(others)


def nearest_pairs(grid: Grid) -> tuple[Index, Index]:
    """Return all pairs of nearest neighbours, each once: two int64 (n,)."""
    found = [pairs(grid, offset) for offset in nearest_offsets(grid)]
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])


def neighbour_table(grid: Grid) -> Index:
    """Return the nearest neighbours of every point, 4 or 6, -1 where the map ends: int64 (points, neighbours)."""
    ahead = nearest_offsets(grid)
    table = np.full((grid.size, 2 * len(ahead)), -1, np.int64)
    for number, offset in enumerate(ahead):
        i, j = pairs(grid, offset)
        table[i, number], table[j, len(ahead) + number] = j, i
    return table
