"""Throughput acceptance: one mosaic segmented several times, where the time went, and how near the machine's floor."""

from __future__ import annotations

import contextlib
import math
import platform
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import kernels
from .._memory import total_memory
from .._version import __version__
from ..errors import BainiteWarning, InputError
from ..models import load as load_model
from ..models import serial_threads
from ..segmentation import memory
from ..segmentation.bare import bare_network_rate
from ..segmentation.request import check_request
from ..segmentation.run import Choice, execute, prepare, resolve_target
from ..segmentation.spans import Span
from ..segmentation.stream import ThreadExecutor
from .floors import flop_per_pixel, matrix_rate
from .timeline import STAGES, WAITS, Timeline, timeline
from .usage import DeviceUsage

FORMAT = 1
# What must be the same for times to be compared. The tile may differ: it is chosen by the memory that is free.
_ALIKE = (("mosaic", "shape"), ("mosaic", "dtype"), ("mosaic", "channels"), ("model", "sha256"), ("plan", "precision"),
          ("plan", "edge"), ("plan", "device"), ("plan", "runtime"), ("plan", "grid"))  # fmt: skip
# What tells machines apart.
_MACHINE = ("cpu", "cores", "gpu")
# What a saved report must hold for a comparison.
_NEEDED: dict[str, type | tuple[type, ...]] = {
    "format": int, "latency_seconds": dict, "latency_seconds.p50": (int, float), "mosaic": dict, "model": dict,
    "plan": dict,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured, and what a quality-control line asks of it.

    Attributes
    ----------
    values : dict
        JSON-able; times in s, rates in px/s, memory in bytes.
    """

    values: dict[str, Any]

    @property
    def latency(self) -> float:
        """Median time of one mosaic, s."""
        return float(self.values["latency_seconds"]["p50"])

    @property
    def slowest(self) -> float:
        """Time of the slowest mosaic, s."""
        return float(self.values["latency_seconds"]["max"])

    @classmethod
    def read(cls, values: Any) -> Report:
        """Return the report that was saved as JSON.

        Raises
        ------
        InputError
            Naming what is missing or of another kind, as in a file that was edited by hand.
        """
        for place, kind in _NEEDED.items():
            found = values
            for key in place.split("."):
                found = found.get(key) if isinstance(found, dict) else None
            if not isinstance(found, kind) or isinstance(found, bool):
                raise InputError(f"its {place!r} is {found!r}")
        if values["format"] != FORMAT:
            raise InputError(f"its format is {values['format']}, and this version reads {FORMAT}")
        report = cls(values)
        if not 0 < report.latency < math.inf:
            raise InputError(f"its 'latency_seconds.p50' is {report.latency!r}")
        return report

    def slower_than(self, baseline: Report) -> float:
        """Return by what share the median time is longer than the baseline's; negative where it is shorter.

        Raises
        ------
        InputError
            If the baseline is of other pixels, another model or other settings.
        """
        require_alike(self.values, baseline)
        return self.latency / baseline.latency - 1.0


def require_alike(values: dict[str, Any], baseline: Report) -> None:
    """Refuse a baseline of other pixels, another model or other settings than `values` say.

    Raises
    ------
    InputError
        Naming the first that differs.
    """
    for group, key in _ALIKE:
        mine, theirs = values[group][key], baseline.values[group].get(key)
        if mine != theirs:
            said = "not noted" if theirs is None else theirs
            raise InputError(
                f"the baseline cannot be compared: the {key} of its {group} is {said}, and here it is {mine}; "
                "measure both alike, or save a new baseline"
            )


def warn_of_machine(machine: dict[str, Any], baseline: Report) -> None:
    """Say so when a baseline is of another machine: a slowdown of this one would not show."""
    theirs = baseline.values.get("machine")
    theirs = theirs if isinstance(theirs, dict) else {}
    differing = [key for key in _MACHINE if machine.get(key) != theirs.get(key)]
    if differing:
        words = ", ".join(
            f"{key} {theirs.get(key, 'not noted')} there, {machine.get(key, 'none')} here" for key in differing
        )
        warnings.warn(
            f"the baseline is of another machine ({words}): it does not show whether this one has become slower",
            BainiteWarning,
            stacklevel=3,
        )


def measure(
    source: Any,
    model: Any = None,
    *,
    runs: int = 3,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "torchscript",
    edge: str = "mirror",
    scale: str | float = "auto",
    tile: int | None = None,
    memory_budget: int | float | str | None = None,
    plane: Any = None,
    channel: int | str | None = None,
    crop_bar: Any = None,
    work: Path | None = None,
    baseline: Report | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Segment a mosaic several times and report what it took.

    The network is loaded, compiled and run before the clock starts, as on a line that takes one mosaic after another.

    Parameters
    ----------
    source, model, device, precision, runtime, edge, scale, tile, plane, channel, crop_bar
        As in :func:`bainite_fast.segment`; a module is loaded once, a file for every mosaic.
    runs : int
        How many times, at least 1.
    memory_budget : int or str, optional
        As `memory` in :func:`bainite_fast.segment`.
    work : pathlib.Path, optional
        Folder for the labels, which are removed afterwards; by default the system's temporary one.
    baseline : Report, optional
        What the report will be compared with: refused, if it cannot be, before anything is measured.
    progress : callable
        Called with (pixels done, all pixels) of all runs.

    Returns
    -------
    Report
        Of the machine, the plan and the measurements. ``utilisation`` sets the operations of the network, counted as
        direct convolutions over whole tiles (``flop_per_pixel``), per second of it against those of matrix products
        measured just before. It may exceed 1: Winograd's convolutions (Lavin & Gray, 2016) and tiles that are trimmed
        to their core multiply less often than is counted, and other work on the machine may have slowed the matrix
        products.

    Raises
    ------
    BainiteError
        As :func:`bainite_fast.segment`.
    """
    if runs < 1:
        raise InputError(f"runs is {runs}; at least one run is needed")
    request = check_request(
        device=device, precision=precision, runtime=runtime, edge=edge, scale=scale, tile=tile, memory=memory_budget,
        confidence=False, resume=False, overwrite=True, with_image=False,
    )  # fmt: skip
    if isinstance(model, torch.nn.Module):
        model = load_model(model)
    choice = Choice(source, model, None, plane, channel, 0, crop_bar, None)
    with prepare(choice, request) as prepared:
        plan, usage = prepared.plan(None), DeviceUsage(request.device)
        what = {
            "mosaic": {
                "shape": list(plan.shape),
                "dtype": str(prepared.mosaic.dtype),
                "channels": prepared.mosaic.channels,
                "name": prepared.mosaic.name,
            },
            "model": {"name": prepared.contract.name, "sha256": prepared.contract.sha256},
            "plan": {**plan.identity(), "shape": list(plan.shape), "grid": list(plan.grid)},
        }
        machine = {**_machine(), **usage.facts}
        if baseline is not None:
            require_alike(what, baseline)
            warn_of_machine(machine, baseline)
        request = replace(request, runtime=plan.runtime)  # what "auto" chose, for all runs
        compiled = prepared.network.runtime_for(plan)
        bare = bare_network_rate(compiled, plan)
        matrix = matrix_rate(plan.precision, plan.workers, compiled.device)
        operations = flop_per_pixel(prepared.network.loaded)
        pixels = plan.shape[0] * plan.shape[1]
        lines = []
        with (
            tempfile.TemporaryDirectory(prefix="bainite-bench-", dir=work) as folder,
            memory.PeakSampler() as sampler,
            usage,
        ):
            for run in range(runs):
                done = run * pixels
                out = Path(folder) / f"labels-{run}.ome.zarr"  # a new place for each: none replaces another's labels
                lines.append(_one(choice, request, out, lambda n, done=done: progress(done + n, runs * pixels)))  # type: ignore[misc]
                shutil.rmtree(out)
        bare = max(bare, bare_network_rate(compiled, plan))  # the best of before and after: a floor
    seen = sum(tile.input.pixels for block in plan.blocks() for tile in plan.tiles(*block))
    walls = np.array([line.wall for line in lines])
    network = float(np.mean([line.network for line in lines]))
    labelled = plan.grid[0] * plan.grid[1]
    return Report(
        {
            "format": FORMAT,
            "bainite_fast": __version__,
            "machine": machine,
            **what,
            "workers": plan.workers,
            "runs": runs,
            "pixels_per_second": runs * pixels / float(walls.sum()),
            "latency_seconds": {
                **{f"p{q}": float(np.percentile(walls, q)) for q in (50, 95, 99)},
                "max": float(walls.max()),
                "runs": [float(wall) for wall in walls],
            },
            "stages": {
                stage: {
                    "busy_seconds": float(np.mean([line.busy[stage] for line in lines])),
                    "share": float(sum(line.busy[stage] for line in lines) / sum(sum(x.busy.values()) for x in lines)),
                }
                for stage in STAGES
            },
            "network_waited_seconds": {name: float(np.mean([line.waits[name] for line in lines])) for name in WAITS},
            "network": {
                "seconds": network,
                "unexplained_seconds": float(np.mean([line.unexplained for line in lines])),
                "bare_pixels_per_second": bare,
                "share_of_bare": labelled / float(np.median(walls)) / bare,
                "flop_per_pixel": operations,
                "matrix_flop_per_second": matrix,
                "utilisation": operations * seen / network / matrix,
            },
            "memory": {
                "peak_host_bytes": sampler.peak,
                "budget_bytes": plan.memory,
                "peak_device_bytes": usage.peak_bytes,
            },
            "joules_per_gigapixel": None if usage.joules is None else usage.joules / (runs * pixels / 1e9),
            "joules_missing": usage.why_no_joules,
        }
    )


def _one(choice: Choice, request: Any, out: Path, progress: Callable[[int], None]) -> Timeline:
    """Return the timeline of one call, from opening the mosaic to finished labels."""
    spans: list[Span] = []
    start = time.perf_counter()
    with contextlib.ExitStack() as stack:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BainiteWarning)  # said already, by the first to prepare
            prepared = stack.enter_context(prepare(choice, request))
        target = resolve_target(prepared, out, "phases", None)
        with serial_threads():
            done = execute(
                prepared,
                target,
                ThreadExecutor(),
                lambda event: progress(event.done),
                observe=lambda result: spans.extend(result.spans),
            )
    return timeline(spans, start, time.perf_counter(), done.plan.workers)


def _machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_name(),
        "cores": kernels.get_num_threads(),
        "memory_bytes": total_memory(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
