"""Peak memory of a network: what PyTorch hands out, measured, and what the process grows by, predicted from it.

The second is larger, for glibc keeps and splits what was freed. Fitted to base-8, -16 and -64 U-Nets at 512² to 2048²
in float32 and bfloat16, of which every one comes within 25 %.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# The profiler's C++ library greets on stderr at first use, where the command line draws its progress.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

_profiler = threading.Lock()  # there is one profiler in a process


def peak_bytes(run: Callable[[], torch.Tensor]) -> int:
    """Return the most bytes alive at once in tensors and scratch while `run` runs, its result included.

    What was alive before (weights, the input batch) is not counted.
    """
    with _profiler, torch.autograd.profiler.profile(profile_memory=True) as profile:
        result = run()
    results = profile.kineto_results
    if results is None:
        raise RuntimeError("PyTorch's profiler gave no memory events")
    thread = None
    events = sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns())
    alive = peak = 0
    for event in events:
        thread = event.start_thread_id() if thread is None else thread
        if event.start_thread_id() == thread:  # workers of other networks may be running
            alive += event.nbytes()
            peak = max(peak, alive)
    del result
    return int(peak)


class _Sizes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the most elements that one tensor of an operator's result has."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        results = found if isinstance(found, (tuple, list)) else (found,)
        self.most = max([self.most, *(x.numel() for x in results if isinstance(x, torch.Tensor))])
        return found


def most_elements(run: Callable[[], torch.Tensor]) -> int:
    """Return the elements of the largest tensor that an operator makes while `run` runs."""
    sizes = _Sizes()
    with sizes:
        run()
    return sizes.most


def resident_bytes(alive: float, weights: int) -> int:
    """Return by how much a process grows while a network runs that has `alive` bytes alive at once.

    Parameters
    ----------
    alive : float
        From :func:`peak_bytes`, bytes.
    weights : int
        Of the network, bytes: oneDNN keeps a copy in its own layout.
    """
    # As glibc comes, it maps blocks above 32 MiB and gives them back at once; tuned to keep them, it splits them.
    factor, constant = (1.9, 32) if allocator_keeps_pages() else (1.1, 64)
    return math.ceil(factor * alive) + constant * 2**20 + weights


class _MallocInfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc; ``hblks`` is the number of blocks with a mapping of their own."""

    _fields_ = (("before", ctypes.c_size_t * 3), ("hblks", ctypes.c_size_t), ("after", ctypes.c_size_t * 6))


def allocator_keeps_pages() -> bool:
    """Say whether a large block comes from glibc's heap, and not from a mapping of its own, as after ``mallopt``."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallinfo2.restype = _MallocInfo
        before = libc.mallinfo2().hblks
        block = torch.empty(2**26, dtype=torch.uint8)  # not touched: it costs nothing
        mapped = libc.mallinfo2().hblks > before
    except (OSError, AttributeError):
        return False  # another C library
    del block
    return not mapped


def fit_line(pixels: tuple[int, int], peaks: tuple[int, int]) -> tuple[float, float]:
    """Return the constant (at least 0) and the bytes per pixel of peak = constant + slope · pixels."""
    slope = (peaks[1] - peaks[0]) / (pixels[1] - pixels[0])
    slope = max(slope, peaks[1] / pixels[1] * 0.5)  # a scratch buffer that shrank must not make large tiles look free
    return max(0.0, math.ceil(peaks[1] - slope * pixels[1])), slope
