"""Exact segmentation of mosaics: plan, engine, stream, journal.

The package is not called `segment` because `bainite_fast.segment` is the function.
"""

from .api import plan, segment
from .memory import format_bytes, parse_memory
from .plan import Plan
from .progress import format_progress
from .result import ProgressEvent, Segmentation

__all__ = [
    "Plan",
    "ProgressEvent",
    "Segmentation",
    "format_bytes",
    "format_progress",
    "parse_memory",
    "plan",
    "segment",
]
