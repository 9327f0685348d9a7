"""What the benchmarks of a GPU share: times of a stream, a copy as yardstick, and what a table says of the machine."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Callable
from typing import Any

import torch

from bainite_fast import kernels
from bainite_fast.models.device import describe_devices, device_facts
from timing import RESULTS, machine

PROBLEM = (
    "torch finds no CUDA device here"
    if not torch.cuda.is_available()
    else ""
    if kernels.cuda_built()
    else "this build has no CUDA kernels: make gpu-bench builds them"
)
_cuda: Any = torch.cuda
_HEAD_START = 20_000_000  # clock cycles, some 10 ms: longer than it takes to queue all that is timed


def device_seconds(action: Callable[[], Any], *, repeats: int) -> float:
    """Return the seconds of one action on the current stream, the mean over `repeats` queued without a wait.

    The device has something else to do until all are queued, so that it never waits for the host between two of them:
    a call takes longer to queue than many a kernel runs. An action that itself waits for the device is timed with that.
    """
    start, end = (_cuda.Event(enable_timing=True) for _ in range(2))
    _cuda._sleep(_HEAD_START)
    start.record()
    for _ in range(repeats):
        action()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3 / repeats


def in_turn_on_device(
    variants: dict[str, Callable[[], Any]], *, rounds: int = 9, repeats: int = 20
) -> dict[str, list[float]]:
    """Time every variant once a round, in turn; return seconds of each round."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(-2, rounds):
        for name, action in variants.items():
            took = device_seconds(action, repeats=repeats)
            if turn >= 0:
                seconds[name].append(took)
    return seconds


def ratio(seconds: dict[str, list[float]], slow: str, fast: str) -> float:
    """Return how many times longer `slow` took than `fast`: the median over rounds."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def copier(total_bytes: int) -> Callable[[], None]:
    """Return a device-to-device copy that reads and writes `total_bytes` in all."""
    source = torch.ones(total_bytes // 2, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def driver() -> str:
    """Return the version of the NVIDIA driver."""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "not known"


def save_gpu(name: str, rows: list[dict[str, Any]], note: str) -> None:
    """Write a table as Markdown and JSON to the results folder, and print it."""
    facts = {"gpu": describe_devices()[0], "driver": driver(), **device_facts("cuda:0"), **machine()}
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
    where = ", ".join(f"{key} {value}" for key, value in facts.items())
    text = f"{note}\n\n" + "\n".join(lines) + f"\n\nMeasured on: {where}.\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")
    print("\n" + text)
