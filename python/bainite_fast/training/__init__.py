"""Training: recipes, losses, augmentation, and the trainer.

Names are imported at first use, so that listing recipes does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import plan_training, train
    from .curve import LearningCurve, learning_curve
    from .loop import Progress
    from .plan import TrainingPlan
    from .recipe import Recipe
    from .recipe_files import copy_recipe, parse_changes, read_recipe, recipe_names, recipe_text
    from .result import TrainingRun, read_run
    from .searching import SearchResult, search
    from .space import SearchSpace, copy_space, read_space

_LAZY = {
    "LearningCurve": "curve",
    "Progress": "loop",
    "Recipe": "recipe",
    "SearchResult": "searching",
    "SearchSpace": "space",
    "TrainingPlan": "plan",
    "TrainingRun": "result",
    "copy_recipe": "recipe_files",
    "copy_space": "space",
    "learning_curve": "curve",
    "parse_changes": "recipe_files",
    "plan_training": "api",
    "read_recipe": "recipe_files",
    "recipe_names": "recipe_files",
    "recipe_text": "recipe_files",
    "read_run": "result",
    "read_space": "space",
    "search": "searching",
    "train": "api",
}

__all__ = [
    "LearningCurve",
    "Progress",
    "Recipe",
    "SearchResult",
    "SearchSpace",
    "TrainingPlan",
    "TrainingRun",
    "copy_recipe",
    "copy_space",
    "learning_curve",
    "parse_changes",
    "plan_training",
    "read_recipe",
    "read_run",
    "read_space",
    "recipe_names",
    "recipe_text",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
