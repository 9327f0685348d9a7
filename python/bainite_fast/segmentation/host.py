"""The network on the CPU: one thread of this process for each block, as many at a time as the memory allows."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import kernels
from ..geometry import Region, Tile
from .batches import Labels, Pixels, batches, corners, crops, is_core, on_mosaic_grid, refuse_bad
from .guard import Guard
from .spans import Stopwatch

if TYPE_CHECKING:
    from .engine import Job


class HostInference:
    """Labels blocks with the compiled network; safe to call from many threads."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.batch = job.batch
        self.guard = Guard(job.plan)
        self._local = threading.local()
        self._runtime = job.network.runtime_for(job.plan)
        contract = job.network.loaded.contract
        self._temperature = contract.temperature
        self._gain, self._offset = contract.gain_offset(job.mosaic.dtype)

    def __call__(
        self, image: Pixels, origin: Region, by: int, bx: int, watch: Stopwatch
    ) -> tuple[Labels, Labels | None]:
        """Return the labels, and the confidence if asked, of one block on the mosaic's grid."""
        with contextlib.ExitStack() as stack:
            with watch("wait"):
                stack.enter_context(self.guard.gate())
            stack.enter_context(watch("tiles"))
            labels, confidence = self._label(image, origin, by, bx, watch)
            return on_mosaic_grid(self.job.plan, by, bx, labels, confidence)

    def _label(self, image: Pixels, origin: Region, by: int, bx: int, watch: Stopwatch) -> tuple[Labels, Labels | None]:
        plan = self.job.plan
        area = plan.area(by, bx)
        labels: Labels = np.empty((area.height, area.width), np.uint8)
        confidence: Labels | None = np.empty_like(labels) if self.job.confidence else None
        for group in batches(plan.tiles(by, bx), self.batch):
            with self.guard.watching():
                logits, trimmed = self._pass(image, origin, group, watch)
                with watch("scatter"):
                    places = crops(group, area, trimmed)
                    sure: dict[str, Any] = {"confidence": confidence, "temperature": self._temperature}
                    bad = kernels.scatter(logits, labels, crops=places, **sure, threads=1)
                del logits
            refuse_bad(bad, group[0])
        return labels, confidence

    def _pass(self, image: Pixels, origin: Region, group: list[Tile], watch: Stopwatch) -> tuple[Any, int]:
        """Return the logits of one batch of tiles, and how many pixels on each side of the tiles they lack."""
        job = self.job
        with watch("gather"):
            batch = self._buffer(len(group), group[0].input.height, group[0].input.width)
            kernels.gather(
                image,
                batch,
                origin=(origin.y, origin.x),
                image_shape=job.plan.grid,
                tiles=corners(group),
                gain=self._gain,
                offset=self._offset,
                pad="mirror",
                threads=1,
            )
        with watch("network"):
            if is_core(group, job.plan.halo):
                return self._runtime.run_core(batch), self._runtime.trimmed
            return self._runtime.run(batch), 0

    def _buffer(self, n: int, height: int, width: int) -> Any:
        """Return the thread's input buffer, made anew only when the shape changes."""
        key = (n, height, width)
        if getattr(self._local, "key", None) != key:
            self._local.batch = None
            self._local.batch = self._runtime.new_batch(n, height, width)
            self._local.key = key
        return self._local.batch
