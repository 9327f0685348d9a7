"""One square tile of a synthetic mosaic: the microstructure, then the picture taken of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._fields import (
    BLOCKS,
    Cells,
    Float32,
    Particles,
    Ripple,
    Seeds,
    Window,
    blur,
    jittered_seeds,
    nearest_seed,
    smooth_noise,
    stamp_particles,
    voronoi,
)
from ._hash import hash_cells, layer_key, rehash, uniform, white_noise
from ._hash import normal as hashed_normal
from ._laths import BREAKS, SAMPLES, SEQUENCES, LathLibrary, make_laths
from .presets import Preset

TILE = 512
STAGE_Y, STAGE_X = 1536, 2048  # one field of the microscope stage (px), a whole number of tiles
_MARGIN = 8  # drawn around a tile for blur and relief
_BLUR_RADIUS = 4
_REGION, _GRAIN, _PACKET, _ROD, _ISLAND, _MOTTLE, _BEND, _ROUGH, _NOISE, _STAGE, _PIT = range(1, 12)
_TURN = 2.0 * np.pi


@dataclass(frozen=True, slots=True)
class Renderer:
    """Everything a tile needs that does not depend on its place."""

    preset: Preset
    seed: int
    seams: bool
    laths: LathLibrary

    @classmethod
    def create(cls, preset: Preset, seed: int, *, seams: bool) -> Renderer:
        """Draw the tables shared by all tiles."""
        return cls(preset, seed, seams, make_laths(preset, seed))

    def px(self, um: float) -> float:
        """Convert micrometres to pixels."""
        return um / self.preset.um_per_px

    def key(self, layer: int) -> int:
        """Return the hash key of a layer."""
        return layer_key(self.seed, layer)


@dataclass(frozen=True, slots=True)
class _Grains:
    """Grains of a window: their diagram and what the hash made of each."""

    seeds: Seeds
    cells: Cells
    bainite: NDArray[np.bool_]
    granularity: Float32
    tone: Float32


def draw_tile(renderer: Renderer, ty: int, tx: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw tile (ty, tx): image and mask, uint8 [TILE, TILE] each."""
    window = _window(renderer, ty, tx)
    grains = _draw_grains(renderer, window)
    in_bainite = np.take(grains.bainite, grains.cells.first)
    gray, height = _etch(renderer, window, grains, in_bainite)
    return _photograph(renderer, ty, tx, gray, height), _inner(in_bainite)


def draw_mask(renderer: Renderer, ty: int, tx: int) -> NDArray[np.uint8]:
    """Draw the mask of tile (ty, tx) alone: uint8 [TILE, TILE]."""
    grains = _draw_grains(renderer, _window(renderer, ty, tx))
    return _inner(np.take(grains.bainite, grains.cells.first))


def _inner(in_bainite: NDArray[np.bool_]) -> NDArray[np.uint8]:
    inner = slice(_MARGIN, _MARGIN + TILE)
    return in_bainite[inner, inner].astype(np.uint8)


def _window(renderer: Renderer, ty: int, tx: int) -> Window:
    shift_y = shift_x = 0.0
    if renderer.seams:
        bits = _stage_bits(renderer, ty, tx)
        shift_y, shift_x = (float(3.0 * uniform(bits, salt)[0] - 1.5) for salt in (1, 2))
    return Window(ty * TILE - _MARGIN, tx * TILE - _MARGIN, TILE + 2 * _MARGIN, shift_y, shift_x)


