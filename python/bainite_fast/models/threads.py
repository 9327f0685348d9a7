"""PyTorch's own threads, switched off while workers run one network each."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import torch

_lock = threading.Lock()
_open = 0
_before = 1


@contextlib.contextmanager
def serial_threads() -> Iterator[None]:
    """Let every network run on the thread that calls it while the context is open; then restore the former number.

    One worker per core with one thread each is no slower than one network on all cores, its logits do not depend on
    the number of cores, and a busy machine does not stall it: PyTorch's threads wait for one another by spinning.
    """
    global _open, _before
    with _lock:
        if _open == 0:
            _before = torch.get_num_threads()
        _open += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if _open == 0:
                torch.set_num_threads(_before)


def keep_serial() -> None:
    """Bring the calling thread to one intra-op thread where a context is open: it may be older than the context."""
    if _open and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
