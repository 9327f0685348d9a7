"""Numbers with their nouns."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return ``1 epoch``, ``2 epochs``, ``1,024 images``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
