"""One run from opened input to finished output: prepare, plan, journal, stream, finish."""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from .. import io, kernels
from .._version import __version__
from ..errors import BainiteWarning, DeviceError, OutputExistsError
from ..geometry import scaled_shape
from ..io.files import remove
from ..models import Contract, LoadedModel, choose_precision, serial_threads
from ..models import load as load_model
from ..models.device import free_device_memory
from ..models.exported import is_faster
from . import memory as mem
from .checks import check_channels, warn_of_bar, warn_of_intensities, warn_of_scale, warn_of_threads
from .device_planner import DeviceBudget, make_device_plan
from .engine import BlockResult, Job, Network, forget
from .journal import Journal, exclusive, refuse_if_held
from .planner import Budget, Demand, Fixed, make_plan
from .request import Request, scale_factor
from .result import ProgressEvent, Segmentation
from .run_plan import Plan
from .stream import ClusterExecutor, Executor, stream

_JOURNAL, _LOCK = "journal.jsonl", "lock"


@dataclass(frozen=True, slots=True)
class Choice:
    """What to read and which model to run, as the caller named them."""

    source: Any
    model: Any
    normalize: tuple[Any, Any] | None
    plane: Any
    channel: int | str | None
    level: int
    crop_bar: Any
    storage_options: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """Checked input: an open mosaic, a loaded and compiled model, and how they fit each other."""

    request: Request
    mosaic: io.Mosaic
    network: Network
    grid: tuple[int, int]

    @property
    def contract(self) -> Contract:
        """What the model promises."""
        return self.network.loaded.contract

    def plan(self, fixed: Fixed | None, executor: Executor | None = None) -> Plan:
        """Return the plan for this machine, or for the workers of a cluster."""
        contract, mosaic, compiled = self.contract, self.mosaic, self.network.runtime
        demand = Demand(
            shape=mosaic.shape,
            grid=self.grid,
            pixel_bytes=mosaic.dtype.itemsize * mosaic.channels,
            image_channels=mosaic.channels,
            channels=contract.in_channels,
            stride=contract.stride,
            halo=contract.halo,
            edge=self.request.edge,
            confidence=self.request.confidence,
            device=self.request.device.partition(":")[0],  # which of the GPUs does not change the labels
            precision=compiled.precision,
            layout=compiled.layout,
        )
        cores = kernels.get_num_threads()
        if isinstance(executor, ClusterExecutor):
            cores = executor.threads_per_worker
        held = mem.held() + mosaic.spec.cache_bytes
        budget = Budget(self.request.memory, held, cores, compiled.activation_bytes)
        fixed = fixed or Fixed(tile=self.request.tile)
        if self.request.device == "cpu":
            plan = make_plan(demand, budget, fixed)
        else:
            where = self.request.device
            if isinstance(executor, ClusterExecutor):
                warn_of_threads(cores)
                free = executor.device_memory(where)
            else:
                free = free_device_memory(where)
            device = DeviceBudget(free, compiled.activation_bytes, compiled.largest_tensor)
            plan = make_device_plan(demand, budget, device, fixed)
        return replace(plan, runtime=fixed.runtime or self._choose_runtime(plan))

    def _choose_runtime(self, plan: Plan) -> str:
        """Return what was asked for, or by measurement the faster."""
        if self.request.runtime != "auto":
            return self.request.runtime
        with serial_threads():
            try:
                exported = self.network.runtime_for(replace(plan, runtime="export"))
            except DeviceError as error:
                warnings.warn(f"runtime='auto' takes TorchScript: {error}", BainiteWarning, stacklevel=5)
                return "torchscript"
            faster = is_faster(exported, self.network.runtime, plan.pass_shape)
        return "export" if faster else "torchscript"

    def identity(self, plan: Plan, target: io.LabelTarget) -> dict[str, Any]:
        """Return all that decides the bytes of the output, as JSON-able values."""
        contract = self.contract
        return {
            "bainite_fast": __version__,
            "model": {
                "name": contract.name,
                "sha256": contract.sha256,
                "classes": list(contract.classes),
                "mean": list(contract.mean),
                "std": list(contract.std),
                "um_per_px": contract.um_per_px,
                "synthetic_only": contract.synthetic_only,
            },
            "input": self.mosaic.fingerprint(),
            "plan": plan.identity(),
            "runtime": self.network.runtime.fingerprint(),
            "output": {
                "ome_version": target.ome_version,
                "confidence": self.request.confidence,
                "with_image": self.request.with_image,
                "um_per_px": self.um_per_px,
            },
        }

    def layout(self, plan: Plan, target: io.LabelTarget) -> io.LabelLayout:
        """Return how the labels lie on disk."""
        contract = self.contract
        return io.LabelLayout(
            shape=plan.shape,
            block=plan.block,
            chunk=plan.chunk,
            levels=target.levels(plan.shape, plan.block),
            ome_version=target.ome_version,
            um_per_px=self.um_per_px,
            classes=tuple(zip(contract.classes, contract.colors, strict=True)),
            confidence=self.request.confidence,
        )

    @property
    def um_per_px(self) -> float | None:
        """Scale of the mosaic: what the caller says, otherwise what the file says."""
        scale = self.request.scale
        return self.mosaic.um_per_px if isinstance(scale, str) else float(scale)

    def job(self, plan: Plan, store: io.LabelStore) -> Job:
        """Return what the workers need."""
        key, confidence = uuid.uuid4().hex, self.request.confidence
        return Job(key, plan, self.mosaic, self.network, store.bind(key), confidence, plan.batch)


