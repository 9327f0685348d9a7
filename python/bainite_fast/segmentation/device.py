"""The network on a device: image bytes go up, labels come down, and three streams keep out of each other's way.

Every block in flight has a slot: page-locked buffers on the host and buffers on the device, a ring of them. Its pixels
are copied on the upload stream, its tiles go through gather, network and scatter on the compute stream once they have
arrived, and its labels return on the download stream once they are made. So block after block runs on the device while
the next one arrives and the last one leaves. What a device can do stands behind :class:`Backend`; nothing here knows
CUDA, and the tests run it on a device made of NumPy.
"""

from __future__ import annotations

import queue
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import BainiteWarning, DeviceError
from ..geometry import Region, Tile
from .batches import Labels, Pixels, batches, corners, crops, is_core, on_mosaic_grid, refuse_bad
from .spans import Stopwatch

if TYPE_CHECKING:
    from .engine import Job

Stream = Literal["upload", "compute", "download"]
STREAMS: tuple[Stream, ...] = ("upload", "compute", "download")
SLOTS = 4  # one arriving, one running, one leaving, and one being filled or emptied by the host
Mark = Any  # a point in a stream
Result = TypeVar("Result")


class DeviceMemoryError(DeviceError):
    """The device has no memory left for what was asked of it."""


@dataclass(slots=True)
class Pair:
    """As many bytes on the host, page-locked, as on the device."""

    host: npt.NDArray[np.uint8]
    device: Any


