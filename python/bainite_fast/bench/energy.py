"""Energy of a GPU, by the counter of NVIDIA's management library (NVML)."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import torch


class EnergyMeter:
    """Measures the energy that a device takes while a context lasts.

    Attributes
    ----------
    joules : float or None
        Energy of the context, once it has ended; None where nothing measures it.
    why_not : str
        Why nothing measures it; empty where something does.
    """

    def __init__(self, device: str) -> None:
        self.joules: float | None = None
        self.why_not = ""
        self._nvml: Any = None
        self._handle: Any = None
        self._before = 0
        if device == "cpu":
            self.why_not = "NVML measures GPUs, and the network ran on the CPU"
            return
        try:
            self._nvml = importlib.import_module("pynvml")
        except ImportError:
            self.why_not = "without NVML: pip install 'bainite-fast[gpu]'"
            return
        try:
            self._nvml.nvmlInit()
            # By its identity: the numbers of NVML know nothing of CUDA_VISIBLE_DEVICES.
            uuid = str(torch.cuda.get_device_properties(device).uuid)
            self._handle = self._nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
            self._read()
        except self._nvml.NVMLError as error:
            self._handle, self.why_not = None, f"NVML does not measure it here ({error})"

    def _read(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))  # mJ since the driver was loaded

    def __enter__(self) -> EnergyMeter:
        if self._handle is not None:
            self._before = self._read()
        return self

    def __exit__(self, *error: object) -> None:
        if self._handle is None:
            return
        try:
            self.joules = (self._read() - self._before) / 1e3
        except self._nvml.NVMLError as failure:  # of no more use than a meter that was never there
            self.why_not = f"NVML stopped measuring it ({failure})"
        with contextlib.suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()
