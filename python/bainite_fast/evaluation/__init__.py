"""Evaluation: scores of models and annotators, cross-validation, and the studies built on them.

Names are imported at first use, so that `bainite-fast --help` imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agreement import Agreement, agree
    from .api import evaluate
    from .calibrated import calibrated_copy
    from .calibration import Calibration
    from .cross_validation import cross_validate
    from .folds import CrossValidation, FoldScores
    from .recipe_study import study_recipes
    from .scores import Scores
    from .study import Budget, StudyTable
    from .tile_study import study_tile_sizes
    from .transfer_study import study_transfer

_LAZY = {
    "Agreement": "agreement",
    "Budget": "study",
    "Calibration": "calibration",
    "CrossValidation": "folds",
    "FoldScores": "folds",
    "Scores": "scores",
    "StudyTable": "study",
    "agree": "agreement",
    "calibrated_copy": "calibrated",
    "cross_validate": "cross_validation",
    "evaluate": "api",
    "study_recipes": "recipe_study",
    "study_tile_sizes": "tile_study",
    "study_transfer": "transfer_study",
}

__all__ = [
    "Agreement",
    "Budget",
    "Calibration",
    "CrossValidation",
    "FoldScores",
    "Scores",
    "StudyTable",
    "agree",
    "calibrated_copy",
    "cross_validate",
    "evaluate",
    "study_recipes",
    "study_tile_sizes",
    "study_transfer",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
