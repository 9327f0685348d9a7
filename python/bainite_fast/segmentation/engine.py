"""The task: read a block, run the network over its tiles, write its shards. One function, wherever it runs.

The same :func:`run_block` is called by threads of this process and by workers of a cluster. An :class:`Engine` holds
what a process needs once: the compiled network, its buffers, and the gate that keeps the memory budget.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .. import kernels
from ..errors import DeviceError, ModelError, NonFiniteError
from ..geometry import Region, Tile
from ..io import LabelStore, Mosaic
from ..models import runtime
from .guard import Guard
from .journal import BlockRecord
from .run_plan import Plan

if TYPE_CHECKING:
    from ..models import LoadedModel
    from ..models.runtime import Precision, Runtime

Labels = npt.NDArray[np.uint8]
Pixels = npt.NDArray[Any]


class Network:
    """A model and how to compile it. Travels without what was compiled, which is made again where it arrives.

    Attributes
    ----------
    loaded : LoadedModel
        The model.
    runtime : Runtime
        The compiled network of this process.
    """

    def __init__(self, loaded: LoadedModel, precision: Precision) -> None:
        self.loaded = loaded
        self.precision: Precision = precision
        self._runtime: Runtime | None = None
        self._fingerprint = self.runtime.fingerprint()

    @property
    def runtime(self) -> Runtime:
        """Compile on first use."""
        if self._runtime is None:
            self._runtime = runtime.compile(self.loaded, precision=self.precision)
        return self._runtime

    def check(self) -> None:
        """Refuse to run where the logits would differ in their last bits from those of the process that planned."""
        here = self.runtime.fingerprint()
        if here != self._fingerprint:
            raise DeviceError(
                f"this worker would not give the same bytes as the process that planned the run: {here} here, "
                f"{self._fingerprint} there; use workers of one kind, with the same versions"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_runtime": None}


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs to do any block of a run. Travels by pickle.

    Attributes
    ----------
    key : str
        Unique name of the run; a process keeps one engine per key.
    plan : Plan
        The geometry.
    mosaic : Mosaic
        Where the pixels come from.
    network : Network
        The network to run.
    store : LabelStore
        Where the labels go.
    confidence : bool
        Whether to write a confidence too.
    """

    key: str
    plan: Plan
    mosaic: Mosaic
    network: Network
    store: LabelStore
    confidence: bool


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What a finished block sends back.

    Attributes
    ----------
    record : BlockRecord
        The line for the journal.
    pixels : int
        Pixels labelled.
    spans : tuple of Span
        When each stage began and ended: read, gather, network, scatter, write; wait, for the gate; and tiles, from the
        gate to the last label.
    """

    record: BlockRecord
    pixels: int
    spans: tuple[Span, ...]

    @property
    def seconds(self) -> dict[str, float]:
        """Time spent in each stage, s."""
        total: dict[str, float] = {}
        for span in self.spans:
            if span.stage != "tiles":  # it holds others
                total[span.stage] = total.get(span.stage, 0.0) + span.end - span.start
        return total


@dataclass(frozen=True, slots=True)
class Span:
    """A stage of a block: from when to when, in seconds of ``time.perf_counter`` of the machine that did it."""

    stage: str
    start: float
    end: float


class Stopwatch:
    """Notes when each stage of one block begins and ends."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Note the time of the context as `stage`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spans.append(Span(stage, start, time.perf_counter()))