@contextmanager
def prepare(choice: Choice, request: Request) -> Iterator[Prepared]:
    """Open the mosaic, load and compile the model, check that they fit; close the mosaic at the end."""
    mosaic = io.open_mosaic(
        choice.source,
        plane=choice.plane,
        channel=choice.channel,
        level=choice.level,
        crop_bar=choice.crop_bar,
        storage_options=choice.storage_options,
    )
    borrowed = mosaic is choice.source
    try:
        network = _load(choice, mosaic, request)
        loaded = network.loaded
        factor = scale_factor(request.scale, mosaic.um_per_px, loaded.contract.um_per_px)
        warn_of_scale(mosaic, loaded, request)
        warn_of_intensities(mosaic)
        if choice.crop_bar is None:
            warn_of_bar(mosaic)
        grid = mosaic.shape if factor == 1.0 else scaled_shape(mosaic.shape, factor)
        yield Prepared(request, mosaic, network, grid)
    finally:
        if not borrowed:
            mosaic.close()


# torch.fx and the profiler, which compile and measure a network, are not made for two threads.
_loading = threading.Lock()


def _load(choice: Choice, mosaic: io.Mosaic, request: Request) -> Network:
    """Load, check, compile and measure the model: one run of a process at a time."""
    with _loading:
        loaded = _known(load_model(choice.model, normalize=choice.normalize), choice)
        check_channels(mosaic, loaded)
        network = Network(loaded, choose_precision(loaded, request.precision, request.device), request.device)
        network.runtime.activation_bytes(1, loaded.contract.stride, loaded.contract.stride)
        return network


def _known(loaded: LoadedModel, choice: Choice) -> LoadedModel:
    """Return the model of the last run if a file holds the same: it is compiled and measured already.

    The digest of a file covers all that the network computes with; that of a module cannot (its plain attributes).
    """
    global _last
    if choice.model is not None and not isinstance(choice.model, (str, os.PathLike)):
        return loaded
    if _last is None or (_last.contract, _last.source) != (loaded.contract, loaded.source):
        _last = loaded
    return _last


_last: LoadedModel | None = None  # its module is ours alone: nobody else has it to change


def resolve_target(
    prepared: Prepared, out: Any, name: str, ome_version: str | None, *, repair: bool = True
) -> io.LabelTarget:
    """Decide where the labels go; nothing is written, unless to `repair` the list of labels there."""
    overwrite = prepared.request.overwrite
    return io.LabelTarget.resolve(
        prepared.mosaic, out=out, name=name, ome_version=ome_version, overwrite=overwrite, repair=repair
    )


def execute(
    prepared: Prepared,
    target: io.LabelTarget,
    executor: Executor,
    report: Callable[[ProgressEvent], None],
    observe: Callable[[BlockResult], None] = lambda _: None,
) -> Segmentation:
    """Run, or go on with, a segmentation and finish its output; `observe` is told of every block."""
    plan = _plan(prepared, target, executor)
    if mem.resident() > plan.memory:
        mem.release()  # an earlier run of this process had a larger budget
    target.make_partial()
    with exclusive(target.partial_dir / _LOCK, target.path):
        _refuse_finished(target)
        store, journal = _begin(prepared, target, plan)
        tally = _Tally(plan, journal, report, observe)
        job = replace(prepared.job(plan, store), batch=journal.decided.get("batch", plan.batch))
        try:
            stream(executor, job, iter([b for b in plan.blocks() if b not in journal.done]), tally)
        finally:
            forget(job.key)
        counts = tally.counts(prepared.contract.classes)
        provenance = _provenance(prepared, target, plan, journal, counts)
        store.finish(provenance)
    labels, confidence = target.open_result()
    return Segmentation(
        path=target.path,
        labels=labels,
        confidence=confidence,
        counts=counts,
        um_per_px=prepared.um_per_px,
        plan=plan,
        seconds=tally.seconds,
        pixels_per_second=tally.rate,
        stages=tally.stages,
        provenance=provenance,
    )


def _refuse_finished(target: io.LabelTarget) -> None:
    """Look again, now that the lock is held: another process may have finished these labels meanwhile."""
    try:
        target.check_free()
    except OutputExistsError:
        if [entry.name for entry in target.partial_dir.iterdir()] == [_LOCK]:
            remove(target.partial_dir)  # made for this run
        raise


