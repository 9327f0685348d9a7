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
    from . import ebsd, evaluation, io, models, synthetic, training
    from .ebsd import kam
    from .errors import BainiteError, BainiteWarning
    from .evaluation import CrossValidation, Scores, agree, cross_validate, evaluate
    from .kernels import confusion_matrix, stitch_tiles, tile_image
    from .metrics import accuracy, iou
    from .segmentation import Plan, Segmentation, plan, segment
    from .training import TrainingRun, train

__all__ = [
    "BainiteError",
    "BainiteWarning",
    "CrossValidation",
    "Plan",
    "Scores",
    "Segmentation",
    "TrainingRun",
    "__version__",
    "accuracy",
    "agree",
    "confusion_matrix",
    "cross_validate",
    "ebsd",
    "evaluate",
    "evaluation",
    "io",
    "iou",
    "kam",
    "models",
    "plan",
    "segment",
    "stitch_tiles",
    "synthetic",
    "tile_image",
    "train",
    "training",
]

_HOME = {
    "BainiteError": "errors",
    "BainiteWarning": "errors",
    "CrossValidation": "evaluation",
    "Plan": "segmentation",
    "Scores": "evaluation",
    "Segmentation": "segmentation",
    "TrainingRun": "training",
    "accuracy": "metrics",
    "agree": "evaluation",
    "confusion_matrix": "kernels",
    "cross_validate": "evaluation",
    "evaluate": "evaluation",
    "iou": "metrics",
    "kam": "ebsd",
    "plan": "segmentation",
    "segment": "segmentation",
    "stitch_tiles": "kernels",
    "tile_image": "kernels",
    "train": "training",
}
_MODULES = ("ebsd", "evaluation", "io", "models", "synthetic", "training")


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
