"""Reading ``.cpr``/``.crc`` pairs of Oxford Instruments: a text header and packed binary records."""

from __future__ import annotations

import configparser
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import EBSDFileError, EBSDNotFoundError, InputError
from .columns import Columns, Frame, arrange, assemble, check_angles, oxford_euler, phases_of
from .grid import Grid
from .laue import Phase, laue_of_oxford
from .map import EBSDMap
from .placing import Hint, Placement
from .rotations import quaternions_from_euler
from .text_rows import decode

# What the numbers in [Fields] stand for, and how they are stored; every record starts with the phase, one byte.
_FIELDS = {
    1: ("x", "<f4"),
    2: ("y", "<f4"),
    3: ("euler1", "<f4"),
    4: ("euler2", "<f4"),
    5: ("euler3", "<f4"),
    6: ("mad", "<f4"),
    7: ("band_contrast", "u1"),
    8: ("band_slope", "u1"),
    9: ("unknown", "u1"),
    10: ("bands", "u1"),
    11: ("error", "u1"),
    12: ("reliability", "<f4"),
}
_PROPERTIES = ("mad", "band_contrast", "band_slope", "bands")
_NEEDED = ("euler1", "euler2", "euler3")
CHUNK = 1 << 20
MAX_HEADER = 16 << 20


@dataclass(frozen=True, slots=True)
class _Parsed:
    record: np.dtype[Any]
    phases: tuple[Phase, ...]
    hint: Hint
    metadata: dict[str, Any]


def read_crc(path: Path, *, allow_missing: bool = False) -> EBSDMap:
    """Read a ``.cpr``/``.crc`` pair, named by either; see :func:`bainite_fast.ebsd.read`."""
    # A .cpr file is told by its content, so it may have any other name.
    header, data = _beside(path, ".cpr") if path.suffix.lower() == ".crc" else path, _beside(path, ".crc")
    parsed = _parse(header)
    size, record = data.stat().st_size, parsed.record.itemsize
    if size % record and not allow_missing:
        raise EBSDFileError(
            f"{size} bytes are no whole number of records of {record} bytes, which {header.name} describes: the fields "
            "are wrong, or the file is truncated; allow_missing=True reads its whole records",
            file=data.name,
        )
    if size < record:
        raise EBSDFileError("the file holds no whole record", file=data.name)
    _check_count(header, data, parsed, size // record, allow_missing)

    def refuse(row: int | None, problem: str) -> NoReturn:
        place = "" if row is None else f"record {row + 1}: "
        raise EBSDFileError(f"{place}{problem}", file=data.name)

    columns = Columns()
    with data.open("rb") as file:
        start = 0
        while len(values := np.fromfile(file, parsed.record, CHUNK)):
            _add(columns, start, values, parsed, refuse)
            start += len(values)
    frame = Frame(parsed.phases, parsed.hint, "allow" if allow_missing else "sparse", path.name, parsed.metadata)
    if "x" in columns.parts and "y" in columns.parts:
        return assemble(columns, frame, refuse)
    hint = parsed.hint
    assert hint.rows and hint.columns and hint.dx and hint.dy  # _parse demands them of a regular grid
    grid = Grid.square(hint.rows, hint.columns, dx=hint.dx, dy=hint.dy)
    return arrange(columns, Placement(grid, None if start == grid.size else np.arange(start)), frame)


def _beside(path: Path, suffix: str) -> Path:
    """Return the other file of the pair, whatever the case of its suffix."""
    if path.suffix.lower() == suffix:
        return path
    for candidate in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
        if candidate.exists():
            return candidate
    raise EBSDNotFoundError(f"{path.with_suffix(suffix)} does not exist; a .cpr and its .crc belong together")


def _check_count(header: Path, data: Path, parsed: _Parsed, points: int, allow_missing: bool) -> None:
    hint = parsed.hint
    if hint.rows is None or hint.columns is None or "x" in (parsed.record.names or ()):
        return
    announced = hint.rows * hint.columns
    if points > announced or (points < announced and not allow_missing):
        remedy = "; allow_missing=True reads what is there" if points < announced else ""
        raise EBSDFileError(
            f"{points} records where {header.name} announces {hint.columns} × {hint.rows} = {announced}{remedy}",
            file=data.name,
        )
    if announced > max(1 << 20, 50 * points):
        raise EBSDFileError(f"{points} records are too few for {hint.columns} × {hint.rows} points", file=data.name)


def _add(columns: Columns, start: int, values: NDArray[Any], parsed: _Parsed, refuse: Any) -> None:
    """Add a chunk of records; phase 0 is what was not indexed."""
    ids = values["phase"].astype(np.int16)
    phase = phases_of(np.where(ids == 0, -1, ids), start, parsed.phases, refuse)
    euler = np.stack([values[name] for name in _NEEDED], axis=1)
    check_angles(euler, phase >= 0, start, 2 * math.pi, refuse)
    euler = np.where(np.isfinite(euler), euler, 0)
    turned = oxford_euler(euler, phase, parsed.phases, 2 * math.pi)
    columns.add(phase_id=phase, quaternions=quaternions_from_euler(turned))
    names = values.dtype.names or ()
    columns.add(**{name: values[name].astype(np.float32) for name in _PROPERTIES if name in names})
    if "x" in names and "y" in names:
        columns.add(x=values["x"].astype(np.float64), y=values["y"].astype(np.float64))


class _Ini:
    """The ``.cpr`` file, and where its sections are."""

    def __init__(self, path: Path) -> None:
        if path.stat().st_size > MAX_HEADER:
            raise EBSDFileError(f"a header of {path.stat().st_size} bytes: this is no .cpr file", file=path.name)
        self.name = path.name
        self.text = decode(path.read_bytes())
        parser = configparser.RawConfigParser(strict=False, allow_no_value=True, comment_prefixes=(), delimiters=("=",))
        try:
            parser.read_string(self.text)
        except configparser.Error as error:
            several = getattr(error, "errors", None)
            line = several[0][0] if several else getattr(error, "lineno", None)
            raise EBSDFileError("this is no line of a .cpr file", file=path.name, line=line) from None
        self.sections = {name.lower(): dict(parser[name]) for name in parser.sections()}

    def refuse(self, section: str, key: str, problem: str) -> NoReturn:
        """Raise an error that names the line of a key, or of its section."""
        line, inside = None, False
        for number, text in enumerate(self.text.splitlines(), start=1):
            bare = text.strip().lower()
            if bare.startswith("["):
                inside = bare == f"[{section.lower()}]"
                line = number if inside else line
            elif inside and bare.partition("=")[0].strip() == key.lower():
                line = number
                break
        raise EBSDFileError(f"[{section}] {key}: {problem}", file=self.name, line=line)

    def text_of(self, section: str, key: str) -> str:
        return (self.sections.get(section.lower(), {}).get(key.lower()) or "").strip()

    def integer(self, section: str, key: str, most: int) -> int | None:
        """Return a whole number from 1 on; None where the header leaves it out."""
        value = self.text_of(section, key)
        if not value:
            return None
        if not re.fullmatch(r"\d{1,12}", value) or not 1 <= int(value) <= most:
            self.refuse(section, key, f"{value[:40]!r} is refused; a whole number from 1 to {most} is needed")
        return int(value)

    def number(self, section: str, key: str) -> float | None:
        """Return a finite number of 0 or more; None where the header leaves it out."""
        value = self.text_of(section, key)
        if not value:
            return None
        try:
            number = float(value.replace(",", "."))
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and 0 <= number < 1e9):
            self.refuse(section, key, f"{value[:40]!r} is refused; a number of 0 or more is needed")
        return number


