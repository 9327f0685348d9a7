"""How much memory this process may use, and how much is free. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

_ROOT = Path("/")


def format_bytes(count: float) -> str:
    """Return a byte count as text with a binary unit, such as ``"3.2 GiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} TiB"


def total_memory() -> int:
    """Return the memory this process may use, in bytes: the machine's, or less where a container or a job is limited.

    A limit holds for all processes of its control group, and those within it.
    """
    return min([int(psutil.virtual_memory().total), *(group.limit for group in _limited_groups(_ROOT))])


def resident() -> int:
    """Return the resident memory of this process now, in bytes."""
    return int(psutil.Process().memory_info().rss)


def free_memory() -> int:
    """Return the memory that this process may still take, in bytes: what the machine, its container and its job have.

    Files that the system holds in memory are let go of when it is needed, and count as free.
    """
    left = (group.limit - group.used for group in _limited_groups(_ROOT))
    return max(0, min([int(psutil.virtual_memory().available), *left]))


class _Group(NamedTuple):
    """A control group of Linux that limits memory, as containers and batch systems do, in bytes."""

    limit: int
    used: int


def _limited_groups(root: Path) -> Iterator[_Group]:
    """Yield the control groups that this process is in, those around them too, as far as they limit memory.

    Versions 1 and 2: https://docs.kernel.org/admin-guide/cgroup-v2.html, …/cgroup-v1/memory.html.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        number, kinds, own = line.split(":", 2)
        if number == "0":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in kinds.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = top / own.strip("/")
        # In a container the path may be that of the machine around it, of which only the top is seen.
        for one in (folder, *folder.parents):
            if one.is_relative_to(top) and (found := _read_group(one, *names)) is not None:
                yield found


def _read_group(folder: Path, limit: str, usage: str, reclaimable: str) -> _Group | None:
    try:
        most, used = (int((folder / name).read_text()) for name in (limit, usage))  # "max" is no number, and no limit
        rows = dict(line.partition(" ")[::2] for line in (folder / "memory.stat").read_text().splitlines())
        cached = int(rows.get(reclaimable, 0))
    except (OSError, ValueError):
        return None
    return _Group(most, max(0, used - cached))
