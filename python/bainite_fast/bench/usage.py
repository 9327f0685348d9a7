"""What a run takes of a device: memory at its peak, and energy."""

from __future__ import annotations

from typing import Any

import torch

from ..models.device import device_facts
from .energy import EnergyMeter

_cuda: Any = torch.cuda


class DeviceUsage:
    """Watches a device while a context lasts.

    Attributes
    ----------
    facts : dict
        Of the device, JSON-able; empty for the CPU.
    peak_bytes : int or None
        Most device memory that PyTorch held; None on the CPU.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._meter = EnergyMeter(device)
        self.facts: dict[str, Any] = {} if device == "cpu" else device_facts(device)
        self.peak_bytes: int | None = None

    @property
    def joules(self) -> float | None:
        """Energy that the device took, J; None where nothing measures it."""
        return self._meter.joules

    @property
    def why_no_joules(self) -> str | None:
        """Why nothing measures it, or None."""
        return self._meter.why_not or None

    def __enter__(self) -> DeviceUsage:
        if self._device != "cpu":
            _cuda.reset_peak_memory_stats(self._device)
        self._meter.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._meter.__exit__(*error)
        if self._device != "cpu":
            self.peak_bytes = int(_cuda.max_memory_reserved(self._device))
