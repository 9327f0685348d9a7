"""Throughput acceptance of an installation: how fast, and what the network waits for."""

from .acceptance import Report, measure
from .chart import save_png, text
from .mosaic import draw

__all__ = ["Report", "draw", "measure", "save_png", "text"]
