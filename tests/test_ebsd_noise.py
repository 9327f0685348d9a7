"""The noise floor: what was put in comes out, apart from the bending of the lattice."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast.ebsd import EBSDMap, Grid, Phase, clean, grains, noise_floor
from bainite_fast.ebsd._pairs import half_stencil, nearest_pairs, pairs
from bainite_fast.ebsd._quaternions import (
    cubic_angle,
    disorientation,
    from_rotation_vector,
    multiply,
    symmetry_operators,
)
from bainite_fast.ebsd.laue import LAUE_GROUPS
from bainite_fast.ebsd.noise import FLOOR_PER_NOISE
from bainite_fast.errors import InputError
from bainite_fast.synthetic import Measurement, make_ebsd
from property_helpers import examples

ORDER_OF = dict(zip(LAUE_GROUPS, (1, 2, 4, 4, 8, 3, 6, 6, 12, 12, 24), strict=True))


def grids() -> st.SearchStrategy[Grid]:
    rows, columns = st.integers(1, 9), st.integers(2, 9)
    return st.one_of(
        st.builds(lambda r, c: Grid.square(r, c, dx=0.5), rows, columns),
        st.builds(lambda r, c, e: Grid.hexagonal(r, c, dx=0.5, columns_even=c - e), rows, columns, st.integers(0, 1)),
    )


@examples(60)
@given(grid=grids(), order=st.integers(1, 4))
def test_the_half_stencil_finds_every_pair_once_with_its_distance(grid: Grid, order: int) -> None:
    x, y = grid.coordinates()
    found = set()
    for offset in half_stencil(grid, order):
        first, second = pairs(grid, offset)
        np.testing.assert_allclose(np.hypot(x[first] - x[second], y[first] - y[second]), offset.distance, atol=1e-9)
        for pair in zip(first.tolist(), second.tolist(), strict=True):
            assert pair not in found
            assert pair[::-1] not in found
            found.add(pair)
    row, column = grid.row_and_column()
    halves = 2 * column + (row % 2 if grid.kind == "hexagonal" else 0)
    dr, dh = np.abs(row[:, None] - row), np.abs(halves[:, None] - halves)
    steps = np.maximum(dr, dh // 2) if grid.kind == "square" else np.maximum(dr, (dr + dh) // 2)
    assert len(found) == np.count_nonzero(np.triu(steps <= order, 1))


def test_nearest_pairs_are_one_step_apart() -> None:
    for grid, per_point in ((Grid.square(20, 30, dx=0.2), 2), (Grid.hexagonal(20, 30, dx=0.2), 3)):
        x, y = grid.coordinates()
        i, j = nearest_pairs(grid)
        np.testing.assert_allclose(np.hypot(x[i] - x[j], y[i] - y[j]), 0.2)
        assert 0.9 * per_point * grid.size < len(i) < per_point * grid.size


@pytest.mark.parametrize("laue", LAUE_GROUPS)
def test_symmetry_operators_are_the_group(laue: str) -> None:
    group = symmetry_operators(laue)
    assert len(group) == ORDER_OF[laue]
    products = multiply(group[:, None], group[None, :]).reshape(-1, 4)
    assert np.abs(products @ group.T).max(axis=1).min() > 1 - 1e-12
    rng = np.random.default_rng(1)
    q = rng.normal(size=(50, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    angle = disorientation(q, laue)
    for operator in group:
        np.testing.assert_allclose(disorientation(multiply(operator, q), laue), angle, atol=1e-6)
    if laue == "m-3m":
        brute = 2 * np.degrees(np.arccos(np.minimum(np.abs(q @ group.T).max(axis=1), 1)))
        np.testing.assert_allclose(cubic_angle(q), brute, atol=1e-6)


def single_crystal(grid: Grid, noise: float, *, bend: float = 0.0, seed: int = 0, laue: str = "m-3m") -> EBSDMap:
    """A crystal that turns by `bend` degrees per µm along x, measured with the rms error `noise`, degrees."""
    rng = np.random.default_rng(seed)
    error = rng.normal(size=(grid.size, 3)) * np.radians(noise) / np.sqrt(3)
    x, _ = grid.coordinates()
    turn = np.radians(bend) * x[:, None] * np.array([0.0, 0.6, 0.8])
    return EBSDMap(
        grid=grid,
        phases=(Phase(0, "crystal", laue),),
        quaternions=multiply(from_rotation_vector(error), from_rotation_vector(turn)),
    )


@pytest.mark.parametrize("laue", ["m-3m", "6/mmm", "-1"])
@pytest.mark.parametrize("grid", [Grid.square(90, 100, dx=0.5), Grid.hexagonal(90, 100, dx=0.5)])
def test_the_noise_of_a_crystal_and_the_kam_that_it_gives(grid: Grid, laue: str) -> None:
    found = noise_floor(single_crystal(grid, 0.6, laue=laue))
    assert found.noise == pytest.approx(0.6, rel=0.03)
    assert found.interval[0] <= found.noise <= found.interval[1]
    # Without bending, the KAM is the floor: the factor between the two is Maxwell's.
    assert found.mean_angle.mean() == pytest.approx(FLOOR_PER_NOISE * 0.6, rel=0.02)
    assert found.kamaya == pytest.approx(found.floor, rel=0.05)
    assert found.deformation(1.0) < 0.2


def test_a_bent_crystal_has_the_same_noise_and_its_bending_comes_back() -> None:
    bent = noise_floor(single_crystal(Grid.square(90, 100, dx=0.2), 0.5, bend=1.5))
    assert bent.noise == pytest.approx(0.5, rel=0.05)
    # One direction in two bends: the mean square over all neighbours at one distance is half.
    assert bent.deformation(0.4) == pytest.approx(0.4 * 1.5 * np.sqrt(0.5), rel=0.1)
    # The straight line of the published method lies too high here.
    cleared = bent.remove(bent.mean_angle)
    assert cleared[0] < cleared[-1] < bent.mean_angle[-1]
    assert "noise 0." in str(bent)


@pytest.mark.parametrize("kind", ["square", "hexagonal"])
@pytest.mark.parametrize("step", [0.1, 0.2, 0.4])
def test_noise_of_a_synthetic_steel_is_found_within_a_tenth_at_any_step(kind: str, step: float) -> None:
    grid = getattr(Grid, kind)(100, 110, dx=step)
    ebsd, truth = make_ebsd(grid, preset="sem", seed=33, measurement=Measurement(noise=0.5))
    # A map of bent laths alone, of a step near their width, says too little about its noise.
    assert 0.1 < truth.lath_bainite.mean() < 0.9
    found = noise_floor(ebsd)
    assert found.noise == pytest.approx(0.5, rel=0.1)
    assert found.interval[0] < found.noise < found.interval[1]
    assert found.deformation(2 * step) > 0.3


def test_noise_is_found_in_bainite_alone_where_the_step_is_small() -> None:
    ebsd, truth = make_ebsd(Grid.square(120, 120, dx=0.1), preset="sem", seed=31, measurement=Measurement(noise=0.5))
    assert truth.lath_bainite.all()
    assert noise_floor(ebsd).noise == pytest.approx(0.5, rel=0.1)


@examples(10)
@given(turn=st.lists(st.floats(-3, 3), min_size=3, max_size=3), symmetry=st.integers(0, 2**20))
def test_neither_the_sample_frame_nor_symmetry_changes_anything(turn: list[float], symmetry: int) -> None:
    ebsd = single_crystal(Grid.hexagonal(24, 25, dx=0.3), 0.4, bend=1.0)
    operators = symmetry_operators("m-3m")
    chosen = operators[np.random.default_rng(symmetry).integers(0, 24, ebsd.size)]
    moved = multiply(chosen, multiply(ebsd.quaternions, from_rotation_vector(turn)))
    one, other = noise_floor(ebsd, resamples=100), noise_floor(ebsd.replace(quaternions=moved), resamples=100)
    np.testing.assert_allclose(one.mean_square, other.mean_square, rtol=1e-6)
    assert one.noise == pytest.approx(other.noise, rel=1e-4)


def test_grains_keep_pairs_inside() -> None:
    grid = Grid.square(40, 40, dx=0.5)
    ebsd = single_crystal(grid, 0.3)
    x, _ = grid.coordinates()
    step = from_rotation_vector(np.radians([3.0, 0, 0]) * (x > 10)[:, None])
    cut = ebsd.replace(quaternions=multiply(step, ebsd.quaternions))
    whole = noise_floor(cut)
    apart = noise_floor(cut, grains=(x > 10).astype(np.int32))
    assert apart.mean_square[-1] == pytest.approx(2 * 0.3**2, rel=0.1)
    assert whole.mean_square[-1] > 2 * apart.mean_square[-1]
    parts = grains(cut, 2.0)
    assert noise_floor(cut, grains=parts).noise == noise_floor(cut, grains=parts.ids).noise


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"order": 1}, "order=1"),
        ({"max_angle": 0.0}, "max_angle"),
        ({"window": 2}, "window=2"),
        ({"confidence": 95.0}, "confidence"),
        ({"resamples": 3}, "resamples"),
        ({"grains": np.zeros(3, int)}, "grains have shape"),
        ({"grains": np.zeros(400)}, "float64"),
        ({"order": 2.5}, "order=2.5"),
        ({"order": True}, "order=True"),
        ({"window": 8.0}, "window=8.0"),
        ({"resamples": "many"}, "resamples='many'"),
        ({"seed": -1}, "seed=-1"),
        ({"max_angle": True}, "max_angle"),
        ({"confidence": math.nan}, "confidence"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        noise_floor(single_crystal(Grid.square(20, 20, dx=0.5), 0.3), **arguments)  # type: ignore[arg-type]


def test_a_map_without_pairs_is_refused() -> None:
    ebsd = single_crystal(Grid.square(20, 20, dx=0.5), 0.3)
    with pytest.raises(InputError, match="too few for a noise floor"):
        noise_floor(ebsd.replace(phase_id=np.full(400, -1, np.int16)))
    found = noise_floor(ebsd)
    with pytest.raises(InputError, match="not between"):
        found.deformation(100.0)


def test_a_clean_up_hardly_changes_the_noise() -> None:
    """Copied orientations equal their neighbours, and must not pass for measurements without noise."""
    ebsd = single_crystal(Grid.square(60, 60, dx=0.5), 0.3)
    rng = np.random.default_rng(4)
    measured = ebsd.replace(ci=np.where(rng.random(ebsd.size) < 0.25, 0.001, 0.5).astype(np.float32))
    cleaned, log = clean(measured)
    assert log.changed.mean() > 0.2
    assert noise_floor(cleaned).noise == pytest.approx(noise_floor(ebsd).noise, rel=0.03)
    # A crystal without any noise is no measurement, and its noise is 0.
    assert noise_floor(ebsd.replace(quaternions=np.tile([1.0, 0, 0, 0], (ebsd.size, 1)))).noise == 0.0


def test_the_interval_does_not_depend_on_how_many_draws_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = from_rotation_vector(np.random.default_rng(2).normal(0.0, 0.005, (48 * 48, 3)))
    ebsd = EBSDMap(grid=Grid.square(48, 48, dx=0.1), phases=(Phase(1, "Ferrite"),), quaternions=noise)
    whole, held = noise_floor(ebsd), []
    draw = np.random.Generator.multinomial

    class Counting(np.random.Generator):
        def multinomial(self, *arguments: object, **options: object) -> np.ndarray:
            drawn = draw(self, *arguments, **options)  # type: ignore[arg-type]
            held.append(drawn.size)
            return drawn

    monkeypatch.setattr(np.random, "default_rng", lambda seed: Counting(np.random.PCG64(seed)))
    monkeypatch.setattr("bainite_fast.ebsd.noise._DRAWN", 500)
    assert noise_floor(ebsd).interval == pytest.approx(whole.interval, rel=1e-12)
    assert max(held) <= 500