def _parse(path: Path) -> _Parsed:
    ini = _Ini(path)
    record = _record(ini)
    columns, rows = ini.integer("Job", "xCells", 2**31), ini.integer("Job", "yCells", 2**31)
    either = ini.number("Job", "GridDist")
    dx = ini.number("Job", "GridDistX") or either
    dy = ini.number("Job", "GridDistY") or either or dx
    names = record.names or ()
    if "x" not in names or "y" not in names:
        for key, value in (("xCells", columns), ("yCells", rows), ("GridDistX", dx)):
            if not value:
                ini.refuse("Job", key, "is missing, and the records have no coordinates: this is no map")
    count = ini.integer("Phases", "Count", 255)
    if count is None:
        ini.refuse("Phases", "Count", "is missing")
    metadata = {"format": "cpr"} | {
        f"{section}.{key}": value
        for section in ("general", "job", "semfields", "acquisition surface", "acquisitionsurface")
        for key, value in ini.sections.get(section, {}).items()
        if value
    }
    phases = tuple(_phase(ini, number) for number in range(1, count + 1))
    return _Parsed(record, phases, Hint("square", rows, columns, columns, dx, dy), metadata)


def _record(ini: _Ini) -> np.dtype[Any]:
    """Return the type of the records, from the fields that the header lists."""
    count = ini.integer("Fields", "Count", 1000)
    if count is None:
        ini.refuse("Fields", "Count", "is missing")
    items: list[tuple[str, str]] = [("phase", "u1")]
    for number in range(1, count + 1):
        code = ini.integer("Fields", f"Field{number}", 100_000)
        if code is None:
            ini.refuse("Fields", f"Field{number}", "is missing")
        # 13 and up: counts of X-ray windows, four bytes each.
        items.append(_FIELDS.get(code, (f"field{code}", "<f4")))
    names = [name for name, _ in items]
    if len(set(names)) != len(names):
        ini.refuse("Fields", "Count", f"a field is listed twice: {', '.join(names)}")
    lacking = [name for name in _NEEDED if name not in names]
    if lacking:
        ini.refuse("Fields", "Count", f"the fields of {', '.join(lacking)} (3, 4, 5) are missing")
    return np.dtype(items)


def _phase(ini: _Ini, number: int) -> Phase:
    section = f"Phase{number}"
    if section.lower() not in ini.sections:
        ini.refuse("Phases", "Count", f"section [{section}] is missing")
    # 0: not known, as in .ctf files.
    group, space = (
        None if ini.text_of(section, key) == "0" else ini.integer(section, key, most)
        for key, most in (("LaueGroup", 11), ("SpaceGroup", 230))
    )
    if group is None and space is None:
        ini.refuse(section, "LaueGroup", "is missing, and so is SpaceGroup")
    laue = laue_of_oxford(group or 0, space or (0 if group else 1))
    lattice = [ini.number(section, key) for key in ("a", "b", "c", "alpha", "beta", "gamma")]
    name = ini.text_of(section, "StructureName") or f"phase {number}"
    try:
        known = None if None in lattice else tuple(value or 0.0 for value in lattice)
        return Phase(number, name, laue, known)  # type: ignore[arg-type]  # six of them
    except InputError as error:
        ini.refuse(section, "a", str(error))
