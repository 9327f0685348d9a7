"""What the network did and what it waited for, second by second of one run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..segmentation.spans import Span

STAGES = ("read", "upload", "gather", "network", "scatter", "download", "write")
"""Stages of a block, in order. Reading includes decoding, writing encoding; a CPU neither uploads nor downloads."""

WAITS = ("start", "read", "upload", "gather", "scatter", "download", "write", "blocks", "finish")
"""What a network can wait for: the run to start, a stage of a block, a block when none is left for it, or the output to
be finished."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """Where the time of the networks went.

    Attributes
    ----------
    wall : float
        From the call to its return, s.
    workers : int
        Networks that may run at a time.
    busy : dict
        Time spent in each stage, summed over blocks, s. Stages overlap: the sum passes the wall time.
    waits : dict
        Time that a network waited for each of :data:`WAITS`, mean over the networks, s.
    unexplained : float
        Time that a network held its place and no stage was running, mean over the networks, s.
    """

    wall: float
    workers: int
    busy: dict[str, float]
    waits: dict[str, float]
    unexplained: float

    @property
    def network(self) -> float:
        """Time that a network ran, mean over the networks, s."""
        return self.busy["network"] / self.workers


def timeline(spans: Iterable[Span], start: float, end: float, workers: int) -> Timeline:
    """Attribute every moment of every network of a run.

    Parameters
    ----------
    spans : iterable of Span
        Of all blocks.
    start, end : float
        Of the run, in seconds of the same clock.
    workers : int
        Networks that may run at a time.
    """
    spans = list(spans)
    first = min((span.start for span in spans), default=end)
    last = max((span.end for span in spans), default=first)
    last_read = max((span.end for span in spans if span.stage == "read"), default=start)
    busy = {stage: sum(s.end - s.start for s in spans if s.stage == stage) for stage in STAGES}
    waits = dict.fromkeys(WAITS, 0.0)
    waits["start"], waits["finish"] = (first - start) * workers, (end - last) * workers
    unexplained = 0.0
    edges = sorted([(s.start, 1, s.stage) for s in spans] + [(s.end, -1, s.stage) for s in spans])
    running: dict[str, int] = {}
    before = first
    for moment, change, stage in edges:
        seconds, idle = moment - before, workers - running.get("network", 0)
        # A place that is held goes by what its block is in; a free one waits for a block that is being read or written.
        held = running.get("tiles", 0) - running.get("network", 0)
        for name in ("gather", "scatter"):
            part = min(running.get(name, 0), held, idle)
            waits[name] += part * seconds
            held, idle = held - part, idle - part
        part = max(min(held, idle), 0)
        unexplained += part * seconds
        idle -= part
        for name in ("start", "upload", "read", "download", "write"):
            part = min(running.get(name, 0), idle)
            waits[name] += part * seconds
            idle -= part
        waits["read" if moment <= last_read else "blocks"] += idle * seconds
        running[stage] = running.get(stage, 0) + change
        before = moment
    means = {name: seconds / workers for name, seconds in waits.items()}
    return Timeline(end - start, workers, busy, means, unexplained / workers)
