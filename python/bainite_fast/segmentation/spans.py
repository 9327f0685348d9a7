"""When each stage of a block began and ended."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A stage of a block: from when to when, in seconds of ``time.perf_counter`` of the machine that did it."""

    stage: str
    start: float
    end: float


class Stopwatch:
    """Notes when each stage of one block begins and ends."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Note the time of the context as `stage`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.note(stage, start, time.perf_counter())

    def note(self, stage: str, start: float, end: float) -> None:
        """Note a stage whose times are known."""
        self.spans.append(Span(stage, start, end))
