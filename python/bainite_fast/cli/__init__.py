"""The command line, ``bainite-fast``.

Nothing here imports numpy, zarr or torch before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from .app import app, main

__all__ = ["app", "main"]
