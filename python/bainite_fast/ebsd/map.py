"""EBSD maps: the grid, the phases and what was measured at every point."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .grid import Grid
from .laue import Phase
from .rotations import CHUNK, euler_from_quaternions, quaternions_from_euler

__all__ = ["PROPERTIES", "EBSDMap", "Grid", "Phase"]

PROPERTIES = ("ci", "iq", "fit", "sem_signal", "band_contrast", "band_slope", "bands", "mad")
"""The fields of :class:`EBSDMap` that are float32 per point, or None."""

Scalars = NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class EBSDMap:
    """An EBSD map. It does not change; :meth:`replace` returns another one.

    Every array is flat, row by row as in `grid`, and read-only.

    Parameters
    ----------
    grid : Grid
        Where the points are.
    phases : tuple of Phase
        The phases by their ids.
    quaternions : ndarray, (points, 4), float64
        Orientations w, x, y, z: unit length, passive Bunge (sample to crystal), w ≥ 0; what is given is brought to
        unit length and w ≥ 0. Points that are not indexed may hold anything; NaN there becomes (1, 0, 0, 0).
    phase_id : ndarray, (points,), int16 or int32, optional
        The id of each point's phase, -1 where it is not indexed. The one phase of `phases` where it is not given.
    indexed : ndarray, (points,), bool, optional
        Whether the point was indexed: by default, where its phase id is not -1. Where it is False, the phase id
        becomes -1.
    ci, iq, fit, sem_signal : ndarray, (points,), float32, optional
        Confidence index, image quality, fit (degrees) and detector signal, as EDAX names them.
    band_contrast, band_slope, bands, mad : ndarray, (points,), float32, optional
        Band contrast, band slope, number of bands and mean angular deviation (degrees), as Oxford names them.
    unit : str
        "um", the only unit.
    source : str
        The file's name.
    metadata : Mapping
        What the file says about the scan: plain text, numbers and lists of them.

    Raises
    ------
    InputError
        If a shape, a phase id or an orientation is wrong.
    """

    grid: Grid
    phases: tuple[Phase, ...]
    quaternions: NDArray[np.float64]
    phase_id: NDArray[np.int16] | NDArray[np.int32] = None  # type: ignore[assignment]  # never None once made
    indexed: NDArray[np.bool_] = None  # type: ignore[assignment]
    ci: Scalars = None
    iq: Scalars = None
    fit: Scalars = None
    sem_signal: Scalars = None
    band_contrast: Scalars = None
    band_slope: Scalars = None
    bands: Scalars = None
    mad: Scalars = None
    unit: str = "um"
    source: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.grid, Grid):
            raise InputError(f"grid={self.grid!r} is not a Grid; use Grid.square(…) or Grid.hexagonal(…)")
        if self.unit != "um":
            raise InputError(f"unit={self.unit!r} is refused; steps are in µm, so unit is 'um'")
        phases = _checked_phases(self.phases)
        phase_id, indexed = _checked_ids(self.grid, phases, self.phase_id, self.indexed)
        made = {
            "phases": phases,
            "phase_id": phase_id,
            "indexed": indexed,
            "quaternions": _checked_quaternions(self.quaternions, indexed),
            "metadata": MappingProxyType(dict(self.metadata)),
        }
        for name in PROPERTIES:
            if getattr(self, name) is not None:
                values = np.ascontiguousarray(getattr(self, name), np.float32).reshape(-1)
                made[name] = _of_length(values, indexed.size, name)
        for name, value in made.items():
            object.__setattr__(self, name, _read_only(value) if isinstance(value, np.ndarray) else value)

    def __getstate__(self) -> dict[str, Any]:
        return self._fields() | {"metadata": dict(self.metadata)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            value = MappingProxyType(value) if name == "metadata" else value
            object.__setattr__(self, name, _read_only(value) if isinstance(value, np.ndarray) else value)

    def _fields(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}

    def __len__(self) -> int:
        return self.grid.size

    @property
    def size(self) -> int:
        """Number of points."""
        return self.grid.size

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) on a square grid, (points,) on a hexagonal one."""
        return self.grid.shape

    @property
    def step(self) -> float:
        """Distance of neighbouring points in a row, in µm."""
        return self.grid.dx

    @property
    def properties(self) -> dict[str, NDArray[np.float32]]:
        """What was measured at every point besides orientation and phase, by name: float32 (points,) each."""
        return {name: getattr(self, name) for name in PROPERTIES if getattr(self, name) is not None}

    def phase(self, phase: int | str) -> Phase:
        """Return the phase of an id or a name.

        Raises
        ------
        InputError
            If the map has no such phase.
        """
        for candidate in self.phases:
            if phase in (candidate.id, candidate.name):
                return candidate
        listed = ", ".join(map(str, self.phases))
        raise InputError(f"the map has no phase {phase!r}; it has {listed}")

    def replace(self, **changes: Any) -> EBSDMap:
        """Return a map with other values of the fields named, checked as a new one is.

        A new `phase_id` without `indexed`, or the other way round, decides both.
        """
        unknown = changes.keys() - self._fields().keys()
        if unknown:
            raise InputError(
                f"{', '.join(sorted(unknown))}: no field of an EBSDMap; it has {', '.join(self._fields())}"
            )
        if "phase_id" in changes and "indexed" not in changes:
            changes["indexed"] = None
        return EBSDMap(**(self._fields() | changes))

    def euler(self, *, degrees: bool = False) -> NDArray[np.float64]:
        """Return the Bunge Euler angles φ1, Φ, φ2: float64 (points, 3), in radians or degrees."""
        return euler_from_quaternions(self.quaternions, degrees=degrees)

    def reshape(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return an array with one entry per point, (points, …), in the shape of the map, (*shape, …)."""
        array = np.asarray(values)
        if array.ndim < 1 or array.shape[0] != self.size:
            raise InputError(f"an array of shape {array.shape} has not one entry for each of the {self.size} points")
        return array.reshape(*self.shape, *array.shape[1:])

    def crop(self, rows: tuple[int, int], columns: tuple[int, int]) -> EBSDMap:
        """Return the part of the map between rows and columns [start, stop), counted from 0.

        On a hexagonal grid the first row must be an even one, so that the rows keep their order; the even rows of the
        part have one point less than the odd ones where the map's have.

        Raises
        ------
        InputError
            If the part is empty, reaches out of the map, or starts on the second, fourth … row of a hexagonal grid.
        """
        from .resample import crop

        return crop(self, rows, columns)

    def to_square(self, step: float | None = None) -> EBSDMap:
        """Return the map on a square grid: every new point takes all values of the point nearest to it.

        Parameters
        ----------
        step : float, optional
            Step of the new grid in µm; `grid.dx` by default. The first point stays where it is.

        Raises
        ------
        InputError
            If the step is not positive.
        """
        from .resample import to_square

        return to_square(self, self.grid.dx if step is None else step)

    def to_orix(self) -> Any:
        """Return an `orix.crystal_map.CrystalMap` with the same points, phases and properties.

        Raises
        ------
        MissingExtraError
            If orix, which is not a dependency of this package, is not installed.
        """
        from .orix_bridge import to_orix

        return to_orix(self)

    def __repr__(self) -> str:
        from .describe import describe

        return describe(self)

    @classmethod
    def from_euler(cls, euler: NDArray[Any], *, degrees: bool = False, **fields: Any) -> EBSDMap:
        """Return a map whose orientations are given as Bunge Euler angles, (points, 3) or (*shape, 3)."""
        return cls(quaternions=quaternions_from_euler(euler, degrees=degrees).reshape(-1, 4), **fields)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _of_length(array: NDArray[Any], points: int, name: str) -> NDArray[Any]:
    if array.shape[:1] != (points,):
        raise InputError(f"{name} has shape {array.shape}; one entry for each of the grid's {points} points is needed")
    return array


def _checked_phases(phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
    found = tuple(phases)
    if not all(isinstance(phase, Phase) for phase in found):
        raise InputError(f"phases={phases!r}: a tuple of Phase is needed")
    ids = [phase.id for phase in found]
    if len(set(ids)) != len(ids):
        raise InputError(f"the phase ids {ids} are not different from one another")
    return found


def _checked_ids(
    grid: Grid,
    phases: tuple[Phase, ...],
    phase_id: NDArray[Any] | None,
    indexed: NDArray[Any] | None,
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return phase ids and the mask of indexed points, consistent with one another."""
    if phase_id is None:
        if len(phases) != 1:
            raise InputError(f"phase_id is needed to tell {len(phases)} phases apart")
        ids = np.full(grid.size, phases[0].id, np.int16)
    else:
        ids = np.asarray(phase_id).reshape(-1)
        if ids.dtype.kind not in "iu":
            raise InputError(f"phase_id has dtype {ids.dtype}; integers are needed")
        if ids.dtype not in (np.int16, np.int32):
            # Ids out of range are kept wrong here, and found below.
            ids = np.clip(ids, -2, 2**15).astype(np.int32)
        ids = np.ascontiguousarray(_of_length(ids, grid.size, "phase_id"))
    mask = ids >= 0
    if indexed is not None:
        given = np.asarray(indexed).reshape(-1)
        if given.dtype != np.bool_:
            raise InputError(f"indexed has dtype {given.dtype}; bool is needed")
        _of_length(given, grid.size, "indexed")
        if not np.array_equal(given, mask):
            mask = mask & given
            ids = np.where(mask, ids, np.asarray(-1, ids.dtype))
    known = {phase.id for phase in phases} | {-1}
    for extreme in (int(ids.min()), int(ids.max())):
        if extreme not in known:
            _refuse_phase(extreme, phases)
    unknown = sorted(set(range(int(ids.min()), int(ids.max()) + 1)) - known)
    present = [number for number in unknown if np.any(ids == number)] if len(unknown) < 64 else unknown
    if present:
        _refuse_phase(present[0], phases)
    return ids, mask


def _refuse_phase(number: int, phases: tuple[Phase, ...]) -> NoReturn:
    listed = ", ".join(map(str, phases)) or "none"
    raise InputError(f"phase id {number} has no phase; there are {listed}, and -1 for what is not indexed")


def _checked_quaternions(quaternions: NDArray[Any], indexed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return unit quaternions with w ≥ 0; the same memory where they are such already."""
    given = np.ascontiguousarray(quaternions, np.float64)
    if given.ndim < 2 or given.shape[-1] != 4:
        raise InputError(f"quaternions have shape {given.shape}; (points, 4) with w, x, y, z is needed")
    given = _of_length(given.reshape(-1, 4), indexed.size, "quaternions")
    out = given
    for start in range(0, indexed.size, CHUNK):
        part = given[start : start + CHUNK]
        norm = np.sqrt(np.einsum("ij,ij->i", part, part))
        good = np.abs(norm - 1) <= 1e-6
        wrong = ~good & indexed[start : start + CHUNK] & ~(np.isfinite(norm) & (norm > 1e-3))
        if wrong.any():
            point = start + int(np.argmax(wrong))
            raise InputError(f"the orientation of point {point} is {given[point].tolist()}, which is no rotation")
        if good.all() and not (part[:, 0] < 0).any():
            continue
        if out is given:
            out = given.copy()
        out[start : start + CHUNK] = _unit(part, norm)
    return out


def _unit(part: NDArray[np.float64], norm: NDArray[np.float64]) -> NDArray[np.float64]:
    usable = np.isfinite(norm) & (norm > 1e-3)
    safe = np.where(usable, norm, 1.0)
    # What is of unit length to the last digits is left alone: dividing would only change the digits.
    safe = np.where(np.abs(safe - 1) <= 1e-6, 1.0, safe)
    unit = np.where(usable[:, np.newaxis], part / safe[:, np.newaxis], np.array([1.0, 0.0, 0.0, 0.0]))
    return np.where(unit[:, :1] < 0, -unit, unit)
