"""The choice of a device, and KAM on a CUDA one."""

from __future__ import annotations

from typing import Any

from ..errors import DeviceError, InputError
from ..kernels import build_info
from ..kernels._checks import as_input_error, core
from ..kernels.orientations import laue_code


def checked_device(device: str) -> str:
    """Return "cpu" or "cuda"; "auto" is the CPU.

    Raises
    ------
    InputError
        If the name is unknown.
    DeviceError
        If CUDA is asked for, and this build or machine has none.
    """
    if device in ("auto", "cpu"):
        return "cpu"
    if device != "cuda":
        raise InputError(f"device={device!r} is unknown; use 'auto', 'cpu' or 'cuda'")
    if not build_info()["cuda"]:
        raise DeviceError(
            "device='cuda': this build of bainite_fast has no CUDA kernels; build it with BAINITE_CUDA=ON, or use 'cpu'"
        )
    if core.cuda_device_count() == 0:
        raise DeviceError("device='cuda': this process can use no CUDA device; use 'cpu'")
    return "cuda"


def kam_on_device(quaternions: Any, labels: Any, out: Any, *, laue: str, **options: Any) -> None:
    """Do what :func:`bainite_fast.kernels.orientations.kam_values` does on the current CUDA device.

    Raises
    ------
    DeviceError
        If the device has not enough memory, or fails.
    """
    try:
        with as_input_error():
            core.kam_cuda(quaternions, labels, out, laue=laue_code(laue), **options)
    except RuntimeError as error:
        raise DeviceError(f"device='cuda': {error}; use 'cpu'") from None
