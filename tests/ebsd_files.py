"""Small EBSD files in the layouts that vendors document, for tests: made here, since none may be shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bainite_fast import ebsd
from bainite_fast.ebsd.laue import laue_to_oxford, laue_to_tsl

FERRITE = ebsd.Phase(1, "Ferrite", "m-3m", (2.87, 2.87, 2.87, 90.0, 90.0, 90.0))
TITANIUM = ebsd.Phase(2, "Titanium", "6/mmm", (2.95, 2.95, 4.68, 90.0, 90.0, 120.0))


def make_map(
    grid: ebsd.Grid, *, phases: tuple[ebsd.Phase, ...] = (FERRITE, TITANIUM), seed: int = 0, holes: bool = True
) -> ebsd.EBSDMap:
    """Return a map of random orientations that every format can hold."""
    rng = np.random.default_rng(seed)
    size = grid.size
    ids = rng.choice([phase.id for phase in phases], size).astype(np.int16)
    if holes:
        ids[rng.random(size) < 0.1] = -1
    quaternions = rng.normal(size=(size, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    scalars: dict[str, Any] = {
        "ci": np.where(ids < 0, -1, np.round(rng.random(size), 3)),
        "iq": np.round(1000 * rng.random(size)),
        "fit": np.where(ids < 0, 180, np.round(rng.random(size), 3)),
        "band_contrast": rng.integers(0, 255, size),
        "band_slope": rng.integers(0, 255, size),
        "bands": rng.integers(0, 12, size),
        "mad": np.round(rng.random(size), 4),
    }
    return ebsd.EBSDMap(grid=grid, phases=phases, quaternions=quaternions, phase_id=ids, **scalars)


def hkl_euler(ebsd_map: ebsd.EBSDMap, *, degrees: bool) -> NDArray[np.float64]:
    """Return Euler angles with the crystal's x axis on a*, as Oxford Instruments have it."""
    euler = ebsd_map.euler(degrees=True)
    turned = [phase.id for phase in ebsd_map.phases if phase.laue in ("-3", "-3m", "6/m", "6/mmm")]
    euler[np.isin(ebsd_map.phase_id, turned), 2] += 30
    return euler if degrees else np.deg2rad(euler)


def write_crc(ebsd_map: ebsd.EBSDMap, path: Path) -> Path:
    grid = ebsd_map.grid
    record = np.dtype(
        [
            ("p", "u1"),
            ("e", "<f4", 3),
            ("mad", "<f4"),
            ("bc", "u1"),
            ("bs", "u1"),
            ("n", "u1"),
            ("x", "u1"),
            ("r", "<f4"),
        ]
    )
    values = np.zeros(grid.size, record)
    values["p"] = np.maximum(ebsd_map.phase_id, 0)
    values["e"] = hkl_euler(ebsd_map, degrees=False)
    values["mad"], values["bc"], values["bs"] = ebsd_map.mad, ebsd_map.band_contrast, ebsd_map.band_slope
    values["n"] = ebsd_map.bands
    path.with_suffix(".crc").write_bytes(values.tobytes())
    lines = ["[General]", "Version=5.0", "JobMode=RegularGrid", "[Job]"]
    lines += [f"GridDistX={grid.dx}", f"GridDistY={grid.dy}", f"xCells={grid.columns}", f"yCells={grid.rows}"]
    lines += ["[Fields]", "Count=9"]
    lines += [f"Field{number}={code}" for number, code in enumerate((3, 4, 5, 6, 7, 8, 10, 11, 12), start=1)]
    lines += ["[Phases]", f"Count={len(ebsd_map.phases)}"]
    for phase in ebsd_map.phases:
        lines += [f"[Phase{phase.id}]", f"StructureName={phase.name}", f"LaueGroup={laue_to_oxford(phase.laue)}"]
        lines += ["SpaceGroup="]
        keys = ("a", "b", "c", "alpha", "beta", "gamma")
        lines += [f"{key}={value}" for key, value in zip(keys, phase.lattice or (), strict=True)]
    path.with_suffix(".cpr").write_text("\n".join(lines) + "\n")
    return path.with_suffix(".cpr")


