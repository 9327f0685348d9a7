"""Tables of plain text."""

from __future__ import annotations

from collections.abc import Sequence


def as_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a title and a table under it: the first column to the left, the others to the right."""
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    lines = [title]
    for line in (head, *rows):
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)
