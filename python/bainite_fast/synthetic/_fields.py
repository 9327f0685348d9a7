"""The building blocks of a picture: smooth noise, grains, stamped particles, blur.

Each works on one square window of `size` pixels whose top-left pixel is (y0, x0) in the mosaic. Positions inside the
window are float32 relative to its corner, so that a mosaic of any extent loses no precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._hash import UInt64, hash_cells, normal, uniform

Float32 = NDArray[np.float32]
Index = NDArray[np.intp]

BLOCKS = 8  # parts per side in which a Voronoi diagram is drawn
# A candidate's number rides in the lowest bits of its distance, see `voronoi`.
_ID_BITS = 5
_ID_MASK = (1 << _ID_BITS) - 1


@dataclass(frozen=True, slots=True)
class Window:
    """A square window of the mosaic, in pixels, moved by a sub-pixel shift where a stage tile is misplaced."""

    y0: int
    x0: int
    size: int
    shift_y: float = 0.0
    shift_x: float = 0.0

    def rows(self) -> Float32:
        """Row coordinates of the pixels relative to the window's corner: float32 [size]."""
        return np.arange(self.size, dtype=np.float32) + np.float32(self.shift_y)

    def columns(self) -> Float32:
        """Column coordinates of the pixels relative to the window's corner: float32 [size]."""
        return np.arange(self.size, dtype=np.float32) + np.float32(self.shift_x)


@dataclass(frozen=True, slots=True)
class Seeds:
    """Voronoi seeds near a window: hashed bits, position relative to its corner (px) and metric weight, each [n]."""

    bits: UInt64
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    weight: NDArray[np.float64]
    i: NDArray[np.int64]
    j: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.bits)


