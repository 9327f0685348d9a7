"""Writing EBSD maps: ``.ang``, ``.ctf`` and Zarr."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from io import BufferedWriter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .._disk import explain_os_errors
from ..errors import InputError, OutputExistsError
from .atomic import Replacement
from .columns import X_ALONG_A_STAR
from .fillers import ANG_COLUMNS, ANG_KEY, CTF_COLUMNS, CTF_KEY, ctf_text, filler_names
from .laue import laue_to_oxford, laue_to_tsl
from .map import EBSDMap
from .rotations import euler_from_quaternions

ROWS = 1 << 16
_CALIBRATION = ("x-star", "y-star", "z-star", "WorkingDistance")


def write(ebsd: EBSDMap, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Write an EBSD map in the format that the name's suffix stands for.

    Parameters
    ----------
    ebsd : EBSDMap
        The map.
    path : str or path-like
        ``.ang`` (TSL, EDAX: Euler angles to 1e-5 rad, positions to 1e-5 µm; CI, IQ, detector signal and fit), ``.ctf``
        (Oxford Instruments, square grids: Euler angles to 1e-4°, positions to 1e-5 µm; bands, MAD, band contrast and
        slope; phases are numbered 1, 2, … in their order) or ``.zarr`` (everything, exactly). What a format has no
        place for is left out, see :func:`left_out`. A column that the format demands and the map has no values for
        holds fillers; the header names it, and :func:`read`, which reads each format, leaves it out.
    overwrite : bool
        Replace what is there, once the new file is whole.

    Returns
    -------
    Path
        The file or folder.

    Raises
    ------
    InputError
        If the suffix is unknown, or the format cannot hold the map.
    OutputExistsError
        If the output exists and `overwrite` is False, or it is write-protected, or a folder that is no EBSD store.
    OutputError
        If it cannot be written.
    """
    if not isinstance(ebsd, EBSDMap):
        raise InputError(f"write() needs an EBSDMap; got {type(ebsd).__name__}")
    place = Path(path)
    suffix = place.suffix.lower()
    _spare_protected(place)
    if suffix == ".zarr":
        from .zarr_store import write_zarr

        write_zarr(ebsd, place, overwrite=overwrite)
        return place
    writers: dict[str, Callable[[EBSDMap, BufferedWriter], None]] = {".ang": _write_ang, ".ctf": _write_ctf}
    if suffix not in writers:
        raise InputError(f"{place.name}: the suffix {suffix!r} is unknown; write .ang, .ctf or .zarr")
    check_grid(ebsd, suffix)
    if place.is_dir():
        raise OutputExistsError(f"{place} is a folder, and is not replaced by a file; choose another name")
    replacement = Replacement(place, overwrite=overwrite)
    try:
        with explain_os_errors(place.parent, place.name):
            with replacement.partial.open("wb") as file:
                writers[suffix](ebsd, file)
            replacement.commit()
    except BaseException:
        replacement.discard()
        raise
    return place


def check_grid(ebsd: EBSDMap, suffix: str) -> None:
    """Refuse a format that has no place for the grid of a map.

    Raises
    ------
    InputError
        If it is ``.ctf``, and the grid hexagonal.
    """
    if suffix.lower() == ".ctf" and ebsd.grid.kind != "square":
        raise InputError("a .ctf file holds square grids only; write .ang or .zarr, or use .to_square() first")


_FIXED = ("ci", "fit")  # in an .ang file, of points that are not indexed
_HELD = {".ang": ("ci", "iq", "sem_signal", "fit"), ".ctf": ("bands", "mad", "band_contrast", "band_slope")}


def left_out(ebsd: EBSDMap, suffix: str) -> tuple[str, ...]:
    """Return what a map has and :func:`write` leaves out, because the format has no place for it.

    Parameters
    ----------
    ebsd : EBSDMap
        The map.
    suffix : str
        ".ang", ".ctf" or ".zarr", which has a place for everything.

    Returns
    -------
    tuple of str
        Names of properties, such as "ci" and "iq" for a ``.ctf`` file; NaN and infinity, in whose place 0 is written;
        and the phase ids, where they become others.
    """
    suffix = suffix.lower()
    if suffix not in _HELD:
        return ()
    lost = tuple(name for name in ebsd.properties if name not in _HELD[suffix])
    for name in sorted(ebsd.properties.keys() & set(_HELD[suffix])):
        without = ~np.isfinite(ebsd.properties[name])
        if name in _FIXED:
            without &= ebsd.indexed
        if without.any():
            lost += (f"what is no number, as {name} at {np.count_nonzero(without)} points (0 is written)",)
    ids = [phase.id for phase in ebsd.phases]
    if suffix == ".ctf" and ids != list(range(1, len(ids) + 1)):
        lost += (f"the phase ids {', '.join(map(str, ids))} (they are numbered 1, 2, …)",)
    return lost


def _spare_protected(place: Path) -> None:
    """Refuse to replace what somebody protected, whatever `overwrite` says: renaming over it would need no permission.

    Raises
    ------
    OutputExistsError
        If it exists and its owner may not write it.
    """
    if place.exists() and not place.stat().st_mode & stat.S_IWUSR:
        raise OutputExistsError(f"{place} exists and is write-protected; write to another file")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _chunks(size: int) -> Iterator[slice]:
    for start in range(0, size, ROWS):
        yield slice(start, min(start + ROWS, size))


def _column(values: NDArray[np.float32] | None, part: slice) -> NDArray[np.float64]:
    if values is None:
        return np.zeros(part.stop - part.start)
    return np.nan_to_num(values[part].astype(np.float64), posinf=0.0, neginf=0.0)


