"""Exact, fast segmentation of steel micrograph mosaics in bounded memory.

>>> import bainite_fast
>>> seg = bainite_fast.segment("mosaic.ome.zarr")  # doctest: +SKIP
>>> print(seg)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from . import ebsd, io, models, synthetic
    from .ebsd import kam
    from .errors import BainiteError, BainiteWarning
    from .kernels import confusion_matrix, stitch_tiles, tile_image
    from .metrics import accuracy, iou
    from .segmentation import Plan, Segmentation, plan, segment

__all__ = [
    "BainiteError",
    "BainiteWarning",
    "Plan",
    "Segmentation",
    "__version__",
    "accuracy",
    "confusion_matrix",
    "ebsd",
    "io",
    "iou",
    "kam",
    "models",
    "plan",
    "segment",
    "stitch_tiles",
    "synthetic",
    "tile_image",
]

_HOME = {
    "BainiteError": "errors",
    "BainiteWarning": "errors",
    "Plan": "segmentation",
    "Segmentation": "segmentation",
    "accuracy": "metrics",
    "confusion_matrix": "kernels",
    "iou": "metrics",
    "kam": "ebsd",
    "plan": "segmentation",
    "segment": "segmentation",
    "stitch_tiles": "kernels",
    "tile_image": "kernels",
}
_MODULES = ("ebsd", "io", "models", "synthetic")


def __getattr__(name: str) -> Any:
    """Load a public name on first use, so that `import bainite_fast` brings neither torch nor zarr."""
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    elif name in _MODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
