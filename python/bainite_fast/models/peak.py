"""Peak memory of a network, measured: what PyTorch's CPU allocator hands out, oneDNN's scratch included."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable

import torch

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


def fit_line(pixels: tuple[int, int], peaks: tuple[int, int]) -> tuple[float, float]:
    """Return the constant (at least 0) and the bytes per pixel of peak = constant + slope · pixels."""
    slope = (peaks[1] - peaks[0]) / (pixels[1] - pixels[0])
    slope = max(slope, peaks[1] / pixels[1] * 0.5)  # a scratch buffer that shrank must not make large tiles look free
    return max(0.0, math.ceil(peaks[1] - slope * pixels[1])), slope
