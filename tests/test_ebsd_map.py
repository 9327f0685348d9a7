"""The map, its grid, Laue groups and rotations."""

from __future__ import annotations

import pickle
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast import ebsd
from bainite_fast.ebsd.laue import TSL_SYMMETRY, laue_of_oxford, laue_to_oxford, laue_to_tsl
from bainite_fast.errors import BainiteError, BainiteWarning, InputError
from ebsd_files import FERRITE, TITANIUM, make_map

grids = st.builds(
    lambda hexagonal, rows, columns, less: (
        ebsd.Grid.hexagonal(rows, columns, dx=0.2, columns_even=columns - less)
        if hexagonal
        else ebsd.Grid.square(rows, columns, dx=0.2, dy=0.3)
    ),
    st.booleans(),
    st.integers(1, 9),
    st.integers(2, 9),
    st.integers(0, 1),
)


@given(grids)
def test_points_run_row_by_row_and_every_point_is_the_nearest_to_itself(grid: ebsd.Grid) -> None:
    x, y = grid.coordinates()
    row, column = grid.row_and_column()
    assert x.size == y.size == grid.size == grid.row_starts()[-1]
    assert (grid.row_starts()[row] + column == np.arange(grid.size)).all()
    assert (grid.nearest(x, y) == np.arange(grid.size)).all()
    assert x.max() == pytest.approx(grid.extent[0])
    assert y.max() == pytest.approx(grid.extent[1])
    if grid.kind == "hexagonal" and grid.rows > 1:
        second = int(grid.row_starts()[1])
        assert x[second] == pytest.approx(grid.dx / 2)


@given(grids, st.integers(0, 2**32 - 1))
def test_nearest_agrees_with_all_distances(grid: ebsd.Grid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = grid.coordinates()
    at = rng.uniform(0, 1, (2, 20)) * np.array(grid.extent)[:, None]
    distance = np.hypot(at[0][:, None] - x, at[1][:, None] - y)
    found = grid.nearest(at[0], at[1])
    assert np.allclose(distance[np.arange(20), found], distance.min(axis=1), atol=1e-9)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 0},
        {"columns": -3},
        {"columns_even": 7},
        {"dx": 0.0},
        {"dy": float("nan")},
        {"kind": "round"},
        {"dx": "0.1"},
        {"dy": True},
    ],
)
def test_an_impossible_grid_is_refused(change: dict[str, object]) -> None:
    fields = {"kind": "square", "rows": 3, "columns": 4, "columns_even": 4, "dx": 0.1, "dy": 0.1} | change
    with pytest.raises(InputError):
        ebsd.Grid(**fields)  # type: ignore[arg-type]


@given(st.lists(st.tuples(*[st.floats(-720, 720)] * 3), min_size=1, max_size=20))
def test_euler_angles_and_quaternions_are_inverse(angles: list[tuple[float, float, float]]) -> None:
    quaternions = ebsd.quaternions_from_euler(angles, degrees=True)
    assert (quaternions[:, 0] >= 0).all()
    back = ebsd.euler_from_quaternions(quaternions)
    assert (back >= 0).all() and (back[:, 1] <= np.pi).all() and (back[:, ::2] < 2 * np.pi).all()
    again = ebsd.quaternions_from_euler(back)
    assert np.abs((again * quaternions).sum(axis=1)) == pytest.approx(1, abs=1e-12)


def test_a_rotation_about_z_is_passive() -> None:
    # Rotating the crystal by +30° about z: a sample direction x has the crystal coordinates (cos 30°, -sin 30°, 0).
    w, x, y, z = ebsd.quaternions_from_euler([30.0, 0, 0], degrees=True)
    assert (x, y) == (0, 0)
    assert np.rad2deg(2 * np.arctan2(z, w)) == pytest.approx(-30)


