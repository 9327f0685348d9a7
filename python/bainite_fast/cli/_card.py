"""A model's card, which is Markdown, as text for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator

_RULE = re.compile(r"[\s|:-]+")
_CELLS = re.compile(r"(?<!\\)\|")


def readable(markdown: str) -> str:
    """Return Markdown as plain text: headings underlined, tables in columns, no marks."""
    return "\n".join(_lines(markdown)).strip("\n")


def _lines(markdown: str) -> Iterator[str]:
    rows: list[list[str]] = []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            if not _RULE.fullmatch(line):
                rows.append([_plain(cell.strip()) for cell in _CELLS.split(line.strip().strip("|"))])
            continue
        yield from _columns(rows)
        rows = []
        heading = re.match(r"#+ +(.*)", line)
        if heading is None:
            yield _plain(line)
        else:
            yield from (heading[1], "-" * len(heading[1]))


def _plain(text: str) -> str:
    return re.sub(r"(\*\*|`)(.+?)\1", r"\2", text).replace("\\|", "|")


def _columns(rows: list[list[str]]) -> Iterator[str]:
    """Yield the rows of a table with its columns aligned; a column without content but its head is left out."""
    if not rows:
        return
    width = max(map(len, rows))
    full = [row + [""] * (width - len(row)) for row in rows]
    kept = [k for k in range(width) if len(full) == 1 or any(row[k] for row in full[1:])]
    widths = [max(len(row[k]) for row in full) for k in kept]
    for row in full:
        yield "  ".join(row[k].ljust(w) for k, w in zip(kept, widths, strict=True)).rstrip()
