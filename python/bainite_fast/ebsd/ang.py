"""Reading ``.ang`` files of TSL and EDAX."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import BainiteWarning, EBSDFileError, InputError
from .columns import Columns, Frame, assemble, check_angles, is_four_pi, phases_of
from .fillers import ANG_COLUMNS, ANG_KEY, fillers_in
from .grid import GridKind
from .laue import Phase, laue_from_tsl
from .map import EBSDMap
from .placing import Hint
from .rotations import quaternions_from_euler
from .text_rows import LONGEST_LINE, MAX_HEADER_LINES, Header, TextRows, decode, refuse_encoding

_COLUMNS = ("phi1", "PHI", "phi2", "x", "y", "iq", "ci", "phase", "sem_signal", "fit")
FEWEST_COLUMNS, MOST_COLUMNS = 8, 100
"""Three PRIAS columns, a custom one, and one for each element's X-ray counts may follow the ten that all scans have."""


def read_ang(path: Path, *, allow_missing: bool = False) -> EBSDMap:
    """Read an ``.ang`` file; see :func:`bainite_fast.ebsd.read`."""
    header, first = _read_header(path)
    words = first.split()
    if not FEWEST_COLUMNS <= len(words) <= MOST_COLUMNS:
        raise EBSDFileError(
            f"{len(words)} columns; an .ang file has {FEWEST_COLUMNS}–{MOST_COLUMNS}: φ1, Φ, φ2, x, y, IQ, CI, phase …",
            file=path.name,
            line=len(header.lines) + 1,
        )
    parsed = _parse(path.name, header)
    rows = TextRows(path, header, len(words), allow_cut=allow_missing)

    def refuse(row: int | None, problem: str) -> NoReturn:
        if row is None:
            raise EBSDFileError(problem, file=path.name)
        rows.refuse(row, problem)

    columns = Columns()
    for start, values in rows:
        _add(columns, start, values, refuse)
    if not columns.parts:
        raise EBSDFileError(
            "the header is not followed by a whole row of numbers", file=path.name, line=len(header.lines)
        )
    for name in parsed.fillers:
        columns.parts.pop(name, None)
    phases, phase_id = _phases(path.name, parsed.phases, columns.take("phase"), refuse)
    columns.add(phase_id=phase_id)
    frame = Frame(phases, parsed.hint, "allow" if allow_missing else "refuse", path.name, parsed.metadata)
    return assemble(columns, frame, refuse)


def _add(columns: Columns, start: int, values: NDArray[np.float64], refuse: Any) -> None:
    """Add a chunk of rows."""
    phase, confidence = values[:, 7], values[:, 6]
    if not np.isfinite(phase).all() or (phase != np.rint(phase)).any() or np.abs(phase).max() >= 2**15:
        wrong = ~np.isfinite(phase) | (phase != np.rint(phase)) | ~(np.abs(phase) < 2**15)
        refuse(
            start + int(np.argmax(wrong)), f"the phase is {phase[int(np.argmax(wrong))]:g}; a whole number is needed"
        )
    indexed = (phase >= 0) & ~is_four_pi(values[:, 1]) & (confidence != -1)
    # NaN: written by other programs where nothing was indexed.
    indexed &= ~np.isnan(values[:, :3]).all(axis=1)
    check_angles(values[:, :3], indexed, start, 2 * math.pi, refuse)
    columns.add(
        x=values[:, 3].copy(),
        y=values[:, 4].copy(),
        quaternions=quaternions_from_euler(values[:, :3]),
        phase=np.where(indexed, phase, -1).astype(np.int16),
        iq=values[:, 5].astype(np.float32),
        ci=confidence.astype(np.float32),
    )
    for number, name in enumerate(_COLUMNS[8 : values.shape[1]], start=8):
        columns.add(**{name: values[:, number].astype(np.float32)})


def _phases(
    name: str, phases: tuple[Phase, ...], ids: NDArray[np.int16], refuse: Any
) -> tuple[tuple[Phase, ...], NDArray[np.int16]]:
    """Return phases and ids that agree: a single phase is written as phase 0, and phase 0 of several is not indexed."""
    zero = bool((ids == 0).any())
    if not phases:
        present = [int(number) for number in np.unique(ids[ids > 0])] or [1]
        warnings.warn(
            f"{name}: the header names no phase; its phases are taken as cubic (m-3m)", BainiteWarning, stacklevel=2
        )
        phases = tuple(Phase(number, f"phase {number}", "m-3m") for number in present)
    if zero and all(phase.id != 0 for phase in phases):
        single = len(phases) == 1 and not (ids > 0).any()
        ids = np.where(ids == 0, np.int16(phases[0].id if single else -1), ids)
    return phases, phases_of(ids, 0, phases, refuse)


