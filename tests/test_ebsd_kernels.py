"""Disorientation, KAM, grains and boundaries, against the NumPy oracle and against what must not change them."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

import bainite_fast
from bainite_fast import _reference, ebsd, kernels
from bainite_fast.ebsd import Grid
from bainite_fast.ebsd._points import LARGEST_DISORIENTATION, grid_shape
from bainite_fast.errors import BainiteError, DeviceError, InputError
from bainite_fast.kernels import build_info
from bainite_fast.kernels import grains as sums
from bainite_fast.kernels._checks import core
from bainite_fast.kernels.orientations import FORWARD, LAUE_GROUPS, add_links, disorientation, neighbour_angles
from ebsd_helpers import random_map, random_quaternions, small_rotations
from property_helpers import examples

SEEDS = st.integers(0, 2**16)
GRIDS = st.one_of(
    st.builds(lambda rows, columns: Grid.square(rows, columns, dx=0.5), st.integers(1, 12), st.integers(1, 14)),
    st.builds(
        lambda rows, columns, less: Grid.hexagonal(rows, columns, dx=0.2, columns_even=columns - less),
        st.integers(1, 12),
        st.integers(2, 14),
        st.integers(0, 1),
    ),
)


@pytest.mark.parametrize("laue", LAUE_GROUPS)
@pytest.mark.parametrize("degrees", [1.0, 180.0])
def test_disorientation_is_the_least_of_all_copies(laue: str, degrees: float) -> None:
    rng = np.random.default_rng(LAUE_GROUPS.index(laue))
    q1 = random_quaternions(rng, 3000)
    turns = small_rotations(rng, 3000, degrees) if degrees < 10 else random_quaternions(rng, 3000)
    q2 = _reference.quaternion_product(turns, q1)
    expected = _reference.disorientation(q1, q2, laue)
    assert np.abs(disorientation(q1, q2, laue) - expected).max() < 1e-9
    narrow = disorientation(q1.astype(np.float32), q2.astype(np.float32), laue)
    assert narrow.dtype == np.float32
    assert np.abs(narrow - expected).max() < (
        1e-5 if degrees < 10 else 3e-5
    )  # near 180° the next float32 is 1.5e-5° off


@given(laue=st.sampled_from(LAUE_GROUPS), seed=SEEDS)
def test_disorientation_does_not_depend_on_how_orientations_are_written(laue: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q1, q2, turn = random_quaternions(rng, 50), random_quaternions(rng, 50), random_quaternions(rng, 1)
    operators = _reference.rotations_of(laue)
    expected = disorientation(q1, q2, laue)
    copies = [
        _reference.quaternion_product(operators[rng.integers(0, len(operators), 50)], q) * rng.choice([-1, 1], (50, 1))
        for q in (q1, q2)
    ]
    assert np.allclose(disorientation(*copies, laue), expected, rtol=0, atol=1e-9)
    turned = [_reference.quaternion_product(q, np.broadcast_to(turn, q.shape)) for q in (q1, q2)]
    assert np.allclose(disorientation(*turned, laue), expected, rtol=0, atol=1e-9)
    assert np.array_equal(disorientation(q2, q1, laue), expected)
    assert disorientation(q1, q1, laue).max() < 1e-9


def test_disorientation_broadcasts_and_marks_what_is_no_rotation() -> None:
    one = np.array([2.0, 0.0, 0.0, 0.0])  # any length
    many = np.array([[1.0, 0, 0, 0], [0.0, 0, 0, 0], [np.nan, 0, 0, 0], [1.0, 1.0, 0, 0]])
    angles = disorientation(many, one, "-1")
    assert np.allclose(angles[[0, 3]], [0.0, 90.0])
    assert np.isnan(angles[[1, 2]]).all()
    for first, second, laue, message in [
        (many[:, :3], one, "m-3m", "w, x, y, z"),
        (many, many[:3], "m-3m", "broadcast"),
        (many, one, "cubic", "6/mmm"),
    ]:
        with pytest.raises(InputError, match=message):
            disorientation(first, second, laue)


def orders_of(order: int, perimeter: bool) -> list[int]:
    return [order] if perimeter else list(range(1, order + 1))


@examples(60)
@given(
    grid=GRIDS,
    laue=st.lists(st.sampled_from(LAUE_GROUPS), min_size=1, max_size=3),
    order=st.integers(1, 10),
    perimeter=st.booleans(),
    max_angle=st.sampled_from([2.0, 5.0, 10.0, 11.0, 60.0, math.inf]),
    four=st.booleans(),
    seed=SEEDS,
)
def test_kam_is_that_of_the_oracle(
    grid: Grid, laue: list[str], order: int, perimeter: bool, max_angle: float, four: bool, seed: int
) -> None:
    scan = random_map(np.random.default_rng(seed), grid, laue=tuple(laue))
    neighbourhood: Any = "hexagonal" if grid.kind == "hexagonal" else (4 if four else 8)
    found = bainite_fast.kam(scan, order, perimeter=perimeter, max_angle=max_angle, neighbourhood=neighbourhood)

    def oracle(limit: float) -> NDArray[np.float64]:
        values = np.full(scan.size, np.nan)
        for phase in scan.phases:
            labels = np.where(scan.phase_id == phase.id, 0, -1)
            orders, shape = orders_of(order, perimeter), grid_shape(grid)
            of_phase = _reference.kam(
                scan.quaternions, labels, shape, neighbourhood, orders, max_angle=limit, laue=phase.laue
            )
            values = np.where(labels == 0, of_phase, values)
        return values

    expected = oracle(max_angle)
    # A pair may be nearer to the limit than angles are exact, and then be counted or not.
    assume(np.array_equal(oracle(max_angle - 1e-5), oracle(max_angle + 1e-5), equal_nan=True))
    assert found.shape == scan.shape
    assert np.array_equal(np.isnan(found.ravel()), np.isnan(expected))
    assert np.nanmax(np.abs(found.ravel() - expected), initial=0) < 1e-5
    assert found.convention == ebsd.KamConvention(order, perimeter, neighbourhood, max_angle, False)


@given(grid=GRIDS, order=st.integers(1, 4), seed=SEEDS)
def test_kam_within_grains(grid: Grid, order: int, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid, laue=("m-3m", "6/mmm"))
    found = ebsd.grains(scan)
    within = bainite_fast.kam(scan, order, max_angle=math.inf, grains=found)
    for phase in scan.phases:
        mine = scan.phase_id == phase.id
        labels = np.where(mine, found.point_ids, -1)
        neighbourhood = "hexagonal" if grid.kind == "hexagonal" else 8
        expected = _reference.kam(
            scan.quaternions,
            labels,
            grid_shape(grid),
            neighbourhood,
            orders_of(order, False),
            max_angle=math.inf,
            laue=phase.laue,
        )
        assert np.allclose(within.ravel()[mine], expected[mine], rtol=0, atol=1e-5, equal_nan=True)
    # Grains that reach over phases make no pairs between these.
    one = bainite_fast.kam(scan, order, grains=np.zeros(scan.shape, np.uint8))
    assert np.array_equal(one, bainite_fast.kam(scan, order), equal_nan=True)
    assert np.isnan(bainite_fast.kam(scan, order, grains=np.full(scan.shape, -1))).all()


@pytest.mark.parametrize("laue", LAUE_GROUPS)
def test_kam_of_a_single_crystal_is_zero(laue: str) -> None:
    rng = np.random.default_rng(4)
    scan = random_map(rng, Grid.hexagonal(9, 12, dx=1.0), laue=(laue,), spread=0.0, cells=1, missing=0.0)
    assert np.nanmax(bainite_fast.kam(scan, 3)) < 1e-5
    same = scan.replace(quaternions=np.broadcast_to(scan.quaternions[0], (scan.size, 4)))
    assert np.array_equal(bainite_fast.kam(same, 3), np.zeros(scan.size, np.float32))


@given(grid=GRIDS, order=st.integers(1, 4), seed=SEEDS)
def test_a_mirrored_map_has_mirrored_kam_and_grains(grid: Grid, order: int, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid)
    starts = grid.row_starts()
    index = np.arange(scan.size)
    if grid.kind == "hexagonal" and grid.columns == grid.columns_even:
        # Only the mirror from top to bottom leaves such a grid what it is, and only for an odd number of rows.
        if grid.rows % 2 == 0:
            return
        mirror = np.concatenate([index[starts[r] : starts[r + 1]] for r in reversed(range(grid.rows))])
    else:
        mirror = np.concatenate([index[starts[r] : starts[r + 1]][::-1] for r in range(grid.rows)])
    other = scan.replace(quaternions=scan.quaternions[mirror], phase_id=scan.phase_id[mirror])
    expected = bainite_fast.kam(scan, order).ravel()[mirror]
    assert np.allclose(bainite_fast.kam(other, order).ravel(), expected, rtol=0, atol=1e-5, equal_nan=True)
    first, second = ebsd.grains(scan), ebsd.grains(other)
    pairs = set(zip(first.point_ids[mirror].tolist(), second.point_ids.tolist(), strict=True))
    assert len(pairs - {(-1, -1)}) == len(first) == len(second)


@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=SEEDS, dtype=st.sampled_from([np.float32, np.float64]))
def test_bare_quaternions(rows: int, columns: int, seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    scan = random_map(rng, Grid.square(rows, columns, dx=1.0))
    bare = (scan.quaternions.reshape(rows, columns, 4) * rng.uniform(0.5, 2.0, (rows, columns, 1))).astype(dtype)
    bare[~scan.indexed.reshape(rows, columns)] = rng.choice([0.0, np.nan, np.inf])
    found = bainite_fast.kam(bare, 2, max_angle=math.inf)  # no limit: rounding to float32 moves pairs across one
    expected = bainite_fast.kam(scan, 2, max_angle=math.inf)
    assert np.allclose(found, expected, rtol=0, atol=1e-5 if dtype == np.float64 else 5e-5, equal_nan=True)
    # A part with a margin of as many points as the order has the same bits within.
    y, x = int(rng.integers(0, rows)), int(rng.integers(0, columns))
    y0, x0 = max(0, y - 2), max(0, x - 2)
    part = bainite_fast.kam(bare[y0 : y + 5, x0 : x + 5], 2, max_angle=math.inf)
    inside = (slice(y - y0, y - y0 + min(3, rows - y)), slice(x - x0, x - x0 + min(3, columns - x)))
    assert np.array_equal(part[inside], found[y : y + 3, x : x + 3], equal_nan=True)


def test_the_number_of_threads_changes_no_bit() -> None:
    scan = random_map(np.random.default_rng(1), Grid.square(400, 301, dx=1.0), cells=50)
    before = bainite_fast.kernels.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 5):
            bainite_fast.kernels.set_num_threads(threads)
            grains = ebsd.grains(scan)
            found.append([bainite_fast.kam(scan, 3), grains.ids, grains.grod, grains.gos, grains.gam("pairs")])
    finally:
        bainite_fast.kernels.set_num_threads(before)
    for other in found[1:]:
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found[0], other, strict=True))


def test_a_kam_map_keeps_its_convention() -> None:
    scan = random_map(np.random.default_rng(2), Grid.square(5, 6, dx=1.0))
    found = bainite_fast.kam(scan, 2, perimeter=True, neighbourhood=4, max_angle=3.0)
    assert str(found[1:].convention) == "order 2 alone, 4 neighbours, up to 3°"
    assert pickle.loads(pickle.dumps(found)).convention == found.convention
    assert type(found + 1) is np.ndarray
    assert isinstance(np.nanmean(found), np.floating)


@examples(60)
@given(grid=GRIDS, tolerance=st.sampled_from([1.0, 3.0, 5.0]), cells=st.integers(1, 6), seed=SEEDS)
def test_grains_are_those_of_the_oracle(grid: Grid, tolerance: float, cells: int, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid, cells=cells, missing=0.2)
    expected = _reference.grains(scan.quaternions, scan.phase_id, grid_shape(grid), tolerance)
    found = ebsd.grains(scan, tolerance)
    assert np.array_equal(found.ids.ravel(), expected)
    assert found.ids.shape == scan.shape
    assert np.array_equal(found.sizes, np.bincount(expected[expected >= 0], minlength=len(found)))
    assert np.allclose(found.area_um2, found.sizes * grid.dx * grid.dy)


@given(grid=GRIDS, laue=st.sampled_from(LAUE_GROUPS), seed=SEEDS)
def test_spread_of_grains(grid: Grid, laue: str, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid, laue=(laue,))
    found = ebsd.grains(scan)
    operators = _reference.rotations_of(laue)
    for grain in range(len(found)):
        points = np.flatnonzero(found.point_ids == grain)
        mean = scan.quaternions[points[0]]
        for _ in range(5):  # the definition, step by step
            copies = _reference.quaternion_product(operators, scan.quaternions[points][:, np.newaxis])
            nearest = np.abs(copies @ mean).argmax(axis=1)
            chosen = copies[np.arange(len(points)), nearest]
            mean = np.linalg.eigh(chosen.T @ chosen)[1][:, -1]
        expected = _reference.disorientation(scan.quaternions[points], mean, laue)
        assert np.allclose(found.grod.ravel()[points], expected, rtol=0, atol=1e-5)
        assert found.gos[grain] == pytest.approx(expected.mean(), abs=1e-5)
    assert np.isnan(found.grod.ravel()[~scan.indexed]).all()
    assert np.allclose(np.linalg.norm(found.mean_orientation, axis=1), 1.0)


def test_the_spread_of_a_grain_that_turns_beyond_90_degrees() -> None:
    half = np.radians(np.arange(60) * 4.0) / 2  # 236° in steps of 4°, about one axis
    turning = np.stack([np.cos(half), np.sin(half), 0 * half, 0 * half], axis=1)
    scan = ebsd.EBSDMap(
        grid=Grid.square(1, 60, dx=1.0),
        phases=(ebsd.Phase(1, "turning", "-1"),),
        quaternions=turning,
        phase_id=np.ones(60, np.int16),
        indexed=np.ones(60, np.bool_),
    )
    found = ebsd.grains(scan)
    assert len(found) == 1
    expected = _reference.disorientation(turning, np.broadcast_to(found.mean_orientation[0], turning.shape), "-1")
    assert expected.max() > 110
    assert np.allclose(found.grod.ravel(), expected, rtol=0, atol=1e-5)


@given(grid=GRIDS, seed=SEEDS)
def test_average_misorientation_of_grains(grid: Grid, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid, laue=("m-3m", "mmm"))
    found = ebsd.grains(scan)
    ids = found.point_ids
    table = _reference.neighbour_table(grid_shape(grid), "hexagonal" if grid.kind == "hexagonal" else 4, 1)
    for grain in range(len(found)):
        laue = scan.phase(int(found.phase_id[grain])).laue
        points = np.flatnonzero(ids == grain)
        pair = (table[points] >= 0) & (ids[table[points]] == grain)
        i, j = np.repeat(points, pair.sum(axis=1)), table[points][pair]
        measured = _reference.disorientation(scan.quaternions[i], scan.quaternions[j], laue)
        angles = dict(zip(zip(i.tolist(), j.tolist(), strict=True), measured.tolist(), strict=True))
        if not angles:
            assert np.isnan(found.gam("pairs")[grain])
            assert np.isnan(found.gam("kam")[grain])
            continue
        assert found.gam("pairs")[grain] == pytest.approx(np.mean(list(angles.values())), abs=1e-5)
        means = [np.mean([angle for (i, _), angle in angles.items() if i == point]) for point in points]
        assert found.gam("kam")[grain] == pytest.approx(np.nanmean(means), abs=1e-5)


@given(grid=GRIDS, seed=SEEDS)
def test_boundaries(grid: Grid, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid, laue=("m-3m", "m-3m"), cells=6)
    found = ebsd.boundaries(scan, low=2.0, high=15.0)
    table = _reference.neighbour_table(grid_shape(grid), "hexagonal" if grid.kind == "hexagonal" else 4, 1)
    i, j = np.repeat(np.arange(scan.size), table.shape[1]), table.ravel()
    pair = (j > i) & scan.indexed[i] & scan.indexed[j]
    i, j = i[pair], j[pair]
    angle = _reference.disorientation(scan.quaternions[i], scan.quaternions[j])
    kind = np.where(scan.phase_id[i] != scan.phase_id[j], 2, angle > 15.0)
    drawn = (kind == 2) | (angle >= 2.0)
    expected = dict(zip(zip(i[drawn].tolist(), j[drawn].tolist(), strict=True), kind[drawn].tolist(), strict=True))
    kinds = dict(zip(zip(found.i.tolist(), found.j.tolist(), strict=True), found.kind.tolist(), strict=True))
    assert kinds == expected
    x, y = grid.coordinates()
    middle = (found.ends[:, :2] + found.ends[:, 2:]) / 2
    assert np.allclose(middle[:, 0], (x[found.i] + x[found.j]) / 2)
    assert np.allclose(middle[:, 1], (y[found.i] + y[found.j]) / 2)
    across = np.stack([x[found.j] - x[found.i], y[found.j] - y[found.i]], axis=1)
    along = found.ends[:, 2:] - found.ends[:, :2]
    assert np.allclose((across * along).sum(axis=1), 0, atol=1e-12)
    assert np.allclose(found.length_um, grid.dx if grid.kind == "square" else grid.dx / math.sqrt(3))
    assert f"{len(found)} boundary segments" in repr(found)
    assert not (ebsd.boundaries(scan, phases=False).kind == 2).any()


@given(grid=GRIDS, seed=SEEDS)
def test_links_and_angles_that_lead_out_of_the_map_are_none(grid: Grid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    code = 0 if grid.kind == "hexagonal" else 1
    place: dict[str, Any] = {"grid": grid_shape(grid), "neighbourhood": code}
    labels = rng.integers(-1, 1, grid.size).astype(np.int16)
    ids, count = sums.label_grains(np.full(grid.size, 255, np.uint8), labels, **place)
    # All neighbours are linked: the components of what is labelled.
    same = np.tile([1.0, 0.0, 0.0, 0.0], (grid.size, 1))
    links = np.zeros(grid.size, np.uint8)
    add_links(same, labels, links, laue="m-3m", tolerance=5.0, **place)
    assert np.array_equal(ids, sums.label_grains(links, labels, **place)[0])
    found, pairs = np.zeros((4, count), np.int64).reshape(2, 2, count)
    sums.add_pairs(np.ones((grid.size, FORWARD[code]), np.float32), ids, sums=found[0], counts=found[1], **place)
    angles = np.empty((grid.size, FORWARD[code]), np.float32)
    neighbour_angles(same, labels, angles, laue="m-3m", **place)
    sums.add_pairs(angles + np.float32(1), ids, sums=pairs[0], counts=pairs[1], **place)
    assert np.array_equal(found, pairs)


@pytest.mark.parametrize("level", [-1, -(2**31)])
def test_noc_refuses_a_negative_level(level: int) -> None:
    place: dict[str, Any] = {"grid": (False, 1, 1, 1), "neighbourhood": 1, "tolerance": 5.0}
    with pytest.raises(InputError, match=f"level must be 0 or more; got {level}"):
        sums.noc_sources(
            np.ones((1, 4)), np.zeros(1, np.int16), np.zeros(1, np.uint8), laue_of_phase={}, level=level, **place
        )


def test_what_is_no_rotation_adds_nothing_to_the_moments() -> None:
    quaternions = np.array([[1.0, 0.0, 0.0, 0.0], [np.nan, 0.0, 0.0, 0.0], [np.inf, 0.0, 0.0, 0.0]])
    one = quaternions[:1]
    moments = np.zeros((1, 10), np.int64)
    ids, laue = np.zeros(3, np.int32), np.array([10], np.uint8)
    sums.add_moments(quaternions, ids, laue, reference=one, mean=one, moments=moments)
    assert moments.tolist() == [[2**31, *[0] * 9]]


def test_a_table_of_grains() -> None:
    scan = random_map(np.random.default_rng(3), Grid.square(30, 40, dx=0.5), laue=("m-3m", "6/mmm"))
    grains = ebsd.grains(scan, 5.0, 2)
    text = repr(grains)
    for phase in scan.phases:
        diameters = [2 * math.sqrt(area / math.pi) for area in grains.area_um2[grains.phase_id == phase.id]]
        line = next(line for line in text.splitlines() if str(phase) in line)
        assert float(line.split()[-1]) == pytest.approx(float(np.median(diameters)), rel=1e-3)
    assert "grains at 5°, of 2 or more points" in text
    assert "6/mmm" in text
    assert "median diameter µm" in text


def test_refusals() -> None:
    square = random_map(np.random.default_rng(5), Grid.square(4, 5, dx=1.0))
    hexagonal = random_map(np.random.default_rng(5), Grid.hexagonal(4, 5, dx=1.0))
    bare = square.quaternions.reshape(4, 5, 4)
    for call, message in [
        (lambda: bainite_fast.kam(square, 0), "1 to 10"),
        (lambda: bainite_fast.kam(square, 11), "1 to 10"),
        (lambda: bainite_fast.kam(square, 2.0), "1 to 10"),  # type: ignore[arg-type]
        (lambda: bainite_fast.kam(square, max_angle=0.0), "positive angle"),
        (lambda: bainite_fast.kam(square, max_angle=math.nan), "positive angle"),
        (lambda: bainite_fast.kam(square, neighbourhood="hexagonal"), "8 or 4"),
        (lambda: bainite_fast.kam(hexagonal, neighbourhood=8), "'hexagonal'"),
        (lambda: bainite_fast.kam(square, grains=np.zeros(7, int)), "20 points"),
        (lambda: bainite_fast.kam(square, grains=np.zeros(20)), "float64"),
        (lambda: bainite_fast.kam(square, grains=np.full(20, 2**40)), "32 bits"),
        (lambda: bainite_fast.kam(square, device="gpu"), "'cuda'"),
        (lambda: bainite_fast.kam(bare[..., :3]), "w, x, y, z"),
        (lambda: bainite_fast.kam(bare.astype(complex)), "complex"),
        (lambda: ebsd.grains(bare), "EBSDMap"),  # type: ignore[arg-type]
        (lambda: ebsd.grains(square, -1.0), "positive angle"),
        (lambda: ebsd.grains(square, math.inf), "positive angle"),
        (lambda: ebsd.grains(square, 5.0, 0), "at least 1"),
        (lambda: ebsd.grains(square).gam("mean"), "'pairs' or 'kam'"),  # type: ignore[arg-type]
        (lambda: ebsd.boundaries(square, low=20.0), "above"),
    ]:
        with pytest.raises(BainiteError, match=message):
            call()


@pytest.mark.skipif(build_info()["cuda"], reason="this build has CUDA")
def test_cuda_is_refused_where_there_is_none() -> None:
    with pytest.raises(DeviceError, match="no CUDA kernels"):
        bainite_fast.kam(np.ones((3, 3, 4)), device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(
    not build_info()["cuda"] or core.cuda_device_count() == 0, reason="needs a build with CUDA, and a GPU"
)
@examples(30)
@given(
    grid=GRIDS,
    laue=st.lists(st.sampled_from(LAUE_GROUPS), min_size=1, max_size=2),
    order=st.integers(1, 10),
    perimeter=st.booleans(),
    seed=SEEDS,
)
def test_cuda_has_the_values_of_the_cpu(grid: Grid, laue: list[str], order: int, perimeter: bool, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid, laue=tuple(laue))
    found = bainite_fast.kam(scan, order, perimeter=perimeter, device="cuda")
    expected = bainite_fast.kam(scan, order, perimeter=perimeter, device="cpu")
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.nanmax(np.abs(found - expected), initial=0) <= 1e-5


@pytest.mark.parametrize("neighbourhood", [8, 4])
def test_kam_of_bare_arrays(neighbourhood: int) -> None:
    rng = np.random.default_rng(4)
    quaternions = np.array([1, 0, 0, 0]) + 0.03 * rng.standard_normal((9, 11, 4))
    quaternions[2, 3] = np.nan
    grains = rng.integers(-1, 2, (9, 11), np.int32)
    options: dict[str, Any] = {"order": 2, "perimeter": True, "max_angle": 4.0}
    for ids in (None, grains):
        out = np.empty((9, 11), np.float32)
        found = kernels.kam(quaternions, out=out, neighbourhood=neighbourhood, grains=ids, **options)
        assert found is out
        expected = bainite_fast.kam(quaternions, neighbourhood=neighbourhood, grains=ids, **options)  # type: ignore[arg-type]
        assert np.array_equal(out, expected, equal_nan=True) and np.isfinite(out).any()
    good: dict[str, Any] = {"out": np.empty((9, 11), np.float32)}
    for changes, message in [
        ({"out": np.empty((9, 10), np.float32)}, r"out has shape \(9, 10\)"),
        ({"out": np.empty((9, 11))}, "float32"),
        ({"out": np.empty((9, 22), np.float32)[:, ::2]}, "out must be contiguous"),  # not written to a copy and lost
        ({"out": [[0.0]]}, r"out has shape \(\)"),
        ({"grains": grains.astype(np.int64)}, "int16 or int32"),
        ({"grains": grains[1:]}, "grains has shape"),
        ({"neighbourhood": 6}, "8 or 4"),
        ({"order": 11}, "1 to 10"),
        ({"max_angle": 0}, "positive angle"),
    ]:
        with pytest.raises(InputError, match=message):
            kernels.kam(quaternions, **(good | changes))
    for wrong in (quaternions[..., :3], quaternions.reshape(-1, 4), quaternions.tolist()):
        with pytest.raises(InputError, match="rows, columns, 4"):
            kernels.kam(wrong, **good)
    with pytest.raises(InputError, match="quaternions must be contiguous"):
        kernels.kam(np.repeat(quaternions, 2, axis=1)[:, ::2], **good)


@pytest.mark.parametrize("laue", LAUE_GROUPS)
def test_no_disorientation_is_larger_than_the_table_says(laue: str) -> None:
    rng = np.random.default_rng(3)
    angles = disorientation(random_quaternions(rng, 200_000), random_quaternions(rng, 200_000), laue)
    # Rare at the end: 200,000 draws come within 6°.
    assert LARGEST_DISORIENTATION[laue] - 6.0 < angles.max() <= LARGEST_DISORIENTATION[laue]


@pytest.mark.parametrize("angle", [0.0, -5.0, 180.1, 200.0, math.nan, -math.inf, True, "5"])
def test_an_angle_that_no_disorientation_has_is_refused(angle: Any) -> None:
    scan = random_map(np.random.default_rng(5), Grid.square(4, 5, dx=1.0))
    for call in (
        lambda: bainite_fast.kam(scan, max_angle=angle),
        lambda: ebsd.grains(scan, angle),
        lambda: ebsd.boundaries(scan, low=angle),
        lambda: ebsd.boundaries(scan, high=angle),
        lambda: ebsd.clean(scan, [("noc", angle, 1)]),
        lambda: ebsd.clean(scan, [("ci_standardisation", angle)]),
        lambda: ebsd.boundary_features(scan, ebsd.grains(scan), low_angle=angle),
        lambda: ebsd.MapOptions(max_angle=angle),
        lambda: ebsd.MapOptions(tolerance=angle),
        lambda: ebsd.MapOptions(low_angle=angle),
        lambda: ebsd.MapOptions(high_angle=angle),
    ):
        with pytest.raises(InputError, match="at most 180 degrees"):
            call()


def test_a_tolerance_at_which_a_phase_would_be_one_grain_is_refused() -> None:
    scan = random_map(np.random.default_rng(5), Grid.square(4, 5, dx=1.0))
    message = r"=63\.0 is refused: no two orientations of m-3m differ by more than 62\.80°"
    for call in (
        lambda: ebsd.grains(scan, 63.0),
        lambda: ebsd.clean(scan, [("noc", 63.0, 1)]),
        lambda: ebsd.clean(scan, [("ci_standardisation", 63.0)]),
    ):
        with pytest.raises(InputError, match=message):
            call()
    both = random_map(np.random.default_rng(5), Grid.square(4, 5, dx=1.0), laue=("m-3m", "6/mmm"))
    assert len(ebsd.grains(both, 63.0)) >= 1
    with pytest.raises(InputError, match=r"6/mmm, m-3m differ by more than 93\.84°"):
        ebsd.grains(both, 93.9)
    assert bainite_fast.kam(scan, max_angle=180.0).shape == bainite_fast.kam(scan, max_angle=math.inf).shape
