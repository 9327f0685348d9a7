"""Two real scans against values computed by brute force in float64, which other programs confirm where they can."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bainite_fast
from bainite_fast import ebsd
from ebsd_helpers import reference_array, reference_map

NAMES = ("Cu_hex", "SDSS_sqr")


@pytest.fixture(scope="module")
def scans(data_dir: Path) -> dict[str, ebsd.EBSDMap]:
    return {name: reference_map(data_dir, name) for name in NAMES}


def test_the_scans_are_those_of_the_reference(scans: dict[str, ebsd.EBSDMap], data_dir: Path) -> None:
    for name, scan in scans.items():
        assert np.array_equal(scan.indexed, reference_array(data_dir, f"{name}__indexed"))
        assert np.array_equal(scan.quaternions[scan.indexed], reference_array(data_dir, f"{name}__quat")[scan.indexed])


@pytest.mark.parametrize(
    ("name", "kind", "neighbourhood"),
    [("Cu_hex", "hex", None), ("SDSS_sqr", "cheb", None), ("SDSS_sqr", "cheb", 8), ("SDSS_sqr", "manh", 4)],
)
@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("perimeter", [False, True])
def test_kam(scans, data_dir, name, kind, neighbourhood, order, perimeter) -> None:  # type: ignore[no-untyped-def]
    scan = scans[name]
    found = bainite_fast.kam(scan, order, perimeter=perimeter, neighbourhood=neighbourhood)
    shape = "perim" if perimeter else "full"
    expected = reference_array(data_dir, f"{name}__KAM_{kind}_o{order}_{shape}_thr5")
    assert found.dtype == np.float32
    assert found.shape == scan.shape
    assert np.array_equal(np.isnan(found.ravel()), np.isnan(expected))
    assert np.nanmax(np.abs(found.ravel() - expected)) <= 1e-5


@pytest.mark.parametrize(
    ("name", "order", "perimeter", "mean"),
    [
        ("Cu_hex", 1, False, 0.47826),
        ("Cu_hex", 3, True, 0.69697),
        ("Cu_hex", 3, False, 0.62008),
        ("SDSS_sqr", 1, False, 0.32494),
        ("SDSS_sqr", 3, True, 0.46942),
        ("SDSS_sqr", 3, False, 0.41516),
    ],
)
def test_mean_kam(scans, name, order, perimeter, mean) -> None:  # type: ignore[no-untyped-def]
    found = bainite_fast.kam(scans[name], order, perimeter=perimeter)
    assert np.nanmean(found.astype(np.float64)) == pytest.approx(mean, abs=6e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tolerance", [5.0, 15.0])
def test_grain_partition(scans, data_dir, name, tolerance) -> None:  # type: ignore[no-untyped-def]
    found = ebsd.grains(scans[name], tolerance)
    assert np.array_equal(found.ids.ravel(), reference_array(data_dir, f"{name}__grain_id_tol{tolerance:g}"))


@pytest.mark.parametrize(("name", "every", "of_two"), [("Cu_hex", 166, 23), ("SDSS_sqr", 142, 132)])
def test_number_of_grains(scans, name, every, of_two) -> None:  # type: ignore[no-untyped-def]
    assert len(ebsd.grains(scans[name])) == every
    larger = ebsd.grains(scans[name], min_points=2)
    assert len(larger) == of_two
    assert larger.sizes.min() >= 2
    assert sorted(set(larger.ids.ravel().tolist()) - {-1}) == list(range(of_two))


@pytest.mark.parametrize("name", NAMES)
def test_spread_within_grains(scans, data_dir, name) -> None:  # type: ignore[no-untyped-def]
    found = ebsd.grains(scans[name])
    for values, reference in [
        (found.grod.ravel(), "GROD"),
        (found.gos, "GOS"),
        (found.gam("pairs"), "GAM_pairs"),
        (found.gam("kam"), "GAM_kam"),
    ]:
        expected = reference_array(data_dir, f"{name}__{reference}_tol5")
        assert np.array_equal(np.isnan(values), np.isnan(expected)), reference
        assert np.nanmax(np.abs(values - expected)) <= 1e-4, reference
    means = reference_array(data_dir, f"{name}__meanquat_tol5")
    assert bainite_fast.kernels.orientations.disorientation(found.mean_orientation, means).max() < 1e-4


@pytest.mark.parametrize(
    ("name", "gos", "pairs", "kam"), [("Cu_hex", 2.8006, 0.4889, 0.5009), ("SDSS_sqr", 0.6954, 0.3089, 0.3144)]
)
def test_area_weighted_means(scans, name, gos, pairs, kam) -> None:  # type: ignore[no-untyped-def]
    found = ebsd.grains(scans[name])
    several = found.sizes > 1
    assert np.average(found.gos, weights=found.area_um2) == pytest.approx(gos, abs=6e-5)
    for kind, expected in (("pairs", pairs), ("kam", kam)):
        values = found.gam(kind)  # type: ignore[arg-type]
        assert np.average(values[several], weights=found.sizes[several]) == pytest.approx(expected, abs=6e-5)


def test_ci_standardisation(scans, data_dir) -> None:  # type: ignore[no-untyped-def]
    cleaned, log = ebsd.clean(scans["Cu_hex"], steps=[("ci_standardisation",)])
    expected = reference_array(data_dir, "Cu_hex__CIstd_tol5").astype(np.float32)
    assert np.array_equal(cleaned.ci, expected)
    assert np.array_equal(log.changed, expected != scans["Cu_hex"].ci)


@pytest.mark.parametrize(("passes", "name", "points"), [(1, "1pass", 493), ("converge", "conv", 3165)])
def test_neighbour_ci_correlation(scans, data_dir, passes, name, points) -> None:  # type: ignore[no-untyped-def]
    cleaned, log = ebsd.clean(scans["Cu_hex"], steps=[("nci", 0.01, passes)])
    changed = reference_array(data_dir, f"Cu_hex__NCI_ci0.01_{name}_changed").astype(bool)
    assert np.array_equal(log.changed, changed)
    assert log.changed.sum() == points
    if passes == "converge":
        assert len(log.steps[0].counts) == 16
    expected = reference_array(data_dir, f"Cu_hex__NCI_ci0.01_{name}_quat")
    assert np.array_equal(cleaned.quaternions[cleaned.indexed], expected[cleaned.indexed])


@pytest.mark.parametrize("level", [0, 2, 4])
def test_neighbour_orientation_correlation(scans, data_dir, level) -> None:  # type: ignore[no-untyped-def]
    cleaned, log = ebsd.clean(scans["Cu_hex"], steps=[("noc", 5.0, level)])
    changed = reference_array(data_dir, f"Cu_hex__NOC_tol5_L{level}_changed").astype(bool)
    assert np.array_equal(log.changed, changed)
    if level:
        expected = reference_array(data_dir, f"Cu_hex__NOC_tol5_L{level}_quat")
        assert np.array_equal(cleaned.quaternions[cleaned.indexed], expected[cleaned.indexed])