@dataclass(frozen=True, slots=True)
class _Parsed:
    phases: tuple[Phase, ...]
    hint: Hint
    fillers: frozenset[str]
    metadata: dict[str, Any]


def _read_header(path: Path) -> tuple[Header, str]:
    """Return the header, and the first row of numbers as text."""
    lines: list[str] = []
    size = 0
    with path.open("rb") as file:
        while len(lines) < MAX_HEADER_LINES:
            raw = file.readline(LONGEST_LINE)
            if not lines:
                refuse_encoding(path.name, raw)
            text = decode(raw).strip()
            if not raw:
                raise EBSDFileError("the header is not followed by any row of numbers", file=path.name, line=len(lines))
            if text and not text.startswith("#"):
                return Header(lines, size), text
            if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
                break
            lines.append(text.lstrip("#").strip())
            size += len(raw)
    raise EBSDFileError("the header has no end: this is no .ang file", file=path.name, line=len(lines) + 1)


def _parse(name: str, header: Header) -> _Parsed:
    """Read grid and phases from the header's lines; whatever else has a name goes to the metadata."""
    phases: list[dict[str, Any]] = []
    grid: dict[str, Any] = {}
    fillers: frozenset[str] = frozenset()
    metadata: dict[str, Any] = {"format": "ang"}
    for number, line in enumerate(header.lines, start=1):
        key, value = _split(line)
        try:
            if match := re.fullmatch(r"Phase\s+(\d{1,5})", line):
                phases.append({"id": int(match[1])})
            elif key == "MaterialName" and (not phases or "name" in phases[-1]):
                phases.append({"id": len(phases) + 1, "name": value})
            elif key in ("MaterialName", "Symmetry", "LatticeConstants"):
                if not phases:
                    phases.append({"id": 1})
                phases[-1] |= _phase_field(key, value)
            elif key in _GRID:
                grid |= _grid_field(key, value)
            elif key == ANG_KEY:
                fillers = fillers_in(value, ANG_COLUMNS)
            elif key not in ("Formula", "Info", "NumberFamilies", "hklFamilies", "ElasticConstants", "Categories", ""):
                metadata[key] = value
        except InputError as error:
            raise EBSDFileError(str(error), file=name, line=number) from None
    try:
        listed = tuple(
            Phase(item["id"], item.get("name") or f"phase {item['id']}", item.get("laue", "m-3m"), item.get("lattice"))
            for item in phases
        )
    except InputError as error:
        raise EBSDFileError(str(error), file=name) from None
    repeated = {phase.id for phase in listed if sum(other.id == phase.id for other in listed) > 1}
    if repeated:
        raise EBSDFileError(f"phase {min(repeated)} stands in the header twice", file=name)
    return _Parsed(listed, Hint(**grid), fillers, metadata)


def _split(line: str) -> tuple[str, str]:
    match = re.match(r"([^\s:]+)\s*:?\s*(.*)", line)
    return (match[1], match[2].strip()) if match else ("", "")


def _phase_field(key: str, value: str) -> dict[str, Any]:
    if key == "MaterialName":
        return {"name": value}
    if key == "Symmetry":
        return {"laue": laue_from_tsl(_integer(key, value))}
    numbers = [_number(key, word) for word in value.split()]
    if len(numbers) != 6:
        raise InputError(f"LatticeConstants has {len(numbers)} numbers; a, b, c, alpha, beta, gamma are needed")
    return {"lattice": tuple(numbers)}


_GRID = {
    "XSTEP": "dx",
    "YSTEP": "dy",
    "NCOLS_ODD": "columns",
    "NCOLS_EVEN": "columns_even",
    "NROWS": "rows",
    "GRID": "kind",
}


def _grid_field(key: str, value: str) -> dict[str, Any]:
    if key == "GRID":
        kinds: dict[str, GridKind] = {"sqrgrid": "square", "hexgrid": "hexagonal"}
        if value.lower() not in kinds:
            raise InputError(f"GRID: {value!r} is unknown; SqrGrid or HexGrid is needed")
        return {"kind": kinds[value.lower()]}
    if key in ("XSTEP", "YSTEP"):
        step = _number(key, value)
        if step < 0 or step > 1e9:
            raise InputError(f"{key}: {value} is refused; a positive step in µm is needed")
        return {_GRID[key]: step} if step > 0 else {}  # 0: written by some programs for lines, and says nothing
    count = _integer(key, value)
    if count < (0 if key == "NCOLS_EVEN" else 1) or count > 2**31:
        raise InputError(f"{key}: {value} is refused; a number of points of at least 1 is needed")
    return {_GRID[key]: count}


def _integer(key: str, value: str) -> int:
    if not re.fullmatch(r"[+-]?\d{1,15}", value):
        raise InputError(f"{key}: {value[:40]!r} is no whole number")
    return int(value)


def _number(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{key}: {value[:40]!r} is no number")
    return number