class Backend(Protocol):
    """What a device must do. But for `finish` and `drain`, everything is queued on a stream and returns at once."""

    def pair(self, size: int) -> Pair:
        """Return buffers of so many bytes."""

    def view(self, pair: Pair, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
        """Return the beginning of the device's buffer as an array."""

    def up(self, pair: Pair, size: int) -> None:
        """Copy the first bytes to the device, on the upload stream."""

    def down(self, pair: Pair, size: int) -> None:
        """Copy the first bytes to the host, on the download stream."""

    def zero(self, pair: Pair) -> None:
        """Set the device's buffer to zeros, on the compute stream."""

    def mark(self, stream: Stream) -> Mark:
        """Return the point that a stream has come to once all that is queued now is done."""

    def after(self, stream: Stream, mark: Mark) -> None:
        """Let what is queued on a stream from now on wait for a mark."""

    def finish(self, mark: Mark) -> None:
        """Wait, on the host, until a mark is reached."""

    def moment(self, mark: Mark) -> float:
        """Return when a finished mark was reached, in seconds of ``time.perf_counter``."""

    def drain(self) -> None:
        """Wait until all streams are done."""

    def prepare(self, n: int, height: int, width: int) -> None:
        """Get ready for batches of this shape: run the network once, and record it where that saves time."""

    def batch(self, n: int, height: int, width: int) -> Any:
        """Return network input of this shape, for use on the compute stream until the next call."""

    def gather(self, region: Any, batch: Any, **options: Any) -> None:
        """Fill a batch: :func:`bainite_fast.kernels.gather`, on the compute stream."""

    def network(self, batch: Any, core: bool) -> tuple[Any, int]:
        """Return the logits, on the compute stream, and how many pixels they lack on each side of the batch."""

    def scatter(self, logits: Any, labels: Any, **options: Any) -> None:
        """Write labels: :func:`bainite_fast.kernels.scatter`, on the compute stream."""

    def release(self) -> bool:
        """Give back the memory that is kept for later, and what `prepare` recorded; say whether it had anything."""


class Slot:
    """The buffers of one block; they grow to the largest that they have held."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.bad = backend.pair(8)
        self._pairs: dict[str, Pair] = {}

    def pair(self, name: str, size: int) -> Pair:
        """Return buffers of at least so many bytes."""
        held = self._pairs.get(name)
        if held is None or held.host.nbytes < size:
            self._pairs.pop(name, None)  # first let go of the old one
            held = self._pairs[name] = self._backend.pair(size)
        return held


class Ring:
    """A number of slots that blocks take turns with."""

    def __init__(self, backend: Backend, count: int) -> None:
        self._backend = backend
        self._free: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(Slot(backend))

    @contextmanager
    def slot(self, watch: Stopwatch) -> Iterator[Slot]:
        """Wait for a free slot and hold it; after an error the device is done with it before another gets it."""
        with watch("wait"):
            slot = self._free.get()
        try:
            yield slot
        except BaseException:
            self._backend.drain()
            raise
        finally:
            self._free.put(slot)


@dataclass(frozen=True, slots=True)
class _Block:
    """A block on the device."""

    region: Any
    origin: Region
    area: Region
    tiles: list[Tile]
    labels: Any
    confidence: Any
    bad: Pair


class DeviceInference:
    """Labels blocks on a device; safe to call from many threads, which read and write beside it.

    Where device memory runs out, what was recorded is given up first, for it holds the memory of a pass for itself and
    does not change the labels. Then the batch is halved and the block done again, with one warning; so goes every later
    block. The batch travels with each result, and the journal holds it.
    """

    def __init__(self, job: Job, backend: Backend) -> None:
        self.job = job
        self.batch = job.batch
        self._backend = backend
        self._queueing = threading.Lock()
        self._warned = False
        contract = job.network.loaded.contract
        self._temperature = contract.temperature
        self._gain, self._offset = contract.gain_offset(job.mosaic.dtype)
        self._prepared = 0  # the batch that the backend is ready for
        self._ring = self._with_less(lambda: Ring(backend, min(SLOTS, job.plan.in_flight)))
        self._with_less(self._prepare)

    def _prepare(self) -> None:
        if self._prepared != self.batch:
            seen = self.job.plan.tile + 2 * self.job.plan.halo
            self._backend.prepare(self.batch, seen, seen)
            self._prepared = self.batch

    def __call__(
        self, image: Pixels, origin: Region, by: int, bx: int, watch: Stopwatch
    ) -> tuple[Labels, Labels | None]:
        """Return the labels, and the confidence if asked, of one block on the mosaic's grid."""
        plan, backend = self.job.plan, self._backend
        area = plan.area(by, bx)
        names = ("labels", "confidence") if self.job.confidence else ("labels",)
        with self._ring.slot(watch) as slot:
            with self._queueing:
                pixels = self._with_less(lambda: slot.pair("image", image.nbytes))
                layers = {name: self._with_less(partial(slot.pair, name, area.pixels)) for name in names}
            arrived, spans = self._upload(pixels, image)
            tiles, shape = plan.tiles(by, bx), (area.height, area.width)
            seen = {name: backend.view(pair, np.dtype(np.uint8), shape) for name, pair in layers.items()}
            region = backend.view(pixels, image.dtype, image.shape)
            block = _Block(region, origin, area, tiles, seen["labels"], seen.get("confidence"), slot.bad)
            with self._queueing:
                backend.after("compute", arrived)
                spans += self._with_less(lambda: self._run(block))
                made = backend.mark("compute")
            spans += self._download(made, [*layers.values(), slot.bad], [area.pixels] * len(layers) + [8])
            backend.finish(spans[-1][2])
            for stage, start, end in spans:
                watch.note(stage, backend.moment(start), backend.moment(end))
            refuse_bad(int(slot.bad.host.view(np.int64)[0]), tiles[0])
            found = [pair.host[: area.pixels].reshape(shape).copy() for pair in layers.values()]
        return on_mosaic_grid(plan, by, bx, found[0], found[1] if len(found) > 1 else None)

    def _upload(self, pair: Pair, image: Pixels) -> tuple[Mark, list[tuple[str, Mark, Mark]]]:
        np.copyto(pair.host[: image.nbytes].view(image.dtype).reshape(image.shape), image)
        start = self._backend.mark("upload")
        self._backend.up(pair, image.nbytes)
        end = self._backend.mark("upload")
        return end, [("upload", start, end)]

    def _run(self, block: _Block) -> list[tuple[str, Mark, Mark]]:
        """Queue all tiles of a block; return the stages and their marks."""
        backend, plan = self._backend, self.job.plan
        self._prepare()
        options = {"origin": (block.origin.y, block.origin.x), "image_shape": plan.grid, "gain": self._gain}
        backend.zero(block.bad)
        first = now = backend.mark("compute")
        spans = []
        for group in batches(block.tiles, self.batch):
            batch = backend.batch(len(group), group[0].input.height, group[0].input.width)
            backend.gather(block.region, batch, tiles=corners(group), offset=self._offset, pad="mirror", **options)
            gathered = backend.mark("compute")
            logits, trimmed = backend.network(batch, is_core(group, plan.halo))
            through = backend.mark("compute")
            places = crops(group, block.area, trimmed)
            sure = {"confidence": block.confidence, "temperature": self._temperature}
            backend.scatter(logits, block.labels, crops=places, **sure, bad=block.bad)
            done = backend.mark("compute")
            spans += [("gather", now, gathered), ("network", gathered, through), ("scatter", through, done)]
            now = done
        return [*spans, ("tiles", first, now)]

    def _download(self, made: Mark, pairs: list[Pair], sizes: list[int]) -> list[tuple[str, Mark, Mark]]:
        backend = self._backend
        backend.after("download", made)
        start = backend.mark("download")
        for pair, size in zip(pairs, sizes, strict=True):
            backend.down(pair, size)
        return [("download", start, backend.mark("download"))]

    def _with_less(self, action: Callable[[], Result]) -> Result:
        """Do what may need more memory than there is, again with half the batch as long as that helps."""
        while True:
            try:
                return action()
            except DeviceMemoryError as error:
                self._backend.drain()
                if not self._backend.release():
                    self._halve(error)

    def _halve(self, error: DeviceMemoryError) -> None:
        plan = self.job.plan
        if self.batch == 1:
            raise DeviceError(
                f"the device has too little free memory for one tile of {plan.tile} px ({error}); give a smaller tile, "
                "or end what else runs there; finished blocks are kept"
            ) from error
        self.batch //= 2
        self._prepared = 0
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the device ran out of memory: {self.batch} tiles at a time from now on, and fewer if need be",
                BainiteWarning,
                stacklevel=2,
            )
