"""An EBSD map as a table for a reader, and as plain values for a program."""

from __future__ import annotations

from typing import Any

import numpy as np

from .map import EBSDMap


def summary(ebsd: EBSDMap) -> dict[str, Any]:
    """Return grid, phases, counts and properties of a map as plain values; lengths in µm, fractions of all points."""
    grid, size = ebsd.grid, ebsd.size
    counts = {phase.id: int(np.count_nonzero(ebsd.phase_id == phase.id)) for phase in ebsd.phases}
    missing = size - int(np.count_nonzero(ebsd.indexed))
    width, height = grid.extent
    return {
        "source": ebsd.source,
        "grid": grid.kind,
        "rows": grid.rows,
        "columns": grid.columns,
        "columns_even": grid.columns_even,
        "dx_um": grid.dx,
        "dy_um": grid.dy,
        "width_um": width,
        "height_um": height,
        "points": size,
        "indexed": size - missing,
        "not_indexed": missing,
        "phases": [
            {
                "id": phase.id,
                "name": phase.name,
                "laue": phase.laue,
                "lattice": None if phase.lattice is None else list(phase.lattice),
                "points": counts[phase.id],
                "fraction": counts[phase.id] / size,
            }
            for phase in ebsd.phases
        ],
        "properties": {
            name: {"min": float(np.nanmin(v)), "mean": float(np.nanmean(v)), "max": float(np.nanmax(v))}
            if not np.isnan(v).all()
            else {"min": None, "mean": None, "max": None}
            for name, v in ebsd.properties.items()
        },
    }


def describe(ebsd: EBSDMap) -> str:
    """Return a table of a map: grid, step and unit, phases with their fractions, points that are not indexed."""
    found = summary(ebsd)
    head = ("id", "phase", "Laue group", "a, b, c (Å)", "α, β, γ (°)", "points", "share")
    rows: list[tuple[str, ...]] = [head]
    for phase in found["phases"]:
        lattice = phase["lattice"]
        lengths, angles = (
            (", ".join(f"{value:g}" for value in part) for part in (lattice[:3], lattice[3:]))
            if lattice
            else ("unknown", "unknown")
        )
        share = f"{100 * phase['fraction']:.1f} %"
        rows.append((str(phase["id"]), phase["name"], phase["laue"], lengths, angles, f"{phase['points']:,}", share))
    missing = found["not_indexed"]
    rows.append(("-1", "not indexed", "", "", "", f"{missing:,}", f"{100 * missing / found['points']:.1f} %"))
    lines = [f"EBSDMap {found['source']}".rstrip()]
    lines.append(f"grid        {ebsd.grid}")
    lines.append(f"size        {found['points']:,} points, {found['width_um']:g} × {found['height_um']:g} µm")
    lines.append(f"properties  {', '.join(found['properties']) or 'none'}")
    return "\n".join([*lines, *_aligned(rows)])


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows of text as lines with aligned columns, the last two to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    right = {0, len(widths) - 2, len(widths) - 1}
    return [
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
