"""Integer geometry of tiles, blocks and mirrored borders. No arrays: everything here prints, hashes and tests alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from .errors import InputError

PadMode = Literal["mirror", "symmetric", "edge", "constant"]
PAD_MODES: tuple[str, ...] = get_args(PadMode)


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is not below `value`."""
    return -(-value // multiple) * multiple


def round_down(value: int, multiple: int) -> int:
    """Return the largest multiple of `multiple` that is not above `value`."""
    return value // multiple * multiple


def mirror_index(index: int, size: int, mode: PadMode = "mirror") -> int:
    """Return the index inside [0, size) that padding shows at `index`; -1 for the constant outside.

    Parameters
    ----------
    index : int
        Position on the axis, inside the image or any distance outside.
    size : int
        Length of the axis in pixels, at least 1.
    mode : {"mirror", "symmetric", "edge", "constant"}
        ``"mirror"`` does not repeat the border pixel (``numpy.pad`` calls it "reflect"), ``"symmetric"`` does.

    Returns
    -------
    int
        Index of the source pixel, or -1 where the constant stands.
    """
    if 0 <= index < size:
        return index
    if mode == "constant":
        return -1
    if mode == "edge":
        return min(max(index, 0), size - 1)
    if mode == "symmetric":
        folded = index % (2 * size)
        return min(folded, 2 * size - 1 - folded)
    if size == 1:
        return 0
    folded = index % (2 * size - 2)
    return min(folded, 2 * size - 2 - folded)


def source_range(start: int, stop: int, size: int, mode: PadMode = "mirror") -> tuple[int, int]:
    """Return the half-open range of source indices that a padded range [start, stop) touches.

    Parameters
    ----------
    start, stop : int
        The padded range, which may overhang the axis on both sides by any distance.
    size : int
        Length of the axis in pixels.
    mode : {"mirror", "symmetric", "edge", "constant"}
        How the border is padded.

    Returns
    -------
    tuple of int
        The tight bounding range inside [0, size); (0, 0) when nothing but the constant is touched.
    """
    touched = [mirror_index(i, size, mode) for i in _extremes(start, stop, size, mode)]
    inside = [i for i in touched if i >= 0]
    return (min(inside), max(inside) + 1) if inside else (0, 0)


def _extremes(start: int, stop: int, size: int, mode: PadMode) -> list[int]:
    """Return the few indices of [start, stop) among which the smallest and largest source index must be."""
    picks = {start, stop - 1}
    picks.update(i for i in (0, size - 1) if start <= i < stop)
    if mode in ("mirror", "symmetric"):
        # Folding turns round at both ends of every period: the turning points are the only other extremes.
        period = max(1, 2 * size - 2 if mode == "mirror" else 2 * size)
        for turn in (0, size - 1, size, -1):
            first = start + (turn - start) % period
            if first < stop:
                picks.add(first)
    return sorted(picks)


@dataclass(frozen=True, slots=True, order=True)
class Region:
    """A rectangle of pixels: upper left corner, height and width."""

    y: int
    x: int
    height: int
    width: int

    @property
    def y1(self) -> int:
        """Row below the last."""
        return self.y + self.height

    @property
    def x1(self) -> int:
        """Column right of the last."""
        return self.x + self.width

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def grown(self, margin: int) -> Region:
        """Return the rectangle with `margin` px more on each side."""
        return Region(self.y - margin, self.x - margin, self.height + 2 * margin, self.width + 2 * margin)

    def __str__(self) -> str:
        return f"rows {self.y}:{self.y1}, columns {self.x}:{self.x1}"


@dataclass(frozen=True, slots=True, order=True)
class Tile:
    """What one pass of the network sees and what it alone writes.

    Attributes
    ----------
    core : Region
        Pixels that this tile writes; its corner and its sides are multiples of the stride.
    input : Region
        Pixels that the network sees: the core and the halo round it. May overhang the image.
    """

    core: Region
    input: Region


def blocks_of(shape: tuple[int, int], block: int) -> Iterator[tuple[int, int]]:
    """Yield the (row, column) index of every block of a mosaic, row by row."""
    rows, columns = grid_of(shape, block)
    for by in range(rows):
        for bx in range(columns):
            yield by, bx


def grid_of(shape: tuple[int, int], block: int) -> tuple[int, int]:
    """Return the number of block rows and block columns that cover `shape`."""
    return -(-shape[0] // block), -(-shape[1] // block)


def block_region(shape: tuple[int, int], block: int, by: int, bx: int) -> Region:
    """Return the pixels of block (by, bx), clipped to the mosaic."""
    y, x = by * block, bx * block
    if not (0 <= y < shape[0] and 0 <= x < shape[1]):
        raise InputError(f"block ({by}, {bx}) of edge {block} lies outside a mosaic of shape {shape}")
    return Region(y, x, min(block, shape[0] - y), min(block, shape[1] - x))


def tiles_of(area: Region, tile: int, stride: int, halo: int, native: tuple[int, int] | None = None) -> list[Tile]:
    """Cut an area into tile cores that start on the stride grid, with the input of each.

    Parameters
    ----------
    area : Region
        What the cores must cover; its corner is on the stride grid. Cores may reach up to stride - 1 px further.
    tile : int
        Edge of a core in pixels, a multiple of the stride. The last row and column of cores is cut to what is left.
    stride, halo : int
        Of the model, in pixels.
    native : tuple of int, optional
        Shape of the image, rounded up to the stride, at whose border the halo is clipped; by default it overhangs.

    Returns
    -------
    list of Tile
        Row by row.

    Raises
    ------
    InputError
        If the tile, or the area's corner, is not on the stride grid.
    """
    if tile < 1 or tile % stride:
        raise InputError(
            f"tile size {tile} is not a multiple of the model's stride {stride}; use {round_up(max(tile, 1), stride)}"
        )
    if area.y % stride or area.x % stride:
        raise InputError(f"area at ({area.y}, {area.x}) does not start on the stride grid of {stride} px")
    return [
        Tile(Region(y, x, height, width), _grow(Region(y, x, height, width), halo, native))
        for y, height in _cut(area.y, area.y1, tile, stride)
        for x, width in _cut(area.x, area.x1, tile, stride)
    ]


def _cut(start: int, stop: int, tile: int, stride: int) -> list[tuple[int, int]]:
    stop = start + round_up(stop - start, stride)
    return [(p, min(tile, stop - p)) for p in range(start, stop, tile)]


def _grow(core: Region, halo: int, native: tuple[int, int] | None) -> Region:
    full = core.grown(halo)
    if native is None:
        return full
    y, x, y1, x1 = max(full.y, 0), max(full.x, 0), min(full.y1, native[0]), min(full.x1, native[1])
    return Region(y, x, y1 - y, x1 - x)


def scaled_shape(shape: tuple[int, int], factor: float) -> tuple[int, int]:
    """Return the shape of a mosaic resampled by `factor` (model pixels per mosaic pixel), at least 1 × 1."""
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def nearest_index(index: int, size: int, scaled: int) -> int:
    """Return the index on a scaled axis whose pixel holds the centre of pixel `index` of the original axis."""
    return min(scaled - 1, (2 * index + 1) * scaled // (2 * size))
