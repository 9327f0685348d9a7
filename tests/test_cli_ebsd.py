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
from bainite_fast.cli._parsing import MAP_KINDS
from bainite_fast.synthetic import make_ebsd
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


def test_places_in_a_kam_table_are_exact_on_maps_of_many_mm(tmp_path: Path) -> None:
    grid = ebsd.Grid.square(1, 9000, dx=1.25)
    scan = ebsd.write(make_map(grid), tmp_path / "scan.ctf")
    assert run("kam", scan, "--out", tmp_path / "kam.csv").exit_code == 0
    with (tmp_path / "kam.csv").open() as file:
        assert [float(row["x_um"]) for row in csv.DictReader(file)] == grid.coordinates()[0].tolist()


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


@pytest.fixture(scope="module")
def steel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ferrite and bainite, with austenite in the last columns."""
    made, _ = make_ebsd(ebsd.Grid.square(50, 50, dx=0.3), preset="sem", seed=24)
    _, column = made.grid.row_and_column()
    phases = (ebsd.Phase(1, "Ferrite", lattice=_cubic(2.87)), ebsd.Phase(2, "Austenite", lattice=_cubic(3.6)))
    ids = np.where(made.indexed, np.where(column > 40, 2, 1), -1).astype(np.int16)
    return ebsd.write(made.replace(phases=phases, phase_id=ids), tmp_path_factory.mktemp("steel") / "steel.zarr")


def _cubic(a: float) -> tuple[float, float, float, float, float, float]:
    return (a, a, a, 90.0, 90.0, 90.0)


def test_bainite_is_that_of_the_library(steel: Path, tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("labels.npy", "grains.csv", "map.png", "map.ome.zarr")]
    done = run("bainite", steel, *(word for path in outs for word in ("--out", path)), "--json")
    expected = ebsd.find_bainite(ebsd.read(steel))
    found = json.loads(done.stdout)
    assert found["phases"] == [{"id": 1, "name": "Ferrite"}]
    shares = {name.replace("_", " "): share for name, share in found["fractions"].items()}
    assert shares == pytest.approx(expected.fractions)
    assert 0.15 < shares["not judged"] < 0.25
    assert sum(found["grains"].values()) == len(expected.grain_labels)
    assert np.array_equal(np.load(outs[0]), expected.labels.reshape(50, 50))
    with outs[1].open() as file:
        assert len(list(csv.DictReader(file))) == len(expected.grain_labels)
    assert outs[2].read_bytes().startswith(b"\x89PNG")
    assert (outs[3] / "zarr.json").is_file()
    assert found["written"] == [str(path) for path in outs]
    again = run("bainite", steel, "--out", outs[0])
    assert again.exit_code == 1
    assert "labels.npy exists" in again.output
    assert "not judged" in run("bainite", steel).stdout
    filled = json.loads(run("bainite", steel, "--fill", "--json").stdout)
    assert filled["fractions"]["not_judged"] == 0.0


def test_phases_to_judge_are_named_or_numbered(steel: Path, tmp_path: Path) -> None:
    by_name = json.loads(run("bainite", steel, "--phases", "Austenite", "--json").stdout)
    assert by_name["phases"] == [{"id": 2, "name": "Austenite"}]
    assert json.loads(run("bainite", steel, "--phases", "2", "--json").stdout) == by_name
    both = json.loads(run("bainite", steel, "--phases", "2", "--phases", "Ferrite", "--json").stdout)
    assert both["fractions"]["not_judged"] == 0.0
    known = run("bainite", steel, "--phases", "Cementite")
    assert known.exit_code == 1
    assert "no phase 'Cementite'" in known.output
    copper = ebsd.read(steel).replace(phases=(ebsd.Phase(1, "Copper"), ebsd.Phase(2, "Nickel")))
    refused = run("bainite", ebsd.write(copper, tmp_path / "copper.zarr"))
    assert refused.exit_code == 1
    assert "cannot be ferrite or bainite" in refused.output
    assert "--phases Copper" in refused.output
    assert len(refused.output.strip().splitlines()) == 1


def test_maps_are_drawn(scan: Path, tmp_path: Path) -> None:
    found = json.loads(run("maps", scan, tmp_path / "maps", "--kind", "kam", "--json").stdout)
    assert Path(found["maps"]["kam"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("info", "nothing.ang"), "does not exist"),
        (("kam", "SCAN", "--out", "kam.tif"), ".npy"),
        (("convert", "SCAN", "map.osc"), "suffix"),
        (("kam", "SCAN", "--out", "nowhere/kam.npy"), "folder nowhere does not exist"),
        (("kam", "SCAN", "--out", "kam.npy", "--out", "kam.npy"), "written twice"),
        (("kam", "SCAN", "--max-angle", "200"), "--max-angle 200.0 is refused"),
        (("kam", "SCAN", "--max-angle", "0"), "at most 180 degrees, or inf for no limit"),
        (("kam", "SCAN", "--in-grains", "70"), "--in-grains 70.0 is refused: no two orientations of m-3m"),
        (("grains", "SCAN", "--tolerance", "200"), "--tolerance 200.0 is refused"),
        (("grains", "SCAN", "--tolerance", "63"), "62.80°"),
        (("clean", "SCAN", "map.ang", "--step", "nci:low"), "--step nci:low: CI 'low'"),
        (("clean", "SCAN", "map.ang", "--step", "noc:5,2", "--step", "noc:5,9"), "--step noc:5,9: level 9"),
        (("clean", "SCAN", "map.ang", "--step", "noc:-5,1"), "--step noc:-5,1: "),
        (("clean", "SCAN", "nowhere/map.ang"), "folder nowhere does not exist"),
        (("convert", "SCAN", "map.ctf"), "convert --square UM"),
        (("clean", "SCAN", "map.ctf", "--step", "noc:5,9"), "square grids only"),
        (("kam", "SCAN", "--neighbourhood", "4"), "--neighbourhood 4 is refused; on a hexagonal grid use 'hexagonal'"),
        (("maps", "SCAN", "maps", "--tolerance", "200"), "--tolerance 200.0 is refused"),
        (("maps", "SCAN", "scan.ang"), "is a file"),
        (("maps", "SCAN", "maps", "--kind", "boundaries", "--outlines", "--format", "ome-zarr"), "--outlines"),
    ],
)
def test_mistakes_are_named_on_one_line(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*[str(scan) if word == "SCAN" else word for word in arguments])
    assert done.exit_code == 1
    assert words in done.output
    assert done.output.startswith("error: ")
    assert len(done.output.strip().splitlines()) == 1
    assert "(" not in done.output
    assert [item.name for item in tmp_path.iterdir()] == ["scan.ang"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("clean", "SCAN", "map.ang", "--step", "polish:3"), "'polish:3' is no step"),
        (("clean", "SCAN", "map.ang", "--step", "nci"), "nci:CI[,PASSES|converge]"),
        (("clean", "SCAN", "map.ang", "--step", "nci:0.01,,2"), "is no step"),
        (("clean", "SCAN", "map.ang", "--step", "noc:5"), "noc:DEG,LEVEL"),
        (("maps", "SCAN", "maps", "--kind", "kam", "--kind", "mood"), "mood"),
        (("convert", "SCAN", "map.ang", "--square", "-0.1"), "'-0.1' is no step"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*[str(scan) if word == "SCAN" else word for word in arguments])
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", " ").split())
    assert [item.name for item in tmp_path.iterdir()] == ["scan.ang"]


def test_steps_may_be_written_in_capitals_as_in_oim(scan: Path, tmp_path: Path) -> None:
    found = json.loads(run("clean", scan, tmp_path / "a.zarr", "--step", "NCI:0.01, converge", "--json").stdout)
    assert [(step["name"], step["arguments"]) for step in found["steps"]] == [("nci", [0.01, "converge"])]


def test_maps_names_its_kinds_and_checks_all_before_it_draws_any(scan: Path, tmp_path: Path) -> None:
    assert MAP_KINDS == ebsd.KINDS
    text = " ".join(run("maps", "--help").stdout.split())
    assert all(kind in text for kind in ebsd.KINDS)
    plain = ebsd.write(ebsd.read(scan).replace(iq=None), tmp_path / "plain.zarr")
    done = run("maps", plain, tmp_path / "maps", "--kind", "kam", "--kind", "iq")
    assert done.exit_code == 1
    assert done.output.startswith("error: plain.zarr has no data for a map of iq; it has data for kam, gos")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "grains.png").touch()
    done = run("maps", scan, tmp_path / "maps", "--kind", "kam", "--kind", "grains")
    assert done.exit_code == 1
    assert done.output.startswith("error: ")
    assert "--overwrite" in done.output
    assert [item.name for item in (tmp_path / "maps").iterdir()] == ["grains.png"]


def test_what_a_format_cannot_hold_is_said(scan: Path, tmp_path: Path) -> None:
    done = run("convert", scan, tmp_path / "a.ctf", "--square", 0.1, "--json")
    assert "warning: a.ctf: .ctf has no place for ci, iq, fit;" in done.stderr
    assert json.loads(done.stdout)["properties"].keys() >= {"ci", "iq"}
    assert "no place" not in run("convert", tmp_path / "a.ctf", tmp_path / "b.ang").stderr
    whole = ebsd.write(make_map(ebsd.Grid.square(6, 7, dx=0.2), phases=(FERRITE,)), tmp_path / "whole.ctf")
    done = run("convert", whole, tmp_path / "b.ang", "--overwrite")
    assert "has no place for band_contrast, band_slope, bands, mad" in done.stderr
    done = run("clean", scan, tmp_path / "c.ang")
    assert "no place" not in done.stderr
    assert "no place" not in run("convert", scan, tmp_path / "d.zarr").stderr


def test_a_scan_without_ci_is_told_how_to_clean_up(scan: Path, tmp_path: Path) -> None:
    assert run("convert", scan, tmp_path / "a.ctf", "--square", 0.1).exit_code == 0
    done = run("clean", tmp_path / "a.ctf", tmp_path / "b.ctf")
    assert done.exit_code == 1
    assert "--step noc:5,2" in done.output
    assert run("clean", tmp_path / "a.ctf", tmp_path / "b.ctf", "--step", "noc:5,2").exit_code == 0


def test_kam_has_one_title_whichever_command_draws_it(scan: Path, tmp_path: Path) -> None:
    run("kam", scan, "--order", 2, "--out", tmp_path / "kam.ome.zarr")
    run("maps", scan, tmp_path / "maps", "--kind", "kam", "--order", 2, "--format", "ome-zarr")
    titles = [
        json.loads((place / "zarr.json").read_text())["attributes"]["bainite_fast"]["ebsd"]["title"]
        for place in (tmp_path / "kam.ome.zarr", tmp_path / "maps" / "kam.ome.zarr")
    ]
    assert titles == ["KAM, orders 1 to 2, hexagonal neighbours, up to 5°"] * 2


def test_a_stored_scan_is_never_replaced_by_its_kam(scan: Path, tmp_path: Path) -> None:
    store = ebsd.write(ebsd.read(scan), tmp_path / "scan.zarr")
    done = run("kam", store, "--out", store, "--overwrite")
    assert done.exit_code == 1
    assert "is the scan itself" in done.output
    assert ebsd.read(store).size == 114


def test_grains_of_single_points_have_no_gam_to_be_printed(tmp_path: Path) -> None:
    scan = ebsd.write(make_map(ebsd.Grid.square(2, 2, dx=1.0), phases=(FERRITE,), holes=False), tmp_path / "scan.ang")
    done = run("grains", scan, "--min-points", 1)
    assert done.exit_code == 0
    assert "GOS  0.0000°" in done.stdout
    assert "GAM" not in done.stdout


def test_grains_are_written_as_an_image(scan: Path, tmp_path: Path) -> None:
    out = tmp_path / "grains.ome.zarr"
    assert run("grains", scan, "--out", out).exit_code == 0
    assert run("grains", scan, "--out", out).exit_code == 1
    assert run("grains", scan, "--out", out, "--overwrite").exit_code == 0
    assert {item.name for item in tmp_path.iterdir()} == {"scan.ang", "grains.ome.zarr"}


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