def write_edax(ebsd_map: ebsd.EBSDMap, path: Path, *, scans: tuple[str, ...] = ("Scan 1",)) -> Path:
    import h5py

    grid, indexed = ebsd_map.grid, ebsd_map.indexed
    euler = np.where(indexed[:, None], ebsd_map.euler(), 4 * np.pi).astype(np.float32)
    x, y = grid.coordinates()
    with h5py.File(path, "w") as file:
        file[" Manufacturer"] = np.array([b"EDAX"])
        for scan in scans:
            data, header = file.create_group(f"{scan}/EBSD/Data"), file.create_group(f"{scan}/EBSD/Header")
            for name, column in zip(("Phi1", "Phi", "Phi2"), euler.T, strict=True):
                data[name] = column
            data["CI"], data["IQ"], data["Fit"] = ebsd_map.ci, ebsd_map.iq, ebsd_map.fit
            data["Phase"] = np.where(indexed, ebsd_map.phase_id, 0 if len(ebsd_map.phases) > 1 else -1).astype(np.int8)
            data["X Position"], data["Y Position"] = x.astype(np.float32), y.astype(np.float32)
            header["Grid Type"] = np.array([b"SqrGrid" if grid.kind == "square" else b"HexGrid"])
            header["nColumns"], header["nRows"] = np.array([grid.columns], ">i4"), np.array([grid.rows], ">i4")
            header["Step X"], header["Step Y"] = np.array([grid.dx], ">f4"), np.array([grid.dy], ">f4")
            for phase in ebsd_map.phases:
                group = header.create_group(f"Phase/{phase.id}")
                group["MaterialName"] = np.array([phase.name.encode()])
                group["Symmetry"] = np.array([laue_to_tsl(phase.laue)], ">i4")
                for key, value in zip(("a", "b", "c", "alpha", "beta", "gamma"), phase.lattice or (), strict=True):
                    group[f"Lattice Constant {key}"] = np.array([value], ">f4")
    return path


def write_oxford(ebsd_map: ebsd.EBSDMap, path: Path, *, unit: str | None = "rad") -> Path:
    import h5py

    grid = ebsd_map.grid
    with h5py.File(path, "w") as file:
        file["Manufacturer"], file["Format Version"] = "Oxford Instruments", "5.0"
        data, header = file.create_group("1/EBSD/Data"), file.create_group("1/EBSD/Header")
        data["Euler"] = hkl_euler(ebsd_map, degrees=unit == "deg").astype(np.float32)
        if unit is not None:
            data["Euler"].attrs["Unit"] = unit
        data["Phase"] = np.maximum(ebsd_map.phase_id, 0).astype(np.uint8)
        data["Band Contrast"] = np.asarray(ebsd_map.band_contrast, np.uint8)
        data["Band Slope"] = np.asarray(ebsd_map.band_slope, np.uint8)
        data["Bands"] = np.asarray(ebsd_map.bands, np.uint8)
        data["Mean Angular Deviation"] = np.deg2rad(np.asarray(ebsd_map.mad))
        header["X Cells"], header["Y Cells"] = np.array([grid.columns], np.int32), np.array([grid.rows], np.int32)
        header["X Step"], header["Y Step"] = np.array([grid.dx], np.float32), np.array([grid.dy], np.float32)
        for phase in ebsd_map.phases:
            group = header.create_group(f"Phases/{phase.id}")
            group["Phase Name"] = phase.name
            group["Laue Group"] = np.array([laue_to_oxford(phase.laue)], np.int32)
            lattice = np.array(phase.lattice, np.float32)
            group["Lattice Dimensions"] = lattice[np.newaxis, :3]
            group["Lattice Angles"] = np.deg2rad(lattice[np.newaxis, 3:])
    return path


def write_bruker(ebsd_map: ebsd.EBSDMap, path: Path, *, order: NDArray[np.int64] | None = None) -> Path:
    import h5py

    grid = ebsd_map.grid
    order = np.arange(grid.size) if order is None else order
    row, column = grid.row_and_column()
    euler = ebsd_map.euler(degrees=True)
    with h5py.File(path, "w") as file:
        file["Manufacturer"] = "Bruker Nano"
        data, header = file.create_group("Map 1/EBSD/Data"), file.create_group("Map 1/EBSD/Header")
        for name, values in zip(("phi1", "PHI", "phi2"), euler.T, strict=True):
            data[name] = values[order].astype(np.float32)
        data["Phase"] = np.maximum(ebsd_map.phase_id, 0)[order].astype(np.int32)
        data["MAD"], data["NIndexedBands"] = np.asarray(ebsd_map.mad)[order], np.asarray(ebsd_map.bands)[order]
        sem = file.create_group("Map 1/EBSD/SEM")
        sem["IX"], sem["IY"] = 10 + 3 * column[order], 7 + 3 * row[order]
        header["NCOLS"], header["NROWS"], header["XSTEP"], header["YSTEP"] = grid.columns, grid.rows, grid.dx, grid.dy
        for phase in ebsd_map.phases:
            group = header.create_group(f"Phases/{phase.id}")
            group["Name"], group["IT"] = phase.name, {"m-3m": 229, "6/mmm": 194}[phase.laue]
            group["LatticeConstants"] = np.array(phase.lattice, np.float32)
    return path


def write_public(ebsd_map: ebsd.EBSDMap, path: Path) -> Path:
    return ebsd.write(ebsd_map, path)


SEEDS: dict[str, tuple[str, Callable[[ebsd.EBSDMap, Path], Path]]] = {
    "ang": (".ang", write_public),
    "ctf": (".ctf", write_public),
    "crc": (".cpr", write_crc),
    "edax": (".h5", write_edax),
    "oxford": (".h5oina", write_oxford),
    "bruker": (".h5", write_bruker),
}
