"""EBSD maps as Zarr stores: whole, or in bands of rows where a map is larger than memory.

A store is a group with one flat array per field of :class:`~bainite_fast.ebsd.EBSDMap`, row by row, and the grid, the
phases and the metadata as attribute ``ebsd``.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._disk import explain_os_errors
from ..errors import EBSDFileError, EBSDNotFoundError, InputError, OutputExistsError
from ..io._zarr import start_zarr_threads
from ..kernels._checks import whole
from .atomic import Replacement, refuse_foreign
from .grid import Grid
from .laue import Phase
from .map import PROPERTIES, EBSDMap

VERSION = 1
CHUNK_POINTS = 1 << 18
_DTYPES = {"quaternions": np.dtype("<f8"), "phase_id": np.dtype("<i4")} | {name: np.dtype("<f4") for name in PROPERTIES}


class ZarrWriter:
    """Writes a map to a Zarr store, band by band; the store appears under its name when it is whole.

    Parameters
    ----------
    path : str or path-like
        The folder to make.
    grid : Grid
        The whole map's grid.
    phases : tuple of Phase
        The whole map's phases.
    properties : tuple of str
        The properties that every band has, of :data:`~bainite_fast.ebsd.map.PROPERTIES`.
    metadata : Mapping
        What is known about the scan.
    overwrite : bool
        Replace a store that exists, and holds nothing else.

    Examples
    --------
    >>> with ZarrWriter(path, grid, phases, properties=("ci",)) as writer:  # doctest: +SKIP
    ...     for band in bands:
    ...         writer.append(band)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        grid: Grid,
        phases: tuple[Phase, ...],
        *,
        properties: tuple[str, ...] = (),
        metadata: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        import zarr

        path = Path(path)
        unknown = [name for name in properties if name not in PROPERTIES]
        if unknown:
            raise InputError(f"{', '.join(unknown)}: no property of an EBSDMap; there are {', '.join(PROPERTIES)}")
        if overwrite:
            spare_others(path)
        self._replacement = Replacement(path, overwrite=overwrite)
        self._grid, self._phases, self._properties = grid, phases, properties
        self._done, self._shifted = 0, False
        start_zarr_threads()
        described = {
            "version": VERSION,
            "grid": dataclasses.asdict(grid),
            "phases": [dataclasses.asdict(phase) for phase in phases],
            "unit": "um",
            "metadata": dict(metadata or {}),
        }
        with explain_os_errors(path.parent, path.name):
            group = zarr.create_group(
                self._replacement.partial, attributes={"ebsd": json.loads(json.dumps(described, default=str))}
            )
            self._arrays = {name: _create(group, name, grid.size) for name in ("quaternions", "phase_id", *properties)}
        self._path = path

    def append(self, band: EBSDMap) -> None:
        """Write the next rows.

        Parameters
        ----------
        band : EBSDMap
            Rows of the map's grid, an even number of them on a hexagonal one unless they are the last.

        Raises
        ------
        InputError
            If the band has another grid, other phases or not all properties, or is too large.
        OutputError
            If it cannot be written.
        """
        if dataclasses.replace(band.grid, rows=self._grid.rows) != self._grid:
            raise InputError(f"the band's grid ({band.grid}) does not continue the map's ({self._grid})")
        if self._shifted:
            raise InputError("an odd number of rows was written last, so these start shifted on this hexagonal grid")
        if band.phases != self._phases:
            raise InputError("the band's phases are not the map's")
        stop = self._done + band.size
        if stop > self._grid.size:
            raise InputError(f"the bands have more than the {self._grid.size} points of the map")
        values: dict[str, NDArray[Any]] = {"quaternions": band.quaternions, "phase_id": band.phase_id}
        for name in self._properties:
            if getattr(band, name) is None:
                raise InputError(f"the band has no {name}, which the map is to have")
            values[name] = getattr(band, name)
        with explain_os_errors(self._path.parent, self._path.name):
            for name, array in self._arrays.items():
                array[self._done : stop] = values[name]
        self._done = stop
        self._shifted = self._grid.kind == "hexagonal" and band.grid.rows % 2 == 1

    def __enter__(self) -> ZarrWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._replacement.discard()
            return
        if self._done != self._grid.size:
            self._replacement.discard()
            raise InputError(f"{self._done} of the {self._grid.size} points of the map were written")
        self._replacement.commit()


def _create(group: Any, name: str, points: int) -> Any:
    width = (4,) if name == "quaternions" else ()
    return group.create_array(
        name,
        shape=(points, *width),
        dtype=_DTYPES[name],
        chunks=(min(CHUNK_POINTS, points), *width),
        fill_value=-1 if name == "phase_id" else np.nan,
    )


