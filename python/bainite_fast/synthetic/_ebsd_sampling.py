"""The microstructure of a synthetic mosaic at the points of an EBSD grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ebsd import Grid
from ._fields import Ripple, Window, jittered_seeds, nearest_seed, smooth_noise, voronoi
from ._hash import UInt64, hash_cells, layer_key, rehash, uniform
from ._laths import SAMPLES, SEQUENCES, LathLibrary
from ._render import (
    _MARGIN,
    _MOTTLE,
    _PACKET,
    _REGION,
    TILE,
    Renderer,
    _bainitic_region,
    _draw_grains,
    _etch,
    _Grains,
    _lath_coordinates,
    _window,
)

_BEND, _SUBGRAIN, _BLOCKS = 83, 90, 91  # layers of their own, apart from the picture's
_SUBGRAIN_UM = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """The microstructure at the points; identities are hashed bits, each (points,).

    Attributes
    ----------
    bainite, in_region : ndarray of bool
        Lath bainite as in the mask; a grain of a region that turned mainly into bainite.
    grain, parent, packet, block, lath, subgrain : ndarray of uint64
        Identities. Packet, block and lath mean nothing outside bainite, subgrain nothing inside.
    stack : ndarray of int64
        Number by which consecutive blocks of a packet take different variants.
    obstacle : ndarray of float32
        0 … 1: film, particle, island or boundary under the beam.
    short, long : ndarray of float32, (points, 3)
        Smooth noise of unit variance over the two lengths.
    """

    bainite: NDArray[np.bool_]
    in_region: NDArray[np.bool_]
    grain: UInt64
    parent: UInt64
    packet: UInt64
    block: UInt64
    lath: UInt64
    subgrain: UInt64
    stack: NDArray[np.int64]
    obstacle: NDArray[np.float32]
    short: NDArray[np.float32]
    long: NDArray[np.float32]

    @classmethod
    def empty(cls, points: int) -> Sampled:
        """Return arrays to fill."""
        names = ("grain", "parent", "packet", "block", "lath", "subgrain")
        return cls(
            bainite=np.zeros(points, np.bool_),
            in_region=np.zeros(points, np.bool_),
            stack=np.zeros(points, np.int64),
            obstacle=np.zeros(points, np.float32),
            short=np.zeros((points, 3), np.float32),
            long=np.zeros((points, 3), np.float32),
            **{name: np.zeros(points, np.uint64) for name in names},
        )


@dataclass(frozen=True, slots=True)
class _Stacks:
    """Blocks along each sequence of laths: number of the block and its variant's place, [SEQUENCES * SAMPLES] each."""

    block: NDArray[np.int64]
    turn: NDArray[np.int64]
    turns: NDArray[np.int64]
    """What one period of each sequence adds to the place: [SEQUENCES]."""


