"""Exact segmentation of mosaics: plan, engine, stream, journal.

The package is not called `segment` because `bainite_fast.segment` is the function.
"""

from .._memory import format_bytes
from .api import look_ahead, plan, segment
from .memory import default_budget, parse_memory
from .outlook import Outlook
from .progress import format_progress
from .result import ProgressEvent, Segmentation
from .run_plan import Plan

__all__ = [
    "Outlook",
    "Plan",
    "ProgressEvent",
    "Segmentation",
    "default_budget",
    "format_bytes",
    "format_progress",
    "look_ahead",
    "parse_memory",
    "plan",
    "segment",
]