class Engine:
    """Runs blocks of one job in one process; safe to call from many threads."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.guard = Guard(job.plan)
        self._local = threading.local()
        job.network.check()
        self.runtime = job.network.runtime
        contract = job.network.loaded.contract
        self._classes = len(contract.classes)
        self._temperature = contract.temperature
        self._gain, self._offset = contract.gain_offset(job.mosaic.dtype)

    def run(self, by: int, bx: int) -> BlockResult:
        """Read, segment and write block (by, bx)."""
        plan, watch = self.job.plan, Stopwatch()
        region = plan.region(by, bx)
        with watch("read"):
            image, origin, digest = self._read(by, bx)
        with contextlib.ExitStack() as stack:
            with watch("wait"):
                stack.enter_context(self.guard.gate())
            stack.enter_context(watch("tiles"))
            labels, confidence = self._infer(image, origin, by, bx, watch)
        del image
        with watch("write"):
            counts = kernels.class_counts(labels, self._classes, threads=1)
            shards = self.job.store.write_block(by, bx, labels, confidence)
        files = tuple((shard.path, shard.size) for shard in shards)
        record = BlockRecord(by, bx, tuple(int(n) for n in counts), digest, files)
        return BlockResult(record, region.pixels, tuple(watch.spans))

    def _read(self, by: int, bx: int) -> tuple[Pixels, Region, str]:
        """Return the pixels at the model's scale, where they lie, and the digest of the block's own pixels."""
        job = self.job
        source, own = job.plan.source(by, bx), job.plan.region(by, bx)
        image = job.mosaic.read(source.y, source.y1, source.x, source.x1)
        if image.dtype.kind == "f":
            _refuse_nonfinite(image, source, job.mosaic.name)
        inner = image[own.y - source.y : own.y1 - source.y, own.x - source.x : own.x1 - source.x]
        digest = hashlib.sha256(np.ascontiguousarray(inner).data).hexdigest()
        if not job.plan.scaled:
            return image, source, digest
        seen = job.plan.model_source(by, bx)
        resampled = kernels.resample_region(
            image,
            origin=(source.y, source.x),
            image_shape=job.plan.shape,
            scaled_shape=job.plan.grid,
            out=(seen.y, seen.x, seen.height, seen.width),
            threads=1,
        )
        return resampled, seen, digest

    def _infer(self, image: Pixels, origin: Region, by: int, bx: int, watch: Stopwatch) -> tuple[Labels, Labels | None]:
        """Return the labels, and the confidence if asked, of one block on the mosaic's grid."""
        plan = self.job.plan
        area = plan.area(by, bx)
        labels: Labels = np.empty((area.height, area.width), np.uint8)
        confidence: Labels | None = np.empty_like(labels) if self.job.confidence else None
        for group in _batches(plan.tiles(by, bx), plan.batch):
            with self.guard.watching():
                logits, trimmed = self._pass(image, origin, group, watch)
                with watch("scatter"):
                    crops = _crops(group, area, trimmed)
                    sure: dict[str, Any] = {"confidence": confidence, "temperature": self._temperature}
                    bad = kernels.scatter(logits, labels, crops=crops, **sure, threads=1)
                del logits
            if bad:
                raise ModelError(
                    f"the network gave NaN or infinity at {bad} pixels of the tile at {group[0].core}; the weights are "
                    "damaged, or the precision is too low: try precision='float32'"
                )
        if not plan.scaled:
            return labels, confidence
        rows, columns = _nearest(plan, by, bx, area)
        back = [None if layer is None else layer[rows][:, columns] for layer in (labels, confidence)]
        assert back[0] is not None  # for the type checker: labels are always there
        return back[0], back[1]

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
                tiles=np.array([(t.input.y, t.input.x) for t in group], np.int64),
                gain=self._gain,
                offset=self._offset,
                pad="mirror",
                threads=1,
            )
        with watch("network"):
            if all(t.core.grown(job.plan.halo) == t.input for t in group):
                return self.runtime.run_core(batch), self.runtime.trimmed
            return self.runtime.run(batch), 0

    def _buffer(self, n: int, height: int, width: int) -> Any:
        """Return the thread's input buffer, made anew only when the shape changes."""
        key = (n, height, width)
        if getattr(self._local, "key", None) != key:
            self._local.batch = None
            self._local.batch = self.runtime.new_batch(n, height, width)
            self._local.key = key
        return self._local.batch


def _batches(tiles: list[Tile], size: int) -> Iterator[list[Tile]]:
    """Yield groups of at most `size` tiles whose inputs have one shape, in a fixed order."""
    groups: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        groups.setdefault((tile.input.height, tile.input.width), []).append(tile)
    for group in groups.values():
        for start in range(0, len(group), size):
            yield group[start : start + size]


def _crops(group: list[Tile], area: Region, trimmed: int) -> npt.NDArray[np.int64]:
    """Return (src_y, src_x, height, width, dst_y, dst_x) of every tile: its core, clipped to the area.

    The logits lack `trimmed` px on each side of the tile's input.
    """
    return np.array(
        [
            (
                t.core.y - t.input.y - trimmed,
                t.core.x - t.input.x - trimmed,
                min(t.core.y1, area.y1) - t.core.y,
                min(t.core.x1, area.x1) - t.core.x,
                t.core.y - area.y,
                t.core.x - area.x,
            )
            for t in group
        ],
        np.int64,
    )


def _nearest(plan: Plan, by: int, bx: int, area: Region) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return which row and column of the area's labels each mosaic pixel of a block takes."""
    region = plan.region(by, bx)
    rows = np.arange(region.y, region.y1, dtype=np.int64)
    columns = np.arange(region.x, region.x1, dtype=np.int64)
    return (
        (2 * rows + 1) * plan.grid[0] // (2 * plan.shape[0]) - area.y,
        (2 * columns + 1) * plan.grid[1] // (2 * plan.shape[1]) - area.x,
    )


def _refuse_nonfinite(image: Pixels, region: Region, name: str) -> None:
    found = kernels.nonfinite(image, threads=1)
    if found is None:
        return
    y, x, channel = found
    value = image[y, x] if image.ndim == 2 else image[y, x, channel]
    place = f"{name}: row {region.y + y}, column {region.x + x}"
    raise NonFiniteError(
        f"the mosaic holds {value} at {place} (channel {channel}); replace such pixels before segmenting. "
        "What is finished is kept, and the output stays marked unfinished",
        place=place,
    )


_engines: dict[str, Engine] = {}
_engines_lock = threading.Lock()
_MOST_ENGINES = 4  # a worker of a cluster meets one run after another, and is told of none's end


def run_block(job: Job, by: int, bx: int) -> BlockResult:
    """Do one block of a job, with the engine that this process keeps for it."""
    with _engines_lock:
        engine = _engines.get(job.key)
        if engine is None:
            while len(_engines) >= _MOST_ENGINES:
                del _engines[next(iter(_engines))]
            engine = _engines[job.key] = Engine(job)
    return engine.run(by, bx)


def forget(key: str) -> None:
    """Let go of the engine of a finished job."""
    with _engines_lock:
        _engines.pop(key, None)