def test_laue_groups_have_the_numbers_of_the_vendors() -> None:
    assert len(ebsd.LAUE_GROUPS) == 11
    for laue in ebsd.LAUE_GROUPS:
        assert ebsd.laue_from_tsl(laue_to_tsl(laue)) == laue
        assert ebsd.laue_from_oxford(laue_to_oxford(laue)) == laue
    for number, axis in ((2, "c"), (21, "a")):
        with pytest.warns(BainiteWarning, match=f"monoclinic with the unique axis {axis}.*are not right"):
            assert ebsd.laue_from_tsl(number) == "2/m"
    assert {TSL_SYMMETRY[number] for number in (43, 62, 32)} == {"m-3m", "6/mmm", "-3m"}
    first = {1: "-1", 3: "2/m", 16: "mmm", 75: "4/m", 89: "4/mmm", 143: "-3", 149: "-3m", 168: "6/m", 177: "6/mmm"}
    for call, value in ((ebsd.laue_from_space_group, 162), (ebsd.laue_from_point_group, "P [-3 1 m]")):
        with pytest.warns(BainiteWarning, match="-31m, whose twofold axes lie 30°"):
            assert call(value) == "-3m"
    with pytest.warns(BainiteWarning, match="space group 149"):
        assert laue_of_oxford(7, 149) == "-3m"
    assert (laue_of_oxford(7, 166), laue_of_oxford(0, 166), laue_of_oxford(11, 0)) == ("-3m", "-3m", "m-3m")
    for number, laue in (first | {195: "m-3", 207: "m-3m"}).items():
        with pytest.warns(BainiteWarning) if number == 149 else nullcontext():
            assert ebsd.laue_from_space_group(number) == laue
        assert number == 1 or ebsd.laue_from_space_group(number - 1) != laue
    assert ebsd.laue_from_point_group("Cubic (Oh) [m3m]") == "m-3m"
    for call in (ebsd.laue_from_tsl, ebsd.laue_from_oxford, ebsd.laue_from_space_group):
        with pytest.raises(InputError):
            call(999)


def test_a_map_is_immutable_checked_and_a_table() -> None:
    grid = ebsd.Grid.hexagonal(4, 5, dx=0.2)
    ebsd_map = make_map(grid)
    with pytest.raises(ValueError, match="read-only"):
        ebsd_map.quaternions[0] = 1
    with pytest.raises(AttributeError):
        ebsd_map.unit = "mm"  # type: ignore[misc]
    text = repr(ebsd_map)
    for word in ("hexagonal", "5/4 columns", "0.2 µm", "Ferrite", "6/mmm", "not indexed", "18 points"):
        assert word in text
    again = pickle.loads(pickle.dumps(ebsd_map))
    assert np.array_equal(again.quaternions, ebsd_map.quaternions)
    assert again.grid == grid
    assert ebsd_map.phase("Titanium") is ebsd_map.phase(2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"quaternions": np.ones((3, 4))}, "18 points"),
        ({"quaternions": np.zeros((18, 4))}, "no rotation"),
        ({"phase_id": np.full(18, 7)}, "phase id 7"),
        ({"phase_id": np.arange(18, dtype=np.int32) * 120_000_000}, "phase id 0"),
        ({"phase_id": np.where(np.arange(18) < 9, 1, 2_000_000_000).astype(np.int32)}, "phase id 2000000000"),
        ({"phase_id": np.where(np.arange(18) < 9, 1, -2_000_000_000).astype(np.int32)}, "phase id -2000000000"),
        ({"phase_id": np.ones(18)}, "float64"),
        ({"ci": np.zeros(4)}, "ci has shape"),
        ({"unit": "px"}, "unit"),
        ({"colour": 1}, "colour"),
        ({"phases": (FERRITE, FERRITE)}, "different"),
    ],
)
def test_what_does_not_fit_a_map_is_refused(change: dict[str, object], words: str) -> None:
    ebsd_map = make_map(ebsd.Grid.hexagonal(4, 5, dx=0.2), holes=False)
    with pytest.raises(BainiteError, match=words):
        ebsd_map.replace(**change)


