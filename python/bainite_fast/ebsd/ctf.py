"""Reading ``.ctf`` files, Channel Text Files of Oxford Instruments."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import EBSDFileError, InputError
from .columns import Columns, Frame, assemble, check_angles, oxford_euler, phases_of
from .fillers import CTF_KEY, fillers_in_ctf
from .laue import Phase, laue_of_oxford
from .map import EBSDMap
from .placing import Hint, Missing
from .rotations import quaternions_from_euler
from .text_rows import LONGEST_LINE, Header, TextRows, decode

_NEEDED = ("phase", "x", "y", "euler1", "euler2", "euler3")
_PROPERTIES = {"bands": "bands", "mad": "mad", "bc": "band_contrast", "bs": "band_slope"}
MAX_LINES = 1000


@dataclass(frozen=True, slots=True)
class _Parsed:
    header: Header
    names: list[str]
    phases: tuple[Phase, ...]
    hint: Hint
    decimal_comma: bool
    fillers: frozenset[str]
    metadata: dict[str, Any]


def read_ctf(path: Path, *, allow_missing: bool = False) -> EBSDMap:
    """Read a ``.ctf`` file; see :func:`bainite_fast.ebsd.read`."""
    parsed = _parse(path)
    rows = TextRows(path, parsed.header, len(parsed.names), decimal_comma=parsed.decimal_comma, allow_cut=allow_missing)

    def refuse(row: int | None, problem: str) -> NoReturn:
        if row is None:
            raise EBSDFileError(problem, file=path.name)
        rows.refuse(row, problem)

    columns = Columns()
    for start, values in rows:
        _add(columns, start, values, parsed, refuse)
    if not columns.parts:
        raise EBSDFileError(
            "the header is not followed by any row of numbers", file=path.name, line=len(parsed.header.lines)
        )
    missing: Missing = "allow" if allow_missing else "sparse"
    frame = Frame(parsed.phases, parsed.hint, missing, path.name, parsed.metadata)
    return assemble(columns, frame, refuse)


def _add(columns: Columns, start: int, values: NDArray[np.float64], parsed: _Parsed, refuse: Any) -> None:
    """Add a chunk of rows; phase 0 is what was not indexed."""
    at = {name: values[:, number] for number, name in enumerate(parsed.names)}
    phase = phases_of(np.where(at["phase"] == 0, -1, at["phase"]), start, parsed.phases, refuse)
    euler = np.stack([at["euler1"], at["euler2"], at["euler3"]], axis=1)
    check_angles(euler, phase >= 0, start, 360.0, refuse)
    euler = oxford_euler(euler, phase, parsed.phases, 360.0)
    columns.add(
        x=at["x"].copy(), y=at["y"].copy(), phase_id=phase, quaternions=quaternions_from_euler(euler, degrees=True)
    )
    there = {name: ours for name, ours in _PROPERTIES.items() if name in at and ours not in parsed.fillers}
    columns.add(**{ours: at[name].astype(np.float32) for name, ours in there.items()})


def _parse(path: Path) -> _Parsed:
    """Read the header, down to the line that names the columns."""
    lines: list[str] = []
    size = 0
    fields: dict[str, tuple[int, str]] = {}
    phases: list[Phase] = []
    expected = 0
    comma = False
    with path.open("rb") as file:
        while len(lines) < MAX_LINES:
            raw = file.readline(LONGEST_LINE)
            text = decode(raw).rstrip("\r\n")
            if not raw:
                break
            lines.append(text)
            size += len(raw)
            number = len(lines)
            try:
                if len(phases) < expected:
                    phases.append(_phase(len(phases) + 1, text))
                    comma = comma or bool(re.match(r"\d+,\d", text))
                    continue
                words = [word.strip() for word in text.split("\t")]
                if words[0] == "Phases":
                    expected = _count("Phases", words[1] if len(words) > 1 else "", 255)
                elif words[0] == "Phase" and len(words) > 5:
                    return _with_columns(path, _named(path, Header(lines, size), words), tuple(phases), fields, comma)
            except EBSDFileError:
                raise  # names its line already
            except InputError as error:
                raise EBSDFileError(str(error), file=path.name, line=number) from None
            for key, value in zip(words[::2], words[1::2], strict=False):
                fields.setdefault(key, (number, value))
    problem = (
        "the line that names the columns (Phase, X, Y, Bands, Error, Euler1 …) is missing: this is no whole .ctf file"
    )
    raise EBSDFileError(problem, file=path.name, line=len(lines))


def _named(path: Path, header: Header, words: list[str]) -> tuple[Header, list[str]]:
    names = [word.lower() for word in words if word]
    lacking = [name for name in _NEEDED if name not in names]
    if lacking:
        raise InputError(f"the columns {', '.join(lacking)} are missing; there are {', '.join(names)}")
    if len(set(names)) != len(names):
        raise InputError(f"a column is named twice: {', '.join(names)}")
    return header, names


def _with_columns(
    path: Path,
    named: tuple[Header, list[str]],
    phases: tuple[Phase, ...],
    fields: dict[str, tuple[int, str]],
    comma: bool,
) -> _Parsed:
    header, names = named
    hint: dict[str, Any] = {"kind": "square"}
    for key, name in (("XCells", "columns"), ("YCells", "rows"), ("XStep", "dx"), ("YStep", "dy")):
        if key not in fields:
            continue
        line, value = fields[key]
        comma = comma or bool(re.fullmatch(r"\d+,\d+", value))
        try:
            hint[name] = _count(key, value, 2**31) if key.endswith("Cells") else _step(key, value)
        except InputError as error:
            raise EBSDFileError(str(error), file=path.name, line=line) from None
    if fields.get("JobMode", (0, "Grid"))[1].lower() == "interactive":
        raise EBSDFileError(
            "JobMode is Interactive: single points, not a map", file=path.name, line=fields["JobMode"][0]
        )
    with path.open("rb") as file:
        file.seek(header.size)
        comma = comma or b"," in file.readline(LONGEST_LINE)
    line, author = fields.get(CTF_KEY, (0, ""))
    try:
        fillers = fillers_in_ctf(author)
    except InputError as error:
        raise EBSDFileError(f"{CTF_KEY}: {error}", file=path.name, line=line) from None
    metadata = {"format": "ctf"} | {
        key: value for key, (_, value) in fields.items() if key and value and not (key == CTF_KEY and fillers)
    }
    return _Parsed(header, names, phases, Hint(**hint), comma, fillers, metadata)


def _phase(number: int, text: str) -> Phase:
    """Read a line such as ``3.7;3.7;3.7⇥90;90;90⇥Iron fcc⇥11⇥225``."""
    words = [word.strip() for word in text.split("\t")]
    if len(words) < 4:
        raise InputError(f"phase {number}: {text[:60]!r} is no line of lattice, angles, name and Laue group")
    lattice = [*_numbers(words[0]), *_numbers(words[1])]
    if len(lattice) != 6:
        raise InputError(f"phase {number}: {words[0][:40]!r} and {words[1][:40]!r} are no lattice a;b;c and angles")
    group, space = words[3], words[4] if len(words) > 4 else ""
    numbers = [int(word) if re.fullmatch(r"\d{1,3}", word) else 0 for word in (group, space)]
    if not any(numbers):
        raise InputError(f"phase {number} has neither a Laue group (1 … 11) nor a space group; got {group[:20]!r}")
    a, b, c, alpha, beta, gamma = lattice
    return Phase(number, words[2] or f"phase {number}", laue_of_oxford(*numbers), (a, b, c, alpha, beta, gamma))


def _numbers(text: str) -> list[float]:
    try:
        return [float(word.replace(",", ".")) for word in text.split(";")]
    except ValueError:
        raise InputError(f"{text[:40]!r} is no list of numbers") from None


def _count(key: str, value: str, most: int) -> int:
    if not re.fullmatch(r"\d{1,12}", value) or not 1 <= int(value) <= most:
        raise InputError(f"{key}: {value[:40]!r} is refused; a whole number from 1 to {most} is needed")
    return int(value)


def _step(key: str, value: str) -> float | None:
    try:
        step = float(value.replace(",", "."))
    except ValueError:
        step = math.nan
    if not (math.isfinite(step) and 0 <= step < 1e9):
        raise InputError(f"{key}: {value[:40]!r} is refused; a step in µm is needed")
    return step or None
