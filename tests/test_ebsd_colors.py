"""Colours: inverse pole figures at their corners and under symmetry, and grains that differ from their neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from bainite_fast.ebsd import Grid
from bainite_fast.ebsd._quaternions import from_rotation_vector, multiply, symmetry_operators
from bainite_fast.ebsd.coloring import adjacent_grains, grain_colors
from bainite_fast.ebsd.ipf import direction_colors, ipf_colors, triangle_key
from bainite_fast.errors import InputError
from property_helpers import examples


@pytest.mark.parametrize(
    ("direction", "color"),
    [((0, 0, 1), (255, 0, 0)), ((1, 0, 1), (0, 255, 0)), ((1, 1, 1), (0, 0, 255)), ((0, -2, 0), (255, 0, 0))],
)
def test_the_corners_of_the_triangle(direction: tuple[int, ...], color: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(direction_colors(direction), color)


def test_an_unrotated_crystal_is_red_along_all_axes_and_a_turned_one_green() -> None:
    whole = np.array([1.0, 0, 0, 0])
    for axis in ("x", "y", "z"):
        np.testing.assert_array_equal(ipf_colors(whole, axis), (255, 0, 0))
    # 45° about the sample's x: x stays ⟨001⟩, y and z become ⟨101⟩.
    turned = from_rotation_vector(np.radians([45.0, 0, 0]))
    np.testing.assert_array_equal(ipf_colors(turned, "x"), (255, 0, 0))
    np.testing.assert_array_equal(ipf_colors(turned, "y"), (0, 255, 0))
    np.testing.assert_array_equal(ipf_colors(turned, "z"), (0, 255, 0))


def test_orientation_takes_the_sample_to_the_crystal() -> None:
    """A Bunge orientation of φ1 = 30°, Φ = 54.74°, φ2 = 45° has ⟨111⟩ along z, whatever φ1."""
    from bainite_fast.ebsd import quaternions_from_euler

    for phi1 in (0.0, 30.0, 211.0):
        q = quaternions_from_euler([phi1, np.degrees(np.arccos(1 / np.sqrt(3))), 45.0], degrees=True)
        np.testing.assert_array_equal(ipf_colors(q, "z"), (0, 0, 255))
    # The inverse would show ⟨111⟩ along z for φ1 = 45° instead, and not depend on φ2.
    q = quaternions_from_euler([45.0, np.degrees(np.arccos(1 / np.sqrt(3))), 10.0], degrees=True)
    assert ipf_colors(q, "z")[2] < 255


@given(st.integers(0, 2**31), st.integers(0, 23))
def test_symmetry_does_not_change_a_colour(seed: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(20, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    same = multiply(symmetry_operators("m-3m")[number], q)
    difference = ipf_colors(q, "y").astype(int) - ipf_colors(same, "y")
    assert np.abs(difference).max() <= 1  # rounding of the last digit
    # Nor does the other sign of a quaternion, or of the axis.
    np.testing.assert_array_equal(ipf_colors(-q, "y"), ipf_colors(q, [0, -2, 0]))


def test_the_key_has_its_corners_where_they_belong() -> None:
    picture, corners = triangle_key(400)
    opaque = picture[..., 3] == 255
    for name, color in (("001", (255, 0, 0)), ("101", (0, 255, 0)), ("111", (0, 0, 255))):
        x, y = corners[name]
        row, column = np.nonzero(opaque)
        nearest = np.argmin((row - y) ** 2 + (column - x) ** 2)
        found = picture[row[nearest], column[nearest], :3].astype(int)
        assert np.abs(found - color).max() < 20
    assert 0.4 < opaque.mean() < 0.8


@pytest.mark.parametrize("axis", ["w", (0, 0, 0), (1, 2), (np.nan, 0, 1)])
def test_a_wrong_axis_is_refused(axis: object) -> None:
    with pytest.raises(InputError, match="axis="):
        ipf_colors(np.array([1.0, 0, 0, 0]), axis)  # type: ignore[arg-type]


@examples(80)
@given(
    rows=st.integers(1, 25),
    columns=st.integers(2, 25),
    hexagonal=st.booleans(),
    kind=st.sampled_from(["random", "voronoi", "single"]),
    seed=st.integers(0, 2**31),
)
def test_neighbouring_grains_always_differ(rows: int, columns: int, hexagonal: bool, kind: str, seed: int) -> None:
    grid = Grid.hexagonal(rows, columns, dx=1.0) if hexagonal else Grid.square(rows, columns, dx=1.0)
    rng = np.random.default_rng(seed)
    x, y = grid.coordinates()
    if kind == "random":  # grains in pieces: not planar at all
        ids = rng.integers(-1, 40, grid.size)
    elif kind == "voronoi":
        seeds = rng.uniform(0, 25, (30, 2))
        ids = cKDTree(seeds).query(np.stack([x, y], axis=1))[1]
    else:
        ids = np.arange(grid.size)
    colors = grain_colors(ids, grid, seed=seed)
    assert colors.shape == (ids.max() + 1, 3)
    # Neighbours by distance, independently of the stencil: 6 hexagonal, 8 square.
    near = cKDTree(np.stack([x, y], axis=1)).query_pairs(1.01 if hexagonal else 1.5, output_type="ndarray")
    a, b = ids[near[:, 0]], ids[near[:, 1]]
    border = (a != b) & (a >= 0) & (b >= 0)
    assert (colors[a[border]] != colors[b[border]]).any(axis=1).all()
    touching = {tuple(sorted(pair)) for pair in zip(a[border].tolist(), b[border].tolist(), strict=True)}
    assert touching == {tuple(pair) for pair in adjacent_grains(ids, grid).tolist()}


def test_grains_of_any_numbers_touch() -> None:
    ids = np.array([[2**62, -5, 3], [-1, 7, 2**40]])
    assert adjacent_grains(ids, Grid.square(2, 3, dx=1.0)).tolist() == [[3, 7], [3, 2**40], [7, 2**40], [7, 2**62]]


def test_a_map_of_connected_grains_needs_few_colours() -> None:
    grid = Grid.hexagonal(120, 120, dx=1.0)
    rng = np.random.default_rng(3)
    ids = cKDTree(rng.uniform(0, 120, (900, 2))).query(np.stack(grid.coordinates(), axis=1))[1]
    colors = grain_colors(ids, grid)
    assert len(np.unique(colors, axis=0)) <= 12
    np.testing.assert_array_equal(colors, grain_colors(ids, grid))
    assert (colors != grain_colors(ids, grid, seed=1)).any()


def test_wrong_ids_are_refused() -> None:
    with pytest.raises(InputError, match="ids has shape"):
        grain_colors(np.zeros(5, int), Grid.square(2, 2, dx=1.0))
