"""Progress as plain lines on stderr, for scripts and logs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from .result import ProgressEvent

_SECONDS_BETWEEN_LINES = 5.0


def reporter(progress: bool | Callable[[ProgressEvent], None]) -> Callable[[ProgressEvent], None]:
    """Return what is called after every block: the caller's own function, lines on stderr, or nothing."""
    if callable(progress):
        return progress
    return _Lines() if progress else _silent


def _silent(event: ProgressEvent) -> None:
    """Say nothing."""


def format_progress(event: ProgressEvent) -> str:
    """Return one line: share done, pixels, rate and time left."""
    share = 100 * event.done / event.total
    line = f"{share:5.1f} %  {event.done / 1e6:,.1f} of {event.total / 1e6:,.1f} Mpx"
    if event.pixels_per_second > 0:
        line += f"  {event.pixels_per_second / 1e6:.3g} Mpx/s"
    if event.seconds_left is not None and event.done < event.total:
        line += f"  {_duration(event.seconds_left)} left"
    return line


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class _Lines:
    """Writes a line every few seconds, and one at the end."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, event: ProgressEvent) -> None:
        now = time.monotonic()
        if event.done == event.total or now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            print(format_progress(event), file=sys.stderr, flush=True)
