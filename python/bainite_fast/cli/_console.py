"""What the user sees: results on stdout, everything else on stderr, and a progress bar where there is a terminal."""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from ..errors import BainiteWarning
from ..training.words import duration

Step = Callable[[int, int], None]
"""Called with the work done and the total, in the same unit."""

WINDOW_SECONDS = 30.0
LINE_SECONDS = 10.0


def say(text: str) -> None:
    """Write one line for the reader, not for a program, to stderr."""
    typer.echo(text, err=True)


def emit(text: str) -> None:
    """Write a result to stdout."""
    typer.echo(text)


def emit_json(result: Mapping[str, Any]) -> None:
    """Write a result to stdout as one JSON object; NaN, which JSON cannot hold, becomes null."""
    typer.echo(json.dumps(plain(result), indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """Turn paths, tuples, NumPy scalars and non-finite numbers into what JSON can hold."""
    if hasattr(value, "tolist") and not isinstance(value, type):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if value - value == 0 else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def table(rows: Sequence[tuple[str, str]], *, indent: str = "") -> str:
    """Align (name, text) pairs in two columns."""
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"{indent}{name:<{width}}  {text}".rstrip() for name, text in rows)


def file_size(size: float) -> str:
    """Write a number of bytes as ``512 B`` or ``3.4 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


class Meter:
    """Speed and time left of a job, from its last half minute.

    The first call sets the zero: what an earlier run had done already does not count as speed.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque()
        self._total = 0

    def update(self, done: int, total: int) -> None:
        """Take note that `done` of `total` units are finished."""
        now = self._clock()
        self._total = total
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def rate(self) -> float | None:
        """Units per second, None while unknown."""
        if len(self._seen) < 2:
            return None
        (t0, d0), (t1, d1) = self._seen[0], self._seen[-1]
        return (d1 - d0) / (t1 - t0) if t1 > t0 and d1 > d0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the job is done at the present speed, None while unknown."""
        rate = self.rate
        return None if rate is None else (self._total - self._seen[-1][1]) / rate

    def describe(self, unit: str, scale: float) -> str:
        """Return text such as ``12.5 of 99.0 Mpx, 3.21 Mpx/s, 27 s left``."""
        done = self._seen[-1][1]
        parts = [f"{_short(done / scale)} of {_short(self._total / scale)} {unit}"]
        rate, left = self.rate, self.seconds_left
        if rate is not None and left is not None and done < self._total:
            parts += [f"{rate / scale:.3g} {unit}/s", f"{duration(left)} left"]
        return ", ".join(parts)


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def on_terminal() -> bool:
    """Return whether what is said is read on a terminal; a program that was started with stderr closed has none."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """Show no warnings of this package while the context is open, if `quiet`."""
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore", BainiteWarning)
        yield


@contextmanager
def progress(label: str, *, unit: str = "Mpx", scale: float = 1e6, quiet: bool = False) -> Iterator[Step]:
    """Show a job's progress on stderr: a bar on a terminal, a line every ten seconds elsewhere.

    Parameters
    ----------
    label : str
        What is being done, in one word.
    unit : str
        The unit shown.
    scale : float
        How many units of work make one `unit`.
    quiet : bool
        Show nothing, and no warnings of this package.

    Yields
    ------
    Callable[[int, int], None]
        To be called with the work done and the total.
    """
    if quiet:
        with hushed(quiet):
            yield lambda done, total: None
    elif on_terminal():
        with _bar(label, unit, scale) as step:
            yield step
    else:
        yield _lines(label, unit, scale)


@contextmanager
def _bar(label: str, unit: str, scale: float) -> Iterator[Step]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    meter = Meter()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[state]}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None, state="")

        def step(done: int, total: int) -> None:
            meter.update(done, total)
            bar.update(task, completed=done, total=total, state=meter.describe(unit, scale))

        yield step


def _lines(label: str, unit: str, scale: float) -> Step:
    meter = Meter()
    last, said = time.monotonic(), -1

    def step(done: int, total: int) -> None:
        nonlocal last, said
        meter.update(done, total)
        now = time.monotonic()
        if done != said and (done == total or now - last >= LINE_SECONDS):
            last, said = now, done
            share = 100 * done / total if total else 100.0
            say(f"{label}: {share:.0f} %, {meter.describe(unit, scale)}")

    return step
