"""Clean-up against the NumPy oracle, and its log."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast import _reference, ebsd
from bainite_fast.ebsd import Grid
from bainite_fast.ebsd._points import grid_shape
from bainite_fast.errors import InputError
from ebsd_helpers import random_map
from property_helpers import examples
from test_ebsd_kernels import GRIDS, SEEDS


@given(grid=GRIDS, least=st.sampled_from([0.1, 0.5, 0.9]), passes=st.integers(1, 4), seed=SEEDS)
def test_nci_is_that_of_the_oracle(grid: Grid, least: float, passes: int, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid, laue=("m-3m", "mmm"), missing=0.3)
    cleaned, log = ebsd.clean(scan, [("nci", least, passes)])
    quaternions, phase, ci = scan.quaternions.copy(), scan.phase_id.copy(), scan.properties["ci"].copy()
    turn = np.full(scan.size, -1)
    for number in range(passes):
        source = _reference.nci(ci, phase, grid_shape(grid), np.float32(least))
        to = np.flatnonzero(source >= 0)
        quaternions[to], phase[to], ci[to] = quaternions[source[to]], phase[source[to]], ci[source[to]]
        turn[to] = number
    assert np.array_equal(cleaned.phase_id, phase)
    assert np.array_equal(cleaned.quaternions, quaternions)
    assert np.array_equal(cleaned.properties["ci"], ci)
    assert np.array_equal(log.steps[0].turn, turn)


@examples(40)
@given(grid=GRIDS, level=st.integers(0, 5), seed=SEEDS)
def test_noc_is_that_of_the_oracle(grid: Grid, level: int, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid, laue=("m-3m", "m-3m"), missing=0.2, spread=2.0)
    cleaned, log = ebsd.clean(scan, [("noc", 5.0, level)])
    quaternions, phase = scan.quaternions.copy(), scan.phase_id.copy()
    counts = []
    for number in range(level + 1):
        source = _reference.noc(quaternions, phase, grid_shape(grid), 5.0, number)
        to = np.flatnonzero(source >= 0)
        quaternions[to], phase[to] = quaternions[source[to]], phase[source[to]]
        counts.append(len(to))
    assert np.array_equal(cleaned.phase_id, phase)
    assert np.array_equal(cleaned.quaternions, quaternions)
    assert log.steps[0].counts == tuple(counts)


@given(grid=GRIDS, seed=SEEDS)
def test_ci_standardisation(grid: Grid, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid)
    cleaned, log = ebsd.clean(scan, [("ci_standardisation", 4.0)])
    ids = ebsd.grains(scan, 4.0).point_ids
    before, after = scan.properties["ci"], cleaned.properties["ci"]
    for grain in range(ids.max() + 1):
        assert (after[ids == grain] == before[ids == grain].max()).all()
    assert np.array_equal(after[ids < 0], before[ids < 0])
    assert np.array_equal(log.changed, after != before)


def test_the_log_is_a_table() -> None:
    scan = random_map(np.random.default_rng(7), Grid.square(60, 50, dx=1.0), missing=0.2)
    cleaned, log = ebsd.clean(scan, [("nci", 0.4, 3), ("noc", 5.0, 2), ("ci_standardisation",)])
    assert cleaned.indexed.sum() > scan.indexed.sum()
    lines = repr(log).splitlines()
    assert lines[0] == f"{int(log.changed.sum())} points changed"
    assert any("noc 5.0 2" in line for line in lines)
    assert any("level 2" in line for line in lines)
    assert any("pass 1" in line for line in lines)


def test_the_default_is_the_papers() -> None:
    scan = random_map(np.random.default_rng(8), Grid.hexagonal(30, 31, dx=1.0))
    _, log = ebsd.clean(scan)
    assert [(step.name, *step.arguments) for step in log.steps] == list(ebsd.PAPER_CLEANUP)
    assert ebsd.PAPER_CLEANUP[0] == ("nci", 0.01)
    assert ebsd.PAPER_CLEANUP[1][:2] == ("noc", 5.0)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (("dilate",), "ci_standardisation"),
        ("nci", "tuple"),
        ((), "tuple"),
        (("nci",), "'nci', ci"),
        (("nci", "low"), "a number"),
        (("nci", 0.1, 0), "from 1"),
        (("nci", 0.1, 10_001), "to 10000"),
        (("nci", 2), "up to 1"),
        (("nci", -1.0), "up to 1"),
        (("nci", float("nan")), "up to 1"),
        (("nci", True), "up to 1"),
        (("noc", 5.0), "level"),
        (("noc", 5.0, 6), "0 to 5"),
        (("noc", -5.0, 1), "positive angle"),
        (("ci_standardisation", 0.0), "positive angle"),
    ],
)
def test_wrong_steps_are_refused_before_any_is_done(step: Any, message: str) -> None:
    scan = random_map(np.random.default_rng(9), Grid.hexagonal(4, 5, dx=1.0))
    with pytest.raises(InputError, match=message):
        ebsd.clean(scan, [("nci", 0.01), step])


def test_a_map_without_ci() -> None:
    scan = random_map(np.random.default_rng(9), Grid.square(4, 5, dx=1.0)).replace(ci=None)
    ebsd.clean(scan, [("noc", 5.0, 2)])
    with pytest.raises(InputError, match=r"default steps need the confidence index.*steps=\[\('noc', 5.0, 2\)\]"):
        ebsd.clean(scan)
    with pytest.raises(InputError, match="'nci' needs the confidence index"):
        ebsd.clean(scan, [("nci", 0.01)])
