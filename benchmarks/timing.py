"""Fair comparison on a shared, noisy machine: variants in turn, round after round, medians and ratios of one run."""

from __future__ import annotations

import gc
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass
class Timings:
    """Seconds of every variant in every round."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Return the median seconds of a variant."""
        return statistics.median(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> float:
        """Return how many times longer `slow` took than `fast`: the median over rounds of the ratio in a round."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        return statistics.median(a / b for a, b in pairs)


def in_turn(variants: dict[str, Callable[[], Any]], rounds: int, *, warm_up: bool = True) -> Timings:
    """Time every variant once a round, in turn, so that a drift of the machine meets them all."""
    timings = Timings({name: [] for name in variants})
    for turn in range(-1 if warm_up else 0, rounds):
        for name, function in variants.items():
            gc.collect()
            start = time.perf_counter()
            function()
            if turn >= 0:
                timings.seconds[name].append(time.perf_counter() - start)
    return timings


def machine() -> dict[str, Any]:
    """Return what a table must say of the machine it was measured on."""
    import os

    import torch

    from bainite_fast import __version__

    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "bainite_fast": __version__,
    }


def save(name: str, rows: list[dict[str, Any]], note: str) -> None:
    """Write a table as Markdown and JSON to the results folder, and print it."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
    where = ", ".join(f"{key} {value}" for key, value in machine().items())
    text = f"{note}\n\n" + "\n".join(lines) + f"\n\nMeasured on: {where}.\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    (RESULTS / f"{name}.json").write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")
    print("\n" + text)