@pytest.mark.parametrize("number", [-1, 2**15, 1.5, "1", None, True, float("nan")])
def test_a_phase_has_a_whole_number(number: object) -> None:
    with pytest.raises(InputError, match="phase id"):
        ebsd.Phase(number, "Ferrite")  # type: ignore[arg-type]


def test_a_part_of_a_map_is_given_in_whole_rows_and_columns() -> None:
    ebsd_map = make_map(ebsd.Grid.square(6, 6, dx=0.2))
    for rows in ((0, 2.5), (-1, 3), (True, 3)):
        with pytest.raises(InputError, match="rows="):
            ebsd_map.crop(rows, (0, 3))  # type: ignore[arg-type]
    for step in (0.0, -1.0, float("inf"), "1", True):
        with pytest.raises(InputError, match="step="):
            ebsd_map.to_square(step)  # type: ignore[arg-type]


def test_indexed_and_phase_id_agree() -> None:
    ebsd_map = make_map(ebsd.Grid.square(3, 4, dx=1.0), holes=False)
    masked = ebsd_map.replace(indexed=np.arange(12) > 3)
    assert (masked.phase_id[:4] == -1).all()
    assert (masked.phase_id[4:] == ebsd_map.phase_id[4:]).all()
    back = masked.replace(phase_id=ebsd_map.phase_id)
    assert back.indexed.all()
    scaled = ebsd_map.replace(quaternions=-3 * ebsd_map.quaternions)
    assert np.allclose(scaled.quaternions, ebsd_map.quaternions)


def test_a_hexagonal_map_on_a_square_grid_takes_its_nearest_points() -> None:
    ebsd_map = make_map(ebsd.Grid.hexagonal(20, 30, dx=0.2))
    square = ebsd_map.to_square(0.1)
    assert square.grid.kind == "square"
    x, y = square.grid.coordinates()
    hx, hy = ebsd_map.grid.coordinates()
    for point in range(0, square.size, 97):
        nearest = int(np.argmin(np.hypot(hx - x[point], hy - y[point])))
        distance = np.hypot(hx - x[point], hy - y[point])
        same = distance <= distance[nearest] + 1e-9
        assert square.ci is not None and ebsd_map.ci is not None
        assert square.ci[point] in ebsd_map.ci[same]
    with pytest.raises(InputError):
        ebsd_map.to_square(-1)


def test_crop_keeps_the_rows_of_a_hexagonal_map() -> None:
    ebsd_map = make_map(ebsd.Grid.hexagonal(8, 9, dx=0.2))
    part = ebsd_map.crop((2, 7), (3, 8))
    assert (part.grid.rows, part.grid.columns, part.grid.columns_even) == (5, 5, 4)
    x, y = ebsd_map.grid.coordinates()
    px, py = part.grid.coordinates()
    origin = ebsd_map.grid.row_starts()[2] + 3
    points = ebsd_map.grid.nearest(px + x[origin], py + y[origin])
    assert np.array_equal(part.quaternions, ebsd_map.quaternions[points])
    with pytest.raises(InputError, match="row 3"):
        ebsd_map.crop((3, 7), (0, 9))
    with pytest.raises(InputError):
        ebsd_map.crop((0, 9), (0, 9))


def test_orix_is_asked_for_by_name_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "orix.crystal_map", None)
    with pytest.raises(ImportError, match="pip install orix"):
        make_map(ebsd.Grid.square(2, 2, dx=1.0)).to_orix()


def test_the_bridge_to_orix_keeps_orientations() -> None:
    pytest.importorskip("orix", reason="orix (GPL) is not installed; it is only an oracle")
    ebsd_map = make_map(ebsd.Grid.square(4, 5, dx=0.5), phases=(FERRITE, TITANIUM))
    theirs = ebsd_map.to_orix()
    assert np.allclose(np.abs((theirs.rotations.data * ebsd_map.quaternions).sum(axis=1)), 1)
    assert (theirs.phase_id == ebsd_map.phase_id).all()
