"""Keeps a process within its memory budget while networks run."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .._memory import format_bytes
from ..errors import BainiteWarning, BudgetError
from . import memory
from .run_plan import Plan

_ROOM_TO_SPARE = 1.5


class Gate:
    """Lets a number of networks run at a time; the number can shrink and grow while they do."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._running = 0
        self._changed = threading.Condition()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Wait for a place, hold it for as long as the context lasts."""
        with self._changed:
            self._changed.wait_for(lambda: self._running < self.limit)
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def set_limit(self, limit: int) -> None:
        """Let so many run from now on."""
        with self._changed:
            self.limit = limit
            self._changed.notify_all()


@dataclass
class Guard:
    """Keeps the process within its budget: fewer networks at a time, an error when one is too much.

    In a tight budget the plan's prediction is checked against the first pass of the network, which runs alone.
    """

    plan: Plan
    gate: Gate = field(init=False)
    _before: int = field(default_factory=lambda: memory.resident())
    _measured: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        # With room to spare the prediction need not be right, and no core waits for the first pass.
        self._measured = self.plan.memory_planned * _ROOM_TO_SPARE <= self.plan.memory
        self.gate = Gate(self.plan.workers if self._measured else 1)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the budget over one pass of the network; the first is measured, then the gate opens."""
        if self._measured:
            yield
        else:
            with memory.PeakSampler() as sampler:
                yield
            self._open(sampler.peak)
        with self._lock:
            if memory.resident() > self.plan.memory:
                self._shrink()

    def _open(self, peak: int) -> None:
        with self._lock:
            self._measured = True
            grown = max(peak - self._before, 1)
            room = self.plan.memory - self._before
            self.gate.set_limit(min(self.plan.workers, max(room // grown, 1)))

    def _shrink(self) -> None:
        held = format_bytes(memory.resident())
        budget = format_bytes(self.plan.memory)
        if self.gate.limit == 1:
            raise BudgetError(
                f"the process holds {held}, more than its budget of {budget}, with a single network running; "
                f"give more memory or a tile smaller than {self.plan.tile}; finished blocks are kept"
            )
        self.gate.set_limit(self.gate.limit - 1)
        warnings.warn(
            f"the process holds {held}, more than its budget of {budget}: "
            f"{self.gate.limit} networks at a time from now on",
            BainiteWarning,
            stacklevel=2,
        )
