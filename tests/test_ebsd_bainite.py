"""Lath bainite from EBSD, judged on synthetic maps whose truth is known, and the features that it stands on."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bainite_fast.ebsd import (
    BainiteCriteria,
    BainiteMap,
    BoundaryClass,
    EBSDMap,
    Grid,
    Phase,
    _parting,
    boundaries,
    boundary_features,
    draw_layer,
    find_bainite,
    grain_features,
    grains,
    ks_bain_groups,
    ks_packets,
    ks_variants,
    noise_floor,
)
from bainite_fast.ebsd._evidence import contacts
from bainite_fast.ebsd._parting import Bent, order_of_reach
from bainite_fast.ebsd._quaternions import from_rotation_vector, multiply
from bainite_fast.ebsd.features import boundary_lengths
from bainite_fast.errors import InputError, OutputExistsError
from bainite_fast.synthetic import Crystallography, EBSDTruth, Measurement, make_ebsd

# Thresholds were chosen on seeds 1 to 4; these are others.
CASES = [("sem", Grid.square(170, 170, dx=0.25), 21), ("sem", Grid.hexagonal(180, 160, dx=0.25), 23)]
Case = tuple[EBSDMap, EBSDTruth, BainiteMap]


@pytest.fixture(scope="module", params=range(len(CASES)), ids=["square", "hexagonal"])
def case(request: pytest.FixtureRequest) -> Case:
    preset, grid, seed = CASES[request.param]
    ebsd, truth = make_ebsd(grid, preset=preset, seed=seed)
    return ebsd, truth, find_bainite(ebsd)


def test_lath_bainite_is_found(case: Case) -> None:
    _, truth, found = case
    assert 0.1 < truth.lath_bainite.mean() < 0.9
    called, lath = found.labels == 1, truth.lath_bainite
    missed = (found.labels == 0) & lath
    assert (called & lath).sum() / called.sum() >= 0.95
    assert (called & lath).sum() / ((called & lath).sum() + missed.sum()) >= 0.95
    assert np.mean(found.labels == 2) <= 0.10


def test_ferrite_inside_bainite_is_taken_out(case: Case) -> None:
    _, truth, found = case
    embedded = truth.embedded_ferrite
    assert embedded.mean() > 0.02
    assert np.mean(found.labels[embedded] == 0) >= 0.9
    # And is said to be embedded.
    assert np.mean(found.embedded_ferrite[embedded]) >= 0.7
    assert not (found.embedded_ferrite & (found.labels != 0)).any()


def drawn_and_found(ebsd: EBSDMap, truth: EBSDTruth) -> dict[str, np.ndarray]:
    """Classes found, counts by `BoundaryClass`, between drawn variants of one parent."""
    borders = boundary_features(ebsd, grains(ebsd, 5.0, 2))
    one, other = truth.variant[borders.i] - 1, truth.variant[borders.j] - 1
    inside = truth.lath_bainite[borders.i] & truth.lath_bainite[borders.j] & (one != other)
    inside &= truth.parent[borders.i] == truth.parent[borders.j]
    one, other, kind = one[inside], other[inside], borders.kind[inside]
    packets, bain = ks_packets(), ks_bain_groups()
    same_packet, same_bain = packets[one] == packets[other], bain[one] == bain[other]
    drawn = {"block": same_packet, "bain": ~same_packet & same_bain, "packet": ~same_packet & ~same_bain}
    return {name: np.bincount(kind[rows], minlength=7) / rows.sum() for name, rows in drawn.items()}


def test_the_drawn_variants_come_back_from_the_classes_of_boundary() -> None:
    exact = Crystallography(ks_scatter=0.0, lath_spread=0.3, bainite_gnd=5e13)
    grid = Grid.hexagonal(150, 150, dx=0.25)
    ebsd, truth = make_ebsd(
        grid, preset="sem", seed=21, crystallography=exact, measurement=Measurement(noise=0.2, wrong=0.0)
    )
    found = drawn_and_found(ebsd, truth)
    assert found["block"][BoundaryClass.BLOCK] > 0.95
    # 10.53° is an angle inside packets and between them.
    assert found["bain"][[BoundaryClass.BAIN, BoundaryClass.BLOCK]].sum() > 0.95
    assert found["packet"][[BoundaryClass.PACKET, BoundaryClass.BLOCK]].sum() > 0.95
    assert found["packet"][BoundaryClass.PACKET] > 0.8


def test_scattered_variants_are_still_related_and_hardly_ever_in_the_gap(case: Case) -> None:
    ebsd, truth, _ = case
    found = drawn_and_found(ebsd, truth)
    for name, related in (("block", 0.85), ("bain", 0.8), ("packet", 0.8)):
        assert found[name][[BoundaryClass.BLOCK, BoundaryClass.BAIN, BoundaryClass.PACKET]].sum() > related
        assert found[name][BoundaryClass.GAP] < 0.1


def test_boundaries_of_unrelated_grains_fill_the_gap() -> None:
    rng = np.random.default_rng(5)
    grid = Grid.square(120, 120, dx=1.0)
    row, column = grid.row_and_column()
    q = rng.normal(size=(400, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    ebsd = EBSDMap(grid=grid, phases=(Phase(0, "Ferrite"),), quaternions=q[(row // 6) * 20 + column // 6])
    borders = boundary_features(ebsd, grains(ebsd))
    # Mackenzie's distribution has a good third of random pairs between 21.1 and 47.1°.
    gap = (borders.angle > 21.1) & (borders.angle < 47.1)
    assert np.mean(gap) > 0.3
    assert np.mean(borders.kind == BoundaryClass.GAP) > 0.25
    assert np.mean(np.isin(borders.kind, [2, 3, 4])) < 0.4


def test_exact_variants_side_by_side_have_their_classes() -> None:
    variants = ks_variants()
    grid = Grid.square(2, 48, dx=1.0)
    order = np.stack([np.zeros(24, int), np.arange(24)], axis=1).reshape(-1)
    parent = from_rotation_vector([0.3, -0.8, 0.2])
    row = multiply(variants[order], parent)
    ebsd = EBSDMap(grid=grid, phases=(Phase(0, "Ferrite"),), quaternions=np.concatenate([row, row]))
    borders = boundary_features(ebsd, grains(ebsd))
    packets, bain = ks_packets(), ks_bain_groups()
    for i, j, kind, deviation in zip(borders.i, borders.j, borders.kind, borders.deviation, strict=True):
        a, b = order[i % 48], order[j % 48]
        assert deviation < 1e-4
        if packets[a] == packets[b]:
            assert kind in (BoundaryClass.BLOCK, BoundaryClass.BAIN)  # V1–V4 is 10.53° about an axis that both have
        elif bain[a] == bain[b]:
            assert kind in (BoundaryClass.BAIN, BoundaryClass.BLOCK)
        else:
            assert kind in (BoundaryClass.PACKET, BoundaryClass.BLOCK)


def test_shapes_of_grains() -> None:
    """A rectangle of 5 × 20 points, a square of 10 × 10, and the rest around them."""
    grid = Grid.square(40, 40, dx=0.5)
    row, column = grid.row_and_column()
    number = np.zeros(grid.size, int)
    number[(row >= 5) & (row < 10) & (column >= 5) & (column < 25)] = 1
    number[(row >= 20) & (row < 30) & (column >= 10) & (column < 20)] = 2
    turns = from_rotation_vector(np.radians([[0, 0, 0], [0, 0, 30], [25, 0, 0]]))
    ebsd = EBSDMap(grid=grid, phases=(Phase(0, "Ferrite"),), quaternions=turns[number])
    found = grains(ebsd)
    features = grain_features(ebsd, found, boundary_features(ebsd, found))
    assert len(features) == 3
    np.testing.assert_allclose(features.aspect_ratio[1:], [4.0, 1.0])
    np.testing.assert_allclose(features.area_um2, [1400 / 4, 100 / 4, 100 / 4])
    np.testing.assert_allclose(features.boundary_um, [90 / 2, 50 / 2, 40 / 2])
    np.testing.assert_array_equal(features.edge, [True, False, False])
    np.testing.assert_allclose(features.kam3, 0.0, atol=1e-5)
    np.testing.assert_allclose(features.gap[1:], 1.0)
    np.testing.assert_allclose(features.x_um[2], 14.5 * 0.5)
    shares = features.low_angle + features.ks + features.gap + features.other
    np.testing.assert_allclose(shares, 1.0)


def test_the_result_prints_draws_and_is_saved(case: Case, tmp_path: Path) -> None:
    ebsd, _, found = case
    text = repr(found)
    assert "lath bainite" in text
    assert "K–S share" in text
    assert f"{100 * found.fractions['lath bainite']:.1f} %" in text
    assert sum(found.fractions.values()) == pytest.approx(1.0)
    assert found.labels.shape == found.probability.shape == found.confidence.shape == (ebsd.size,)
    assert found.confidence.min() >= 0.5
    path = found.write_csv(tmp_path / "grains.csv")
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert len(rows) == len(found.features)
    big = int(np.argmax(found.features.area_um2))
    assert float(rows[big]["area_um2"]) == pytest.approx(found.features.area_um2[big], rel=1e-5)
    assert rows[big]["label"] in ("polygonal ferrite", "lath bainite", "unsure")
    with pytest.raises(OutputExistsError):
        found.write_csv(path)
    assert draw_layer(found.layer(), ebsd.grid, tmp_path / "bainite.png").stat().st_size > 10_000


def test_thresholds_decide() -> None:
    ebsd, _ = make_ebsd(Grid.square(90, 90, dx=0.3), preset="sem", seed=24)
    usual = find_bainite(ebsd)
    strict = find_bainite(ebsd, criteria=BainiteCriteria(curvature=20.0, spread=20.0), noise=usual.noise)
    loose = find_bainite(ebsd, criteria=BainiteCriteria(sure=0.999), noise=usual.noise)
    assert strict.fractions["lath bainite"] < usual.fractions["lath bainite"] - 0.05
    assert loose.fractions["unsure"] > usual.fractions["unsure"] + 0.2


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sure": 0.4}, "sure=0.4"),
        ({"sure": 1.0}, "sure=1.0"),
        ({"spread_width": 0.0}, "spread_width is 0"),
        ({"curvature": float("nan")}, "curvature"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"min_points": 0}, "min_points"),
        ({"min_points": 2.5}, "min_points"),
        ({"aspect": True}, "aspect=True"),
        ({"diameter": "4"}, "diameter='4'"),
    ],
)
def test_bad_criteria_are_refused(settings: dict[str, float], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        BainiteCriteria(**settings)  # type: ignore[arg-type]


def test_a_map_without_grains_is_refused() -> None:
    ebsd, _ = make_ebsd(Grid.square(20, 20, dx=0.3))
    with pytest.raises(InputError, match="no grains"):
        find_bainite(ebsd.replace(phase_id=np.full(400, -1, np.int16)))
    with pytest.raises(InputError, match="ks_tolerance"):
        boundary_features(ebsd, grains(ebsd), ks_tolerance=0.0)
    other = ebsd.crop((0, 10), (0, 20))
    with pytest.raises(InputError, match="of a map of 400 points, and this one has 200"):
        boundary_features(other, grains(ebsd))
    with pytest.raises(InputError, match="of a map of 400 points, and this one has 200"):
        grain_features(other, grains(ebsd), boundary_features(other, grains(other)))


@pytest.mark.parametrize("grid", [Grid.square(12, 12, dx=0.5, dy=0.2), Grid.hexagonal(12, 13, dx=0.5, dy=0.3)])
def test_the_boundary_of_a_grain_is_as_long_as_its_segments(grid: Grid) -> None:
    row, column = grid.row_and_column()
    inside = (row >= 4) & (row < 9) & (column >= 2) & (column < 5)
    turns = from_rotation_vector(np.radians([[0, 0, 0], [0, 0, 30]]))
    ebsd = EBSDMap(grid=grid, phases=(Phase(0, "Ferrite"),), quaternions=turns[inside.astype(int)])
    found = grains(ebsd)
    features = grain_features(ebsd, found, boundary_features(ebsd, found))
    np.testing.assert_allclose(features.boundary_um, boundaries(ebsd).length_um.sum())
    if grid.kind == "square":
        assert features.boundary_um[1] == pytest.approx(2 * 5 * 0.2 + 2 * 3 * 0.5)


def test_a_contact_weighs_as_much_as_it_is_long() -> None:
    grid = Grid.square(10, 9, dx=0.6, dy=0.2)
    row, column = grid.row_and_column()
    beside, above = (column < 3) | (column >= 6), (row < 3) | (row >= 7)
    which = np.where(beside, 1, np.where(above, 2, 0))  # in the middle a grain of 3 × 4 points
    turns = from_rotation_vector(np.radians([[0, 0, 0], [0, 0, 30], [30, 0, 0]]))
    ebsd = EBSDMap(grid=grid, phases=(Phase(0, "Ferrite"),), quaternions=turns[which])
    found = grains(ebsd)
    borders = boundary_features(ebsd, found)
    one, other, share = contacts(found, borders, boundary_lengths(grid, borders))
    middle, shares = found.ids.reshape(-1)[which == 0][0], {}
    for k in np.flatnonzero(one == middle):
        kind = int(which[np.flatnonzero(found.ids.reshape(-1) == other[k])[0]])
        shares[kind] = shares.get(kind, 0.0) + share[k]
    along, across = 2 * 4 * 0.2, 2 * 3 * 0.6
    assert shares == pytest.approx({1: along / (along + across), 2: across / (along + across)})


def quiet_and_turned(turned: np.ndarray, seed: int) -> EBSDMap:
    """A crystal at a step of 0.4 µm whose points are turned by `turned` (rows, columns, 3), with a noise of 0.4°."""
    noise = np.random.default_rng(seed).normal(scale=np.radians(0.4) / np.sqrt(3), size=turned.shape)
    quaternions = multiply(
        from_rotation_vector(noise.reshape(-1, 3)), from_rotation_vector(turned.reshape(-1, 3) + [0.3, 0.2, 0.1])
    )
    rows, columns, _ = turned.shape
    return EBSDMap(grid=Grid.square(rows, columns, dx=0.4), phases=(Phase(0, "Ferrite"),), quaternions=quaternions)


@pytest.mark.parametrize("angle", [1.5, 2.0])
def test_a_boundary_of_low_angle_in_ferrite_is_no_bainite(angle: float) -> None:
    turned = np.zeros((80, 80, 3))
    turned[:, 40:, 2] = np.radians(angle)
    ebsd = quiet_and_turned(turned, 7)
    assert len(grains(ebsd, 5.0)) == 1
    found = find_bainite(ebsd)
    assert len(found.grain_labels) == 1
    assert (found.labels == 0).all()


@pytest.mark.parametrize(("preset", "make", "seed"), [("lom", Grid.hexagonal, 51), ("lom", Grid.square, 3)])
def test_quiet_ferrite_stays_whole_at_a_step_so_fine_that_noise_is_most_of_the_kam(
    preset: str, make: Callable[..., Grid], seed: int
) -> None:
    ebsd, truth = make_ebsd(make(150, 150, dx=0.1), preset=preset, seed=seed)
    ferrite = ~truth.lath_bainite
    assert np.mean(find_bainite(ebsd).labels[ferrite] == 0) > 0.98


def test_the_order_of_the_kam_follows_the_step() -> None:
    assert [order_of_reach(Grid.square(9, 9, dx=step), 0.5) for step in (0.02, 0.1, 0.2, 0.4, 1.0)] == [10, 6, 3, 1, 1]
    assert order_of_reach(Grid.hexagonal(9, 9, dx=0.1), 0.5) > 3


@pytest.mark.parametrize(
    ("preset", "make", "step", "seed"),
    [("lom", Grid.square, 0.4, 7), ("lom", Grid.hexagonal, 0.1, 41), ("sem", Grid.square, 0.4, 5)],
)
def test_ferrite_within_bainite_is_not_left_unsure(
    preset: str, make: Callable[..., Grid], step: float, seed: int
) -> None:
    points = min(150, round(44 / step))
    ebsd, truth = make_ebsd(make(points, points, dx=step), preset=preset, seed=seed)
    assert np.mean(find_bainite(ebsd).labels[truth.embedded_ferrite] == 0) > 0.85


def test_subgrains_are_not_parted_from_the_ferrite_that_they_are_in() -> None:
    """Cells of 3.2 µm that are 1° from one another, in one grain: the KAM of their walls is above the limit."""
    tilt = np.random.default_rng(3).normal(scale=np.radians(0.7) / np.sqrt(3), size=(10, 10, 3))
    ebsd = quiet_and_turned(np.kron(tilt, np.ones((8, 8, 1))), 8)
    found = find_bainite(ebsd)
    large = found.features.points > 100
    assert large.any()
    assert (found.grain_labels[large] == 0).all()


def test_bent_islands_in_one_grain_are_grains_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Together they would have the aspect ratio of the way between them."""
    grid = Grid.square(60, 140, dx=0.4)
    error = np.random.default_rng(1).normal(scale=np.radians(0.2) / np.sqrt(3), size=(grid.size, 3))
    ebsd = EBSDMap(grid=grid, phases=(Phase(0, "Ferrite"),), quaternions=from_rotation_vector(error))
    whole, floor = grains(ebsd, 5.0, 1), noise_floor(ebsd)
    assert len(whole) == 1
    limit = Bent.over(grid, 1, floor, (0.71, 0.5))
    kam = np.full((60, 140), floor.floor)
    kam[10:50, 10:50] = kam[10:50, 90:130] = 5 * limit.kam_at
    monkeypatch.setattr(_parting, "_point_kam", lambda *_: (np.ones(grid.size, np.bool_), kam.ravel()))
    parted = _parting.part_grains(ebsd, whole, 1, limit=limit, reach=0.5, diameter=3.0)
    ids = parted.ids.reshape(60, 140)
    assert len(parted) == 3
    assert len({ids[0, 0], ids[30, 30], ids[30, 110]}) == 3
    assert parted.sizes.sum() == grid.size


@pytest.mark.parametrize("noise", [0.2, 0.5, 1.0])
def test_noise_takes_the_say_from_few_points_and_not_from_many(noise: float) -> None:
    grid = Grid.square(64, 64, dx=0.4)
    error = np.random.default_rng(1).normal(scale=np.radians(noise) / np.sqrt(3), size=(grid.size, 3))
    ebsd = EBSDMap(grid=grid, phases=(Phase(0, "Ferrite"),), quaternions=from_rotation_vector(error))
    floor = noise_floor(ebsd)
    bent = Bent.over(grid, 1, floor, (0.71, 0.5))
    quiet = np.full(3, floor.floor)
    few, some, many = bent.contrast(quiet, np.array([4, 40, 4000]), 0.7)
    assert -1 <= many < some < few < 0
    assert many < -0.7
    assert bent.contrast(np.array([bent.kam_at, np.nan]), np.array([50, 1]), 0.7) == pytest.approx([0.0, 0.0])
    # The same bending, with whatever noise, says the same where there are points enough.
    twice = np.array([np.hypot(floor.floor, 2 * bent.angle)])
    assert bent.contrast(twice, np.array([10**6]), 0.7)[0] == pytest.approx(np.tanh(np.log(2) / 0.7), abs=0.12)
