"""From a mosaic, a model's reach and the free memory of a GPU to a plan.

One network runs at a time. Large tiles waste least on the halo and fill the GPU alone; small ones go in batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .._memory import format_bytes
from ..errors import BudgetError, InputError
from .device import SLOTS
from .planner import (
    Budget,
    Demand,
    Fixed,
    block_bytes,
    block_candidates,
    check_tile,
    chunk_of,
    plan_of,
    tile_candidates,
)
from .run_plan import Plan

_BLOCKS = (4096, 2048, 1024, 512)
_LARGEST_TILE = 4096
_BATCH_PIXELS = 2048 * 2048  # that a pass should see at least: fewer do not fill a large GPU
_LARGEST_BATCH = 64
_RESERVE = 0.15  # for what other processes take meanwhile, and for what the prediction misses
_ADDRESSABLE = 2**31  # elements of a tensor, from which on cuDNN leaves its fast kernels
_MORE_THREADS = 2  # than cores: threads that wait for the device cost nothing


@dataclass(frozen=True, slots=True)
class DeviceBudget:
    """What the run may use of a device.

    Attributes
    ----------
    memory : int
        Free bytes.
    activation_bytes : callable
        Predicted peak bytes of one pass of the network over (batch, height, width), input and logits included.
    largest_tensor : callable
        Elements of the largest tensor of such a pass.
    """

    memory: int
    activation_bytes: Callable[[int, int, int], int]
    largest_tensor: Callable[[int, int, int], int]


def make_device_plan(demand: Demand, host: Budget, device: DeviceBudget, fixed: Fixed | None = None) -> Plan:
    """Choose block, tile and batch by the free memory of a device, and the blocks in flight by that of the host.

    Parameters
    ----------
    demand : Demand
        Mosaic, model and border.
    host : Budget
        Memory of the host and cores, which read and write; its `activation_bytes` are not asked.
    device : DeviceBudget
        Memory of the device.
    fixed : Fixed, optional
        What is decided already.

    Raises
    ------
    InputError
        If the tile is not a positive multiple of the stride, or makes a tensor of 2³¹ elements or more.
    BudgetError
        If the smallest tile does not fit the device, or two blocks in flight do not fit the host.
    """
    fixed = fixed or Fixed()
    check_tile(fixed.tile, demand.stride)
    chunk = chunk_of(demand.stride)
    choices = [
        _Choice(demand, device, block, tile, batch)
        for block in block_candidates(demand, chunk, fixed, _BLOCKS)
        for tile in tile_candidates(demand, block, fixed, _LARGEST_TILE)
        for batch in _batches(demand, block, tile, fixed)
        if _host_need(demand, host, block, 2) <= host.memory
    ]
    if not choices:
        raise BudgetError(
            f"a budget of {format_bytes(host.memory)} is too small for two blocks in flight beside the "
            f"{format_bytes(host.held)} that the process holds; give more memory"
        )
    choices = _addressable(choices, fixed)
    best = next((choice for choice in choices if choice.need <= device.memory), None)
    if best is None:
        least = min(choices, key=lambda choice: choice.need)
        raise BudgetError(
            f"the device has {format_bytes(device.memory)} free, and the smallest plan needs {format_bytes(least.need)}"
            f" (one tile of {least.tile} px); end what else runs there, give a smaller tile, or use device='cpu'"
        )
    threads = max(host.cores, 1) + _MORE_THREADS
    in_flight = max(
        n for n in range(2, threads + 1) if n == 2 or _host_need(demand, host, best.block, n) <= host.memory
    )
    return best.plan(chunk, host, in_flight)


def _addressable(choices: list[_Choice], fixed: Fixed) -> list[_Choice]:
    """Return the choices whose tensors fast kernels can address; refuse a tile of the caller's that has none."""
    found = [choice for choice in choices if choice.largest < _ADDRESSABLE]
    if fixed.tile is not None and not found:
        least = min(choices, key=lambda choice: choice.largest)
        raise InputError(
            f"tile={fixed.tile} makes a tensor of {least.largest:,} elements on the device, and from 2^31 on a pass "
            "takes minutes; give a smaller tile"
        )
    return found or choices


def _host_need(demand: Demand, host: Budget, block: int, in_flight: int) -> int:
    # A block in flight, and the page-locked copy of its pixels and labels.
    return host.held + 2 * in_flight * block_bytes(demand, block)


def _batches(demand: Demand, block: int, tile: int, fixed: Fixed) -> list[int]:
    """Return the batches to try, the largest first: powers of two below what fills the device."""
    if fixed.batch is not None:
        return [fixed.batch]
    tiles = math.prod(-(-min(block, size) // tile) for size in demand.grid)
    most = min(max(_BATCH_PIXELS // (tile + 2 * demand.halo) ** 2, 1), tiles, _LARGEST_BATCH)
    return [2**k for k in range(most.bit_length() - 1, -1, -1)]


class _Choice:
    """One block, tile and batch, the device memory that it needs, and the elements of its largest tensor."""

    def __init__(self, demand: Demand, device: DeviceBudget, block: int, tile: int, batch: int) -> None:
        self.demand, self.device, self.block, self.tile, self.batch = demand, device, block, tile, batch
        seen = tile + 2 * demand.halo
        buffers = SLOTS * block_bytes(demand, block)
        self.largest = device.largest_tensor(batch, seen, seen)
        self.need = int((device.activation_bytes(batch, seen, seen) + buffers) / (1 - _RESERVE))

    def plan(self, chunk: int, host: Budget, in_flight: int) -> Plan:
        """Return the plan, with so many blocks in flight."""
        return plan_of(
            self.demand,
            block=self.block,
            chunk=chunk,
            tile=self.tile,
            batch=self.batch,
            workers=1,
            in_flight=in_flight,
            memory=host.memory,
            memory_planned=_host_need(self.demand, host, self.block, in_flight),
            device_memory=self.device.memory,
            device_memory_planned=self.need,
        )
