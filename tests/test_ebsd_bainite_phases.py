"""Which phases are judged for lath bainite, and what becomes of the points of others."""

from __future__ import annotations

import csv
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

from bainite_fast.ebsd import EBSDMap, Grid, Phase, draw_layer, find_bainite, raster_layer, read
from bainite_fast.ebsd._iron import is_bcc_iron
from bainite_fast.ebsd.bainite import _fill
from bainite_fast.errors import BainiteWarning, InputError
from bainite_fast.synthetic import make_ebsd

DATA = os.environ.get("BAINITE_FAST_DATA")
needs_data = pytest.mark.skipif(DATA is None, reason="BAINITE_FAST_DATA is not set")


def cubic(a: float) -> tuple[float, float, float, float, float, float]:
    return (a, a, a, 90.0, 90.0, 90.0)


@pytest.mark.parametrize(
    ("name", "a", "expected"),
    [
        ("Ferrite", 2.866, True),
        ("ferrite/ferrite", 2.867, True),
        ("Iron bcc (old)", 2.87, True),
        ("Iron (Alpha)", None, True),
        ("Fe-alpha", None, True),
        ("Fe-BCC", None, True),
        ("alpha-Fe", None, True),
        ("Bainite", None, True),
        ("Martensite", 2.86, True),
        ("DP600 steel", None, True),
        ("Fe-3Si", 2.86, True),
        ("Fe-17Cr", None, True),
        ("carbide-free bainite", None, True),
        ("phase 1", 2.88, True),
        ("", 0.2866, True),
        ("", None, None),
        ("phase 1", None, None),
        ("All data", 0.0, None),
        ("Unknown", 1.0, None),
        ("Copper", 3.61, False),
        ("Cu", None, False),
        ("Nickel", 3.52, False),
        ("Chromium", 2.885, False),
        ("NiAl", 2.887, False),
        ("Austenite", None, False),
        ("austenite/austenite", 3.595, False),
        ("Iron fcc", 3.7, False),
        ("Iron (Gamma)", None, False),
        ("gamma-Fe", None, False),
        ("Iron oxide", None, False),
        ("Ferrite", 3.6, False),
        ("phase 1", 3.6, False),
        ("phase 1", 3.16, False),
        ("V", 3.03, False),
    ],
)
def test_body_centred_cubic_iron_is_told_by_lattice_and_name(name: str, a: float | None, expected: bool | None) -> None:
    assert is_bcc_iron(Phase(1, name, "m-3m", None if a is None else cubic(a))) is expected


def test_other_laue_groups_are_no_ferrite() -> None:
    assert is_bcc_iron(Phase(1, "Iron", "6/mmm")) is False
    assert is_bcc_iron(Phase(1, "Ferrite", "m-3", cubic(2.87))) is False


@pytest.fixture(scope="module")
def steel() -> EBSDMap:
    return make_ebsd(Grid.square(60, 60, dx=0.3), preset="sem", seed=24)[0]


def named(ebsd: EBSDMap, *phases: Phase, phase_id: np.ndarray | None = None) -> EBSDMap:
    ids = np.where(ebsd.indexed, phases[0].id, -1) if phase_id is None else phase_id
    return ebsd.replace(phases=phases, phase_id=ids.astype(np.int16))


def test_copper_is_refused_and_told_how_to_be_judged_all_the_same(steel: EBSDMap) -> None:
    copper = named(steel, Phase(1, "Copper", "m-3m", cubic(3.61)))
    with pytest.raises(InputError, match=r"1 Copper \(m-3m, a = 3.61 Å\) cannot be .*a = 2.87 .*phases='Copper'"):
        find_bainite(copper)
    expected = find_bainite(steel).labels
    for phases in ("Copper", 1, ["Copper"], (1, "Copper")):
        assert np.array_equal(find_bainite(copper, phases=phases).labels, expected)
    with pytest.raises(InputError, match="no phase 'Ferrite'; it has 1 Copper"):
        find_bainite(copper, phases="Ferrite")
    with pytest.raises(InputError, match="phases is empty"):
        find_bainite(copper, phases=())


def test_a_phase_without_name_and_lattice_is_judged_with_a_warning(steel: EBSDMap) -> None:
    bare = named(steel, Phase(0, ""))
    with pytest.warns(BainiteWarning, match=r"0  \(m-3m\): neither lattice nor name.*phases=0 says so") as seen:
        found = find_bainite(bare)
    assert len(seen) == 1
    assert seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(find_bainite(bare, phases=0).labels, found.labels)
        assert np.array_equal(find_bainite(steel).labels, found.labels)


def test_the_iron_is_judged_and_what_has_no_name_beside_it_is_not(steel: EBSDMap) -> None:
    left = np.arange(steel.size) % 60 < 20
    ids = np.where(~steel.indexed, -1, np.where(left, 2, 1))
    both = named(steel, Phase(1, "Iron bcc", "m-3m", cubic(2.866)), Phase(2, "phase 2"), phase_id=ids)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = find_bainite(both)
    assert [phase.id for phase in found.phases] == [1]
    assert (found.labels[ids == 2] == 3).all()


def with_austenite(steel: EBSDMap) -> tuple[EBSDMap, np.ndarray]:
    """Austenite in the upper half, and in a film one point wide in the lower one."""
    row, column = steel.grid.row_and_column()
    austenite = (row < 30) | (column == 30)
    phases = (Phase(1, "Ferrite", "m-3m", cubic(2.87)), Phase(2, "Austenite", "m-3m", cubic(3.6)))
    return named(steel, *phases, phase_id=np.where(~steel.indexed, -1, np.where(austenite, 2, 1))), austenite


