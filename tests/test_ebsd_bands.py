"""Maps in bands: the results of the whole map, for any height of the bands."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bainite_fast
from bainite_fast import ebsd
from bainite_fast.ebsd import Grid, StoredMap
from bainite_fast.errors import EBSDFileError, EBSDNotFoundError, InputError, OutputError, OutputExistsError
from ebsd_helpers import random_map
from property_helpers import examples

GRIDS = st.one_of(
    st.builds(lambda rows, columns: Grid.square(rows, columns, dx=0.5), st.integers(1, 25), st.integers(1, 12)),
    st.builds(
        lambda rows, columns, less: Grid.hexagonal(rows, columns, dx=0.2, columns_even=columns - less),
        st.integers(1, 25),
        st.integers(2, 12),
        st.integers(0, 1),
    ),
)
FEW = examples(15)


def stored(scan: ebsd.EBSDMap, folder: Path) -> StoredMap:
    ebsd.write(scan, folder / "map.zarr")
    return StoredMap(folder / "map.zarr")


@FEW
@given(grid=GRIDS, rows=st.integers(1, 9), order=st.integers(1, 4), perimeter=st.booleans(), seed=st.integers(0, 999))
def test_kam_in_bands_has_the_same_bits(grid: Grid, rows: int, order: int, perimeter: bool, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid, laue=("m-3m", "mmm"))
    ids = ebsd.grains(scan).ids.ravel()
    for grains in (None, ids):
        found = np.full(scan.size, -1.0, np.float32)
        with tempfile.TemporaryDirectory() as folder:
            source = stored(scan, Path(folder))
            for points, values in ebsd.kam_bands(source, order, rows=rows, perimeter=perimeter, grains=grains):
                found[points] = values
        expected = bainite_fast.kam(scan, order, perimeter=perimeter, grains=grains).ravel()
        assert np.array_equal(found, expected, equal_nan=True)


@FEW
@given(
    grid=GRIDS,
    rows=st.integers(1, 9),
    least=st.integers(1, 3),
    tolerance=st.sampled_from([1.0, 5.0]),
    seed=st.integers(0, 999),
)
def test_grains_are_merged_across_bands(grid: Grid, rows: int, least: int, tolerance: float, seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid, laue=("m-3m", "6/mmm"), missing=0.2)
    whole = ebsd.grains(scan, tolerance, least)
    with tempfile.TemporaryDirectory() as folder:
        source = stored(scan, Path(folder))
        found = ebsd.grains_of_store(source, Path(folder) / "grains.zarr", tolerance, least, rows=rows)
        assert np.array_equal(found.ids[:], whole.point_ids)
        assert np.array_equal(found.grod[:], whole.grod.ravel(), equal_nan=True)
    assert len(found) == len(whole)
    for one, other in [
        (found.first, whole.first),
        (found.sizes, whole.sizes),
        (found.phase_id, whole.phase_id),
        (found.mean_orientation, whole.mean_orientation),
        (found.gos, whole.gos),
        (found.gam_pairs, whole.gam("pairs")),
        (found.gam_kam, whole.gam("kam")),
    ]:
        assert np.array_equal(one, other, equal_nan=True)


STEPS: list[list[Any]] = [
    [("nci", 0.5)],
    [("nci", 0.5, 3), ("noc", 5.0, 3)],
    [("noc", 4.0, 2), ("ci_standardisation", 3.0), ("nci", 0.9, "converge")],
    [("nci", 0.9, "converge"), ("ci_standardisation",)],
    [],
]


@FEW
@given(grid=GRIDS, rows=st.integers(1, 9), steps=st.sampled_from(STEPS), seed=st.integers(0, 999))
def test_clean_up_in_bands(grid: Grid, rows: int, steps: list[Any], seed: int) -> None:
    scan = random_map(np.random.default_rng(seed), grid, laue=("m-3m", "m-3m"), missing=0.3)
    whole, whole_log = ebsd.clean(scan, steps)
    with tempfile.TemporaryDirectory() as folder:
        source = stored(scan, Path(folder))
        log = ebsd.clean_store(source, Path(folder) / "cleaned.zarr", steps, rows=rows)
        found = ebsd.read(Path(folder) / "cleaned.zarr")
        assert sorted(path.name for path in Path(folder).iterdir()) == ["cleaned.zarr", "map.zarr"]
    assert np.array_equal(found.phase_id, whole.phase_id)
    assert np.array_equal(found.quaternions, whole.quaternions)
    assert np.array_equal(found.properties["ci"], whole.properties["ci"])
    assert [step.counts for step in log.steps] == [step.counts for step in whole_log.steps]
    for one, other in zip(log.steps, whole_log.steps, strict=True):
        assert np.array_equal(one.turn, other.turn)


def test_refusals(tmp_path: Path) -> None:
    source = stored(random_map(np.random.default_rng(0), Grid.square(6, 5, dx=1.0)), tmp_path)
    with pytest.raises(InputError, match="1 to 10"):
        list(ebsd.kam_bands(source, 0))
    with pytest.raises(InputError, match="rows=0"):
        list(ebsd.kam_bands(source, 1, rows=0))
    with pytest.raises(InputError, match="order=True"):
        list(ebsd.kam_bands(source, True))
    with pytest.raises(InputError, match=r"grains have shape \(29,\); an integer for each of 30 points"):
        list(ebsd.kam_bands(source, 1, grains=np.zeros(29, np.int32)))
    with pytest.raises(OutputError, match="nowhere does not exist"):
        ebsd.clean_store(source, tmp_path / "nowhere" / "map.zarr")
    with pytest.raises(InputError, match="rows=2.5"):
        list(source.bands(2.5))  # type: ignore[arg-type]
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="is the map itself"):
            ebsd.clean_store(source, source.path, [("noc", 5.0, 1)], overwrite=overwrite)
    with pytest.raises(OutputExistsError):
        ebsd.grains_of_store(source, source.path)
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError):
            ebsd.grains_of_store(source, source.path, overwrite=overwrite)
    (tmp_path / "grains").mkdir()
    with pytest.raises(OutputExistsError, match="is no EBSD store"):
        ebsd.clean_store(source, tmp_path / "grains", [("noc", 5.0, 1)], overwrite=True)
    ebsd.grains_of_store(source, tmp_path / "grains.zarr")
    (tmp_path / "grains.zarr" / "notes.txt").touch()
    with pytest.raises(OutputExistsError, match="also holds notes.txt"):
        ebsd.grains_of_store(source, tmp_path / "grains.zarr", overwrite=True)
    with pytest.raises(InputError, match="tuple"):
        ebsd.clean_store(source, tmp_path / "new.zarr", ["nci"])  # type: ignore[list-item]
    assert {path.name for path in tmp_path.iterdir()} == {"grains", "grains.zarr", "map.zarr"}


def test_grains_are_taken_as_what_finds_them_returns(tmp_path: Path) -> None:
    scan = random_map(np.random.default_rng(4), Grid.square(11, 9, dx=1.0))
    source = stored(scan, tmp_path)
    expected = bainite_fast.kam(scan, 2, grains=ebsd.grains(scan)).ravel()
    for grains in (ebsd.grains(scan), ebsd.grains(scan).ids, ebsd.grains_of_store(source, tmp_path / "grains.zarr")):
        found = np.concatenate([values for _, values in ebsd.kam_bands(source, 2, rows=4, grains=grains)])
        assert np.array_equal(found, expected, equal_nan=True)


def test_a_stored_map_without_an_indexed_point(tmp_path: Path) -> None:
    scan = random_map(np.random.default_rng(4), Grid.hexagonal(7, 6, dx=1.0), missing=1.0)
    source = stored(scan, tmp_path)
    grains = ebsd.grains_of_store(source, tmp_path / "grains.zarr", rows=2)
    assert len(grains) == len(ebsd.grains(scan)) == 0
    assert len(ebsd.grains_of_store(source, tmp_path / "grains.zarr", overwrite=True)) == 0
    assert (np.asarray(grains.ids) == -1).all()
    log = ebsd.clean_store(source, tmp_path / "clean.zarr", [("ci_standardisation",), ("noc", 5.0, 1)], rows=2)
    assert not log.changed.any()


def test_stores_are_named_by_text_too_and_bands_must_continue_the_map(tmp_path: Path) -> None:
    scan = random_map(np.random.default_rng(4), Grid.hexagonal(8, 6, dx=1.0))
    path = str(tmp_path / "map.zarr")
    with ebsd.ZarrWriter(path, scan.grid, scan.phases, properties=("ci",)) as writer:
        writer.append(scan.crop((0, 4), (0, 6)))
        with pytest.raises(InputError, match="does not continue"):
            writer.append(scan.crop((4, 8), (0, 5)))
        writer.append(scan.crop((4, 8), (0, 6)))
    assert np.array_equal(StoredMap(path).rows(0, 8).quaternions, scan.quaternions)
    with (
        pytest.raises(InputError, match="start shifted"),
        ebsd.ZarrWriter(tmp_path / "odd.zarr", scan.grid, scan.phases) as writer,
    ):
        writer.append(scan.crop((0, 3), (0, 6)))
        writer.append(scan.crop((2, 4), (0, 6)))
    assert not (tmp_path / "odd.zarr").exists()
    with pytest.raises(EBSDNotFoundError):
        StoredMap(tmp_path / "nothing.zarr")
    node = tmp_path / "map.zarr" / "zarr.json"
    node.write_text(node.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(EBSDFileError, match="version 9"):
        StoredMap(path)