def jittered_seeds(key: int, window: Window, cell: float, *, reach: int = 2, spread: float = 0.0) -> Seeds:
    """Return one seed for every cell (edge `cell`, px) that can touch the window, jittered inside its cell.

    `reach` cells are added on each side; `spread` is the standard deviation of the logarithm of the metric weight:
    unequal weights give grains of unequal size with curved boundaries.
    """
    first_i, last_i = int(window.y0 // cell) - reach, int((window.y0 + window.size) // cell) + reach
    first_j, last_j = int(window.x0 // cell) - reach, int((window.x0 + window.size) // cell) + reach
    rows, columns = np.arange(first_i, last_i + 1, dtype=np.int64), np.arange(first_j, last_j + 1, dtype=np.int64)
    i, j = np.repeat(rows, len(columns)), np.tile(columns, len(rows))
    bits = hash_cells(key, i, j)
    y = (i + 0.08 + 0.84 * uniform(bits, 1)) * cell - window.y0
    x = (j + 0.08 + 0.84 * uniform(bits, 2)) * cell - window.x0
    weight = np.exp(spread * np.clip(normal(bits, 3), -2.0, 2.0))
    return Seeds(bits, y, x, weight, i, j)


def nearest_seed(seeds: Seeds, y: NDArray[np.float64], x: NDArray[np.float64]) -> Index:
    """Index of the seed nearest to each point (y, x): intp [n]."""
    squared = (y[:, None] - seeds.y) ** 2 + (x[:, None] - seeds.x) ** 2
    nearest: Index = np.argmin(squared, axis=1)
    return nearest


@dataclass(frozen=True, slots=True)
class Cells:
    """A Voronoi diagram of a window: nearest and second seed, and the distance to the border between them (px)."""

    first: Index
    second: Index | None
    edge: Float32

    def pair(self, count: int) -> Index:
        """Return the number of the ordered pair (first, second) among `count` seeds; draw the diagram with pairs."""
        number = self.first * count
        if self.second is not None:
            number += self.second
        return number


@dataclass(frozen=True, slots=True)
class Ripple:
    """Waviness of borders: displacement `amplitude` (px, standard deviation) changing over `spacing` pixels."""

    amplitude: float
    spacing: float


def voronoi(
    seeds: Seeds,
    window: Window,
    *,
    cell: float,
    ripple: Ripple,
    wanted: NDArray[np.bool_] | None = None,
    pairs: bool = True,
) -> Cells:
    """Draw the multiplicatively weighted Voronoi diagram of `seeds` with wavy borders.

    The weighted squared distance to a seed is a row term plus a column term, so one addition per pixel and candidate
    gives it; smooth chance added to either term makes the borders wavy. The window is cut into `BLOCKS` × `BLOCKS`
    parts; in each, seeds that cannot be first or second anywhere are dropped, and the number of a candidate is kept in
    the lowest 5 of the 23 mantissa bits of its distance, so that plain minima carry the identity along. This moves a
    border by less than 0.01 px.

    Parameters
    ----------
    seeds : Seeds
        Candidates.
    window : Window
        Where to draw; its size is a multiple of `BLOCKS`.
    cell : float
        Mean spacing of the seeds (px).
    ripple : Ripple
        Waviness of the borders.
    wanted : ndarray of bool, [BLOCKS, BLOCKS], optional
        Parts to draw; the others stay zero.
    pairs : bool
        Whether to tell the second seed too, and with it the exact distance to the border; else the distance is right
        for seeds one `cell` apart.

    Returns
    -------
    Cells
        Arrays of shape [size, size].
    """
    size = window.size
    edge = size // BLOCKS
    rows, columns = window.rows(), window.columns()
    first = np.zeros((size, size), dtype=np.intp)
    second = np.zeros((size, size), dtype=np.intp) if pairs else None
    gap = np.zeros((size, size), dtype=np.float32)
    weight = seeds.weight.astype(np.float32)
    row_terms = weight[:, None] * (rows[None, :] - seeds.y.astype(np.float32)[:, None]) ** 2
    column_terms = weight[:, None] * (columns[None, :] - seeds.x.astype(np.float32)[:, None]) ** 2
    # A border moves by the difference of two such terms over its rate 2·|s1 - s2|, about 2·cell.
    scale = np.float32(2.0 * cell * ripple.amplitude / np.sqrt(2.0))
    row_terms += scale * _wander(seeds.bits, window.y0, rows, ripple.spacing, 50)
    column_terms += scale * _wander(seeds.bits, window.x0, columns, ripple.spacing, 51)
    # Keep every value positive: the bits of positive floats sort like integers.
    row_terms += np.float32(8.0) * scale
    low_y, high_y = _bounds(row_terms)
    low_x, high_x = _bounds(column_terms)
    buffers = [np.empty((edge, edge), dtype=np.float32) for _ in range(4)]
    for by in range(BLOCKS):
        ys = slice(by * edge, (by + 1) * edge)
        for bx in range(BLOCKS):
            if wanted is not None and not wanted[by, bx]:
                continue
            xs = slice(bx * edge, (bx + 1) * edge)
            low = low_y[:, by] + low_x[:, bx]
            high = np.partition(high_y[:, by] + high_x[:, bx], 1)[1]
            candidates = np.flatnonzero(low <= high)
            if len(candidates) > _ID_MASK + 1:
                candidates = candidates[np.argsort(low[candidates], kind="stable")[: _ID_MASK + 1]]
            f1, f2 = _two_nearest(row_terms[candidates, ys], column_terms[candidates, xs], buffers)
            first[ys, xs] = np.take(candidates, f1.view(np.int32) & _ID_MASK)
            if second is not None:
                second[ys, xs] = np.take(candidates, f2.view(np.int32) & _ID_MASK)
            np.subtract(f2, f1, out=gap[ys, xs])
    if second is None:
        gap *= np.float32(0.5 / cell)
        return Cells(first, second, gap)
    # f2 - f1 grows across the border at the rate 2·|s1 - s2| (times the weight).
    dy, dx = seeds.y[:, None] - seeds.y, seeds.x[:, None] - seeds.x
    rate = 2.0 * np.sqrt(dy * dy + dx * dx) * np.sqrt(seeds.weight[:, None] * seeds.weight)
    per_pair = (1.0 / np.maximum(rate, 1.0)).astype(np.float32)
    cells = Cells(first, second, gap)
    gap *= np.take(per_pair.ravel(), cells.pair(len(seeds)))
    return cells


def _wander(bits: UInt64, origin: int, offsets: Float32, spacing: float, salt: int) -> Float32:
    # Smooth noise along one axis, another one for every seed: float32 [n, size].
    base, weights = _spline(origin, offsets, spacing)
    nodes = np.arange(base[0], base[-1] + 4, dtype=np.int64)
    values = normal(hash_cells(salt, bits.view(np.int64)[:, None], nodes[None, :]), 0).astype(np.float32)
    values *= np.float32(1.45)
    at = base - base[0]
    result: Float32 = values[:, at] * weights[0]
    for tap in range(1, 4):
        result += values[:, at + tap] * weights[tap]
    return result


def _bounds(terms: Float32) -> tuple[Float32, Float32]:
    # Least and greatest value of a 1-D term over each part: float32 [n, BLOCKS] each.
    parts = terms.reshape(len(terms), BLOCKS, -1)
    return parts.min(axis=2), parts.max(axis=2)


def _two_nearest(row_terms: Float32, column_terms: Float32, buffers: list[Float32]) -> tuple[Float32, Float32]:
    f1, f2, value, larger = buffers
    f1.fill(np.float32(3e38))
    f2.fill(np.float32(3e38))
    bits = value.view(np.int32)
    for k in range(len(row_terms)):
        np.add(row_terms[k][:, None], column_terms[k][None, :], out=value)
        np.bitwise_and(bits, np.int32(~_ID_MASK), out=bits)
        np.bitwise_or(bits, np.int32(k), out=bits)
        np.maximum(f1, value, out=larger)
        np.minimum(f2, larger, out=f2)
        np.minimum(f1, value, out=f1)
    return f1, f2


def smooth_noise(key: int, window: Window, spacing: float) -> Float32:
    """Smooth noise, mean 0 and standard deviation about 1, varying over `spacing` pixels: float32 [size, size].

    Hashed values on a square lattice, joined by the uniform cubic B-spline (continuous second derivative).
    """
    row_base, row_weights = _spline(window.y0, window.rows(), spacing)
    column_base, column_weights = _spline(window.x0, window.columns(), spacing)
    i = np.arange(row_base[0], row_base[-1] + 4, dtype=np.int64)
    j = np.arange(column_base[0], column_base[-1] + 4, dtype=np.int64)
    lattice = normal(hash_cells(key, i[:, None], j[None, :]), 0).astype(np.float32)
    # A cubic B-spline of independent unit values has a mean variance of about 0.23.
    lattice *= np.float32(2.09)
    ri = row_base - row_base[0]
    rows = lattice[ri] * row_weights[0][:, None]
    for tap in range(1, 4):
        rows += lattice[ri + tap] * row_weights[tap][:, None]
    ci = column_base - column_base[0]
    field: Float32 = np.take(rows, ci, axis=1)
    field *= column_weights[0]
    part = np.empty_like(field)
    for tap in range(1, 4):
        np.take(rows, ci + tap, axis=1, out=part)
        part *= column_weights[tap]
        field += part
    return field


def _spline(origin: int, offsets: Float32, spacing: float) -> tuple[NDArray[np.int64], Float32]:
    position = (origin + offsets.astype(np.float64)) / spacing
    base = np.floor(position)
    t = position - base
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6.0
    return base.astype(np.int64) - 1, weights.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Particles:
    """Statistics of elliptical particles, one per square cell at most.

    Attributes
    ----------
    cell : int
        Edge of a cell (px).
    radius : float
        Median semi-axis across (px).
    aspect : float
        Greatest ratio of the semi-axes; each particle draws its own between 1 and this.
    density : float
        Share of the cells that hold a particle.
    angular : bool
        True: each particle is what two crossing ellipses share, which gives it corners. Such particles keep inside
        their own cell; others may reach one cell beyond it.
    """

    cell: int
    radius: float
    aspect: float
    density: float
    angular: bool = False


def stamp_particles(key: int, window: Window, particles: Particles) -> Float32:
    """Draw particles as q = (elliptical distance from the centre)², 1 on the outline: float32 [size, size].

    Cells are taken in nine colours (row mod 3, column mod 3). Stamps of one colour, three cells wide, tile the plane
    without overlap, so each colour is one broadcast expression and nothing is looked up per pixel. Angular particles
    need stamps of one cell and a single colour.
    """
    cell, span = particles.cell, 1 if particles.angular else 3
    border = span // 2
    first_i, first_j = window.y0 // cell - border, window.x0 // cell - border
    i = np.arange(first_i, (window.y0 + window.size - 1) // cell + border + 2, dtype=np.int64)
    j = np.arange(first_j, (window.x0 + window.size - 1) // cell + border + 2, dtype=np.int64)
    bits = hash_cells(key, i[:, None], j[None, :])
    shapes = [_ellipses(bits, particles, window, salt) for salt in ((10, 20) if particles.angular else (10,))]
    offsets = np.arange(span * cell, dtype=np.float32) - np.float32(border * cell)
    result: Float32 | None = None
    for colour in range(span * span):
        colour_i, colour_j = divmod(colour, span)
        part = (slice(colour_i, None, span), slice(colour_j, None, span))
        sheet = _stamps(shapes[0][(slice(None), *part)], offsets)
        for shape in shapes[1:]:
            np.maximum(sheet, _stamps(shape[(slice(None), *part)], offsets), out=sheet)
        # A stamp starts `border` cells before its own.
        y, x = window.y0 - int(i[colour_i] - border) * cell, window.x0 - int(j[colour_j] - border) * cell
        view = sheet[y : y + window.size, x : x + window.size]
        result = view if result is None else np.minimum(result, view)
    return np.ascontiguousarray(result)


def _stamps(ellipses: Float32, offsets: Float32) -> Float32:
    """Evaluate the ellipses (5 parameters, [5, rows, columns]) on their own stamps: one sheet of all of them."""
    cy, cx, a, b, c = ellipses
    dy = offsets[None, :, None] - cy[:, None, :]
    dx = offsets - cx[:, :, None]
    sheet: Float32 = (b[:, :, None] * dx)[:, None] * dy[..., None]
    sheet += (a[:, :, None] * dx * dx)[:, None]
    sheet += (c[:, None, :] * dy * dy)[..., None]
    size = len(offsets)
    joined: Float32 = sheet.reshape(cy.shape[0] * size, cy.shape[1] * size)
    return joined


def _ellipses(bits: UInt64, particles: Particles, window: Window, salt: int) -> Float32:
    """Centre and quadratic form of each cell's particle: float32 [5, rows, columns]."""
    cell = particles.cell
    across = particles.radius * np.exp(0.30 * np.clip(normal(bits, salt), -2.0, 1.5))
    along = across * (1.0 + (particles.aspect - 1.0) * uniform(bits, salt + 1))
    along = np.minimum(along, (0.45 if particles.angular else 0.98) * cell)
    angle = np.pi * uniform(bits, salt + 2)
    co, si = np.cos(angle), np.sin(angle)
    # Centres are shared by the two ellipses of an angular particle, which stays clear of the cell's border.
    inset = np.maximum(0.5 - (across + along) / cell, 0.05) if particles.angular else 0.5
    cy = cell * (0.5 + inset * (2.0 * uniform(bits, 1) - 1.0)) - window.shift_y
    cx = cell * (0.5 + inset * (2.0 * uniform(bits, 2) - 1.0)) - window.shift_x
    absent = uniform(bits, 3) >= particles.density
    u, v = across**-2, along**-2
    a = co * co * u + si * si * v + 1e6 * absent
    c = si * si * u + co * co * v + 1e6 * absent
    b = 2.0 * co * si * (u - v)
    return np.stack([cy, cx, a, b, c]).astype(np.float32)


def blur(image: Float32, sigma: float, radius: int) -> Float32:
    """Gaussian blur cut off at `radius` pixels; the result is smaller by `radius` on every side."""
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    taps = (taps / (taps[0] + 2 * taps[1:].sum())).astype(np.float32)
    height, width = image.shape
    rows = image[radius : height - radius] * taps[0]
    part = np.empty_like(rows)
    for k in range(1, radius + 1):
        np.add(image[radius - k : height - radius - k], image[radius + k : height - radius + k], out=part)
        part *= taps[k]
        rows += part
    result: Float32 = rows[:, radius : width - radius] * taps[0]
    narrow = np.empty_like(result)
    for k in range(1, radius + 1):
        np.add(rows[:, radius - k : width - radius - k], rows[:, radius + k : width - radius + k], out=narrow)
        narrow *= taps[k]
        result += narrow
    return result
