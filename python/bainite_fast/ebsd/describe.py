"""An EBSD map as a table for a reader, and as plain values for a program."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import InputError
from .map import EBSDMap

_EDAX_MARKS = "a CI of -1, a negative phase, phase 0 beside others, or PHI = 4π"
_MARKS = {
    "ang": _EDAX_MARKS,
    "edax-hdf5": _EDAX_MARKS,
    "ctf": "phase 0",
    "cpr": "phase 0",
    "h5oina": "phase 0, or angles that are NaN",
    "bruker-hdf5": "phase 0",
}
"""What says in a file, by the `format` of its metadata, that a point was not indexed."""


def not_indexed_text(ebsd: EBSDMap) -> str:
    """Return that no point of a map is indexed, and what says so, as a part of a sentence."""
    marks = _MARKS.get(str(ebsd.metadata.get("format", "")), "phase id -1")
    if marks is _EDAX_MARKS and ebsd.ci is not None and (ebsd.ci == -1).all():
        marks = "a CI of -1"
    return f"none of the {ebsd.size:,} points is indexed: each is marked as not indexed, by {marks}"


def check_indexed(ebsd: EBSDMap) -> None:
    """Refuse a map without any orientation.

    Raises
    ------
    InputError
        If no point is indexed.
    """
    if not ebsd.indexed.any():
        raise InputError(
            f"{ebsd.source or 'the map'}: {not_indexed_text(ebsd)}; there are no orientations to compute anything of, "
            "give a scan whose patterns were indexed"
        )


def with_same_digits(*values: float) -> list[str]:
    """Return lengths as text with the same number of decimals: four digits of the largest, less zeros that all have."""
    largest = max(abs(value) for value in values)
    decimals = max(0, 3 - math.floor(math.log10(largest))) if largest > 0 else 0
    while decimals and all(f"{value:.{decimals}f}".endswith("0") for value in values):
        decimals -= 1
    return [f"{value:.{decimals}f}" for value in values]


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
    high, wide = with_same_digits(found["height_um"], found["width_um"])
    lines.append(f"size        {found['points']:,} points, {high} µm high × {wide} µm wide")
    lines.append(f"properties  {', '.join(found['properties']) or 'none'}")
    if not found["indexed"]:
        lines.append(f"note        {not_indexed_text(ebsd)}")
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
