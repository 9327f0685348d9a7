"""What the machine can do at best, apart from the network: its rate of matrix products."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..models import serial_threads
from ..models.device import exact_math

if TYPE_CHECKING:
    from ..models import LoadedModel

_MATRIX = 1536  # edge; its three matrices in bfloat16 or float32 leave no cache of today cold for long
_DEVICE_MATRIX = 8192  # edge; enough for every multiprocessor of a large GPU to work for milliseconds

_cuda: Any = torch.cuda


def matrix_rate(precision: str, workers: int, device: str = "cpu") -> float:
    """Return the operations per second (two for each product) of square matrix products.

    On the CPU on so many threads, each with its own matrices; on a GPU one product after another.
    """
    dtype, edge = getattr(torch, precision), _MATRIX if device == "cpu" else _DEVICE_MATRIX
    pairs = [[torch.randn(edge, edge).to(device, dtype) for _ in range(2)] for _ in range(workers)]

    def product(a: torch.Tensor, b: torch.Tensor) -> None:
        torch.mm(a, b)
        if device != "cpu":
            _cuda.synchronize(device)

    def one(worker: int) -> float:
        a, b = pairs[worker]
        product(a, b)
        return statistics.median(_timed(lambda: product(a, b)) for _ in range(7))

    with serial_threads(), exact_math(device), ThreadPoolExecutor(workers) as pool:
        seconds = list(pool.map(one, range(workers)))
    return sum(2 * edge**3 / s for s in seconds)


def flop_per_pixel(loaded: LoadedModel) -> float:
    """Return the operations of the network as written, for each pixel that it sees; one product counts as two."""
    contract = loaded.contract
    edge = contract.stride * max(1, 64 // contract.stride)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        loaded.module(torch.zeros(1, contract.in_channels, edge, edge))
    return float(counter.get_total_flops()) / edge**2


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start
