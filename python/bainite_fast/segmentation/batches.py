"""Which tiles go through the network together, and which pixels of them count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..geometry import Region, Tile
from .run_plan import Plan

Labels = npt.NDArray[np.uint8]
Pixels = npt.NDArray[Any]


def batches(tiles: list[Tile], size: int) -> Iterator[list[Tile]]:
    """Yield groups of at most `size` tiles whose inputs have one shape, in a fixed order."""
    groups: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        groups.setdefault((tile.input.height, tile.input.width), []).append(tile)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def crops(group: list[Tile], area: Region, trimmed: int) -> npt.NDArray[np.int64]:
    """Return (src_y, src_x, height, width, dst_y, dst_x) of every tile: its core, clipped to the area.

    The logits lack `trimmed` px on each side of the tile's input.
    """
    return np.array(
        [
            (
                t.core.y - t.input.y - trimmed,
                t.core.x - t.input.x - trimmed,
                min(t.core.y1, area.y1) - t.core.y,
                min(t.core.x1, area.x1) - t.core.x,
                t.core.y - area.y,
                t.core.x - area.x,
            )
            for t in group
        ],
        np.int64,
    )


def _nearest(plan: Plan, by: int, bx: int, area: Region) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return which row and column of the area's labels each mosaic pixel of a block takes."""
    region = plan.region(by, bx)
    rows = np.arange(region.y, region.y1, dtype=np.int64)
    columns = np.arange(region.x, region.x1, dtype=np.int64)
    return (
        (2 * rows + 1) * plan.grid[0] // (2 * plan.shape[0]) - area.y,
        (2 * columns + 1) * plan.grid[1] // (2 * plan.shape[1]) - area.x,
    )


def corners(group: list[Tile]) -> npt.NDArray[np.int64]:
    """Return the top-left pixel (y, x) of what the network sees of every tile."""
    return np.array([(t.input.y, t.input.x) for t in group], np.int64)


def is_core(group: list[Tile], halo: int) -> bool:
    """Say whether every tile has the halo on all sides, so that the trimmed network serves."""
    return all(t.core.grown(halo) == t.input for t in group)


def on_mosaic_grid(
    plan: Plan, by: int, bx: int, labels: Labels, confidence: Labels | None
) -> tuple[Labels, Labels | None]:
    """Return labels, and confidence if any, of block (by, bx) on the mosaic's grid from those of its area."""
    if not plan.scaled:
        return labels, confidence
    rows, columns = _nearest(plan, by, bx, plan.area(by, bx))
    return labels[rows][:, columns], None if confidence is None else confidence[rows][:, columns]


def refuse_bad(bad: int, first: Tile) -> None:
    """Raise ModelError where a network gave logits that are not finite, at so many pixels from a tile on."""
    if bad:
        raise ModelError(
            f"the network gave NaN or infinity at {bad} pixels of the tile at {first.core}; the weights are "
            "damaged, or the precision is too low: try precision='float32'"
        )
