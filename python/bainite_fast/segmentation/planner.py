"""From a mosaic, a model's reach and a memory budget to a plan."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._memory import format_bytes
from ..errors import BudgetError, InputError
from ..geometry import grid_of, round_up
from .run_plan import Edge, Plan

_CHUNK = 512
_BLOCKS = (2048, 1024, 512)
_ENOUGH_BLOCKS = 4
_LARGEST_TILE = 2048
_SMALLEST_TILE = 32
_BATCH_PIXELS = 256 * 256
_LARGEST_BATCH = 64
# Two networks at a time is what the tile is chosen for, whatever the machine: so the tile, which may decide a label
# where two logits differ in their last bit, does not depend on the number of cores.
_PLANNED_WORKERS = 2
_RESERVE = 0.10
_RESERVE_BYTES = 48 << 20


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run asks of the planner.

    Attributes
    ----------
    shape, grid : tuple of int
        Mosaic and model-scale shape, in pixels.
    pixel_bytes : int
        Bytes of one mosaic pixel, all channels.
    image_channels, channels : int
        Channels that the mosaic has and that the model takes.
    stride, halo : int
        Of the model, in pixels.
    edge : {"mirror", "native"}
        Border rule.
    confidence : bool
        Whether a confidence is written beside the labels.
    device, precision, layout : str
        Where and how the network runs.
    """

    shape: tuple[int, int]
    grid: tuple[int, int]
    pixel_bytes: int
    image_channels: int
    channels: int
    stride: int
    halo: int
    edge: Edge
    confidence: bool
    device: str
    precision: str
    layout: str


@dataclass(frozen=True, slots=True)
class Budget:
    """What the process may use.

    Attributes
    ----------
    memory : int
        Resident bytes allowed.
    held : int
        Resident bytes held beside the run: interpreter, libraries, weights, decoded pictures, strips of a TIFF.
    cores : int
        Networks that may run at a time.
    activation_bytes : callable
        Predicted peak bytes of one pass of the network over (batch, height, width), input and logits included.
    """

    memory: int
    held: int
    cores: int
    activation_bytes: Callable[[int, int, int], int]


@dataclass(frozen=True, slots=True)
class Fixed:
    """What the caller, or the journal of an unfinished run, has decided already. None leaves it to the planner."""

    tile: int | None = None
    block: int | None = None
    batch: int | None = None
    runtime: str | None = None


def make_plan(demand: Demand, budget: Budget, fixed: Fixed | None = None) -> Plan:
    """Choose block, tile, batch and workers so that the run stays within the budget.

    Parameters
    ----------
    demand : Demand
        Mosaic, model and border.
    budget : Budget
        Memory and cores.
    fixed : Fixed, optional
        What is decided already.

    Returns
    -------
    Plan
        The largest tile whose networks fit, on blocks that are whole shards.

    Raises
    ------
    InputError
        If the tile is not a positive multiple of the stride.
    BudgetError
        If not even one network on the smallest tile fits.
    """
    fixed = fixed or Fixed()
    check_tile(fixed.tile, demand.stride)
    chunk = chunk_of(demand.stride)
    choices = [
        _Choice(demand, budget, block, tile, fixed.batch)
        for block in block_candidates(demand, chunk, fixed, _BLOCKS)
        for tile in tile_candidates(demand, block, fixed, _LARGEST_TILE)
    ]
    fitting = [choice for choice in choices if choice.fits(1)]
    if not fitting:
        least = min(choice.need(1) for choice in choices)
        enough = f"{math.ceil(least * 1.05 / 2**20)}MiB"  # the process holds a little more or less every time
        cure = "" if fixed.tile is None else ", or a smaller tile"
        raise BudgetError(
            f"a budget of {format_bytes(budget.memory)} is too small: beside the run the process holds "
            f"{format_bytes(budget.held)} and the smallest plan needs {format_bytes(least)} in all; "
            f"give at least {enough} (memory='{enough}'){cure}"
        )
    # Candidates come largest first, and min keeps the first of equals.
    best = min(fitting, key=lambda choice: choice.cost)
    return best.plan(chunk)


def check_tile(tile: int | None, stride: int) -> None:
    """Refuse a tile that is not a positive multiple of the stride."""
    if tile is not None and (tile < 1 or tile % stride):
        raise InputError(
            f"tile={tile} is not a positive multiple of the model's stride of {stride} px; "
            f"use {round_up(max(tile, 1), stride)}"
        )


def chunk_of(stride: int) -> int:
    """Return the edge of a chunk, px."""
    return round_up(_CHUNK, math.lcm(stride, 16))


