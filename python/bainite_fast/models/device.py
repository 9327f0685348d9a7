"""Which device runs the network: what was asked for, what this build and this machine can do, and its own facts."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch

from .. import kernels
from ..errors import BainiteWarning, DeviceError, InputError

_DRIVER = Path("/proc/driver/nvidia/version")
_cuda: Any = torch.cuda  # untyped in parts
_cudnn: Any = torch.backends.cudnn
_mkldnn: Any = torch.backends.mkldnn
_told = threading.Event()  # that "auto" fell back

whole_device = threading.Lock()
"""Held while a CUDA graph is recorded, or all of a device is waited for or its memory cleared: the second, in another
thread, would fail and spoil the first."""


def cuda_problem() -> str | None:
    """Return why no CUDA device can be used here, or None where one can."""
    if not kernels.cuda_built():
        return "this build of bainite_fast has no CUDA kernels (build it with nvcc and BAINITE_CUDA=ON)"
    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is a build without CUDA (install one with it: https://pytorch.org)"
    if kernels.cuda_device_count() == 0:
        return "no NVIDIA GPU with a driver that is new enough can be seen (`nvidia-smi` lists what there is)"
    if not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} cannot use the GPU: its CUDA {torch.version.cuda} needs a newer driver"
    return None


def resolve_device(requested: str) -> str:
    """Return the device to run on: "cpu" or "cuda:N".

    Parameters
    ----------
    requested : {"auto", "cpu", "cuda"} or "cuda:N"
        ``"auto"`` is the first CUDA device where one can be used, and the CPU otherwise; it says so once in a process
        where a GPU could be expected: in a build with CUDA kernels, or beside an NVIDIA driver.

    Raises
    ------
    DeviceError
        If a CUDA device is asked for and cannot be used.
    InputError
        If `requested` is another word.
    """
    if requested == "cpu":
        return "cpu"
    match = re.fullmatch(r"cuda(?::(\d+))?", requested)
    if requested != "auto" and match is None:
        raise InputError(f"device={requested!r} is not known; use 'auto', 'cpu', 'cuda' or 'cuda:0'")
    problem = cuda_problem()
    if requested == "auto":
        if problem is None:
            return "cuda:0"
        _say_once(problem)
        return "cpu"
    if problem is not None:
        raise DeviceError(f"device={requested!r} cannot be used: {problem}; use device='cpu' or device='auto'")
    number, there = int(cast(Any, match)[1] or 0), torch.cuda.device_count()
    if number >= there:
        raise DeviceError(f"device={requested!r} does not exist: the last of {there} is 'cuda:{there - 1}'")
    return f"cuda:{number}"


def _say_once(problem: str) -> None:
    expected = kernels.cuda_built() or _DRIVER.is_file()
    if expected and not _told.is_set():
        _told.set()
        warnings.warn(f"device='auto' runs on the CPU: {problem}", BainiteWarning, stacklevel=5)


@contextlib.contextmanager
def _exact_flags() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # some layers are matrix products
    try:
        with _cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


_exact_lock = threading.Lock()
_exact_users = 0
_exact = contextlib.ExitStack()


@contextlib.contextmanager
def exact_math(device: str) -> Iterator[None]:
    """Let float32 be float32 (no TF32), and cuDNN take the same algorithm every time, with the device the current one.

    These flags are the process's: the first thread sets them, and the last one that is done puts them back. An autocast
    is the caller's thread's, and does not reach in here. Our kernels take tensors by DLPack, and PyTorch gives away
    none of another device than the current one.
    """
    if device == "cpu":
        with torch.autocast("cpu", enabled=False):
            yield
        return
    global _exact_users
    with _exact_lock:
        if _exact_users == 0:
            _exact.enter_context(_exact_flags())
        _exact_users += 1
    try:
        with _cuda.device(device), torch.autocast("cuda", enabled=False):
            yield
    finally:
        with _exact_lock:
            _exact_users -= 1
            if _exact_users == 0:
                _exact.close()


def device_facts(device: str, precision: str = "float32") -> dict[str, Any]:
    """Return, JSON-able, what of a device decides the last bits of logits in a precision."""
    if device == "cpu":
        has = torch.cpu.get_capabilities() if precision == "bfloat16" else {}
        multiply = [name for name in ("avx_ne_convert", "avx512_bf16", "amx_bf16") if has.get(name, False)]
        return {
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            **({"bfloat16_instructions": multiply} if precision == "bfloat16" else {}),
            "mkldnn": _mkldnn.is_available(),
            "intra_op_threads": 1,
        }
    facts = torch.cuda.get_device_properties(device)
    return {
        "gpu": facts.name,
        "compute_capability": f"{facts.major}.{facts.minor}",
        "cuda": torch.version.cuda,
        "cudnn": _cudnn.version(),
    }


def free_device_memory(device: str) -> int:
    """Return the bytes of device memory that this process may still take, PyTorch's own reserve included."""
    free, _ = torch.cuda.mem_get_info(device)
    reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + reserved)


def like_the_first() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls the GPUs of this process that are of one kind with the first.

    A run over several GPUs takes those alone: others would not give the same bytes.
    """
    there = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    names = named[:there] or [str(k) for k in range(there)]
    facts = [device_facts(f"cuda:{k}") for k in range(len(names))]
    return [name for name, fact in zip(names, facts, strict=True) if fact == facts[0]]


def device_share(device: str) -> tuple[str, str, int]:
    """Return the host's name, the identity of a GPU there, and its free bytes, seen from this process."""
    if not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch on {platform.node()} sees no CUDA device")
    return platform.node(), str(torch.cuda.get_device_properties(device).uuid), free_device_memory(device)


def peak_device_bytes(run: Callable[[], torch.Tensor], device: str) -> int:
    """Return the most bytes of device memory alive at once while `run` runs, beyond what was alive before."""
    with whole_device:
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        result = run()
        torch.cuda.synchronize(device)
    del result
    return int(torch.cuda.max_memory_allocated(device)) - before


def describe_devices() -> list[str]:
    """Return a line for each CUDA device: name, memory, compute capability."""
    facts = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
    return [f"{x.name}, {x.total_memory / 2**30:.4g} GiB, compute capability {x.major}.{x.minor}" for x in facts]
