"""Models: the U-Nets of the paper, the package format, the receptive-field probe and the compiled runtime.

Names are imported at first use, so that listing models does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .card import model_card
from .catalog import DEFAULT_MODEL, PackageConfig, Score, bundled_names
from .contract import Contract, LoadedModel
from .describing import available, describe_package, is_package

if TYPE_CHECKING:
    from .architectures import architecture, build, load_weights
    from .exporting import export
    from .imagenet import load_imagenet
    from .loading import load
    from .package import load_package, save_package
    from .precision import choose_precision, measure_layout
    from .receptive_field import Reach, probe
    from .runtime import Runtime, compile
    from .threads import serial_threads
    from .unet import UNet
    from .vgg16_unet import VGG16UNet

_LAZY = {
    "architecture": "architectures",
    "build": "architectures",
    "load": "loading",
    "export": "exporting",
    "load_imagenet": "imagenet",
    "load_package": "package",
    "load_weights": "architectures",
    "save_package": "package",
    "Reach": "receptive_field",
    "probe": "receptive_field",
    "Runtime": "runtime",
    "choose_precision": "precision",
    "compile": "runtime",
    "measure_layout": "precision",
    "serial_threads": "threads",
    "UNet": "unet",
    "VGG16UNet": "vgg16_unet",
}

__all__ = [
    "DEFAULT_MODEL",
    "Contract",
    "LoadedModel",
    "PackageConfig",
    "Reach",
    "Runtime",
    "Score",
    "UNet",
    "VGG16UNet",
    "architecture",
    "available",
    "build",
    "bundled_names",
    "choose_precision",
    "compile",
    "describe_package",
    "export",
    "is_package",
    "load",
    "load_imagenet",
    "load_package",
    "load_weights",
    "measure_layout",
    "model_card",
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
