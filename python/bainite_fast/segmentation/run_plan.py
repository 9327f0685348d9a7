"""The plan of a run: frozen integers that say which pixels are read, seen by the network and written, and when.

Nothing here touches an array or a file; a plan prints, hashes, and travels to other machines as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from .._memory import format_bytes
from ..geometry import (
    Region,
    Tile,
    block_region,
    blocks_of,
    grid_of,
    nearest_index,
    round_down,
    round_up,
    source_range,
    tiles_of,
)
from ..kernels import resample_source_range

Edge = Literal["mirror", "native"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a mosaic is cut, run and written.

    Attributes
    ----------
    shape : tuple of int
        Rows and columns of the mosaic and of the labels, in pixels.
    grid : tuple of int
        Rows and columns at the model's scale; equal to `shape` unless the mosaic is resampled.
    channels : int
        Channels that the model takes.
    block : int
        Edge of an output shard in mosaic pixels: the unit of work, of writing and of resuming.
    chunk : int
        Edge of a chunk inside a shard, in pixels.
    tile : int
        Edge of the core that one tile writes, in model pixels; the network sees tile + 2 · halo.
    halo, stride : int
        Of the model, in pixels.
    batch : int
        Tiles per pass of the network.
    edge : {"mirror", "native"}
        What the network sees beyond the border of the mosaic.
    device, precision, layout : str
        Where and how the network runs.
    workers : int
        Networks running at a time, one thread each. Does not change the labels.
    in_flight : int
        Blocks being read, computed or written at a time. Does not change the labels.
    memory : int
        Budget for the resident memory of the process, in bytes.
    memory_planned : int
        What the plan expects to need, in bytes, reserve included.
    device_memory, device_memory_planned : int
        The same of the GPU's memory; 0 on the CPU.
    runtime : {"torchscript", "export", "compile"}
        Which compiler made the network for whole tiles.
    """

    shape: tuple[int, int]
    grid: tuple[int, int]
    channels: int
    block: int
    chunk: int
    tile: int
    halo: int
    stride: int
    batch: int
    edge: Edge
    device: str
    precision: str
    layout: str
    workers: int
    in_flight: int
    memory: int
    memory_planned: int
    device_memory: int = 0
    device_memory_planned: int = 0
    runtime: str = "torchscript"

    @property
    def scaled(self) -> bool:
        """Whether the mosaic is resampled to the model's scale."""
        return self.grid != self.shape

    @property
    def pass_shape(self) -> tuple[int, int, int]:
        """Tiles, height and width of what most passes of the network take."""
        seen = self.tile + 2 * self.halo
        return self.batch, seen, seen

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        rows, columns = grid_of(self.shape, self.block)
        return rows * columns

    @property
    def overhead(self) -> float:
        """Pixels that the network sees per pixel that it labels, for a full tile: (tile + 2 · halo)² / tile²."""
        return (self.tile + 2 * self.halo) ** 2 / self.tile**2

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Yield the (row, column) index of every block, row by row."""
        return blocks_of(self.shape, self.block)

    def region(self, by: int, bx: int) -> Region:
        """Return the mosaic pixels that block (by, bx) writes."""
        return block_region(self.shape, self.block, by, bx)

    def area(self, by: int, bx: int) -> Region:
        """Return the model pixels that block (by, bx) needs labels of; its corner is on the stride grid."""
        region = self.region(by, bx)
        y, y1 = self._span(region.y, region.y1, 0)
        x, x1 = self._span(region.x, region.x1, 1)
        return Region(y, x, y1 - y, x1 - x)

    def _span(self, start: int, stop: int, axis: int) -> tuple[int, int]:
        size, scaled = self.shape[axis], self.grid[axis]
        first = nearest_index(start, size, scaled)
        last = nearest_index(stop - 1, size, scaled)
        return round_down(first, self.stride), last + 1

    def tiles(self, by: int, bx: int) -> list[Tile]:
        """Return the tiles of block (by, bx), in model pixels."""
        native = None
        if self.edge == "native":
            native = (round_up(self.grid[0], self.stride), round_up(self.grid[1], self.stride))
        return tiles_of(self.area(by, bx), self.tile, self.stride, self.halo, native)

    def model_source(self, by: int, bx: int) -> Region:
        """Return the pixels of the image at the model's scale that the tiles of block (by, bx) touch."""
        tiles = self.tiles(by, bx)
        y, y1 = source_range(min(t.input.y for t in tiles), max(t.input.y1 for t in tiles), self.grid[0])
        x, x1 = source_range(min(t.input.x for t in tiles), max(t.input.x1 for t in tiles), self.grid[1])
        return Region(y, x, y1 - y, x1 - x)

    def source(self, by: int, bx: int) -> Region:
        """Return the mosaic pixels that block (by, bx) reads: its own and all that its tiles touch."""
        own, seen = self.region(by, bx), self.model_source(by, bx)
        if self.scaled:
            ys = resample_source_range(seen.y, seen.y1, self.shape[0], self.grid[0])
            xs = resample_source_range(seen.x, seen.x1, self.shape[1], self.grid[1])
        else:
            ys, xs = (seen.y, seen.y1), (seen.x, seen.x1)
        y, y1 = min(own.y, ys[0]), max(own.y1, ys[1])
        x, x1 = min(own.x, xs[0]), max(own.x1, xs[1])
        return Region(y, x, y1 - y, x1 - x)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-able values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        """Return the plan that :meth:`to_dict` wrote."""
        values = dict(values, shape=tuple(values["shape"]), grid=tuple(values["grid"]))
        return cls(**values)

    def identity(self) -> dict[str, Any]:
        """Return what decides the bytes of the output: everything but workers, in_flight and memory."""
        free = ("workers", "in_flight", "memory", "memory_planned", "device_memory", "device_memory_planned")
        return {key: value for key, value in self.to_dict().items() if key not in free}

    def __str__(self) -> str:
        rows, columns = grid_of(self.shape, self.block)
        lines = [
            ("mosaic", f"{self.shape[0]} × {self.shape[1]} px ({self.shape[0] * self.shape[1] / 1e6:.4g} Mpx)"),
            ("blocks", f"{rows} × {columns} shards of {self.block} px (chunks of {self.chunk} px)"),
            ("tiles", f"core {self.tile} px + 2 × {self.halo} px halo, stride {self.stride} px, batch {self.batch}"),
            ("overhead", f"{self.overhead:.3g} × (pixels seen / pixels labelled)"),
            ("edge", self.edge),
            ("device", f"{self.device}, {self.precision}, {self.layout}, {self.runtime}"),
            ("workers", f"{self.workers} networks at a time, {self.in_flight} blocks in flight"),
            ("memory", f"{format_bytes(self.memory_planned)} planned of {format_bytes(self.memory)}"),
        ]
        if self.device != "cpu":
            used, free = format_bytes(self.device_memory_planned), format_bytes(self.device_memory)
            lines.append(("GPU memory", f"{used} planned of {free}"))
        if self.scaled:
            lines.insert(1, ("model grid", f"{self.grid[0]} × {self.grid[1]} px (resampled)"))
        return "\n".join(f"{name:<11}{text}" for name, text in lines)
