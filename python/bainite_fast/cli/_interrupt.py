"""Ctrl-C: once to stop in good order, twice to stop at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ._console import on_terminal, say

EXIT_INTERRUPTED = 130
STOPPING = "stopping after the blocks in flight; Ctrl-C again stops at once, and what is done is kept either way"
STOPPING_STEP = "stopping after this step; Ctrl-C again stops at once, and loses the steps since the last checkpoint"
SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def graceful_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first SIGINT and say what is waited for; leave the process at the second.

    Leaving at once is safe because shards are moved into place whole and journalled after that, as after a ``kill -9``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    pressed = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            if on_terminal():
                sys.stderr.write(SHOW_CURSOR)
            os._exit(EXIT_INTERRUPTED)
        pressed = True
        say(STOPPING)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def interrupt_between_steps() -> Iterator[Callable[[], None]]:
    """Answer a SIGINT where the job calls what this yields; at once before it has done so, and at the second SIGINT.

    Yields
    ------
    Callable[[], None]
        To be called between two steps: raises KeyboardInterrupt if the user pressed Ctrl-C.
    """
    begun = pressed = False

    def check() -> None:
        nonlocal begun
        begun = True
        if pressed:
            raise KeyboardInterrupt

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed or not begun:
            raise KeyboardInterrupt
        pressed = True
        say(STOPPING_STEP)

    if threading.current_thread() is not threading.main_thread():
        yield check  # signals are the main thread's business
        return
    before = signal.signal(signal.SIGINT, stop)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)
