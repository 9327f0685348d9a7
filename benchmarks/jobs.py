"""Our side of a comparison, in a process set up as the command line sets up its own: with the allocator tuned.

The peers run in the benchmark's own process, as their users run them.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import bainite_fast
from bainite_fast import kernels


def our_process() -> ProcessPoolExecutor:
    """Return one process whose allocator is tuned; it lives as long as the benchmark."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=kernels.tune_allocator)


def job(mosaic: Path, model: Any, out: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Segment from OME-Zarr to OME-Zarr; return the plan, the seconds and the share of each stage."""
    start = time.perf_counter()
    seg = bainite_fast.segment(
        mosaic, model, out=out, overwrite=True, progress=False, **{"scale": "as-is", "edge": "mirror", **options}
    )
    seconds = time.perf_counter() - start
    return {"plan": seg.plan, "seconds": seconds, "stages": seg.stages, "counts": seg.counts}


_bare: dict[str, Any] = {}


def bare_network(model: Any, plan: bainite_fast.Plan, pixels: int) -> float:
    """Run the compiled network on tiles held in memory, as many and on as many threads as the job; return seconds."""
    from bainite_fast.models import compile, load, serial_threads

    if plan.precision not in _bare:
        _bare[plan.precision] = compile(load(model), precision=plan.precision)
    compiled = _bare[plan.precision]
    seen = plan.tile + 2 * plan.halo
    tiles = [compiled.new_batch(plan.batch, seen, seen).uniform_() for _ in range(plan.workers)]
    count = round(pixels / plan.tile**2 / plan.batch)

    def one(k: int) -> None:
        compiled.run_core(tiles[k % len(tiles)])

    start = time.perf_counter()
    with serial_threads(), ThreadPoolExecutor(plan.workers) as pool:
        list(pool.map(one, range(count)))
    return time.perf_counter() - start
