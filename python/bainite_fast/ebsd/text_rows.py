"""Rows of numbers from a text file, in chunks of bounded size, with the line of whatever is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import EBSDFileError
from ..kernels._checks import core

CHUNK_BYTES = 16 << 20
LONGEST_LINE = 1 << 16
MAX_HEADER_LINES = 100_000
_COLUMNS, _NUMBER, _RANGE = 1, 2, 3  # enum TextFault in text_table.hpp


@dataclass(frozen=True, slots=True)
class Header:
    """The lines before the first row of numbers.

    Parameters
    ----------
    lines : list of str
        Without their ends; the first line of the file is ``lines[0]``.
    size : int
        Bytes that they take.
    """

    lines: list[str]
    size: int


def decode(line: bytes) -> str:
    """Return a header line as text: UTF-8, or else Latin-1, which older programs wrote."""
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return line.decode("latin-1")


def refuse_encoding(name: str, start: bytes) -> None:
    """Refuse text in two or four bytes per character, which no EBSD program writes but editors do."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff") or start[:4].count(0) >= 2:
        raise EBSDFileError(
            "the text is encoded as UTF-16 or UTF-32; save it as plain ASCII or UTF-8 text", file=name, line=1
        )


def read_chunk(
    name: str, line: int, text: memoryview, columns: int, decimal_comma: bool, *, cut: bool = False
) -> NDArray[np.float64]:
    """Return the rows of a chunk of whole lines: float64 (rows, columns).

    Parameters
    ----------
    name : str
        The file, for errors.
    line : int
        Number of the chunk's first line in the file, from 1.
    text : memoryview
        The chunk.
    columns : int
        Numbers that each row must have.
    decimal_comma : bool
        Numbers are written with a comma.
    cut : bool
        The chunk is a last line without its end, where a file may have been cut.

    Raises
    ------
    EBSDFileError
        If a row has another number of columns, or what stands there is no number.
    """
    rows, _ = core.measure_text(text)
    values = np.empty((rows, columns))
    if rows == 0:
        return values
    _, _, fault, bad, offset, column = core.read_text(text, values.data, decimal_comma=decimal_comma)
    if fault:
        problem = _problem(bytes(text[offset : offset + LONGEST_LINE]), fault, column, columns)
        remedy = "; if the file was cut here, allow_missing=True reads what is before" if cut else ""
        raise EBSDFileError(f"{problem}{remedy}", file=name, line=line + bad)
    return values


def _problem(text: bytes, fault: int, column: int, columns: int) -> str:
    words = text.partition(b"\n")[0].split()
    if fault == _COLUMNS:
        return f"{column} columns where {columns} are needed; the file is truncated or damaged here"
    word = decode(words[column])[:40] if column < len(words) else ""
    return f"column {column + 1}: {word!r} is {'too large or too small a number' if fault == _RANGE else 'no number'}"


class TextRows:
    """The rows of numbers behind a header.

    Parameters
    ----------
    path : Path
        The file.
    header : Header
        What comes before them.
    columns : int
        Numbers in each row.
    decimal_comma : bool
        Numbers are written with a comma.
    allow_cut : bool
        Leave out a last line that has no end and is no whole row: there a truncated file was cut.
    """

    def __init__(
        self, path: Path, header: Header, columns: int, *, decimal_comma: bool = False, allow_cut: bool = False
    ) -> None:
        self.path = path
        self.header = header
        self.columns = columns
        self.decimal_comma = decimal_comma
        self.allow_cut = allow_cut

    def __iter__(self) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield (index of the first row, rows), some hundred thousand rows at a time."""
        line, row = len(self.header.lines) + 1, 0
        with self.path.open("rb") as file:
            file.seek(self.header.size)
            for text, lines in _whole_lines(file, self.path.name, line):
                cut = text[-1] != ord("\n")
                try:
                    values = read_chunk(self.path.name, line, text, self.columns, self.decimal_comma, cut=cut)
                except EBSDFileError:
                    if cut and self.allow_cut:
                        return
                    raise
                if len(values):
                    yield row, values
                row += len(values)
                line += lines

    def line_of(self, row: int) -> int:
        """Return the number of the line, from 1, that a row stands in."""
        with self.path.open("rb") as file:
            file.seek(self.header.size)
            for number, text in enumerate(file, start=len(self.header.lines) + 1):
                bare = text.strip()
                if bare and not bare.startswith(b"#"):
                    if row == 0:
                        return number
                    row -= 1
        return len(self.header.lines)

    def refuse(self, row: int, problem: str) -> NoReturn:
        """Raise an error that names the line of a row."""
        raise EBSDFileError(problem, file=self.path.name, line=self.line_of(row))


def _whole_lines(file: BufferedReader, name: str, line: int) -> Iterator[tuple[memoryview, int]]:
    """Yield chunks that end where a line ends, each with its number of lines."""
    buffer = bytearray(CHUNK_BYTES)
    kept = 0
    while True:
        got = file.readinto(memoryview(buffer)[kept:])
        if not got:
            break
        end = buffer.rfind(b"\n", 0, kept + got) + 1
        if end == 0:
            if kept + got == len(buffer):
                raise EBSDFileError(
                    f"a line of more than {CHUNK_BYTES} bytes: no table of numbers", file=name, line=line
                )
            kept += got
            continue
        view = memoryview(buffer)[:end]
        lines = buffer.count(b"\n", 0, end)
        yield view, lines
        view.release()
        line += lines
        kept = kept + got - end
        buffer[:kept] = buffer[end : end + kept]
    if kept:
        yield memoryview(buffer)[:kept], 1
