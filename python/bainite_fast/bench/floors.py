"""What the machine can do at best: the bare network on tiles in memory, and its rate of matrix products."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..geometry import round_up
from ..models import serial_threads
from ..models.device import exact_math

if TYPE_CHECKING:
    from ..models import LoadedModel
    from ..models.compiled import Runtime
    from ..segmentation import Plan

_MATRIX = 1536  # edge; its three matrices in bfloat16 or float32 leave no cache of today cold for long
_DEVICE_MATRIX = 8192  # edge; enough for every multiprocessor of a large GPU to work for milliseconds
_SECONDS = 1.0
_MOST_PASSES = 12

_cuda: Any = torch.cuda


def bare_network_rate(runtime: Runtime, plan: Plan) -> float:
    """Return the pixels per second that the compiled network labels on tiles held in memory, as the plan runs it."""
    return _on_the_cpu(runtime, plan) if runtime.device == "cpu" else _on_a_device(runtime, plan)


def _on_the_cpu(runtime: Runtime, plan: Plan) -> float:
    core = [min(plan.tile, round_up(size, plan.stride)) for size in plan.grid]  # as the tiles of a small mosaic are
    height, width = (size + 2 * plan.halo for size in core)
    tiles = [runtime.new_batch(plan.batch, height, width).uniform_() for _ in range(plan.workers)]

    def one(worker: int) -> int:
        for _ in range(passes):
            runtime.run_core(tiles[worker])
        return passes

    with serial_threads(), ThreadPoolExecutor(plan.workers) as pool:
        passes = 1
        seconds = _timed(lambda: list(pool.map(one, range(plan.workers))))  # the first one pages memory in
        passes = max(1, min(_MOST_PASSES, round(_SECONDS / seconds)))
        seconds = min(_timed(lambda: list(pool.map(one, range(plan.workers)))) for _ in range(3))
    return plan.workers * passes * plan.batch * core[0] * core[1] / seconds


def _on_a_device(runtime: Runtime, plan: Plan) -> float:
    from ..segmentation.cuda_backend import CudaBackend

    edge = plan.tile + 2 * plan.halo
    backend = CudaBackend(runtime)
    backend.prepare(plan.batch, edge, edge)
    tiles = backend.batch(plan.batch, edge, edge)
    tiles.normal_()  # on zeros a GPU draws less power, and clocks higher
    _cuda.synchronize(runtime.device)

    def passes(count: int) -> None:
        for _ in range(count):
            backend.network(tiles, core=True)
        backend.drain()

    passes(2)
    count = max(2, min(1000, round(_SECONDS / _timed(lambda: passes(1)))))
    seconds = min(_timed(lambda: passes(count)) for _ in range(3))
    backend.release()
    return count * plan.batch * plan.tile**2 / seconds


def matrix_rate(precision: str, workers: int, device: str = "cpu") -> float:
    """Return the operations per second (two for each product) of square matrix products.

    On the CPU on so many threads, each with its own matrices; on a GPU one product after another.
    """
    dtype, edge = getattr(torch, precision), _MATRIX if device == "cpu" else _DEVICE_MATRIX
    pairs = [[torch.randn(edge, edge).to(device, dtype) for _ in range(2)] for _ in range(workers)]

    def product(a: torch.Tensor, b: torch.Tensor) -> None:
        torch.mm(a, b)
        if device != "cpu":
            _cuda.synchronize(device)

    def one(worker: int) -> float:
        a, b = pairs[worker]
        product(a, b)
        return statistics.median(_timed(lambda: product(a, b)) for _ in range(7))

    with serial_threads(), exact_math(device), ThreadPoolExecutor(workers) as pool:
        seconds = list(pool.map(one, range(workers)))
    return sum(2 * edge**3 / s for s in seconds)


def flop_per_pixel(loaded: LoadedModel) -> float:
    """Return the operations of the network as written, for each pixel that it sees; one product counts as two."""
    contract = loaded.contract
    edge = contract.stride * max(1, 64 // contract.stride)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        loaded.module(torch.zeros(1, contract.in_channels, edge, edge))
    return float(counter.get_total_flops()) / edge**2


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
