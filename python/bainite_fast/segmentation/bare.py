"""The bare network: how fast it runs as a plan runs it, on tiles in memory and nothing else. A floor for every job."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from ..geometry import round_up
from ..models import serial_threads
from .cuda_backend import CudaBackend

if TYPE_CHECKING:
    from ..models.compiled import Runtime
    from .run_plan import Plan

_MOST_PASSES = 12

_cuda: Any = torch.cuda


def bare_network_rate(runtime: Runtime, plan: Plan, seconds: float = 1.0, repeats: int = 3) -> float:
    """Return the pixels per second that the compiled network labels on tiles held in memory, as the plan runs it.

    Parameters
    ----------
    runtime : Runtime
        The compiled network.
    plan : Plan
        Its tile, batch and workers count.
    seconds : float
        About how long each repeat measures; a pass at least, and up to 12 on the CPU.
    repeats : int
        The fastest counts.
    """
    measure = _on_the_cpu if runtime.device == "cpu" else _on_a_device
    return measure(runtime, plan, seconds, repeats)


def _on_the_cpu(runtime: Runtime, plan: Plan, seconds: float, repeats: int) -> float:
    core = [min(plan.tile, round_up(size, plan.stride)) for size in plan.grid]  # as the tiles of a small mosaic are
    height, width = (size + 2 * plan.halo for size in core)
    tiles = [runtime.new_batch(plan.batch, height, width).uniform_() for _ in range(plan.workers)]

    def one(worker: int) -> int:
        for _ in range(passes):
            runtime.run_core(tiles[worker])
        return passes

    with serial_threads(), ThreadPoolExecutor(plan.workers) as pool:
        passes = 1
        first = _timed(lambda: list(pool.map(one, range(plan.workers))))  # the first one pages memory in
        passes = max(1, min(_MOST_PASSES, round(seconds / first)))
        best = min(_timed(lambda: list(pool.map(one, range(plan.workers)))) for _ in range(repeats))
    return plan.workers * passes * plan.batch * core[0] * core[1] / best


def _on_a_device(runtime: Runtime, plan: Plan, seconds: float, repeats: int) -> float:
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
    count = max(2, min(1000, round(seconds / _timed(lambda: passes(1)))))
    best = min(_timed(lambda: passes(count)) for _ in range(repeats))
    backend.release()
    return count * plan.batch * plan.tile**2 / best


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
