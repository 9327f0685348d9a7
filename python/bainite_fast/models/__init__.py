"""Models: the U-Net of the paper, the package format, the receptive-field probe and the compiled runtime.

Names are imported at first use, so that listing models does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .catalog import DEFAULT_MODEL, available, bundled_names
from .contract import Contract, LoadedModel

if TYPE_CHECKING:
    from .compiled import Runtime
    from .loading import load
    from .package import load_package, save_package
    from .precision import choose_precision, measure_layout
    from .receptive_field import Reach, probe
    from .runtime import compile
    from .threads import serial_threads
    from .unet import UNet

_LAZY = {
    "load": "loading",
    "load_package": "package",
    "save_package": "package",
    "Reach": "receptive_field",
    "probe": "receptive_field",
    "Runtime": "compiled",
    "choose_precision": "precision",
    "compile": "runtime",
    "measure_layout": "precision",
    "serial_threads": "threads",
    "UNet": "unet",
}

__all__ = [
    "DEFAULT_MODEL",
    "Contract",
    "LoadedModel",
    "Reach",
    "Runtime",
    "UNet",
    "available",
    "bundled_names",
    "choose_precision",
    "compile",
    "load",
    "load_package",
    "measure_layout",
    "probe",
    "save_package",
    "serial_threads",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