def _stage_bits(renderer: Renderer, ty: int, tx: int) -> NDArray[np.uint64]:
    return hash_cells(renderer.key(_STAGE), np.array([ty * TILE // STAGE_Y]), np.array([tx * TILE // STAGE_X]))


def _draw_grains(renderer: Renderer, window: Window) -> _Grains:
    preset = renderer.preset
    seeds = jittered_seeds(renderer.key(_GRAIN), window, renderer.px(preset.grain_um), spread=0.16)
    in_region = _bainitic_region(renderer, window, seeds)
    share = np.where(in_region, preset.bainite_inside, preset.bainite_outside)
    bainite = uniform(seeds.bits, 10) < share
    granular = uniform(seeds.bits, 11) < np.where(in_region, 0.5, 1.0) * preset.granular_share
    granularity = np.where(granular, 0.55 + 0.75 * uniform(seeds.bits, 12), 0.0)
    cell = renderer.px(preset.grain_um)
    ripple = Ripple(amplitude=renderer.px(0.08), spacing=renderer.px(0.9))
    return _Grains(
        seeds,
        voronoi(seeds, window, cell=cell, ripple=ripple),
        bainite,
        granularity.astype(np.float32),
        hashed_normal(seeds.bits, 13).astype(np.float32),
    )


def _bainitic_region(renderer: Renderer, window: Window, grains: Seeds) -> NDArray[np.bool_]:
    """Say of each grain whether its former austenite grain turned mainly into bainite.

    In every block of 4 × 4 regions a fixed share is bainitic, up to rounding that is right on average: the phase
    fraction of a mosaic settles much sooner than with independent draws.
    """
    key = renderer.key(_REGION)
    cell = renderer.px(renderer.preset.region_um)
    regions = jittered_seeds(key, window, cell, reach=4)
    members = np.arange(4, dtype=np.int64)
    block_i, block_j = regions.i >> 2, regions.j >> 2
    block = hash_cells(
        key, (4 * block_i)[:, None, None] + members[:, None], (4 * block_j)[:, None, None] + members
    ).reshape(-1, 16)
    rank = (rehash(block, 5) < rehash(regions.bits, 5)[:, None]).sum(axis=1)
    rounding = uniform(hash_cells(rehash_key(key), block_i, block_j), 6)
    bainitic = rank + rounding < 16.0 * renderer.preset.region_share
    result: NDArray[np.bool_] = bainitic[nearest_seed(regions, grains.y, grains.x)]
    return result


def rehash_key(key: int) -> int:
    """Derive a second key from a key."""
    return int(rehash(np.array([key], dtype=np.uint64), 77)[0])


def _etch(
    renderer: Renderer, window: Window, grains: _Grains, in_bainite: NDArray[np.bool_]
) -> tuple[Float32, Float32]:
    """Give every phase its gray; also the height of what stands proud of the surface (0 … 1)."""
    etching = renderer.preset.etching
    levels = np.where(grains.bainite, etching.lath, etching.matrix) + etching.grain_spread * grains.tone
    gray = np.take(levels.astype(np.float32), grains.cells.first)
    mottle = smooth_noise(renderer.key(_MOTTLE), window, renderer.px(0.9))
    height = _particles(renderer, window, grains, mottle)
    gray += np.float32(etching.particle) * height
    _islands(renderer, window, in_bainite, mottle, gray, height)
    _bainite(renderer, window, grains, in_bainite, mottle, gray, height)
    line = _boundaries(renderer, grains)
    gray += np.float32(etching.boundary) * line
    np.maximum(height, line, out=height)
    gray += np.float32(etching.mottle) * mottle
    if etching.pitting:
        gray += np.float32(etching.pitting) * smooth_noise(renderer.key(_PIT), window, renderer.px(0.11))
    gray += np.float32(etching.roughness) * white_noise(
        renderer.key(_ROUGH), window.y0, window.x0, (window.size, window.size)
    )
    return gray, height


def _boundaries(renderer: Renderer, grains: _Grains) -> Float32:
    """Grain boundaries as lines of 0 … 1; each pair of grains has its own strength, some hardly etch."""
    bits = grains.seeds.bits
    pair = uniform(bits[:, None] ^ bits[None, :], 20)
    strength = np.clip(1.25 * pair + 0.15, 0.0, 1.0).astype(np.float32)
    half = np.float32(max(0.5 * renderer.px(0.13), 0.5))
    line: Float32 = np.clip(half + np.float32(0.5) - grains.cells.edge, np.float32(0.0), np.float32(1.0))
    line *= np.take(strength.ravel(), grains.cells.pair(len(bits)))
    return line


def _particles(renderer: Renderer, window: Window, grains: _Grains, mottle: Float32) -> Float32:
    """Granular second phase of the grains that are not bainite: short rods and dots at random, 0 … 1.

    The rods are as wide and as dark as the carbide films of bainite: a small neighbourhood cannot tell them apart,
    only the parallel order can.
    """
    film_px = renderer.px(renderer.preset.film_um)
    rods = Particles(cell=max(6, round(renderer.px(0.82))), radius=0.66 * film_px, aspect=6.5, density=0.85)
    q = stamp_particles(renderer.key(_ROD), window, rods)
    granularity = np.where(grains.bainite, np.float32(0.0), grains.granularity)
    limit = np.take(granularity, grains.cells.first)
    q += np.float32(0.12) * mottle
    # 1 inside, 0 outside, a ramp of about a pixel between: q changes by 2 / radius per pixel at the outline.
    limit -= q
    limit *= np.float32(0.5 * rods.radius)
    limit += np.float32(0.5)
    return np.clip(limit, np.float32(0.0), np.float32(1.0), out=limit)


def _islands(
    renderer: Renderer, window: Window, in_bainite: NDArray[np.bool_], mottle: Float32, gray: Float32, height: Float32
) -> None:
    """Add blocky martensite-austenite islands with an etched rim, outside bainite."""
    etching = renderer.preset.etching
    radius = renderer.px(0.6)
    blocks = Particles(cell=round(renderer.px(4.5)), radius=radius, aspect=2.6, density=0.4, angular=True)
    q = stamp_particles(renderer.key(_ISLAND), window, blocks)
    q += np.float32(0.5) * mottle
    q[in_bainite] = 9.0
    inside = np.clip((np.float32(1.0) - q) * np.float32(0.5 * radius) + np.float32(0.5), 0, 1).astype(np.float32)
    width = renderer.px(0.10)
    rim = np.clip(inside - (np.float32(1.0) - q) * np.float32(0.5 * radius / max(width, 1.0)) * inside, 0, 1)
    gray += np.float32(etching.island) * inside
    gray += np.float32(etching.island_rim) * rim.astype(np.float32)
    np.maximum(height, inside, out=height)


def _bainite(
    renderer: Renderer,
    window: Window,
    grains: _Grains,
    in_bainite: NDArray[np.bool_],
    mottle: Float32,
    gray: Float32,
    height: Float32,
) -> None:
    """Add laths, carbide films and packet borders where the grain is bainite."""
    if not in_bainite.any():
        return
    preset, etching, laths = renderer.preset, renderer.preset.etching, renderer.laths
    part = window.size // BLOCKS
    wanted: NDArray[np.bool_] = np.any(in_bainite.reshape(BLOCKS, part, BLOCKS, part), axis=(1, 3))
    cell = renderer.px(preset.packet_um)
    seeds = jittered_seeds(renderer.key(_PACKET), window, cell, spread=0.2)
    ripple = Ripple(amplitude=renderer.px(0.12), spacing=renderer.px(0.6))
    packets = voronoi(seeds, window, cell=cell, ripple=ripple, wanted=wanted, pairs=False)
    at = np.flatnonzero(in_bainite)
    packet = packets.first.ravel()[at]
    pair = grains.cells.first.ravel()[at] * len(seeds) + packet
    u, v = _lath_coordinates(renderer, window, (grains.seeds, seeds), (at, pair), mottle)
    place = u.astype(np.intp)
    place &= SAMPLES - 1
    sequence = (rehash(seeds.bits, 30) % np.uint64(SEQUENCES)).astype(np.intp) * SAMPLES
    place += np.take(sequence, packet)
    along = v.astype(np.intp)
    along &= BREAKS - 1
    along += np.take(laths.film, place) * BREAKS
    film = np.take(laths.thickness, along)
    film *= np.float32(0.5 * renderer.px(preset.film_um))
    film -= np.take(laths.distance, place)
    film += np.float32(0.5)
    np.clip(film, np.float32(0.0), np.float32(1.0), out=film)
    border = np.clip(np.float32(0.9) - packets.edge.ravel()[at], np.float32(0.0), np.float32(1.0))
    np.maximum(film, np.float32(0.55) * border, out=film)
    packet_tone = (etching.packet_spread * hashed_normal(seeds.bits, 31)).astype(np.float32)
    tone = np.take(packet_tone, packet)
    tone += np.float32(etching.lath_spread) * np.take(laths.tone, np.take(laths.lath, place))
    tone += np.float32(etching.film) * film
    gray.ravel()[at] += tone
    height.ravel()[at] = film


def _lath_coordinates(
    renderer: Renderer,
    window: Window,
    seeds: tuple[Seeds, Seeds],
    where: tuple[NDArray[np.intp], NDArray[np.intp]],
    mottle: Float32,
) -> tuple[Float32, Float32]:
    """Coordinates across and along the laths, in samples of the library's tables.

    `seeds` are those of grains and packets; `where` the flat numbers of the pixels, and for each its pair of grain and
    packet.
    """
    laths = renderer.laths
    (grains, packets), (at, pair) = seeds, where
    # Packets of one grain share its orientation up to one of six variants, as habit planes of one parent do.
    angle = _TURN * uniform(grains.bits, 32)[:, None] + (np.pi / 6.0) * np.floor(6.0 * uniform(packets.bits, 33))
    angle = angle + 0.12 * hashed_normal(packets.bits, 34)
    cosine, sine = np.cos(angle), np.sin(angle)
    offset_u = -(packets.y * cosine + packets.x * sine) * laths.samples_per_px + SAMPLES * (
        64 + uniform(packets.bits, 35)
    )
    offset_v = -(packets.x * cosine - packets.y * sine) * laths.breaks_per_px + BREAKS * (
        64 + uniform(packets.bits, 36)
    )
    bend = smooth_noise(renderer.key(_BEND), window, renderer.px(3.0))
    bend *= np.float32(renderer.px(0.28))
    bend += np.float32(renderer.px(0.04)) * mottle
    y = np.repeat(window.rows(), window.size)[at]
    x = np.tile(window.columns(), window.size)[at]
    co = np.take(cosine.astype(np.float32).ravel(), pair)
    si = np.take(sine.astype(np.float32).ravel(), pair)
    u = y * co
    u += x * si
    u += bend.ravel()[at]
    u *= np.float32(laths.samples_per_px)
    u += np.take(offset_u.astype(np.float32).ravel(), pair)
    v = x * co
    v -= y * si
    v *= np.float32(laths.breaks_per_px)
    v += np.take(offset_v.astype(np.float32).ravel(), pair)
    return u, v


def _photograph(renderer: Renderer, ty: int, tx: int, gray: Float32, height: Float32) -> NDArray[np.uint8]:
    """Light, blur, shade and digitise: uint8 [TILE, TILE]."""
    preset, etching = renderer.preset, renderer.preset.etching
    if etching.relief:
        # Edges that face the detector are bright, the others lie in shadow.
        step = max(1, round(renderer.px(0.04)))
        gray[step:, step:] += np.float32(etching.relief) * (height[step:, step:] - height[:-step, :-step])
    spare = _MARGIN - _BLUR_RADIUS
    picture = blur(gray[spare:-spare, spare:-spare], preset.blur_px, _BLUR_RADIUS)
    row_gain, column_gain, gain, offset = _shading(renderer, ty, tx)
    picture *= row_gain[:, None]
    picture *= column_gain[None, :]
    noise = white_noise(renderer.key(_NOISE), ty * TILE, tx * TILE, (TILE, TILE))
    spread = np.sqrt(np.maximum(picture, np.float32(0.0)))
    spread *= np.float32(etching.shot / np.sqrt(128.0))
    spread += np.float32(etching.noise)
    noise *= spread
    picture += noise
    picture *= np.float32(gain)
    if etching.gamma != 1.0:
        np.clip(picture, np.float32(0.0), np.float32(255.0), out=picture)
        picture = np.float32(255.0) * (picture / np.float32(255.0)) ** np.float32(etching.gamma)
    picture += np.float32(offset + 0.5)
    np.clip(picture, np.float32(0.0), np.float32(255.0), out=picture)
    return picture.astype(np.uint8)


def _shading(renderer: Renderer, ty: int, tx: int) -> tuple[Float32, Float32, float, float]:
    """Vignette of the stage tile as row and column gains; with seams also its own tilt, gain and gray offset."""
    depth = 0.5 * renderer.preset.etching.shading
    y = ((ty * TILE % STAGE_Y) + np.arange(TILE) + 0.5) / STAGE_Y
    x = ((tx * TILE % STAGE_X) + np.arange(TILE) + 0.5) / STAGE_X
    rows, columns = 1.0 - depth * np.cos(_TURN * y), 1.0 - depth * np.cos(_TURN * x)
    gain, offset = 1.0, 0.0
    if renderer.seams:
        bits = _stage_bits(renderer, ty, tx)
        rows *= 1.0 + 0.04 * (y - 0.5)
        columns *= 1.0 - 0.04 * (x - 0.5)
        gain = 1.0 + 0.02 * float(hashed_normal(bits, 3)[0])
        offset = 3.0 * float(hashed_normal(bits, 4)[0])
    return rows.astype(np.float32), columns.astype(np.float32), gain, offset
