"""Reading HDF5 files: which vendor's, which scan, and values with the errors of this package."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .._optional import require
from ..errors import EBSDFileError
from .map import EBSDMap

MOST_BYTES = 1 << 20
MOST_PER_BYTE = 2000
"""A data set larger than MOST_BYTES is refused where it is more than so many times as large as the file: deflate, the
filter of all vendors, makes at most 1032 bytes of one, and what was never written takes no place at all."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of an HDF5 file of so many bytes; `node` is h5py's, `where` names it in errors."""

    file: str
    node: Any
    where: str
    bytes: int

    def refuse(self, problem: str) -> NoReturn:
        """Raise an error that names the file and this group."""
        raise EBSDFileError(f"{self.where}: {problem}", file=self.file)

    def has(self, name: str) -> bool:
        """Whether there is a group or data set of this name, which may be a path."""
        return name in self.node

    def group(self, name: str) -> Group:
        """Return a group inside of this one."""
        inside = Group(self.file, self.node.get(name), f"{self.where}/{name}", self.bytes)
        if inside.node is None or not hasattr(inside.node, "keys"):
            inside.refuse("this group is missing")
        return inside

    def first(self, *names: str) -> str | None:
        """Return the first of some names that there is."""
        return next((name for name in names if self.has(name)), None)

    def values(self, *names: str, points: int | None = None, width: int = 1) -> NDArray[Any] | None:
        """Return the first data set of some names: (points,) or (points, width) numbers; None where there is none.

        With `points` the data set must have so many entries. One that cannot be in a file of this size is refused.
        """
        name = self.first(*names)
        if name is None:
            return None
        data = self.node[name]
        if not hasattr(data, "shape") or data.dtype.kind not in "biuf":
            self.refuse(f"{name} is no data set of numbers")
        size = math.prod(data.shape)
        if points is not None and size != points * width:
            needed = f"{points} points × {width}" if width > 1 else f"{points} points"
            self.refuse(f"{name} has shape {data.shape}; {needed} are needed")
        size *= data.dtype.itemsize
        if size > max(MOST_BYTES, MOST_PER_BYTE * self.bytes):
            self.refuse(f"{name} has shape {data.shape}, {size} bytes in a file of {self.bytes}: it is damaged")
        try:
            values = np.asarray(data[()])
        except (OSError, RuntimeError, MemoryError) as error:
            self.refuse(f"{name} cannot be read: {error}")
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        return values.reshape(-1, width) if width > 1 else values.reshape(-1)

    def needed(self, *names: str, points: int | None = None, width: int = 1) -> NDArray[Any]:
        """Return a data set, or refuse the file where there is none; see :meth:`values`."""
        values = self.values(*names, points=points, width=width)
        if values is None:
            self.refuse(f"the data set {names[0]!r} is missing")
        return values

    def number(self, *names: str) -> float | None:
        """Return a single finite number, None where there is none."""
        values = self.values(*names)
        if values is None:
            return None
        if values.size != 1 or not np.isfinite(values[0]):
            self.refuse(f"{self.first(*names)} is no single number")
        return float(values[0])

    def text(self, *names: str) -> str:
        """Return a string, "" where there is none."""
        name = self.first(*names)
        if name is None:
            return ""
        data = self.node[name]
        if not hasattr(data, "shape") or math.prod(data.shape) != 1:
            return ""
        try:
            value = np.asarray(data[()]).reshape(-1)[0]
        except (OSError, RuntimeError, TypeError, ValueError) as error:
            self.refuse(f"{name} cannot be read: {error}")
        return (value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)).strip("\0 ")

    def count(self, *names: str) -> int:
        """Return a whole number of 1 or more, or refuse the file."""
        value = self.number(*names)
        if value is None:
            self.refuse(f"the data set {names[0]!r} is missing")
        if value != int(value) or not 1 <= value < 2**31:
            self.refuse(f"{self.first(*names)} is {value:g}; a whole number of 1 or more is needed")
        return int(value)

    def step(self, *names: str) -> float:
        """Return a positive step, or refuse the file."""
        value = self.number(*names)
        if value is None:
            self.refuse(f"the data set {names[0]!r} is missing")
        if not 0 < value < 1e9:
            self.refuse(f"{self.first(*names)} is {value:g}; a positive step in µm is needed")
        # Float32 in the file: 0.1 is meant, not 0.10000000149.
        return float(f"{value:.7g}")

    def refuse_row(self) -> Callable[[int | None, str], NoReturn]:
        """Return what raises an error about a point of this group."""

        def refuse(row: int | None, problem: str) -> NoReturn:
            self.refuse(problem if row is None else f"point {row}: {problem}")

        return refuse


def read_hdf5(path: Path, *, scan: str | int | None, allow_missing: bool) -> EBSDMap:
    """Read an HDF5 file of EDAX, Oxford Instruments or Bruker; see :func:`bainite_fast.ebsd.read`."""
    h5py = require("h5py", "ebsd", "reading HDF5")
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError) as error:
        raise EBSDFileError(f"the HDF5 file cannot be opened: {error}", file=path.name) from None
    with file:
        try:
            name, node = _choose(path.name, file, scan)
            chosen = Group(path.name, node, name, path.stat().st_size)
            return _reader(chosen)(chosen, path.name, allow_missing)
        except (KeyError, RuntimeError, OSError, TypeError, UnicodeDecodeError) as error:
            # What h5py raises where the file's inner tables are damaged.
            raise EBSDFileError(f"the HDF5 file is damaged: {error}", file=path.name) from None


def _choose(name: str, file: Any, scan: str | int | None) -> tuple[str, Any]:
    """Return name and node of the group of the scan: the one that holds EBSD/Data.

    Oxford Instruments' scans are called 1, 2, …: a text is taken as a name first, and as a place where it is none.
    """
    found = _scans(file, "", 0)
    if not found:
        raise EBSDFileError("no group holds EBSD/Data: this is no EBSD map of EDAX, Oxford or Bruker", file=name)
    listed = ", ".join(repr(item) for item in found)
    if scan is None:
        if len(found) > 1:
            raise EBSDFileError(f"the file holds {len(found)} scans: {listed}; choose one with scan=", file=name)
        return found[0], file[found[0]]
    if scan in found:
        return str(scan), file[str(scan)]
    place = int(scan) if isinstance(scan, int) or scan.isdecimal() else -1
    if 0 <= place < len(found):
        return found[place], file[found[place]]
    raise EBSDFileError(f"there is no scan {scan!r}; there are {listed}", file=name)


def _scans(node: Any, prefix: str, depth: int) -> list[str]:
    """Return the paths of the groups that hold EBSD/Data, at most four levels down."""
    found: list[str] = []
    for key in node:
        inside = node.get(key)
        if not hasattr(inside, "keys"):
            continue
        path = f"{prefix}{key}"
        if "EBSD/Data" in inside and hasattr(inside["EBSD/Data"], "keys"):
            found.append(path)
        elif depth < 3:
            found += _scans(inside, f"{path}/", depth + 1)
    return found


def _reader(scan: Group) -> Callable[[Group, str, bool], EBSDMap]:
    """Tell the vendors apart by what their data sets are called."""
    from .hdf5_vendors import read_bruker, read_edax, read_oxford

    data = scan.group("EBSD/Data")
    if data.has("Euler"):
        return read_oxford
    if data.has("PHI"):
        return read_bruker
    if not data.has("Phi"):
        data.refuse("no Euler angles: neither Phi1, Phi, Phi2 (EDAX), Euler (Oxford) nor phi1, PHI, phi2 (Bruker)")
    return read_edax
