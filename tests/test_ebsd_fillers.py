"""Columns that a text format demands and a map has no values for: written as fillers, and never read as measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from typer.testing import CliRunner

from bainite_fast import ebsd
from bainite_fast.cli import app
from bainite_fast.errors import EBSDFileError, InputError
from ebsd_files import FERRITE, TITANIUM, make_map, write_crc
from property_helpers import examples

GRID = ebsd.Grid.square(7, 9, dx=0.25)
HELD = {".ang": ("iq", "ci", "sem_signal", "fit"), ".ctf": ("bands", "mad", "band_contrast", "band_slope")}


@pytest.mark.parametrize("suffix", HELD)
@pytest.mark.parametrize("phases", [(FERRITE,), (FERRITE, TITANIUM)], ids=["one phase", "two phases"])
@examples(12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(absent=st.sets(st.sampled_from([name for names in HELD.values() for name in names])))
def test_what_a_map_has_no_values_for_stays_absent(
    tmp_path: Path, suffix: str, phases: tuple[ebsd.Phase, ...], absent: set[str]
) -> None:
    full = make_map(GRID, phases=phases).replace(sem_signal=np.arange(GRID.size, dtype=np.float32))
    nothing: dict[str, Any] = dict.fromkeys(absent)
    written = full.replace(**nothing)
    read = ebsd.read(ebsd.write(written, tmp_path / f"map{suffix}", overwrite=True))
    assert set(read.properties) == set(written.properties) & set(HELD[suffix])
    assert np.array_equal(read.phase_id, written.phase_id)
    again = ebsd.read(ebsd.write(read, tmp_path / f"again{suffix}", overwrite=True))
    assert set(again.properties) == set(read.properties)
    assert np.array_equal(again.indexed, written.indexed)


def test_a_converted_scan_has_no_invented_ci(tmp_path: Path) -> None:
    source = write_crc(make_map(GRID, phases=(FERRITE,)), tmp_path / "scan.cpr")
    out = tmp_path / "scan.ang"
    runner = CliRunner()
    assert runner.invoke(app, ["ebsd", "convert", str(source), str(out)]).exit_code == 0
    read = ebsd.read(out)
    assert read.properties == {}
    assert np.array_equal(read.indexed, ebsd.read(source).indexed)
    assert not read.indexed.all()
    with pytest.raises(InputError, match="confidence index"):
        ebsd.clean(read)
    for arguments in (
        ("clean", str(out), str(tmp_path / "clean.ang")),
        ("maps", str(out), str(tmp_path / "maps"), "--kind", "ci"),
    ):
        done = runner.invoke(app, ["ebsd", *arguments])
        assert done.exit_code == 1
        assert "no confidence index" in done.output or "no data for a map of ci" in done.output
    assert {item.name for item in tmp_path.iterdir()} == {"scan.cpr", "scan.crc", "scan.ang"}


def test_other_programs_find_a_file_as_ever(tmp_path: Path) -> None:
    bare = ebsd.EBSDMap(grid=GRID, phases=(FERRITE,), quaternions=np.tile([1.0, 0, 0, 0], (GRID.size, 1)))
    lines = ebsd.write(bare, tmp_path / "map.ang").read_text().splitlines()
    head = [line for line in lines if line.startswith("#")]
    assert lines[: len(head)] == head
    assert "# FILLER_COLUMNS: iq, ci, sem_signal, fit" in head
    assert np.loadtxt(tmp_path / "map.ang").shape == (GRID.size, 10)
    lines = ebsd.write(bare, tmp_path / "map.ctf").read_text().splitlines()
    # Its readers count lines: nothing is added.
    assert lines[:4] == ["Channel Text File", "Prj ", "Author\t[filler columns: Bands, MAD, BC, BS]", "JobMode\tGrid"]
    assert np.loadtxt(lines[15:]).shape == (GRID.size, 11)
    full = make_map(GRID).replace(sem_signal=np.zeros(GRID.size))
    for suffix in HELD:
        assert "filler" not in ebsd.write(full, tmp_path / f"full{suffix}").read_text().lower()


def test_a_filler_column_that_there_is_not_is_refused(tmp_path: Path) -> None:
    bare = make_map(GRID).replace(ci=None, mad=None)
    for suffix, old, line in ((".ang", ": ci, sem_signal", 36), (".ctf", ": MAD", 3)):
        path = ebsd.write(bare, tmp_path / f"map{suffix}")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, ": mood"))
        with pytest.raises(EBSDFileError, match="'mood' is no column that can be a filler") as caught:
            ebsd.read(path)
        assert caught.value.line == line


def test_fillers_do_not_turn_up_in_the_metadata(tmp_path: Path) -> None:
    bare = make_map(GRID).replace(ci=None, mad=None)
    for suffix in HELD:
        metadata = ebsd.read(ebsd.write(bare, tmp_path / f"map{suffix}")).metadata
        assert "filler" not in str(dict(metadata)).lower()