def foresee(prepared: Prepared, target: io.LabelTarget, executor: Executor) -> tuple[Plan, Journal | None]:
    """Return the plan of a run and the journal that it would go on with, or refuse as it would; write nothing."""
    plan = _plan(prepared, target, executor)
    prepared.layout(plan, target)
    refuse_if_held(target.partial_dir / _LOCK, target.path)
    journal = _unfinished(prepared, target)
    if journal is not None:
        journal.check(prepared.identity(plan, target))
        _drop_missing(journal, io.LabelStore.read_partial(target))
    return plan, journal


def _plan(prepared: Prepared, target: io.LabelTarget, executor: Executor) -> Plan:
    """Return the plan of a run; one that is taken up holds to what its journal has decided."""
    journal = _unfinished(prepared, target)
    if journal is None:
        return prepared.plan(None, executor)
    held = journal.header.get("identity", {}).get("plan", {})  # of an older version: less, which is refused by name
    tile = held.get("tile") if prepared.request.tile is None else prepared.request.tile
    batch = held.get("batch") if tile == held.get("tile") else None
    runtime = held.get("runtime") if prepared.request.runtime == "auto" else None
    return prepared.plan(Fixed(tile=tile, block=held.get("block"), batch=batch, runtime=runtime), executor)


def _unfinished(prepared: Prepared, target: io.LabelTarget) -> Journal | None:
    """Return the journal of the unfinished run that this one is to go on with, if there is one."""
    if not prepared.request.resume:
        return None
    try:
        return Journal.load(target.partial_dir / _JOURNAL)
    except (FileNotFoundError, NotADirectoryError):  # another process may have put its output in place just now
        return None


def _begin(prepared: Prepared, target: io.LabelTarget, plan: Plan) -> tuple[io.LabelStore, Journal]:
    """Start the output, or take up the unfinished one after checking that it is of this very run."""
    identity = prepared.identity(plan, target)
    journal = _unfinished(prepared, target)
    if journal is not None:
        journal.check(identity)
        journal.take_up()
        store = io.LabelStore.open_partial(target)
        _drop_missing(journal, store)
        return store, journal
    store = io.LabelStore.create(target, prepared.layout(plan, target), with_image=prepared.request.with_image)
    return store, Journal.create(target.partial_dir / _JOURNAL, {"identity": identity})


def _drop_missing(journal: Journal, store: io.LabelStore) -> None:
    """Forget the blocks whose shard is missing or cut short, as after a loss of power: they are done again."""
    for block, record in list(journal.done.items()):
        if not store.verify_block(record.shards):
            del journal.done[block]


class _Tally:
    """Takes each result: into the journal first, then into the sums and to whoever watches."""

    def __init__(
        self,
        plan: Plan,
        journal: Journal,
        report: Callable[[ProgressEvent], None],
        observe: Callable[[BlockResult], None],
    ) -> None:
        self.journal, self.report, self.observe = journal, report, observe
        self.batch = plan.batch
        self.total = plan.shape[0] * plan.shape[1]
        self.resumed = self.done = sum(plan.region(by, bx).pixels for by, bx in journal.done)
        self.stages: dict[str, float] = {}
        self.started = time.perf_counter()
        self.seconds = 0.0

    def __call__(self, result: BlockResult) -> None:
        if result.batch < self.journal.decided.get("batch", self.batch):
            self.journal.decide(batch=result.batch)
        self.journal.append(result.record)
        self.done += result.pixels
        for stage, seconds in result.seconds.items():
            self.stages[stage] = self.stages.get(stage, 0.0) + seconds
        self.seconds = time.perf_counter() - self.started
        self.observe(result)
        self.report(ProgressEvent(self.done, self.total, self.resumed, self.seconds))

    @property
    def rate(self) -> float:
        """Pixels per second of this run."""
        return (self.done - self.resumed) / self.seconds if self.seconds else 0.0

    def counts(self, classes: tuple[str, ...]) -> dict[str, int]:
        """Return the pixels of each class."""
        records = self.journal.done.values()
        return {name: sum(record.counts[k] for record in records) for k, name in enumerate(classes)}


def _provenance(
    prepared: Prepared, target: io.LabelTarget, plan: Plan, journal: Journal, counts: dict[str, int]
) -> dict[str, Any]:
    """Return what made the labels. No times and no worker counts: a resumed run must give the same bytes."""
    digest = hashlib.sha256()
    for block in plan.blocks():
        digest.update(bytes.fromhex(journal.done[block].digest))
    identity = prepared.identity(plan, target)
    identity["input"] = {
        **identity["input"],
        "um_per_px": prepared.um_per_px,
        "um_per_px_from": prepared.mosaic.unit_source if isinstance(prepared.request.scale, str) else "caller",
        "sha256_of_block_sha256": digest.hexdigest(),
    }
    total = sum(counts.values())
    if journal.decided:
        identity["decided"] = journal.decided
    return {
        **identity,
        "versions": {name: metadata.version(name) for name in ("torch", "numpy", "zarr", "zarrs", "dask")},
        "counts": counts,
        "fractions": {name: count / total for name, count in counts.items()},
        "trained_on": "synthetic images only" if prepared.contract.synthetic_only else "see the model's card",
    }
