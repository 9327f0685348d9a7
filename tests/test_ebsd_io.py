"""Reading and writing EBSD files: layouts, traps, real files, and what is wrong with damaged ones."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bainite_fast import ebsd
from bainite_fast.ebsd.writing import left_out
from bainite_fast.errors import (
    BainiteWarning,
    EBSDFileError,
    EBSDNotFoundError,
    InputError,
    OutputExistsError,
)
from ebsd_files import FERRITE, SEEDS, TITANIUM, make_map, write_bruker, write_crc, write_edax, write_oxford

SQUARE = ebsd.Grid.square(7, 9, dx=0.25)
HEXAGONAL = ebsd.Grid.hexagonal(8, 6, dx=0.1)


def angles(one: ebsd.EBSDMap, other: ebsd.EBSDMap) -> np.ndarray:
    """Return the rotation between two maps at indexed points, in degrees, without symmetry."""
    dot = np.abs((one.quaternions * other.quaternions).sum(axis=1))[one.indexed]
    return np.asarray(np.rad2deg(2 * np.arccos(np.minimum(dot, 1))))


def assert_same(read: ebsd.EBSDMap, written: ebsd.EBSDMap, *, degrees: float) -> None:
    assert read.grid == written.grid
    assert read.phases == written.phases
    assert np.array_equal(read.phase_id, written.phase_id)
    assert angles(written, read).max() < degrees
    for name, values in read.properties.items():
        if getattr(written, name) is not None:
            assert np.allclose(values, getattr(written, name), atol=1e-3), name


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.parametrize("phases", [(FERRITE,), (FERRITE, TITANIUM)], ids=["one phase", "two phases"])
def test_every_format_is_read_as_it_was_written(tmp_path: Path, name: str, phases: tuple[ebsd.Phase, ...]) -> None:
    suffix, write = SEEDS[name]
    written = make_map(SQUARE, phases=phases)
    read = ebsd.read(write(written, tmp_path / f"map{suffix}"))
    assert_same(read, written, degrees=3e-3)
    assert read.properties


@pytest.mark.parametrize("name", ["ang", "edax"])
@pytest.mark.parametrize("less", [0, 1])
def test_hexagonal_maps_stay_hexagonal(tmp_path: Path, name: str, less: int) -> None:
    suffix, write = SEEDS[name]
    grid = ebsd.Grid.hexagonal(7, 6, dx=0.1, columns_even=6 - less)
    written = make_map(grid)
    assert_same(ebsd.read(write(written, tmp_path / f"map{suffix}")), written, degrees=3e-3)


def test_the_format_is_told_by_the_content(tmp_path: Path) -> None:
    written = make_map(SQUARE)
    for name, (suffix, write) in SEEDS.items():
        if name == "crc":
            continue
        path = write(written, tmp_path / f"{name}{suffix}")
        renamed = path.rename(tmp_path / f"{name}.dat")
        assert ebsd.read(renamed).phases == written.phases


def lines_of(tmp_path: Path, grid: ebsd.Grid = SQUARE, **changes: object) -> tuple[ebsd.EBSDMap, list[str], Path]:
    """Return a map, the lines of its .ang file, and where to write them changed."""
    ebsd_map = make_map(grid, **changes)  # type: ignore[arg-type]
    path = ebsd.write(ebsd_map, tmp_path / "map.ang")
    return ebsd_map, path.read_text().splitlines(), path


def test_an_ang_file_without_its_grid_lines(tmp_path: Path) -> None:
    for grid in (SQUARE, HEXAGONAL, ebsd.Grid.hexagonal(40, 12, dx=0.3, columns_even=12)):
        ebsd_map, lines, _ = lines_of(tmp_path, grid)
        kept = [line for line in lines if not line.startswith(("# GRID", "# XSTEP", "# YSTEP", "# NCOLS", "# NROWS"))]
        path = tmp_path / "bare.ang"
        path.write_text("\r\n".join(kept) + "\r\n")
        assert_same(ebsd.read(path), ebsd_map, degrees=3e-3)
        (tmp_path / "map.ang").unlink()


def test_an_ang_file_with_rows_out_of_order(tmp_path: Path) -> None:
    for grid in (SQUARE, HEXAGONAL):
        ebsd_map, lines, path = lines_of(tmp_path, grid)
        head = [line for line in lines if line.startswith("#")]
        rows = lines[len(head) :]
        np.random.default_rng(1).shuffle(rows)
        path.write_text("\n".join([*head, "", *rows, ""]))
        assert_same(ebsd.read(path), ebsd_map, degrees=3e-3)
        path.unlink()


def test_a_rounded_step_does_not_move_rows(tmp_path: Path) -> None:
    ebsd_map, lines, path = lines_of(tmp_path, ebsd.Grid.hexagonal(2000, 3, dx=0.1))
    path.write_text("\n".join("# YSTEP: 0.0866" if line.startswith("# YSTEP") else line for line in lines))
    read = ebsd.read(path)
    assert read.grid == ebsd_map.grid
    assert read.grid.dy == pytest.approx(0.1 * np.sqrt(3) / 2)


@pytest.mark.parametrize("columns", [8, 9, 10, 14, 15, 18])
def test_an_ang_file_may_have_8_columns_or_more(tmp_path: Path, columns: int) -> None:
    ebsd_map, lines, path = lines_of(tmp_path)
    wide = [
        line if line.startswith("#") else " ".join([*line.split(), *"12345678"][:columns])
        for line in lines
        if "FILLER_COLUMNS" not in line  # of the SEM signal: other programs' files have it
    ]
    path.write_text("\n".join(wide))
    read = ebsd.read(path)
    assert np.array_equal(read.phase_id, ebsd_map.phase_id)
    assert (read.sem_signal is not None) == (columns > 8)
    assert (read.fit is not None) == (columns > 9)


def test_what_an_ang_file_calls_not_indexed(tmp_path: Path) -> None:
    head = "# MaterialName Copper\n# Symmetry 43\n"
    four_pi = "12.56637 12.56637 12.56637"
    rows = [
        "1 1 1 0 0 9 0.5 0",
        f"{four_pi} 1 0 9 0.000 0",
        f"{four_pi} 2 0 9 -1 0",
        "1 1 1 3 0 9 0.5 -1",
        "1 1 1 4 0 9 0.0 0",
        "0 12.56637 12.56637 5 0 9 -1.000 0",
    ]
    path = tmp_path / "map.ang"
    path.write_text(head + "\n".join(rows) + "\n")
    read = ebsd.read(path)
    assert read.indexed.tolist() == [True, False, False, False, True, False]
    assert read.phase_id.tolist() == [1, -1, -1, -1, 1, -1]  # a single phase is written as phase 0


def test_a_header_that_names_another_grid_than_the_points_lie_on(tmp_path: Path) -> None:
    ebsd_map, lines, path = lines_of(tmp_path)
    path.write_text("\n".join(line.replace("SqrGrid", "HexGrid") for line in lines))
    with pytest.warns(BainiteWarning, match="square"):
        assert ebsd.read(path).grid == ebsd_map.grid


def test_no_phase_in_the_header_is_said(tmp_path: Path) -> None:
    ebsd_map, lines, path = lines_of(tmp_path)
    path.write_text("\n".join(line for line in lines if not line.startswith("#")))
    with pytest.warns(BainiteWarning, match="m-3m"):
        read = ebsd.read(path)
    assert read.grid == ebsd_map.grid
    assert np.array_equal(read.phase_id, ebsd_map.phase_id)


@pytest.mark.parametrize("announced", [None, (5, 4, 5), (5, 5, 4)])
def test_a_hexagonal_scan_whose_first_row_is_shifted_gets_an_empty_row_before_it(
    tmp_path: Path, announced: tuple[int, int, int] | None
) -> None:
    ebsd_map, lines, path = lines_of(tmp_path, ebsd.Grid.hexagonal(6, 5, dx=0.1))
    kept = [line for line in lines if not line.startswith(("# NROWS", "# NCOLS"))]
    rows = [line for line in kept if line.startswith("#") or float(line.split()[4]) > 0]
    keys = ("# NROWS", "# NCOLS_ODD", "# NCOLS_EVEN")
    head = [f"{key}: {count}" for key, count in zip(keys, announced or (), strict=announced is not None)]
    path.write_text("\n".join([*head, *rows]))
    read = ebsd.read(path)
    assert read.grid == ebsd_map.grid
    assert not read.indexed[:5].any()
    assert np.array_equal(read.phase_id[5:], ebsd_map.phase_id[5:])
    if announced:
        path.write_text("\n".join([*head, *rows[:-4]]))
        with pytest.raises(EBSDFileError, match="are missing"):
            ebsd.read(path)


def test_a_sparse_ctf_with_decimal_commas(tmp_path: Path) -> None:
    ebsd_map = make_map(ebsd.Grid.square(20, 30, dx=0.5))
    path = ebsd.write(ebsd_map, tmp_path / "map.ctf")
    lines = path.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("Phase\tX")) + 1
    keep = np.random.default_rng(0).random(600) < 0.4
    keep[-1] = True
    rows = [line for line, kept in zip(lines[start:], keep, strict=True) if kept]
    path.write_text("\n".join([*lines[:start], *rows, ""]).replace(".", ","))
    read = ebsd.read(path)
    assert read.grid == ebsd_map.grid
    assert np.array_equal(read.phase_id, np.where(keep, ebsd_map.phase_id, -1))
    assert angles(read, ebsd_map).max() < 1e-3


def test_a_sparse_ctf_without_points_in_its_first_rows_and_columns_stays_where_it_is(tmp_path: Path) -> None:
    ebsd_map = make_map(ebsd.Grid.square(8, 9, dx=0.5))
    path = ebsd.write(ebsd_map, tmp_path / "map.ctf")
    lines = path.read_text().splitlines()
    row, column = ebsd_map.grid.row_and_column()
    keep = (row >= 2) & (column >= 3) & (row != 5)
    rows = [line for line, kept in zip(lines[-72:], keep, strict=True) if kept]
    path.write_text("\n".join([*lines[:-72], *rows, ""]))
    read = ebsd.read(path)
    assert read.grid == ebsd_map.grid
    assert np.array_equal(read.phase_id, np.where(keep, ebsd_map.phase_id, -1))
    # Coordinates of a larger map that this one is a part of, whole, say nothing about empty rows.
    moved = [line.split("\t") for line in lines[-72:]]
    moved = [[*line[:1], str(float(line[1]) + 7), str(float(line[2]) + 3), *line[3:]] for line in moved]
    path.write_text("\n".join([*lines[:-72], *("\t".join(line) for line in moved), ""]))
    assert np.array_equal(ebsd.read(path).phase_id, ebsd_map.phase_id)


@pytest.mark.parametrize("grid", [SQUARE, HEXAGONAL], ids=["square", "hexagonal"])
@pytest.mark.parametrize("rows", [0, 1, 2, 3])
@pytest.mark.parametrize("um", [0.0, 0.03, 0.08, 0.14, 0.3])
def test_edax_points_above_and_at_the_left_that_were_not_measured_stay_empty(
    tmp_path: Path, grid: ebsd.Grid, rows: int, um: float
) -> None:
    h5py = pytest.importorskip("h5py")
    written = make_map(grid)
    path = write_edax(written, tmp_path / "map.h5")
    outside = (grid.row_and_column()[0] < rows) | (grid.coordinates()[0] < um)
    with h5py.File(path, "r+") as file:
        for axis in "XY":
            places = file[f"Scan 1/EBSD/Data/{axis} Position"]
            places[...] = np.where(outside, -1_111_111.0, places[...])
    read = ebsd.read(path)
    assert read.grid == grid
    assert np.array_equal(read.phase_id, np.where(outside, -1, written.phase_id))


@pytest.mark.parametrize("step", ["YStep\t0.5", "XStep\t0.5"])
def test_a_line_of_points_whose_header_knows_one_step_has_square_cells(tmp_path: Path, step: str) -> None:
    grid = ebsd.Grid.square(1, 6, dx=0.5) if step.startswith("Y") else ebsd.Grid.square(6, 1, dx=0.5)
    path = ebsd.write(make_map(grid), tmp_path / "map.ctf")
    text = path.read_text()
    path.write_text(text.replace(step, step.replace("0.5", "0")))
    assert ebsd.read(path).grid == grid
    path.write_text(text.replace(f"{step}\n", ""))
    assert ebsd.read(path).grid == grid


def test_a_row_of_a_hexagonal_scan_without_ystep_has_hexagonal_cells(tmp_path: Path) -> None:
    written = make_map(ebsd.Grid.hexagonal(1, 6, dx=0.5))
    path = ebsd.write(written, tmp_path / "map.ang")
    path.write_text(re.sub("YSTEP: .*", "YSTEP: 0.000000", path.read_text()))
    assert ebsd.read(path).grid == written.grid


@pytest.mark.parametrize("suffix", [".ang", ".ctf", ".zarr"])
def test_a_lattice_that_is_not_known_stays_so(tmp_path: Path, suffix: str) -> None:
    written = make_map(SQUARE, phases=(ebsd.Phase(1, "Ferrite"),))
    read = ebsd.read(ebsd.write(written, tmp_path / f"map{suffix}"))
    assert read.phases == written.phases
    assert "unknown" in repr(read)


@pytest.mark.parametrize("suffix", [".ang", ".ctf"])
@pytest.mark.parametrize("step", [1 / 3, 0.0866, 0.00123, 0.0005])
@pytest.mark.parametrize("columns", [2, 7, 300])
def test_steps_of_many_digits_are_those_of_the_header(tmp_path: Path, suffix: str, step: float, columns: int) -> None:
    grid = ebsd.Grid.square(3, columns, dx=step)
    read = ebsd.read(ebsd.write(make_map(grid), tmp_path / f"map{suffix}")).grid
    assert (read.rows, read.columns) == (3, columns)
    assert read.dx == pytest.approx(step, rel=1e-5)
    assert read.dy == pytest.approx(step, rel=1e-5)


@pytest.mark.parametrize("name", ["iq", "fit", "sem_signal", "mad", "band_contrast", "bands"])
def test_infinite_values_do_not_spoil_a_text_file(tmp_path: Path, name: str) -> None:
    written = make_map(SQUARE, holes=False)
    values = np.ones(SQUARE.size, np.float32)
    values[:3] = np.inf, -np.inf, np.nan
    suffix = ".ang" if name in ("iq", "fit", "sem_signal") else ".ctf"
    read = ebsd.read(ebsd.write(written.replace(**{name: values}), tmp_path / f"map{suffix}"))
    assert getattr(read, name).tolist() == [0.0] * 3 + [1.0] * (SQUARE.size - 3)


@pytest.mark.parametrize("grid", [SQUARE, ebsd.Grid.hexagonal(8, 6, dx=0.1, columns_even=6)])
def test_an_edax_scan_without_positions_is_square_or_refused(tmp_path: Path, grid: ebsd.Grid) -> None:
    h5py = pytest.importorskip("h5py")
    written = make_map(grid)
    path = write_edax(written, tmp_path / "map.h5")
    with h5py.File(path, "r+") as file:
        del file["Scan 1/EBSD/Data/X Position"], file["Scan 1/EBSD/Data/Y Position"]
    if grid.kind == "square":
        assert_same(ebsd.read(path), written, degrees=3e-3)
        return
    with pytest.raises(EBSDFileError, match="X Position and Y Position are missing, and a hexagonal scan"):
        ebsd.read(path)


@pytest.mark.parametrize("less", [0, 1])
def test_edax_rows_keep_their_length_where_their_ends_were_not_measured(tmp_path: Path, less: int) -> None:
    h5py = pytest.importorskip("h5py")
    grid = ebsd.Grid.hexagonal(7, 6, dx=0.1, columns_even=6 - less)
    written = make_map(grid)
    path = write_edax(written, tmp_path / "map.h5")
    outside = grid.coordinates()[0] > 0.45
    with h5py.File(path, "r+") as file:
        for axis in "XY":
            places = file[f"Scan 1/EBSD/Data/{axis} Position"]
            places[...] = np.where(outside, -1_111_111.0, places[...])
    read = ebsd.read(path)
    assert read.grid == grid
    assert np.array_equal(read.phase_id, np.where(outside, -1, written.phase_id))


def test_every_angle_of_an_oxford_file_is_in_its_own_unit(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    written = make_map(SQUARE)
    path = write_oxford(written, tmp_path / "map.h5oina", unit="deg")
    with h5py.File(path, "r+") as file:
        names = ["Data/Mean Angular Deviation", "Header/Phases/1/Lattice Angles", "Header/Phases/2/Lattice Angles"]
        for data in (file[f"1/EBSD/{name}"] for name in names):
            data[...] = np.rad2deg(data[...])
            data.attrs["Unit"] = "deg"
    assert_same(ebsd.read(path), written, degrees=3e-3)


def test_a_phase_between_two_is_refused(tmp_path: Path) -> None:
    path = ebsd.write(make_map(SQUARE), tmp_path / "map.ctf")
    lines = path.read_text().splitlines()
    lines[-5] = "-0.5" + lines[-5][1:]
    path.write_text("\n".join(lines))
    with pytest.raises(EBSDFileError, match=rf"map\.ctf, line {len(lines) - 4}: phase -0\.5"):
        ebsd.read(path)


def test_oxford_hexagonal_axes_are_turned_onto_ours(tmp_path: Path) -> None:
    # With x on a*, an a axis is at (cos 30°, -sin 30°, 0) of Oxford's crystal frame: the same crystal in both files.
    titanium = ebsd.Phase(1, "Titanium", "6/mmm", TITANIUM.lattice)
    ebsd_map = make_map(SQUARE, phases=(titanium,), holes=False)
    path = ebsd.write(ebsd_map, tmp_path / "map.ctf")
    rows = [line.split("\t") for line in path.read_text().splitlines()[-ebsd_map.size :]]
    in_file = ebsd.quaternions_from_euler([[float(word) for word in row[5:8]] for row in rows], degrees=True)

    def to_crystal(q: np.ndarray, v: np.ndarray) -> np.ndarray:
        w, u = q[:, :1], q[:, 1:]
        turned = np.cross(u, v)
        return np.asarray(v + 2 * w * turned + 2 * np.cross(u, turned))

    direction = np.tile([0.3, -0.5, 0.8], (ebsd_map.size, 1))
    ours, theirs = to_crystal(ebsd_map.quaternions, direction), to_crystal(in_file, direction)
    turn = np.array([[np.cos(np.pi / 12), 0, 0, np.sin(np.pi / 12)]])  # 30° about c
    assert np.allclose(to_crystal(turn, theirs), ours, atol=1e-4)
    a_axis = np.array([[np.cos(np.pi / 6), -np.sin(np.pi / 6), 0.0]])
    assert np.allclose(to_crystal(turn, a_axis), [[1, 0, 0]])


@pytest.mark.parametrize(
    "groups", ["LaueGroup=11\nSpaceGroup=0", "LaueGroup=0\nSpaceGroup=229", "LaueGroup=\nSpaceGroup=229"]
)
def test_a_crc_phase_needs_one_of_laue_group_and_space_group(tmp_path: Path, groups: str) -> None:
    written = make_map(SQUARE, phases=(FERRITE,))
    path = write_crc(written, tmp_path / "map.cpr")
    text = path.read_text()
    path.write_text(text.replace("LaueGroup=11\nSpaceGroup=", groups))
    assert ebsd.read(path).phases == written.phases
    path.write_text(text.replace("LaueGroup=11\nSpaceGroup=", "LaueGroup=0\nSpaceGroup=0"))
    with pytest.raises(EBSDFileError, match="LaueGroup: is missing, and so is SpaceGroup"):
        ebsd.read(path)


def test_crc_errors_name_the_line_of_the_header(tmp_path: Path) -> None:
    path = write_crc(make_map(SQUARE), tmp_path / "map.cpr")
    text = path.read_text()
    path.write_text(text.replace("xCells=9", "xCells=-9"))
    with pytest.raises(EBSDFileError, match=r"map\.cpr, line 7: \[Job\] xCells: '-9'"):
        ebsd.read(path)
    path.write_text(text.replace("xCells=9", "xCells=900000000"))
    with pytest.raises(EBSDFileError, match=r"map\.crc: 63 records"):
        ebsd.read(path)
    path.write_text(text)
    data = path.with_suffix(".crc")
    data.write_bytes(data.read_bytes()[:-3])
    with pytest.raises(EBSDFileError, match="truncated"):
        ebsd.read(data)
    data.unlink()
    with pytest.raises(EBSDNotFoundError, match="belong together"):
        ebsd.read(path)


def test_which_scan_of_several(tmp_path: Path) -> None:
    path = write_edax(make_map(SQUARE), tmp_path / "map.h5", scans=("Area A", "Area B"))
    with pytest.raises(EBSDFileError, match="'Area A', 'Area B'; choose one with scan="):
        ebsd.read(path)
    assert ebsd.read(path, scan="Area B").metadata["scan"] == "Area B"
    assert ebsd.read(path, scan=0).metadata["scan"] == "Area A"
    assert ebsd.read(path, scan="1").metadata["scan"] == "Area B"
    for scan in ("Area C", "2", 2, -1):
        with pytest.raises(EBSDFileError, match=f"no scan {scan!r}"):
            ebsd.read(path, scan=scan)
    named = write_edax(make_map(SQUARE), tmp_path / "named.h5", scans=("1", "2"))
    assert ebsd.read(named, scan="1").metadata["scan"] == "1"
    assert ebsd.read(named, scan=1).metadata["scan"] == "2"
    for suffix in (".ang", ".zarr"):
        with pytest.raises(EBSDFileError, match="scan= chooses"):
            ebsd.read(ebsd.write(make_map(SQUARE), tmp_path / f"plain{suffix}"), scan="1")


def test_a_data_set_that_cannot_be_in_its_file_is_not_read(tmp_path: Path) -> None:
    import h5py

    path = write_edax(make_map(SQUARE), tmp_path / "map.h5")
    with h5py.File(path, "r+") as file:
        data = file["Scan 1/EBSD/Data"]
        del data["Phi"]
        data.create_dataset("Phi", shape=(1 << 31,), dtype="<f4", chunks=(1 << 20,))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(EBSDFileError, match="Phi has shape .* 8589934592 bytes in a file of"):
        ebsd.read(path)
    # What compresses best of all is read.
    with h5py.File(path, "r+") as file:
        data = file["Scan 1/EBSD/Data"]
        del data["Phi"]
        data.create_dataset("Phi", data=np.zeros(1 << 22, "<f4"), chunks=(1 << 20,), compression=9, shuffle=True)
    with pytest.raises(EBSDFileError, match="Phi1 has shape"):
        ebsd.read(path)


def test_points_of_an_edax_file_without_a_position_are_not_indexed(tmp_path: Path) -> None:
    import h5py

    ebsd_map = make_map(SQUARE)
    path = write_edax(ebsd_map, tmp_path / "map.h5")
    with h5py.File(path, "r+") as file:
        for axis in "XY":
            file[f"Scan 1/EBSD/Data/{axis} Position"][5] = -1111111.0
    read = ebsd.read(path)
    assert read.grid == ebsd_map.grid
    assert read.phase_id[5] == -1
    assert np.array_equal(np.delete(read.phase_id, 5), np.delete(ebsd_map.phase_id, 5))


def test_an_oxford_file_in_degrees_or_without_a_unit(tmp_path: Path) -> None:
    ebsd_map = make_map(SQUARE)
    for unit in ("deg", None):
        assert_same(ebsd.read(write_oxford(ebsd_map, tmp_path / "map.h5oina", unit=unit)), ebsd_map, degrees=3e-3)


@pytest.mark.parametrize("write", [write_edax, write_oxford, write_bruker])
@pytest.mark.parametrize("wrong", [1.5, np.nan])
def test_a_phase_that_is_no_whole_number_is_refused(tmp_path: Path, write: Any, wrong: float) -> None:
    import h5py

    ebsd_map = make_map(SQUARE, holes=False)
    path = write(ebsd_map, tmp_path / "map.h5")
    with h5py.File(path, "r+") as file:
        data = next(item["EBSD/Data"] for item in file.values() if hasattr(item, "keys") and "EBSD/Data" in item)
        phase = data["Phase"][()].astype(np.float64)
        phase.flat[7] = wrong
        del data["Phase"]
        data["Phase"] = phase
    if np.isnan(wrong) and write is write_edax:
        assert ebsd.read(path).phase_id[7] == -1
        return
    with pytest.raises(EBSDFileError, match=r"point 7: phase (1\.5|nan) is not in the header"):
        ebsd.read(path)


@pytest.mark.parametrize(("write", "names"), [(write_oxford, "Y Cells × X Cells"), (write_bruker, "NROWS × NCOLS")])
def test_an_hdf5_scan_that_was_stopped_is_read_where_that_is_allowed(tmp_path: Path, write: Any, names: str) -> None:
    import h5py

    ebsd_map = make_map(SQUARE, holes=False)
    path, kept = write(ebsd_map, tmp_path / "map.h5"), SQUARE.size - 17
    whole = ebsd.read(path, allow_missing=True)
    assert_same(whole, ebsd_map, degrees=3e-3)

    def shorten(size: int) -> None:
        with h5py.File(path, "r+") as file:
            scan = next(item["EBSD"] for item in file.values() if hasattr(item, "keys") and "EBSD" in item)
            for group in (scan[name] for name in ("Data", "SEM") if name in scan):
                for name in list(group):
                    unit = dict(group[name].attrs)
                    values = group[name][()][:size]
                    del group[name]
                    group[name] = values
                    group[name].attrs.update(unit)

    shorten(kept)
    with pytest.raises(EBSDFileError, match=rf"{kept} points where {names} = .*allow_missing=True reads them"):
        ebsd.read(path)
    read = ebsd.read(path, allow_missing=True)
    assert read.grid == whole.grid
    np.testing.assert_array_equal(read.quaternions[:kept], whole.quaternions[:kept])
    np.testing.assert_array_equal(read.phase_id[:kept], whole.phase_id[:kept])
    assert (read.phase_id[kept:] == -1).all()
    assert read.mad is not None
    assert np.isnan(read.mad[kept:]).all()
    shorten(0)
    with pytest.raises(EBSDFileError):
        ebsd.read(path, allow_missing=True)


def test_an_oxford_file_with_more_points_than_cells_or_absurdly_few_is_refused(tmp_path: Path) -> None:
    import h5py

    path = write_oxford(make_map(SQUARE, holes=False), tmp_path / "map.h5oina")
    for rows, words in ((SQUARE.rows - 1, f"{SQUARE.size} points where"), (2**30, "too few for Y Cells × X Cells")):
        with h5py.File(path, "r+") as file:
            file["1/EBSD/Header/Y Cells"][...] = rows
        with pytest.raises(EBSDFileError, match=words) as caught:
            ebsd.read(path, allow_missing=True)
        assert "allow_missing" not in str(caught.value)


def test_a_bruker_file_in_the_order_of_acquisition(tmp_path: Path) -> None:
    ebsd_map = make_map(SQUARE)
    order = np.random.default_rng(2).permutation(SQUARE.size)
    assert_same(ebsd.read(write_bruker(ebsd_map, tmp_path / "map.h5", order=order)), ebsd_map, degrees=3e-3)


DAMAGE = {
    "a column is missing": (lambda rows: rows[20].rsplit(None, 1)[0], r"line \d+: 9 columns where 10 are needed"),
    "a word": (lambda rows: rows[20].replace(rows[20].split()[3], "abc"), r"line \d+: column 4: 'abc' is no number"),
    "NaN": (lambda rows: rows[20].replace(rows[20].split()[3], "nan"), r"line \d+: the x coordinate is nan"),
    "a huge coordinate": (lambda rows: rows[20].replace(rows[20].split()[4], "1e300"), r"line \d+: y = 1e\+300"),
    "degrees": (
        lambda rows: "90.0 45.0 10.0 " + " ".join([*rows[20].split()[3:6], "0.5 1 0 0"]),
        "no angles in radians",
    ),
    "a second point": (lambda rows: rows[19], r"line \d+: a second point"),
    "a strange phase": (lambda rows: " ".join([*rows[20].split()[:6], "0.5 1.5 0 0"]), r"line \d+: the phase is 1\.5"),
    "an unknown phase": (lambda rows: "1 1 1 " + " ".join([*rows[20].split()[3:6], "0.5 77 0 0"]), "phase 77"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_row_is_named_by_its_line(tmp_path: Path, name: str) -> None:
    _, lines, path = lines_of(tmp_path)
    head = [line for line in lines if line.startswith("#")]
    rows = lines[len(head) :]
    change, words = DAMAGE[name]
    rows[20] = change(rows)
    path.write_text("\n".join([*head, *rows]))
    with pytest.raises(EBSDFileError, match=words) as caught:
        ebsd.read(path)
    assert caught.value.file == "map.ang"
    assert caught.value.line == len(head) + 21


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("NROWS: 7", "NROWS: 99999999999", "NROWS"),
        ("NROWS: 7", "NROWS: -7", "NROWS: -7"),
        ("NROWS: 7", "NROWS: 70", "truncated"),
        ("NROWS: 7", "NROWS: 2147483648", "truncated|damaged"),
        ("NROWS: 7", "NROWS: 5", "7 rows of points where the header announces 5"),
        ("NCOLS_ODD: 9", "NCOLS_ODD: 8", "9 columns of points where the header announces 8"),
        ("XSTEP: 0.25", "XSTEP: -0.25", "XSTEP: -0.25"),
        ("XSTEP: 0.25", "XSTEP: 0.4", "lies on no column"),
        ("XSTEP: 0.25", "XSTEP: nan", "XSTEP"),
        ("SqrGrid", "RndGrid", "RndGrid"),
        ("Symmetry              43", "Symmetry 99", "symmetry number 99"),
        ("# Phase 2", "# Phase 1", "twice"),
    ],
)
def test_a_damaged_header_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    _, lines, path = lines_of(tmp_path)
    text = "\n".join(lines)
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(EBSDFileError, match=words) as caught:
        ebsd.read(path)
    assert "map.ang" in str(caught.value)


def test_a_truncated_file_is_read_on_request_only(tmp_path: Path) -> None:
    ebsd_map, lines, path = lines_of(tmp_path)
    path.write_text("\n".join(lines[:-13]))
    with pytest.raises(EBSDFileError, match="after 50 of 63 points: it is truncated"):
        ebsd.read(path)
    read = ebsd.read(path, allow_missing=True)
    assert read.grid == ebsd_map.grid
    assert np.array_equal(read.phase_id[:50], ebsd_map.phase_id[:50])
    assert (read.phase_id[50:] == -1).all()
    ctf = ebsd.write(ebsd_map, tmp_path / "map.ctf")
    ctf.write_text("\n".join(ctf.read_text().splitlines()[:-13]))
    with pytest.raises(EBSDFileError, match="truncated"):
        ebsd.read(ctf)
    assert (ebsd.read(ctf, allow_missing=True).phase_id[50:] == -1).all()


@pytest.mark.parametrize("suffix", [".ang", ".ctf"])
@pytest.mark.parametrize("cut", [r"(?s)(.*)\S+\s+\S+\s+\S+\s*$", r"(?s)(.*\s)\S+\s+\S+\s*$"])
def test_a_line_cut_in_the_middle_counts_as_missing_on_request(tmp_path: Path, suffix: str, cut: str) -> None:
    ebsd_map = make_map(SQUARE, holes=False)
    path = ebsd.write(ebsd_map, tmp_path / f"map{suffix}")
    lines = path.read_text().splitlines()
    kept = re.fullmatch(cut, lines[-13])
    assert kept
    path.write_text("\n".join([*lines[:-13], kept[1]]))
    with pytest.raises(EBSDFileError, match="allow_missing=True") as caught:
        ebsd.read(path)
    assert caught.value.line == len(lines) - 12
    read = ebsd.read(path, allow_missing=True)
    assert read.grid == ebsd_map.grid
    assert np.array_equal(read.phase_id[:50], ebsd_map.phase_id[:50])
    assert (read.phase_id[50:] == -1).all()
    head = "\n".join(lines[: len(lines) - 63])
    path.write_text(head + "\n" + " ".join(["0.1"] * 9) + (" x" if suffix == ".ang" else ""))
    with pytest.raises(EBSDFileError, match="row of numbers"):
        ebsd.read(path, allow_missing=True)
    # A short line that is not the last one is damage, and no cut.
    path.write_text("\n".join([*lines[:-13], kept[1], *lines[-12:]]) + "\n")
    with pytest.raises(EBSDFileError, match="columns where") as caught:
        ebsd.read(path, allow_missing=True)
    assert caught.value.line == len(lines) - 12


def test_a_record_cut_in_the_middle_counts_as_missing_on_request(tmp_path: Path) -> None:
    ebsd_map = make_map(SQUARE, holes=False)
    path = write_crc(ebsd_map, tmp_path / "map.cpr")
    data = path.with_suffix(".crc")
    data.write_bytes(data.read_bytes()[:-5])
    with pytest.raises(EBSDFileError, match="allow_missing=True"):
        ebsd.read(path)
    read = ebsd.read(path, allow_missing=True)
    assert np.array_equal(read.phase_id[:-1], ebsd_map.phase_id[:-1])
    assert read.phase_id[-1] == -1
    data.write_bytes(data.read_bytes()[:5])
    with pytest.raises(EBSDFileError, match="no whole record"):
        ebsd.read(path, allow_missing=True)


def test_a_cpr_file_of_another_name_is_told_by_its_content(tmp_path: Path) -> None:
    path = write_crc(make_map(SQUARE), tmp_path / "map.cpr")
    renamed = path.rename(tmp_path / "map.txt")
    assert ebsd.read(renamed).grid == SQUARE


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-16-be"])
def test_a_wrong_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    for suffix in (".ang", ".ctf"):
        path = ebsd.write(make_map(SQUARE), tmp_path / f"map{suffix}", overwrite=True)
        path.write_bytes(path.read_text().encode(encoding))
        with pytest.raises(EBSDFileError, match="UTF-16"):
            ebsd.read(path)


def test_what_is_no_ebsd_file(tmp_path: Path) -> None:
    with pytest.raises(EBSDNotFoundError):
        ebsd.read(tmp_path / "nothing.ang")
    (tmp_path / "empty.ang").touch()
    (tmp_path / "text.txt").write_text("Dear diary,\n")
    (tmp_path / "noise.bin").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "head.ang").write_text("# only a header\n" * 5)
    (tmp_path / "hdf.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 500)
    (tmp_path / "folder").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(EBSDFileError) as caught:
            ebsd.read(path)
        assert path.name in str(caught.value)


def test_zarr_keeps_everything_and_is_read_in_bands(tmp_path: Path) -> None:
    for grid in (SQUARE, HEXAGONAL):
        ebsd_map = make_map(grid)
        path = ebsd.write(ebsd_map, tmp_path / "map.zarr", overwrite=True)
        read = ebsd.read(path)
        assert_same(read, ebsd_map, degrees=1e-5)
        assert np.array_equal(read.quaternions, ebsd_map.quaternions)
        stored = ebsd.StoredMap(path)
        bands = list(stored.bands(3))
        assert len(bands) > 1
        assert np.array_equal(np.concatenate([band.quaternions for band in bands]), ebsd_map.quaternions)
        again = tmp_path / "again.zarr"
        with ebsd.ZarrWriter(again, grid, stored.phases, properties=stored.properties, overwrite=True) as writer:
            for band in bands:
                writer.append(band)
        assert_same(ebsd.read(again), ebsd_map, degrees=1e-5)


def test_a_store_that_is_not_whole_never_appears(tmp_path: Path) -> None:
    ebsd_map = make_map(SQUARE)
    with (
        pytest.raises(InputError, match="27 of the 63"),
        ebsd.ZarrWriter(tmp_path / "map.zarr", SQUARE, ebsd_map.phases) as writer,
    ):
        writer.append(ebsd_map.crop((0, 3), (0, 9)))
    with (
        pytest.raises(ZeroDivisionError),
        ebsd.ZarrWriter(tmp_path / "map.zarr", SQUARE, ebsd_map.phases) as writer,
    ):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_what_a_format_leaves_out_is_known(tmp_path: Path) -> None:
    full = make_map(SQUARE)
    assert left_out(full, ".ang") == ("band_contrast", "band_slope", "bands", "mad")
    assert left_out(full, ".CTF") == ("ci", "iq", "fit")
    assert left_out(full, ".zarr") == ()
    for suffix in (".ang", ".ctf"):
        read = ebsd.read(ebsd.write(full, tmp_path / f"map{suffix}"))
        assert set(full.properties) - set(read.properties) == set(left_out(full, suffix))


def test_a_ctf_file_numbers_phases_anew_and_a_normalised_iq_survives_an_ang_file(tmp_path: Path) -> None:
    phases = (ebsd.Phase(7, "Ferrite"), ebsd.Phase(0, "Austenite"))
    full = make_map(SQUARE, phases=phases)
    assert left_out(full, ".ctf")[-1] == "the phase ids 7, 0 (they are numbered 1, 2, …)"
    read = ebsd.read(ebsd.write(full, tmp_path / "map.ctf"))
    assert [(phase.id, phase.name) for phase in read.phases] == [(1, "Ferrite"), (2, "Austenite")]
    assert np.array_equal(read.phase_id, np.select([full.phase_id == 7, full.phase_id == 0], [1, 2], -1))
    assert full.iq is not None
    small = ebsd.read(ebsd.write(full.replace(iq=full.iq / 1000), tmp_path / "map.ang"))
    assert small.iq == pytest.approx(full.iq / 1000, abs=1e-4)


def test_what_exists_is_replaced_on_request_only(tmp_path: Path) -> None:
    one, other = make_map(SQUARE), make_map(HEXAGONAL)
    for suffix in (".ang", ".zarr"):
        path = ebsd.write(one, tmp_path / f"map{suffix}")
        with pytest.raises(OutputExistsError):
            ebsd.write(other, path)
        assert ebsd.read(path).grid == SQUARE
        ebsd.write(other, path, overwrite=True)
        assert ebsd.read(path).grid == HEXAGONAL
    assert {item.name for item in tmp_path.iterdir()} == {"map.ang", "map.zarr"}
    (tmp_path / "map.zarr" / "kam.png").touch()
    with pytest.raises(OutputExistsError, match=r"also holds kam.png, which is no part of it"):
        ebsd.write(one, tmp_path / "map.zarr", overwrite=True)
    assert (tmp_path / "map.zarr" / "kam.png").exists()
    (tmp_path / "folder.ang").mkdir()
    (tmp_path / "folder.zarr").mkdir()
    for suffix in (".ang", ".zarr"):
        with pytest.raises(OutputExistsError, match="is not replaced"):
            ebsd.write(other, tmp_path / f"folder{suffix}", overwrite=True)
    with pytest.raises(InputError, match="needs an EBSDMap"):
        ebsd.write(ebsd.grains(other), tmp_path / "grains.ang")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="square grids only"):
        ebsd.write(other, tmp_path / "map.ctf")
    with pytest.raises(InputError, match="suffix"):
        ebsd.write(other, tmp_path / "map.osc")


DATA = os.environ.get("BAINITE_FAST_DATA")
real_data = pytest.mark.skipif(DATA is None, reason="BAINITE_FAST_DATA is not set: no real EBSD files here")

REAL = {
    # file: kind, rows, columns, columns_even, dx, points, not indexed
    "ebsd/copper_hex.ang": ("hexagonal", 231, 104, 103, 0.2, 23_909, 2_945),
    "ebsd/copper_square.cpr": ("square", 296, 293, 293, 2.0, 86_728, 48),
    "ebsd/copper_square.crc": ("square", 296, 293, 293, 2.0, 86_728, 48),
    "ebsd/edax_ang_only.h5": ("square", 151, 186, 186, 1.5, 28_086, 0),
    "ebsd/hex_header_only.ang": ("square", 4, 40, 40, 0.25, 160, 160),
    "ebsd/mea_60cr.ctf": ("square", 375, 500, 500, 0.96, 187_500, 187_500 - 61_735),
    "ebsd/ni_out_of_order.ang": ("square", 201, 189, 189, 0.25, 37_989, 6_926),
    "ebsd/sdss_ferrite_austenite.ang": ("square", 100, 117, 117, 1.5, 11_700, 0),
    "defdap_ebsd_dic/testDataEBSD.cpr": ("square", 243, 359, 359, 0.12, 87_237, 0),
}


@real_data
@pytest.mark.filterwarnings("ignore:the header announces a hexagonal grid:bainite_fast.errors.BainiteWarning")
@pytest.mark.parametrize("name", REAL)
def test_real_files(name: str) -> None:
    ebsd_map = ebsd.read(Path(str(DATA)) / name)
    grid = ebsd_map.grid
    kind, rows, columns, even, dx, points, missing = REAL[name]
    assert (grid.kind, grid.rows, grid.columns, grid.columns_even) == (kind, rows, columns, even)
    assert grid.dx == pytest.approx(dx, rel=1e-9)
    assert ebsd_map.size == points
    assert int((~ebsd_map.indexed).sum()) == missing
    assert all(phase.laue == "m-3m" and phase.lattice for phase in ebsd_map.phases)


@real_data
@pytest.mark.parametrize(("name", "key"), [("copper_hex", "Cu_hex"), ("sdss_ferrite_austenite", "SDSS_sqr")])
def test_orientations_and_masks_are_those_of_the_reference(name: str, key: str) -> None:
    folder = Path(str(DATA)) / "ebsd"
    ebsd_map = ebsd.read(folder / f"{name}.ang")
    reference = folder / "reference"
    assert np.abs(ebsd_map.quaternions - np.load(reference / f"{key}__quat.npy")).max() < 1e-12
    indexed = np.load(reference / f"{key}__indexed.npy")
    assert np.array_equal(ebsd_map.indexed, indexed)
    if len(ebsd_map.phases) > 1:
        assert np.array_equal(ebsd_map.phase_id[indexed], np.load(reference / f"{key}__phase.npy")[indexed])


@real_data
def test_rows_of_a_real_file_out_of_order_are_put_in_order() -> None:
    path = Path(str(DATA)) / "ebsd/ni_out_of_order.ang"
    ebsd_map = ebsd.read(path)
    rows = [line.split() for line in path.read_text().splitlines() if not line.startswith("#")]
    for row in rows[:: len(rows) // 50]:
        point = round(float(row[4]) / 0.25) * 189 + round(float(row[3]) / 0.25)
        assert ebsd_map.iq is not None and ebsd_map.iq[point] == pytest.approx(float(row[5]))
        if ebsd_map.indexed[point]:
            expected = ebsd.quaternions_from_euler([float(word) for word in row[:3]])
            assert np.allclose(ebsd_map.quaternions[point], expected)


def test_single_values_that_a_format_cannot_hold_are_told_of() -> None:
    full = make_map(ebsd.Grid.square(3, 4, dx=0.5))
    values = np.where(np.arange(12) < 2, np.nan, 1).astype(np.float32)
    indexed = np.arange(12) != 0
    scan = full.replace(ci=values, iq=values, band_contrast=values, phase_id=np.where(indexed, full.phase_id, -1))
    assert left_out(scan, ".ctf")[-1] == "what is no number, as band_contrast at 2 points (0 is written)"
    lost = left_out(scan, ".ang")
    assert "what is no number, as ci at 1 points (0 is written)" in lost  # of points that are not indexed it is -1
    assert "what is no number, as iq at 2 points (0 is written)" in lost
    assert left_out(scan, ".zarr") == ()