def _write_ang(ebsd: EBSDMap, file: BufferedWriter) -> None:
    grid = ebsd.grid
    single = len(ebsd.phases) == 1
    lines = ["# TEM_PIXperUM          1.000000"]
    kept = {key: _one_line(str(ebsd.metadata.get(key, "0.000000"))) for key in _CALIBRATION}
    lines += [*(f"# {key:<21} {value}" for key, value in kept.items()), "#"]
    for phase in ebsd.phases:
        lattice = phase.lattice or (0.0,) * 6
        lines += [
            f"# Phase {phase.id}",
            f"# MaterialName  \t{_one_line(phase.name)}",
            "# Formula     \t",
            "# Info \t",
            f"# Symmetry              {laue_to_tsl(phase.laue)}",
            f"# LatticeConstants      {' '.join(f'{value:.3f}' for value in lattice)}",
            "# NumberFamilies        0",
            "#",
        ]
    lines += [
        f"# GRID: {'SqrGrid' if grid.kind == 'square' else 'HexGrid'}",
        f"# XSTEP: {grid.dx:.8g}",
        f"# YSTEP: {grid.dy:.8g}",
        f"# NCOLS_ODD: {grid.columns}",
        f"# NCOLS_EVEN: {grid.columns_even}",
        f"# NROWS: {grid.rows}",
        "#",
        "# OPERATOR: \t",
        "#",
        "# SAMPLEID: \t",
        "#",
        "# SCANID: \t",
        "#",
    ]
    fillers = filler_names(ebsd.properties, ANG_COLUMNS)
    lines += [f"# {ANG_KEY}: {fillers}", "#"] if fillers else []
    file.write(("\n".join(lines) + "\n").encode())
    x, y = grid.coordinates()
    for part in _chunks(ebsd.size):
        indexed = ebsd.indexed[part]
        euler = np.where(indexed[:, np.newaxis], euler_from_quaternions(ebsd.quaternions[part]), 4 * np.pi)
        phase_id = ebsd.phase_id[part].astype(np.float64)
        written = np.where(indexed, 0.0 if single else phase_id, 0.0 if single else -1.0)
        # -1 says "not indexed", whatever the angles are.
        confidence = np.where(indexed, np.maximum(_column(ebsd.ci, part), 0.0), -1.0)
        rows = np.column_stack(
            [
                euler,
                x[part],
                y[part],
                _column(ebsd.iq, part),
                confidence,
                written,
                np.rint(_column(ebsd.sem_signal, part)),
                np.where(indexed, _column(ebsd.fit, part), 180.0),
            ]
        )
        # IQ runs to some 10⁵ in EDAX's files, and from 0 to 1 in others'.
        form = "%9.5f %9.5f %9.5f %12.5f %12.5f %.4f %6.3f %2d %6d %.3f\n"
        file.write("".join([form % tuple(row) for row in rows.tolist()]).encode())


def _write_ctf(ebsd: EBSDMap, file: BufferedWriter) -> None:
    grid = ebsd.grid
    number = np.zeros(2**15 + 1, np.int64)  # of each phase id; the last entry is for -1, not indexed
    number[[phase.id for phase in ebsd.phases]] = np.arange(1, len(ebsd.phases) + 1)
    lines = [
        "Channel Text File",
        f"Prj {_one_line(ebsd.source)}",
        f"{CTF_KEY}\t{ctf_text(filler_names(ebsd.properties, CTF_COLUMNS))}",
        "JobMode\tGrid",
        f"XCells\t{grid.columns}",
        f"YCells\t{grid.rows}",
        f"XStep\t{grid.dx:.8g}",
        f"YStep\t{grid.dy:.8g}",
        *(f"AcqE{number}\t{_one_line(str(ebsd.metadata.get(f'AcqE{number}', '0')))}" for number in (1, 2, 3)),
        "Euler angles refer to Sample Coordinate system (CS0)!\tMag\t0\tCoverage\t0\tDevice\t0\tKV\t0\tTiltAngle\t0"
        "\tTiltAxis\t0",
        f"Phases\t{len(ebsd.phases)}",
    ]
    for phase in ebsd.phases:
        lattice = [f"{value:.8g}" for value in phase.lattice or (0.0,) * 6]
        name = _one_line(phase.name)
        lines.append(f"{';'.join(lattice[:3])}\t{';'.join(lattice[3:])}\t{name}\t{laue_to_oxford(phase.laue)}\t0")
    lines.append("Phase\tX\tY\tBands\tError\tEuler1\tEuler2\tEuler3\tMAD\tBC\tBS")
    file.write(("\n".join(lines) + "\n").encode())
    turned = [phase.id for phase in ebsd.phases if phase.laue in X_ALONG_A_STAR]
    x, y = grid.coordinates()
    for part in _chunks(ebsd.size):
        indexed = ebsd.indexed[part]
        euler = euler_from_quaternions(ebsd.quaternions[part], degrees=True)
        euler[np.isin(ebsd.phase_id[part], turned), 2] += 30.0
        euler[:, 2] %= 360.0
        euler = np.where(indexed[:, np.newaxis], euler, 0.0)
        rows = np.column_stack(
            [
                number[ebsd.phase_id[part]],
                x[part],
                y[part],
                np.rint(_column(ebsd.bands, part)),
                np.where(indexed, 0, 3),
                euler,
                _column(ebsd.mad, part),
                np.rint(_column(ebsd.band_contrast, part)),
                np.rint(_column(ebsd.band_slope, part)),
            ]
        )
        # Oxford's own have four decimals of a µm: too few for steps of a few nm.
        form = "%d\t%.5f\t%.5f\t%d\t%d\t%.4f\t%.4f\t%.4f\t%.4f\t%d\t%d\n"
        file.write("".join([form % tuple(row) for row in rows.tolist()]).encode())
