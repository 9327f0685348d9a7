"""A CUDA device behind three streams: all that :mod:`.device` asks of it, and nothing more."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import kernels
from ..errors import BainiteWarning
from ..models.device import whole_device
from .device import STREAMS, DeviceMemoryError, Pair, Stream

if TYPE_CHECKING:
    from ..models.compiled import Runtime

_cuda: Any = torch.cuda  # untyped in parts
_WARM_UP = 3  # passes after which TorchScript has chosen its kernels
_OUT_OF_MEMORY = ("out of memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED")


class CudaBackend:
    """One CUDA device and the network that runs on it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._device = torch.device(runtime.device)
        self._streams = {name: _cuda.Stream(self._device) for name in STREAMS}
        self._graphs: dict[tuple[int, int, int], tuple[Any, Any, Any]] = {}
        with whole_device:
            _cuda.synchronize(self._device)
        self._zero, self._epoch = self.mark("compute"), time.perf_counter()
        self._zero.synchronize()

    @contextmanager
    def _on(self, stream: Stream) -> Iterator[None]:
        try:
            with _cuda.stream(self._streams[stream]):
                yield
        except RuntimeError as error:
            if _ran_out_of_memory(error):
                raise DeviceMemoryError(str(error).strip().splitlines()[0]) from error
            raise

    def pair(self, size: int) -> Pair:
        """Return buffers of so many bytes."""
        host = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        # Among the memory of a stream that allocates nothing else: PyTorch hands out again at once what a stream's own
        # queue still works on, and these are touched by all streams.
        with self._on("upload"):
            device = torch.empty(size, dtype=torch.uint8, device=self._device)
        return Pair(host.numpy(), device)

    def view(self, pair: Pair, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
        """Return the beginning of the device's buffer as an array."""
        size = int(np.prod(shape)) * dtype.itemsize
        return pair.device[:size].view(getattr(torch, dtype.name)).view(shape)

    def up(self, pair: Pair, size: int) -> None:
        """Copy the first bytes to the device, on the upload stream."""
        with self._on("upload"):
            pair.device[:size].copy_(torch.from_numpy(pair.host[:size]), non_blocking=True)

    def down(self, pair: Pair, size: int) -> None:
        """Copy the first bytes to the host, on the download stream."""
        with self._on("download"):
            torch.from_numpy(pair.host[:size]).copy_(pair.device[:size], non_blocking=True)

    def zero(self, pair: Pair) -> None:
        """Set the device's buffer to zeros, on the compute stream."""
        with self._on("compute"):
            pair.device.zero_()

    def mark(self, stream: Stream) -> Any:
        """Return the point that a stream has come to once all that is queued now is done."""
        mark = _cuda.Event(enable_timing=True, blocking=True)
        mark.record(self._streams[stream])
        return mark

    def after(self, stream: Stream, mark: Any) -> None:
        """Let what is queued on a stream from now on wait for a mark."""
        self._streams[stream].wait_event(mark)

    def finish(self, mark: Any) -> None:
        """Wait, on the host, until a mark is reached."""
        mark.synchronize()

    def moment(self, mark: Any) -> float:
        """Return when a finished mark was reached, in seconds of ``time.perf_counter``."""
        return self._epoch + float(self._zero.elapsed_time(mark)) / 1e3

    def drain(self) -> None:
        """Wait until all streams are done."""
        for stream in self._streams.values():
            stream.synchronize()

    def prepare(self, n: int, height: int, width: int) -> None:
        """Run the network on a batch of this shape, and record it as a CUDA graph."""
        compute = self._streams["compute"]
        with self._on("compute"):
            batch = self.runtime.new_batch(n, height, width).zero_()
            for _ in range(_WARM_UP):
                self.runtime.run_core(batch)
            compute.synchronize()
            graph = _cuda.CUDAGraph()
            try:
                with whole_device, _cuda.graph(graph, stream=compute, capture_error_mode="thread_local"):
                    logits = self.runtime.run_core(batch)
            except RuntimeError as error:
                if _ran_out_of_memory(error):
                    return  # there is enough for a pass, as the warm-up has shown
                warnings.warn(
                    f"the network cannot be recorded as a CUDA graph ({str(error).strip().splitlines()[0]}); it runs "
                    "layer by layer, to the same labels",
                    BainiteWarning,
                    stacklevel=2,
                )
                return
        self._graphs[n, height, width] = graph, batch, logits

    def batch(self, n: int, height: int, width: int) -> Any:
        """Return network input of this shape: the graph's own, or a new one."""
        if (n, height, width) in self._graphs:
            return self._graphs[n, height, width][1]
        with self._on("compute"):
            return self.runtime.new_batch(n, height, width)

    def gather(self, region: Any, batch: Any, **options: Any) -> None:
        """Fill a batch on the compute stream."""
        with self._on("compute"):
            kernels.gather(region, batch, stream=self._streams["compute"], **options)

    def network(self, batch: Any, core: bool) -> tuple[Any, int]:
        """Return the logits, on the compute stream, and how many pixels they lack on each side of the batch."""
        n, _, height, width = batch.shape
        graph, own, logits = self._graphs.get((n, height, width), (None, None, None))
        with self._on("compute"):
            if core and own is batch and graph is not None:
                graph.replay()
                return logits, self.runtime.trimmed
            return (self.runtime.run_core(batch), self.runtime.trimmed) if core else (self.runtime.run(batch), 0)

    def scatter(self, logits: Any, labels: Any, **options: Any) -> None:
        """Write labels on the compute stream; the number of bad pixels goes to the pair `bad`."""
        bad = options.pop("bad").device.view(torch.int64)
        with self._on("compute"):
            kernels.scatter(logits, labels, bad=bad, stream=self._streams["compute"], **options)

    def release(self) -> bool:
        """Give back the memory that is kept for later, and the graphs; say whether there were any."""
        recorded = bool(self._graphs)
        self._graphs.clear()
        with whole_device:
            _cuda.empty_cache()
        return recorded


def _ran_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, _cuda.OutOfMemoryError) or any(word in str(error) for word in _OUT_OF_MEMORY)
