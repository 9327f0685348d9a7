"""A device made of NumPy, for machines without a GPU: streams that run in order, as late and as unfairly as allowed."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bainite_fast import kernels
from bainite_fast.models import runtime
from bainite_fast.segmentation import device_planner, engine, planner, request, run
from bainite_fast.segmentation.device import STREAMS, DeviceInference, DeviceMemoryError, Pair


class Mark:
    """A point in a stream."""

    def __init__(self) -> None:
        self.reached: float | None = None


class FakeBackend:
    """Queues everything, and does it only when the host waits; which stream goes on is left to chance.

    Parameters
    ----------
    network : Runtime
        On the CPU.
    seed : int
        Of the chance.
    room : int, optional
        Pixels of a batch that device memory suffices for.
    memory : int, optional
        Pixels that it suffices for in all: of a batch, and of what was recorded and holds its memory for itself.
    """

    def __init__(self, network: Any, *, seed: int = 0, room: int | None = None, memory: int | None = None) -> None:
        self.network_of_cpu, self.room, self.memory = network, room, memory
        self.prepared: list[tuple[int, int, int]] = []
        self.recorded: tuple[int, int, int] | None = None
        self.pairs = self.released = 0
        self._random = random.Random(seed)
        self._streams: dict[str, deque[Any]] = {name: deque() for name in STREAMS}
        self._lock = threading.RLock()

    def _queue(self, stream: str, work: Any) -> None:
        with self._lock:
            self._streams[stream].append(work)

    def _step(self) -> bool:
        """Let a stream that can go on do its next work."""
        names = [name for name in STREAMS if self._streams[name]]
        self._random.shuffle(names)
        for name in names:
            work = self._streams[name][0]
            if isinstance(work, tuple) and work[0].reached is None:  # it waits for a mark
                continue
            self._streams[name].popleft()
            if isinstance(work, Mark):
                work.reached = time.perf_counter()
            elif not isinstance(work, tuple):
                work()
            return True
        return False

    def pair(self, size: int) -> Pair:
        self.pairs += 1
        return Pair(np.full(size, 0xEE, np.uint8), np.full(size, 0xDD, np.uint8))

    def view(self, pair: Pair, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
        size = int(np.prod(shape)) * dtype.itemsize
        return pair.device[:size].view(dtype).reshape(shape)

    def up(self, pair: Pair, size: int) -> None:
        self._queue("upload", lambda: np.copyto(pair.device[:size], pair.host[:size]))

    def down(self, pair: Pair, size: int) -> None:
        self._queue("download", lambda: np.copyto(pair.host[:size], pair.device[:size]))

    def zero(self, pair: Pair) -> None:
        self._queue("compute", lambda: pair.device.fill(0))

    def mark(self, stream: str) -> Mark:
        mark = Mark()
        self._queue(stream, mark)
        return mark

    def after(self, stream: str, mark: Mark) -> None:
        self._queue(stream, (mark,))

    def finish(self, mark: Mark) -> None:
        while mark.reached is None:
            with self._lock:
                assert mark.reached is not None or self._step(), "the streams wait for each other"

    def moment(self, mark: Mark) -> float:
        assert mark.reached is not None
        return mark.reached

    def drain(self) -> None:
        with self._lock:
            while self._step():
                pass

    def _allocate(self, n: int, height: int, width: int) -> None:
        pixels, held = n * height * width, math.prod(self.recorded or (0,))
        if self.room is not None and pixels > self.room:
            raise DeviceMemoryError(f"tried to allocate {n} tiles of {height} × {width} px")
        if self.memory is not None and (n, height, width) != self.recorded and pixels + held > self.memory:
            raise DeviceMemoryError(f"tried to allocate {n} tiles of {height} × {width} px beside the recorded ones")

    def prepare(self, n: int, height: int, width: int) -> None:
        self._allocate(n, height, width)
        self.prepared.append((n, height, width))
        self.recorded = n, height, width

    def batch(self, n: int, height: int, width: int) -> Any:
        self._allocate(n, height, width)
        return self.network_of_cpu.new_batch(n, height, width)

    def gather(self, region: Any, batch: Any, **options: Any) -> None:
        self._queue("compute", lambda: kernels.gather(region, batch, threads=1, **options))

    def network(self, batch: Any, core: bool) -> tuple[Any, int]:
        logits: list[torch.Tensor] = []
        net = self.network_of_cpu
        self._queue("compute", lambda: logits.append(net.run_core(batch) if core else net.run(batch)))
        return logits, net.trimmed if core else 0

    def scatter(self, logits: Any, labels: Any, *, bad: Pair, **options: Any) -> None:
        def work() -> None:
            bad.device.view(np.int64)[0] += kernels.scatter(logits[0], labels, threads=1, **options)

        self._queue("compute", work)

    def release(self) -> bool:
        self.released += 1
        recorded, self.recorded = self.recorded, None
        return recorded is not None


@pytest.fixture
def fake_device(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[FakeBackend]]:
    """Return what puts a fake GPU of so many free bytes behind ``device="cuda"``; it returns the backends made."""

    def put(*, free: int = 2 << 30, **options: Any) -> list[FakeBackend]:
        made: list[FakeBackend] = []

        def open_inference(job: Any) -> Any:
            made.append(FakeBackend(job.network.runtime, **options))
            return DeviceInference(job, made[-1])

        compile_for_cpu = runtime.compile
        monkeypatch.setattr(request, "resolve_device", lambda device: "cuda:0")
        monkeypatch.setattr(runtime, "compile", lambda loaded, *, device, **more: compile_for_cpu(loaded, **more))
        monkeypatch.setattr(run, "choose_precision", lambda loaded, requested, device: "float32")
        monkeypatch.setattr(run, "free_device_memory", lambda device: free)
        monkeypatch.setattr(engine, "open_inference", open_inference)
        return made

    return put


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 128 px, so that small mosaics have many."""
    monkeypatch.setattr(planner, "_CHUNK", 64)
    monkeypatch.setattr(planner, "_BLOCKS", (128,))
    monkeypatch.setattr(device_planner, "_BLOCKS", (128,))
