"""How much memory this process may use, and how much is free. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import psutil

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def format_bytes(count: float) -> str:
    """Return a byte count as text with a binary unit, such as ``"3.2 GiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def total_memory() -> int:
    """Return the memory this process may use, in bytes: the machine's, or its container's limit if that is less."""
    total = int(psutil.virtual_memory().total)
    for name in _CGROUP_LIMITS:
        path = Path(name)
        if path.is_file():
            text = path.read_text().strip()
            if text.isdigit():
                total = min(total, int(text))
    return total


def resident() -> int:
    """Return the resident memory of this process now, in bytes."""
    return int(psutil.Process().memory_info().rss)


def free_memory() -> int:
    """Return the memory that this process may still take, in bytes: the machine's, or what its container has left."""
    return max(0, min(int(psutil.virtual_memory().available), total_memory() - resident()))