def block_candidates(demand: Demand, chunk: int, fixed: Fixed, blocks: tuple[int, ...]) -> list[int]:
    """Return the edges that a block may have, the preferred one first."""
    if fixed.block is not None:
        return [fixed.block]
    sizes = [round_up(size, chunk) for size in blocks]
    if fixed.tile is not None and fixed.tile > sizes[0]:
        return [round_up(fixed.tile, chunk)]
    # Enough blocks for the workers to share, but no smaller than needed: the halo is read again for every block.
    preferred = next((s for s in sizes if math.prod(grid_of(demand.shape, s)) >= _ENOUGH_BLOCKS), sizes[-1])
    at_least = 0 if fixed.tile is None else min(fixed.tile, sizes[0])
    preferred = max(preferred, round_up(at_least, chunk))
    return [preferred, *(s for s in sizes if s < preferred and s >= at_least)]


def tile_candidates(demand: Demand, block: int, fixed: Fixed, largest: int) -> list[int]:
    """Return the edges that a tile of such a block may have, the largest first."""
    if fixed.tile is not None:
        return [fixed.tile]
    # A core of 41 halos spends 10 % on the halo; larger ones only cost cache and memory.
    wanted = min(max(512, 41 * demand.halo), largest)
    sizes = []
    size = block
    while size >= max(_SMALLEST_TILE, demand.stride):
        tile = round_up(size, demand.stride)
        if size < 2 * wanted and tile <= round_up(largest, demand.stride) and tile not in sizes:
            sizes.append(tile)
        size //= 2
    return sizes or [round_up(block, demand.stride)]


class _Choice:
    """One block and tile size, and what it would cost."""

    def __init__(self, demand: Demand, budget: Budget, block: int, tile: int, batch: int | None) -> None:
        self.demand, self.budget, self.block, self.tile = demand, budget, block, tile
        self.seen = [min(tile, round_up(size, demand.stride)) + 2 * demand.halo for size in demand.grid]
        pixels = self.seen[0] * self.seen[1]
        tiles = math.prod(-(-min(block, size) // tile) for size in demand.grid)
        self.batch = min(max(_BATCH_PIXELS // pixels, 1), _LARGEST_BATCH, tiles) if batch is None else batch
        self.network = budget.activation_bytes(self.batch, self.seen[0], self.seen[1])

    def need(self, workers: int) -> int:
        """Return the resident bytes that so many networks at a time need, reserve included."""
        blocks = (workers + 1) * block_bytes(self.demand, self.block)
        return int((self.budget.held + workers * self.network + blocks + _RESERVE_BYTES) / (1 - _RESERVE))

    def fits(self, workers: int) -> bool:
        """Return whether so many networks fit into the budget."""
        return self.need(workers) <= self.budget.memory

    @property
    def cost(self) -> float:
        """Relative time of a pixel: halo overhead, shared by the networks that fit beside each other."""
        parallel = max(w for w in range(1, _PLANNED_WORKERS + 1) if self.fits(w))
        core = [seen - 2 * self.demand.halo for seen in self.seen]
        return self.seen[0] * self.seen[1] / (core[0] * core[1]) / parallel

    def plan(self, chunk: int) -> Plan:
        """Return the plan, with as many workers as there are cores and room."""
        workers = max(w for w in range(1, max(self.budget.cores, 1) + 1) if self.fits(w))
        return plan_of(
            self.demand,
            block=self.block,
            chunk=chunk,
            tile=self.tile,
            batch=self.batch,
            workers=workers,
            in_flight=workers + 1,
            memory=self.budget.memory,
            memory_planned=self.need(workers),
        )


def plan_of(demand: Demand, **decided: Any) -> Plan:
    """Return the plan for a demand; `decided` are its other fields."""
    return Plan(
        shape=demand.shape,
        grid=demand.grid,
        channels=demand.channels,
        halo=demand.halo,
        stride=demand.stride,
        edge=demand.edge,
        device=demand.device,
        precision=demand.precision,
        layout=demand.layout,
        **decided,
    )


def block_bytes(demand: Demand, block: int) -> int:
    """Return the bytes of one block in flight: pixels read, resampled pixels, labels, confidence, encoded shard."""
    sides = []
    model_sides = []
    for size, scaled in zip(demand.shape, demand.grid, strict=True):
        factor = size / scaled
        margin = math.ceil((2 * demand.halo + 2 * demand.stride + 2) * factor)
        sides.append(min(block + margin, size))
        model_sides.append(min(math.ceil(block / factor) + 2 * demand.halo + 2 * demand.stride, scaled))
    read = sides[0] * sides[1] * demand.pixel_bytes
    resampled = 0
    if demand.grid != demand.shape:
        # float32, and the half-way image between the passes over rows and over columns.
        resampled = 4 * demand.image_channels * model_sides[0] * (model_sides[1] + sides[1])
    layers = 2 if demand.confidence else 1
    # Labels, their pyramid (1/3) and the encoded shard, which for noise may be as large as the labels.
    written = block * block * layers * 3
    return 2 * read + resampled + written