def sample(renderer: Renderer, grid: Grid, *, block_laths: float, lengths_um: tuple[float, float]) -> Sampled:
    """Read the microstructure at the points of a grid whose first point is the corner of the mosaic.

    The tiles of the picture are drawn as for it, and the pixel under each point is taken.
    """
    x, y = grid.coordinates()
    um = renderer.preset.um_per_px
    # A step that is a multiple of the pixel must not fall to the pixel before by rounding.
    column = np.floor(x / um + 1e-9).astype(np.int64)
    row = np.floor(y / um + 1e-9).astype(np.int64)
    result = Sampled.empty(grid.size)
    stacks = _stacks(renderer.laths, layer_key(renderer.seed, _BLOCKS), block_laths)
    tile = (row // TILE) * (int(column.max()) // TILE + 1) + column // TILE
    order = np.argsort(tile, kind="stable")
    for points in np.split(order, np.flatnonzero(np.diff(tile[order])) + 1):
        ty, tx = int(row[points[0]] // TILE), int(column[points[0]] // TILE)
        at = (row[points] - ty * TILE + _MARGIN) * (TILE + 2 * _MARGIN) + column[points] - tx * TILE + _MARGIN
        _sample_tile(renderer, (ty, tx), (points, at), (result, stacks, lengths_um))
    return result


def _sample_tile(
    renderer: Renderer,
    tile: tuple[int, int],
    where: tuple[NDArray[np.int64], NDArray[np.int64]],
    into: tuple[Sampled, _Stacks, tuple[float, float]],
) -> None:
    (points, at), (result, stacks, lengths_um) = where, into
    window = _window(renderer, *tile)
    grains = _draw_grains(renderer, window)
    number = grains.cells.first.ravel()[at]
    result.bainite[points] = grains.bainite[number]
    result.grain[points] = grains.seeds.bits[number]
    regions = jittered_seeds(renderer.key(_REGION), window, renderer.px(renderer.preset.region_um), reach=4)
    result.parent[points] = regions.bits[nearest_seed(regions, grains.seeds.y, grains.seeds.x)][number]
    result.in_region[points] = _bainitic_region(renderer, window, grains.seeds)[number]
    result.obstacle[points] = np.clip(
        _etch(renderer, window, grains, np.take(grains.bainite, grains.cells.first))[1].ravel()[at], 0.0, 1.0
    )
    subgrains = jittered_seeds(layer_key(renderer.seed, _SUBGRAIN), window, renderer.px(_SUBGRAIN_UM))
    y, x = np.divmod(at, window.size)
    parts = [slice(start, start + 4096) for start in range(0, len(at), 4096)]
    nearest = np.concatenate([nearest_seed(subgrains, y[part].astype(float), x[part].astype(float)) for part in parts])
    result.subgrain[points] = subgrains.bits[nearest] ^ result.grain[points]
    for field, length in ((result.short, lengths_um[0]), (result.long, lengths_um[1])):
        for axis in range(3):
            key = layer_key(renderer.seed, _BEND + 3 * (field is result.long) + axis)
            field[points, axis] = smooth_noise(key, window, renderer.px(length)).ravel()[at]
    inside = np.flatnonzero(result.bainite[points])
    if len(inside):
        _sample_laths(renderer, (window, grains), (points[inside], at[inside]), (result, stacks))


def _sample_laths(
    renderer: Renderer,
    drawn: tuple[Window, _Grains],
    where: tuple[NDArray[np.int64], NDArray[np.int64]],
    into: tuple[Sampled, _Stacks],
) -> None:
    window, grains = drawn
    (points, at), (result, stacks) = where, into
    # Exactly the packets and laths of `_render._bainite`.
    cell = renderer.px(renderer.preset.packet_um)
    seeds = jittered_seeds(renderer.key(_PACKET), window, cell, spread=0.2)
    ripple = Ripple(amplitude=renderer.px(0.12), spacing=renderer.px(0.6))
    packet = voronoi(seeds, window, cell=cell, ripple=ripple, pairs=False).first.ravel()[at]
    pair = grains.cells.first.ravel()[at] * len(seeds) + packet
    mottle = smooth_noise(renderer.key(_MOTTLE), window, renderer.px(0.9))
    u, _ = _lath_coordinates(renderer, window, (grains.seeds, seeds), (at, pair), mottle)
    position = u.astype(np.int64)
    sequence = (rehash(seeds.bits, 30) % np.uint64(SEQUENCES)).astype(np.int64)[packet]
    place = (position & (SAMPLES - 1)) + sequence * SAMPLES
    period = position // SAMPLES
    # A packet of the picture that crosses a grain boundary is two packets, for the laths turn there.
    result.packet[points] = _join(result.grain[points], seeds.bits[packet])
    result.stack[points] = stacks.turn[place] + period * stacks.turns[sequence]
    result.block[points] = _number(result.packet[points], 1, stacks.block[place] + period * SAMPLES)
    laths = renderer.laths.lath[place].astype(np.int64)
    result.lath[points] = _number(result.packet[points], 2, laths + period * SAMPLES)


def _join(a: UInt64, b: UInt64) -> UInt64:
    return rehash(rehash(a, 101) ^ b, 102)


def _number(bits: UInt64, salt: int, number: NDArray[np.int64]) -> UInt64:
    return _join(rehash(bits, salt), number.astype(np.uint64))


def _stacks(laths: LathLibrary, key: int, block_laths: float) -> _Stacks:
    """Group consecutive laths into blocks: each lath but the first begins one with probability 1/block_laths."""
    block = np.empty(SEQUENCES * SAMPLES, np.int64)
    turn = np.empty_like(block)
    turns = np.empty(SEQUENCES, np.int64)
    for sequence in range(SEQUENCES):
        part = slice(sequence * SAMPLES, (sequence + 1) * SAMPLES)
        number = laths.lath[part]
        lath = np.concatenate([[0], np.cumsum(number[1:] != number[:-1])])
        bits = hash_cells(key, np.array([sequence], np.int64), np.arange(lath[-1] + 1, dtype=np.int64)).ravel()
        begins = uniform(bits, 1) < 1.0 / block_laths
        begins[0] = False
        of_lath = np.cumsum(begins)
        # Each block's variant is one to five places further in the packet's order than the one before.
        steps = np.where(begins, 1 + np.floor(5.0 * uniform(bits, 2)).astype(np.int64), 0)
        places = np.cumsum(steps)
        block[part], turn[part] = of_lath[lath], places[lath]
        turns[sequence] = places[-1] + 1
    return _Stacks(block, turn, turns)
