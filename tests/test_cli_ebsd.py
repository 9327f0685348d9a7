"""``bainite-fast ebsd`` on scans made here."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bainite_fast import ebsd
from bainite_fast.cli import app
from ebsd_files import FERRITE, make_map

GRID = ebsd.Grid.hexagonal(12, 10, dx=0.2)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ebsd", *map(str, arguments)])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Two grains, left and right, of noisy orientations, with a point that is not indexed."""
    rng = np.random.default_rng(0)
    made = make_map(GRID, phases=(FERRITE,), holes=False)
    _, column = GRID.row_and_column()
    euler = np.where(column[:, None] < 5, [10.0, 20.0, 30.0], [40.0, 30.0, 10.0]) + rng.normal(0, 0.3, (GRID.size, 3))
    quaternions = ebsd.quaternions_from_euler(euler, degrees=True)
    phase_id = np.array(made.phase_id)
    phase_id[40] = -1
    return ebsd.write(made.replace(quaternions=quaternions, phase_id=phase_id), tmp_path / "scan.ang")


def test_info_is_a_table_and_json(scan: Path) -> None:
    text = run("info", scan).stdout
    assert "hexagonal, 12 rows × 10/9 columns, step 0.2 µm" in text
    assert "Ferrite" in text
    found = json.loads(run("info", scan, "--json").stdout)
    assert (found["points"], found["not_indexed"]) == (114, 1)
    assert found["phases"][0]["lattice"][0] == 2.87


def test_kam_is_that_of_the_library(scan: Path, tmp_path: Path) -> None:
    out, sheet = tmp_path / "kam.npy", tmp_path / "kam.csv"
    done = run("kam", scan, "--order", 2, "--perimeter", "--out", out, "--out", sheet, "--json")
    expected = ebsd.kam(ebsd.read(scan), 2, perimeter=True)
    assert np.array_equal(np.load(out), expected, equal_nan=True)
    found = json.loads(done.stdout)
    assert found["mean_deg"] == pytest.approx(float(np.nanmean(expected)))
    assert found["written"] == [str(out), str(sheet)]
    with sheet.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["kam_deg"] or "nan") for row in rows] == pytest.approx(expected.tolist(), abs=1e-6, nan_ok=True)


def test_grains_are_those_of_the_library(scan: Path, tmp_path: Path) -> None:
    out, sheet = tmp_path / "ids.npy", tmp_path / "grains.csv"
    found = json.loads(run("grains", scan, "--out", out, "--out", sheet, "--json").stdout)
    grains = ebsd.grains(ebsd.read(scan), 5.0, 2)
    assert found["grains"] == len(grains) == 2
    assert np.array_equal(np.load(out), grains.ids)
    with sheet.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["gos_deg"]) for row in rows] == pytest.approx(grains.gos.tolist(), rel=1e-6)
    assert sum(int(row["points"]) for row in rows) == 113


def test_clean_writes_a_cleaned_scan_and_says_what_changed(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean.ang"
    found = json.loads(run("clean", scan, out, "--step", "nci:0.01,converge", "--json").stdout)
    assert found["steps"][0]["name"] == "nci"
    cleaned, log = ebsd.clean(ebsd.read(scan), [("nci", 0.01, "converge")])
    assert found["changed"] == int(log.changed.sum()) > 0
    assert ebsd.read(out).indexed.all() == cleaned.indexed.all()


def test_convert_to_a_square_grid(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "square.ctf"
    assert run("convert", scan, out, "--square", 0.1).exit_code == 0
    assert ebsd.read(out).grid == ebsd.read(scan).to_square(0.1).grid


def test_maps_are_drawn(scan: Path, tmp_path: Path) -> None:
    found = json.loads(run("maps", scan, tmp_path / "maps", "--kind", "kam", "--json").stdout)
    assert Path(found["maps"]["kam"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("info", "nothing.ang"), "does not exist"),
        (("kam", "SCAN", "--out", "kam.tif"), ".npy"),
        (("convert", "SCAN", "map.osc"), "suffix"),
        (("clean", "SCAN", "map.ang", "--step", "polish:3"), "polish"),
        (("maps", "SCAN", "maps", "--kind", "mood"), "mood"),
    ],
)
def test_mistakes_are_named_on_one_line(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*[str(scan) if word == "SCAN" else word for word in arguments])
    assert done.exit_code == 1
    assert words in done.output
    assert done.output.strip().splitlines()[-1].startswith("error: ")
    assert {item.name for item in tmp_path.iterdir()} <= {"scan.ang", "maps"}


def test_a_truncated_scan_names_the_option_that_reads_it(scan: Path) -> None:
    scan.write_text("\n".join(scan.read_text().splitlines()[:-5]))
    done = run("info", scan)
    assert done.exit_code == 1
    assert "--allow-missing" in done.output
    assert run("info", scan, "--allow-missing").exit_code == 0


@pytest.mark.parametrize("command", ["clean", "convert"])
def test_a_scan_is_never_replaced_by_what_is_made_of_it(scan: Path, command: str) -> None:
    before = scan.read_bytes()
    refused = run(command, scan, scan.parent / ".." / scan.parent.name / scan.name, "--overwrite")
    assert refused.exit_code == 1
    assert "is the scan itself" in refused.output
    assert scan.read_bytes() == before


def test_a_write_protected_scan_is_not_replaced(scan: Path, tmp_path: Path) -> None:
    protected = tmp_path / "protected.ang"
    protected.write_bytes(scan.read_bytes())
    protected.chmod(0o444)
    refused = run("convert", scan, protected, "--overwrite")
    assert refused.exit_code == 1
    assert "write-protected" in refused.output
    assert protected.read_bytes() == scan.read_bytes()
