"""The CUDA backend itself, on a stand-in for ``torch.cuda``: what runs on which stream, and what is recorded."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bainite_fast.errors import BainiteWarning, DeviceError
from bainite_fast.models.device import whole_device
from bainite_fast.segmentation import cuda_backend
from bainite_fast.segmentation.cuda_backend import CudaBackend
from bainite_fast.segmentation.device import DeviceMemoryError

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.")


class FakeCuda:
    """Streams and graphs that note what happens where, in order."""

    OutOfMemoryError = torch.OutOfMemoryError

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.now = "default"
        self._names = iter(("upload", "compute", "download"))

    def Stream(self, device: Any) -> Any:  # noqa: N802
        name = next(self._names)
        return SimpleNamespace(name=name, synchronize=lambda: self.seen.append(f"wait for {name}"))

    @contextlib.contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        before, self.now = self.now, stream.name
        try:
            yield
        finally:
            self.now = before

    def Event(self, **_: Any) -> Any:  # noqa: N802
        return SimpleNamespace(record=lambda stream: None, synchronize=lambda: None)

    def CUDAGraph(self) -> Any:  # noqa: N802
        return SimpleNamespace(replay=lambda: self.seen.append(f"replay on {self.now}"))

    @contextlib.contextmanager
    def graph(self, graph: Any, *, stream: Any, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"  # other threads copy meanwhile, but
        assert whole_device.locked()  # none may do this, or what follows
        with self.stream(stream):
            self.now += ", recorded"
            yield

    def synchronize(self, device: Any) -> None:
        assert whole_device.locked()
        self.seen.append("wait for all")

    def empty_cache(self) -> None:
        assert whole_device.locked()
        self.seen.append("empty")


class FakeRuntime:
    """A network on the CPU that fails where it is told to."""

    device, trimmed = "cpu", 2

    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.fails: dict[str, RuntimeError] = {}

    def new_batch(self, n: int, height: int, width: int) -> torch.Tensor:
        return torch.empty(n, 1, height, width)

    def run_core(self, batch: torch.Tensor) -> torch.Tensor:
        self.cuda.seen.append(f"core on {self.cuda.now}")
        if self.cuda.now in self.fails:
            raise self.fails[self.cuda.now]
        return batch[:, :, 2:-2, 2:-2]

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        self.cuda.seen.append(f"whole on {self.cuda.now}")
        return batch


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(cuda_backend, "_cuda", fake)
    return fake


@pytest.fixture
def backend(cuda: FakeCuda) -> Any:
    made = CudaBackend(FakeRuntime(cuda))  # type: ignore[arg-type]
    cuda.seen.clear()
    return made


def test_a_network_is_warm_before_it_is_recorded(cuda: FakeCuda, backend: Any) -> None:
    backend.prepare(2, 16, 16)
    assert cuda.seen == ["core on compute"] * 3 + ["wait for compute", "core on compute, recorded"]
    cuda.seen.clear()
    own = backend.batch(2, 16, 16)
    assert backend.batch(2, 16, 16) is own
    logits, trimmed = backend.network(own, core=True)
    assert trimmed == 2 and logits.data_ptr() == own[:, :, 2:-2, 2:-2].data_ptr()  # written anew by each replay
    assert cuda.seen == ["replay on compute"]
    # Another shape, another batch of this shape, and what has no halo on some side: layer by layer.
    assert backend.network(backend.batch(1, 16, 16), core=True)[1] == 2
    assert backend.network(torch.zeros_like(own), core=True)[1] == 2
    assert backend.network(own, core=False)[1] == 0
    assert cuda.seen[1:] == ["core on compute", "core on compute", "whole on compute"]
    assert backend.release() and not backend.release()
    assert backend.batch(2, 16, 16) is not own


def test_memory_that_lacks_for_a_recording_is_not_missed(cuda: FakeCuda, backend: Any) -> None:
    backend.runtime.fails["compute, recorded"] = OUT_OF_MEMORY
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backend.prepare(2, 16, 16)
    assert backend.network(backend.batch(2, 16, 16), core=True)[1] == 2
    assert cuda.seen[-1] == "core on compute"
    assert not backend.release()


def test_what_cannot_be_recorded_runs_layer_by_layer(cuda: FakeCuda, backend: Any) -> None:
    backend.runtime.fails["compute, recorded"] = RuntimeError("operation not permitted\nand more")
    with pytest.warns(BainiteWarning, match=r"cannot be recorded as a CUDA graph \(operation not permitted\)"):
        backend.prepare(2, 16, 16)
    assert backend.network(backend.batch(2, 16, 16), core=True)[1] == 2
    assert cuda.now == "default"


@pytest.mark.parametrize(
    "error",
    [OUT_OF_MEMORY, RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), DeviceError("a table: out of memory")],
)
def test_memory_that_runs_out_is_told_from_other_errors(backend: Any, error: RuntimeError) -> None:
    backend.runtime.fails["compute"] = error
    with pytest.raises(DeviceMemoryError, match=str(error).splitlines()[0]):
        backend.prepare(2, 16, 16)
    assert not backend.release()
    backend.runtime.fails["compute"] = RuntimeError("device-side assert")
    with pytest.raises(RuntimeError, match="device-side assert") as told:
        backend.network(backend.batch(2, 16, 16), core=True)
    assert not isinstance(told.value, DeviceMemoryError)
