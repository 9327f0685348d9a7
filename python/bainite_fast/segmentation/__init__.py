"""Exact segmentation of mosaics: plan, engine, stream, journal.

The package is not called `segment` because `bainite_fast.segment` is the function.
"""

from .api import plan, segment
from .memory import default_budget, format_bytes, parse_memory
from .progress import format_progress
from .result import ProgressEvent, Segmentation
from .run_plan import Plan

__all__ = [
    "Plan",
    "ProgressEvent",
    "Segmentation",
    "default_budget",
    "format_bytes",
    "format_progress",
    "parse_memory",
    "plan",
    "segment",
]
