"""How long a planned run will take, measured on this machine with one small pass of the network."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models import LoadedModel
    from ..segmentation import Plan

SAMPLE_PX = 512


def estimate_seconds(plan: Plan, loaded: LoadedModel) -> float:
    """Return the seconds that the network alone will take; reading and writing go on beside it.

    The second of two passes over one small tile is timed on one thread, and counted for every pixel that the plan lets
    the network see, shared among the plan's workers.
    """
    from ..models import compile as compile_network
    from ..models import serial_threads

    device = "cpu" if plan.device == "cpu" else "cuda:0"
    kind: dict[str, Any] = {"precision": plan.precision, "layout": plan.layout, "device": device}
    network = compile_network(loaded, **kind)
    edge = max(plan.stride, min(SAMPLE_PX, plan.tile + 2 * plan.halo) // plan.stride * plan.stride)
    batch = network.new_batch(1, edge, edge).zero_()
    with serial_threads():
        network.run(batch).ravel()[0].item()  # a value, so that a GPU has finished
        start = time.perf_counter()
        network.run(batch).ravel()[0].item()
        seconds = time.perf_counter() - start
    return seconds / edge**2 * pixels_seen(plan) / plan.workers


def pixels_seen(plan: Plan) -> int:
    """Return the pixels that pass through the network, halos included."""
    return sum(tile.input.pixels for block in plan.blocks() for tile in plan.tiles(*block))
