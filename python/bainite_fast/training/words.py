"""Numbers with their nouns, and time spans."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return ``1 epoch``, ``2 epochs``, ``1,024 images``; the plural is given where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Return a time span as ``4.2 s``, ``42 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    if seconds < 59.5:
        return f"{seconds:.0f} s" if seconds >= 9.95 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def span(seconds: float) -> str:
    """Return the same with milliseconds below one second: ``35 ms``."""
    return f"{1000 * seconds:.3g} ms" if seconds < 0.9995 else duration(seconds)
