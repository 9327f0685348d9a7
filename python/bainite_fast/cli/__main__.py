"""``python -m bainite_fast.cli`` does what ``bainite-fast`` does."""

from __future__ import annotations

from .app import main

main()
