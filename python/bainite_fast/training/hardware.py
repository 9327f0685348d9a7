"""Where and in what precision a run computes: chosen once at its start, and recorded."""

from __future__ import annotations

import contextlib
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import BainiteWarning, DeviceError, InputError
from ..models.precision import cpu_has_bfloat16, gpu_has_bfloat16
from .words import counted

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_LONG = 3.0
_GAIN = 0.95  # bfloat16 must take at most this share of float32's time


@dataclass(frozen=True, slots=True)
class Hardware:
    """Device and precision of a run.

    Attributes
    ----------
    device : torch.device
        Where the network is.
    precision : {"float32", "bfloat16", "float16"}
        Of the products inside the network.
    """

    device: torch.device
    precision: str

    @contextlib.contextmanager
    def autocast(self) -> Iterator[None]:
        """Run the network in the precision of the run."""
        dtype = _DTYPES[self.precision]
        with torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32):
            yield

    def place(self, images: torch.Tensor) -> torch.Tensor:
        """Return a batch on the device, channels last."""
        if self.device.type == "cuda":
            images = images.pin_memory()
        return images.to(self.device, memory_format=torch.channels_last, non_blocking=True)


def choose_device(device: str) -> torch.device:
    """Return the device of ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; auto is a GPU where there is one.

    Raises
    ------
    DeviceError
        If the name is unknown or the device is not there.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"device {device!r} is unknown; use auto, cpu, cuda or cuda:N") from error
    if chosen.type not in ("cpu", "cuda"):
        raise DeviceError(f"training runs on cpu or cuda, and got {device!r}")
    if chosen.type == "cuda" and (not torch.cuda.is_available() or (chosen.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"device {device!r} is not there ({torch.cuda.device_count()} GPUs); use auto or cpu")
    return chosen


def check_precision(device: torch.device, precision: str) -> None:
    """Refuse float16 on a CPU.

    Raises
    ------
    DeviceError
        If that is what is asked for.
    """
    if precision == "float16" and device.type == "cpu":
        raise DeviceError("float16 trains on GPUs only; use auto, float32 or bfloat16")


def choose_hardware(device: torch.device, requested: str, step: Callable[[Hardware], None]) -> Hardware:
    """Return the hardware of a run.

    Parameters
    ----------
    device : torch.device
        Where.
    requested : {"auto", "float32", "bfloat16", "float16"}
        ``"auto"`` on a GPU is bfloat16, or float16 where the GPU lacks it; on a CPU that multiplies bfloat16 in
        hardware it is the faster of float32 and bfloat16.
    step : callable
        Does one step of training that leaves no trace; run for the measurement.
    """
    if requested != "auto":
        return Hardware(device, requested)
    if device.type == "cuda":
        return Hardware(device, "bfloat16" if gpu_has_bfloat16(device) else "float16")
    if not cpu_has_bfloat16():
        return Hardware(device, "float32")
    full, low = Hardware(device, "float32"), Hardware(device, "bfloat16")
    faster = seconds_of(lambda: step(low)) < _GAIN * seconds_of(lambda: step(full))
    return low if faster else full


def seconds_of(work: Callable[[], None]) -> float:
    """Return the median time of three runs after one that warms up, or of the first where it is long."""
    start = time.perf_counter()
    work()
    first = time.perf_counter() - start
    if first > _LONG:  # s; what warming up adds does not count then, and waiting for three more would
        return first
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def choose_threads(wanted: int | None, begun: int | None) -> int:
    """Return how many threads PyTorch computes an operation on.

    Parameters
    ----------
    wanted : int, optional
        What the caller asks for.
    begun : int, optional
        What the run to go on with was begun with.

    Raises
    ------
    InputError
        If that is less than one.

    Warns
    -----
    BainiteWarning
        If the two differ: sums over threads differ in their last bits.
    """
    if wanted is not None and wanted < 1:
        raise InputError(f"threads={wanted} is refused; at least one thread is needed")
    if wanted is not None and begun is not None and wanted != begun:
        warnings.warn(
            f"the run was begun with {counted(begun, 'thread')} and goes on with {wanted}: its weights will differ in "
            "their last bits from those of an unbroken run",
            BainiteWarning,
            stacklevel=3,
        )
    return wanted or begun or torch.get_num_threads()


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let PyTorch compute each operation on so many threads while the context is open."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Refuse operations that differ from run to run while the context is open, if `wanted`; else let cuDNN choose."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    try:
        torch.use_deterministic_algorithms(wanted or before[0])
        torch.backends.cudnn.benchmark = not wanted
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]


def without_trace(network: nn.Module, work: Callable[[nn.Module], None]) -> None:
    """Run `work` on a network, then take back what it did to batch statistics and gradients."""
    state = {name: value.clone() for name, value in network.state_dict().items()}
    try:
        work(network)
    finally:
        network.load_state_dict(state)
        network.zero_grad(set_to_none=True)
