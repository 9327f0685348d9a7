"""Evaluation: scores of models and annotators, cross-validation, and the studies built on them.

Names are imported at first use, so that `bainite-fast --help` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agreement import Agreement, agree
    from .api import evaluate
    from .calibration import Calibration
    from .cross_validation import cross_validate
    from .folds import CrossValidation, FoldScores
    from .scores import Scores

_LAZY = {
    "Agreement": "agreement",
    "Calibration": "calibration",
    "CrossValidation": "folds",
    "FoldScores": "folds",
    "Scores": "scores",
    "agree": "agreement",
    "cross_validate": "cross_validation",
    "evaluate": "api",
}

__all__ = [
    "Agreement",
    "Calibration",
    "CrossValidation",
    "FoldScores",
    "Scores",
    "agree",
    "cross_validate",
    "evaluate",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