def test_points_of_other_phases_are_not_judged(steel: EBSDMap, tmp_path: Path) -> None:
    both, austenite = with_austenite(steel)
    found = find_bainite(both)
    apart = found.labels == 3
    assert apart[both.phase_id == 2].all()
    assert not apart[both.phase_id == 1].any()
    # What is not indexed takes after what is around it.
    row, _ = both.grid.row_and_column()
    assert apart[row < 29].all()
    assert not apart[(row > 31) & ~both.indexed & ~austenite].any()
    assert np.array_equal(np.isnan(found.probability), apart)
    assert np.array_equal(np.isnan(found.confidence), apart)
    assert not found.embedded_ferrite[apart].any()
    assert set(found.grain_labels.tolist()) <= {0, 1, 2}
    assert found.fractions["not judged"] == pytest.approx(apart.mean())
    assert sum(found.fractions.values()) == pytest.approx(1.0)
    assert f"judged: 1 Ferrite (m-3m); not judged: {100 * apart.mean():.1f} %" in repr(found)
    layer = found.layer()
    assert f"not judged {100 * apart.mean():.1f} %" in layer.legend
    assert not any("not judged" in name for name in find_bainite(steel).layer().legend)
    colors, _ = raster_layer(layer, both.grid)
    assert len(np.unique(colors[:28].reshape(-1, 3), axis=0)) == 1
    assert draw_layer(layer, both.grid, tmp_path / "bainite.png").stat().st_size > 10_000
    rows = list(csv.DictReader(found.write_csv(tmp_path / "grains.csv").open(encoding="utf-8")))
    assert len(rows) == len(found.features)
    assert float(rows[0]["y_um"]) > 29 * 0.3


def test_films_of_other_phases_can_take_the_label_of_what_is_around_them(steel: EBSDMap) -> None:
    both, austenite = with_austenite(steel)
    filled = find_bainite(both, fill=True)
    assert not (filled.labels == 3).any()
    apart = find_bainite(both)
    assert np.array_equal(filled.labels[both.phase_id == 1], apart.labels[both.phase_id == 1])
    expected = find_bainite(steel.replace(indexed=steel.indexed & ~austenite)).labels
    assert np.array_equal(filled.labels, expected)


def test_several_phases_of_iron_are_judged_alike_with_a_warning(steel: EBSDMap) -> None:
    left = np.arange(steel.size) % 60 < 20
    ids = np.where(~steel.indexed, -1, np.where(left, 2, 1))
    both = named(steel, Phase(1, "Ferrite"), Phase(2, "Martensite"), phase_id=ids)
    with pytest.warns(BainiteWarning, match="1 Ferrite .*, 2 Martensite .* are judged alike.*phases='Ferrite'"):
        assert not (find_bainite(both).labels == 3).any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = find_bainite(both, phases="Ferrite")
        assert not (find_bainite(both, phases=["Ferrite", "Martensite"]).labels == 3).any()
    assert (found.labels[ids == 2] == 3).all()


@needs_data
@pytest.mark.parametrize("file", ["copper_hex.ang", "copper_square.cpr", "mea_60cr.ctf", "ni_out_of_order.ang"])
def test_real_maps_of_other_metals_are_refused(file: str) -> None:
    assert DATA is not None
    with pytest.raises(InputError, match="has nothing to judge: 1 (Copper|Nickel|Iron fcc)"):
        find_bainite(read(Path(DATA) / "ebsd" / file))


@needs_data
def test_austenite_of_a_real_duplex_steel_is_not_judged() -> None:
    assert DATA is not None
    ebsd = read(Path(DATA) / "ebsd" / "sdss_ferrite_austenite.ang")
    found = find_bainite(ebsd)
    assert [phase.name for phase in found.phases] == ["ferrite/ferrite"]
    assert np.array_equal(found.labels == 3, ebsd.phase_id == 1)


def test_points_in_no_grain_take_the_mean_of_what_is_around_them_round_by_round() -> None:
    grid = Grid.hexagonal(9, 12, dx=0.5)
    rng = np.random.default_rng(5)
    ids = np.where(rng.random(grid.size) < 0.08, rng.integers(4, size=grid.size), -1).astype(np.int32)
    others = (ids < 0) & (rng.random(grid.size) < 0.05)
    of_grains = np.array([0, 1, 2, 1], np.uint8), np.array([0.1, 0.8, 0.5, 0.9])
    ebsd = EBSDMap(grid=grid, phases=(Phase(1, "Ferrite"),), quaternions=np.tile([1.0, 0.0, 0.0, 0.0], (grid.size, 1)))
    labels, probability = _fill(ebsd, ids, of_grains, others)
    x, y = grid.coordinates()
    near = np.hypot(x[:, None] - x, y[:, None] - y) < 0.6
    known = {int(p): (3, np.nan) if ids[p] < 0 else (int(of_grains[0][ids[p]]), of_grains[1][ids[p]])
             for p in np.flatnonzero((ids >= 0) | others)}  # fmt: skip
    while len(known) < grid.size:
        fresh = {}
        for p in set(range(grid.size)) - known.keys():
            around = [known[n] for n in np.flatnonzero(near[p]).tolist() if n in known and n != p]
            if around:
                ferrite, bainite, unsure, apart = (sum(vote == one for one, _ in around) for vote in range(4))
                vote = 0 if ferrite > bainite else 1 if bainite > ferrite else 2
                away = apart > ferrite + bainite + unsure
                mean = np.nan if away else float(np.mean([value for one, value in around if one != 3]))
                fresh[p] = (3 if away else vote, mean)
        known |= fresh
    assert labels.tolist() == [known[p][0] for p in range(grid.size)]
    np.testing.assert_allclose(probability, [known[p][1] for p in range(grid.size)], rtol=1e-6)