def spare_others(path: Path) -> None:
    """Refuse to replace what is no EBSD store, or holds more than one.

    Raises
    ------
    OutputExistsError
        If there is such a thing.
    """
    if path.exists() and not _is_ebsd(path):
        raise OutputExistsError(f"{path} exists and is no EBSD store; it is not replaced, choose another name")
    refuse_foreign(path, ("zarr.json", *_DTYPES))


def _is_ebsd(path: Path) -> bool:
    try:
        node = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(node, dict) and "ebsd" in (node.get("attributes") or {})


class StoredMap:
    """A map in a Zarr store, of which only what is asked for is read.

    Parameters
    ----------
    path : str or path-like
        The folder.

    Attributes
    ----------
    grid : Grid
        The whole map's grid.
    phases : tuple of Phase
        Its phases.
    properties : tuple of str
        The properties that it has.

    Raises
    ------
    EBSDNotFoundError
        If there is nothing at `path`.
    EBSDFileError
        If it is no EBSD store, is damaged, or was written by a newer version of this package.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        import zarr

        self.path = path = Path(path)
        if not path.exists():
            raise EBSDNotFoundError(f"{path} does not exist; give the folder of an EBSD store")
        start_zarr_threads()
        try:
            group = zarr.open_group(path, mode="r")
            if "ebsd" not in group.attrs and {"ome", "multiscales"} & set(group.attrs):
                raise EBSDFileError(
                    "this is an OME-Zarr image and no EBSD scan: open it with bainite_fast.io.open_mosaic()",
                    file=str(path),
                )
            described: Any = group.attrs["ebsd"]
            version = int(described["version"])
            self.grid = Grid(**described["grid"])
            self.phases = tuple(
                Phase(**(item | {"lattice": item["lattice"] and tuple(item["lattice"])}))
                for item in described["phases"]
            )
            self.metadata: dict[str, Any] = dict(described["metadata"])
            self.properties = tuple(name for name in PROPERTIES if name in group)
            self._arrays: dict[str, Any] = {name: group[name] for name in ("quaternions", "phase_id", *self.properties)}
        except EBSDFileError:
            raise
        # zarr-python raises errors of many kinds for damaged metadata.
        except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
            raise EBSDFileError(
                f"this is no whole EBSD store ({type(error).__name__}: {error})", file=str(path)
            ) from None
        if version > VERSION:
            raise EBSDFileError(
                f"the store has version {version}, and this release reads up to {VERSION}; install a newer one",
                file=str(path),
            )
        for name, array in self._arrays.items():
            shape = (self.grid.size, 4) if name == "quaternions" else (self.grid.size,)
            if tuple(array.shape) != shape or array.dtype != _DTYPES[name]:
                raise EBSDFileError(
                    f"{name} is {array.dtype} {tuple(array.shape)}; {_DTYPES[name]} {shape} is needed", file=str(path)
                )

    def rows(self, start: int, stop: int) -> EBSDMap:
        """Return the rows from `start` up to, not including, `stop`; on a hexagonal grid `start` must be even.

        Raises
        ------
        InputError
            If there are no such rows.
        EBSDFileError
            If the store is damaged.
        """
        grid = self.grid
        if not 0 <= start < stop <= grid.rows:
            raise InputError(f"rows {start} to {stop} are not a part of the map's 0 to {grid.rows}")
        if grid.kind == "hexagonal" and start % 2:
            raise InputError(f"row {start} starts shifted on this hexagonal grid; start at an even row")
        first, last = (int(grid.row_starts()[row]) for row in (start, stop))
        part = dataclasses.replace(grid, rows=stop - start)
        try:
            values: dict[str, Any] = {name: np.asarray(array[first:last]) for name, array in self._arrays.items()}
        # Every codec has errors of its own for damaged chunks.
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise EBSDFileError(f"rows {start} to {stop} cannot be read: {error}", file=str(self.path)) from None
        return EBSDMap(grid=part, phases=self.phases, source=self.path.name, metadata=self.metadata, **values)

    def bands(self, rows: int) -> Iterator[EBSDMap]:
        """Yield the map from top to bottom, at most `rows` rows at a time (an even number on a hexagonal grid)."""
        least = 2 if self.grid.kind == "hexagonal" else 1
        step = whole(rows, "rows", least) // least * least
        for start in range(0, self.grid.rows, step):
            yield self.rows(start, min(start + step, self.grid.rows))


def read_zarr(path: Path) -> EBSDMap:
    """Read a whole map from a Zarr store."""
    stored = StoredMap(path)
    return stored.rows(0, stored.grid.rows)


def write_zarr(ebsd: EBSDMap, path: Path, *, overwrite: bool) -> None:
    """Write a map to a Zarr store."""
    names = tuple(ebsd.properties)
    with ZarrWriter(
        path, ebsd.grid, ebsd.phases, properties=names, metadata=ebsd.metadata, overwrite=overwrite
    ) as writer:
        writer.append(ebsd)
