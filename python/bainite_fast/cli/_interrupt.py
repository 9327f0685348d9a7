"""Ctrl-C: once to stop in good order, twice to stop at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ._console import say

EXIT_INTERRUPTED = 130
STOPPING = "stopping after the blocks in flight; Ctrl-C again stops at once, and what is done is kept either way"
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
            if sys.stderr.isatty():
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
