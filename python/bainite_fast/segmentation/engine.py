"""The task: read a block, run the network over its tiles, write its shards. One function, wherever it runs.

The same :func:`run_block` is called by threads of this process and by workers of a cluster. An :class:`Engine` holds
what a process needs once: the compiled network, and what runs it on the CPU or on a GPU.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import kernels
from ..errors import DeviceError, NonFiniteError
from ..geometry import Region
from ..io import LabelStore, Mosaic
from ..models import runtime
from ..models.exported import export_core
from .batches import Labels, Pixels
from .device import DeviceInference
from .host import HostInference
from .journal import BlockRecord
from .run_plan import Plan
from .spans import Span, Stopwatch

if TYPE_CHECKING:
    from ..models import LoadedModel
    from ..models.compiled import Precision, Runtime


class Network:
    """A model and how to compile it. Travels without what was compiled, which is made again where it arrives.

    Attributes
    ----------
    loaded : LoadedModel
        The model.
    runtime : Runtime
        The compiled network of this process.
    """

    def __init__(self, loaded: LoadedModel, precision: Precision, device: str = "cpu") -> None:
        self.loaded = loaded
        self.precision: Precision = precision
        self.device = device
        self._runtime: Runtime | None = None
        self._exported: tuple[tuple[str, tuple[int, int, int]], Runtime] | None = None
        self._fingerprint = self.runtime.fingerprint()

    @property
    def runtime(self) -> Runtime:
        """Compile on first use."""
        if self._runtime is None:
            self._runtime = runtime.compile(self.loaded, precision=self.precision, device=self.device)
        return self._runtime

    def runtime_for(self, plan: Plan) -> Runtime:
        """Return the network that a plan asks for, compiled on first use."""
        if plan.runtime == "torchscript":
            return self.runtime
        key = plan.runtime, plan.pass_shape
        if self._exported is None or self._exported[0] != key:
            self._exported = key, self.export(plan)
        return self._exported[1]

    def export(self, plan: Plan) -> Runtime:
        """Return the network whose whole tiles are compiled by Inductor, as the plan says."""
        return export_core(self.loaded, self.runtime, plan.pass_shape, by=plan.runtime, runners=plan.workers)

    def check(self) -> None:
        """Refuse to run where the logits would differ in their last bits from those of the process that planned."""
        here = self.runtime.fingerprint()
        if here != self._fingerprint:
            raise DeviceError(
                f"this worker would not give the same bytes as the process that planned the run: {here} here, "
                f"{self._fingerprint} there; use workers of one kind, with the same versions"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_runtime": None, "_exported": None}


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
    batch : int
        Tiles per pass of the network: the plan's, or what the run came down to for want of device memory.
    """

    key: str
    plan: Plan
    mosaic: Mosaic
    network: Network
    store: LabelStore
    confidence: bool
    batch: int


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
        When each stage began and ended: read, upload, gather, network, scatter, download, write (a CPU neither uploads
        nor downloads); start, of the device; wait, for a place; and tiles, from the first pixel gathered to the last
        label.
    batch : int
        Tiles per pass of the network from now on.
    """

    record: BlockRecord
    pixels: int
    spans: tuple[Span, ...]
    batch: int

    @property
    def seconds(self) -> dict[str, float]:
        """Time spent in each stage, s."""
        total: dict[str, float] = {}
        for span in self.spans:
            if span.stage not in ("start", "tiles"):  # once for all blocks; holds others
                total[span.stage] = total.get(span.stage, 0.0) + span.end - span.start
        return total


class Inference(Protocol):
    """Labels the blocks of one job on one device; safe to call from many threads.

    Attributes
    ----------
    batch : int
        Tiles per pass of the network; it may shrink while blocks run.
    """

    batch: int

    def __call__(
        self, image: Pixels, origin: Region, by: int, bx: int, watch: Stopwatch
    ) -> tuple[Labels, Labels | None]:
        """Return the labels, and the confidence if asked, of block (by, bx) on the mosaic's grid."""


def open_inference(job: Job) -> Inference:
    """Return what runs the network where the plan says."""
    if job.plan.device == "cpu":
        return HostInference(job)
    from .cuda_backend import CudaBackend

    return DeviceInference(job, CudaBackend(job.network.runtime_for(job.plan)))


class Engine:
    """Runs blocks of one job in one process; safe to call from many threads."""

    def __init__(self, job: Job) -> None:
        self.job = job
        job.store.check_place()
        job.network.check()
        self.running = 0  # blocks
        self._classes = len(job.network.loaded.contract.classes)
        self._infer: Inference | None = None
        self._places = threading.Semaphore(job.plan.in_flight)  # a worker of a cluster may have more threads
        self._opening = threading.Lock()

    def _inference(self, watch: Stopwatch) -> Inference:
        """Open the device on first use: by then the first blocks have been read, or are being read beside it."""
        if self._infer is None:
            with watch("start"), self._opening:
                if self._infer is None:
                    self._infer = open_inference(self.job)
        return self._infer

    def run(self, by: int, bx: int) -> BlockResult:
        """Read, segment and write block (by, bx), as many at a time as the plan has memory for."""
        with self._places:
            return self._run(by, bx)

    def _run(self, by: int, bx: int) -> BlockResult:
        plan, watch = self.job.plan, Stopwatch()
        region = plan.region(by, bx)
        with watch("read"):
            image, origin, digest = self._read(by, bx)
        infer = self._inference(watch)
        labels, confidence = infer(image, origin, by, bx, watch)
        del image
        with watch("write"):
            counts = kernels.class_counts(labels, self._classes, threads=1)
            shards = self.job.store.write_block(by, bx, labels, confidence)
        files = tuple((shard.path, shard.size) for shard in shards)
        record = BlockRecord(by, bx, tuple(int(n) for n in counts), digest, files)
        return BlockResult(record, region.pixels, tuple(watch.spans), infer.batch)

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
            _make_room()
            engine = _engines[job.key] = Engine(job)
        engine.running += 1
    try:
        return engine.run(by, bx)
    finally:
        with _engines_lock:
            engine.running -= 1


def _make_room() -> None:
    """Let go of the oldest engines, and of all that are at no block and hold memory of a device: plans count on it."""
    for key, engine in list(_engines.items()):
        if len(_engines) >= _MOST_ENGINES or (engine.job.plan.device != "cpu" and not engine.running):
            del _engines[key]


def forget(key: str) -> None:
    """Let go of the engine of a finished job."""
    with _engines_lock:
        _engines.pop(key, None)
