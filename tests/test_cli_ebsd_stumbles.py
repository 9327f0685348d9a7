"""``bainite-fast ebsd`` where a user stumbles: nothing indexed, radians, the wrong command, help and wording."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from bainite_fast import ebsd, io
from bainite_fast.cli import app
from bainite_fast.ebsd.describe import with_same_digits
from bainite_fast.errors import BainiteWarning, EBSDFileError, InputError, MosaicError
from ebsd_files import FERRITE, SEEDS, TITANIUM, make_map

GRID = ebsd.Grid.square(8, 9, dx=0.2)


def run(*arguments: object) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # shown, as they are to a user
        return CliRunner().invoke(app, [str(word) for word in arguments])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    euler = [10.0, 20.0, 30.0] + rng.normal(0, 0.05, (GRID.size, 3))
    quaternions = ebsd.quaternions_from_euler(euler, degrees=True)
    return ebsd.write(make_map(GRID, phases=(FERRITE,)).replace(quaternions=quaternions), tmp_path / "scan.ang")


def blind(path: Path, **changes: object) -> Path:
    nothing = np.full(GRID.size, -1, np.int16)
    return ebsd.write(make_map(GRID, phases=(FERRITE,)).replace(phase_id=nothing, **changes), path)


MARKS = {"ang": "CI of -1", "ctf": "phase 0", "crc": "phase 0", "oxford": "phase 0", "bruker": "phase 0"}


@pytest.mark.parametrize("name", MARKS)
def test_a_scan_with_nothing_indexed_says_so(tmp_path: Path, name: str) -> None:
    suffix, write = SEEDS[name]
    made = make_map(GRID, phases=(FERRITE,)).replace(phase_id=np.full(GRID.size, -1, np.int16))
    path = write(made, tmp_path / f"blind{suffix}")
    there = set(tmp_path.iterdir())
    for arguments in (
        ("kam", path, "--out", tmp_path / "kam.png"),
        ("grains", path, "--out", tmp_path / "grains.csv"),
        ("clean", path, tmp_path / "clean.ang", "--step", "noc:5,2"),
        ("maps", path, tmp_path / "maps", "--kind", "kam"),
        ("maps", path, tmp_path / "maps", "--kind", "phase"),
    ):
        done = run("ebsd", *arguments)
        assert done.exit_code == 1, arguments
        assert "none of the 72 points is indexed: each is marked as not indexed, by " in done.output
        assert MARKS[name] in done.output
        assert len(done.output.strip().splitlines()) == 1
    assert set(tmp_path.iterdir()) == there
    info = run("ebsd", "info", path)
    assert info.exit_code == 0
    assert "note        none of the 72 points is indexed" in info.stdout
    assert json.loads(run("ebsd", "info", path, "--json").stdout)["indexed"] == 0


def test_what_was_measured_is_drawn_where_nothing_is_indexed(tmp_path: Path) -> None:
    path = blind(tmp_path / "blind.ang")
    assert ebsd.available_kinds(ebsd.read(path)) == ("iq",)  # CI is -1 everywhere
    found = json.loads(run("ebsd", "maps", path, tmp_path / "maps", "--json").stdout)
    assert list(found["maps"]) == ["iq"]
    empty = blind(tmp_path / "empty.ang", iq=None)
    done = run("ebsd", "maps", empty, tmp_path / "none")
    assert done.exit_code == 1
    assert "none of the 72 points is indexed" in done.output
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("kam", "SCAN", "--max-angle", "0.0873"),
        ("kam", "SCAN", "--in-grains", "0.0873"),
        ("grains", "SCAN", "--tolerance", "0.0873"),
        ("maps", "SCAN", "OUT", "--kind", "gos", "--tolerance", "0.0873"),
        ("maps", "SCAN", "OUT", "--kind", "kam", "--max-angle", "0.0873"),
        ("clean", "SCAN", "OUT.ang", "--step", "noc:0.0873,2"),
    ],
)
def test_radians_are_warned_of_once(scan: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    words = {"SCAN": scan, "OUT": tmp_path / "out", "OUT.ang": tmp_path / "out.ang"}
    done = run("ebsd", *(words.get(word, word) for word in arguments))
    assert done.exit_code == 0
    said = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert len(said) == 1
    assert "0.0873 is taken as degrees" in said[0]
    assert "if radians are meant, give 5.002" in said[0]
    fine = [words.get(word, word.replace("0.0873", "0.3")) for word in arguments]
    plain = run("ebsd", *fine, *(["--overwrite"] if "OUT" in "".join(arguments) else []))
    assert plain.exit_code == 0
    assert "radians" not in plain.stderr


def test_the_library_warns_of_radians_too() -> None:
    made = make_map(GRID, phases=(FERRITE,))
    for call in (
        lambda: ebsd.kam(made, 1, max_angle=0.05),
        lambda: ebsd.grains(made, 0.05),
        lambda: ebsd.boundaries(made, low=0.05),
        lambda: ebsd.MapOptions(tolerance=0.05),
    ):
        with pytest.warns(BainiteWarning, match=r"the angle 0\.05 is taken as degrees"):
            call()


def test_each_command_points_to_the_other(scan: Path, tmp_path: Path) -> None:
    written = {
        "ctf": ebsd.write(make_map(GRID), tmp_path / "scan.ctf"),
        "zarr": ebsd.write(make_map(GRID), tmp_path / "scan.zarr"),
        "edax": SEEDS["edax"][1](make_map(GRID), tmp_path / "scan.h5"),
        "crc": SEEDS["crc"][1](make_map(GRID), tmp_path / "other.cpr"),
    }
    for path in (scan, *written.values(), tmp_path / "other.crc"):
        done = run("info", path)
        assert done.exit_code == 1
        assert "EBSD scan" in done.output
        assert "see `bainite-fast ebsd info`" in done.output
        with pytest.raises(MosaicError, match=r"read it with bainite_fast\.ebsd\.read\(\)"):
            io.open_mosaic(path)
    pixels = np.arange(4096, dtype=np.uint8).reshape(64, 64)
    io.write_image(io.open_mosaic(pixels), tmp_path / "image.ome.zarr")
    images = [tmp_path / "image.ome.zarr"]
    from PIL import Image

    for suffix in ("tif", "png", "jpg", "bmp"):
        Image.fromarray(pixels).save(tmp_path / f"image.{suffix}")
        images.append(tmp_path / f"image.{suffix}")
    for path in images:
        done = run("ebsd", "info", path)
        assert done.exit_code == 1
        assert "image and no EBSD scan: see `bainite-fast info`" in done.output
        with pytest.raises(EBSDFileError, match=r"open it with bainite_fast\.io\.open_mosaic\(\)"):
            ebsd.read(path)


def test_help_says_that_the_default_clean_up_needs_a_ci() -> None:
    text = " ".join(run("ebsd", "clean", "--help").stdout.split())
    assert "scans with a confidence index (CI)" in text
    assert "give steps without nci there, such as --step noc:5,2" in text
    assert "a .ctf or .cpr scan needs --step noc:5,2" in text
    with pytest.raises(InputError, match="the default steps need the confidence index"):
        ebsd.clean(make_map(GRID).replace(ci=None))


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((39.8372, 20.6), ["39.84", "20.60"]),
        ((590.0, 584.0), ["590", "584"]),
        ((148.5, 174.0), ["148.5", "174.0"]),
        ((359.04, 479.04), ["359", "479"]),
        ((0.75, 9.75), ["0.75", "9.75"]),
        ((12345.6, 0.0), ["12346", "0"]),
        ((0.0, 0.0), ["0", "0"]),
        ((0.0123, 0.02), ["0.0123", "0.0200"]),
    ],
)
def test_lengths_have_the_same_number_of_decimals(values: tuple[float, float], texts: list[str]) -> None:
    assert with_same_digits(*values) == texts


def test_a_size_says_which_is_the_height() -> None:
    made = make_map(ebsd.Grid.square(4, 6, dx=0.25))
    assert "24 points, 0.75 µm high × 1.25 µm wide" in repr(made)
    half = (np.arange(24) >= 18).astype(np.int16) + 1
    phases = (FERRITE, TITANIUM)
    turn = np.tile([1.0, 0.0, 0.0, 0.0], (24, 1))
    lines = repr(ebsd.grains(ebsd.EBSDMap(grid=made.grid, phases=phases, quaternions=turn, phase_id=half))).splitlines()
    assert lines[2].split()[-6:] == ["1", "75.0", "%", "1.125", "1.125", "1.197"]
    assert lines[3].split()[-6:] == ["1", "25.0", "%", "0.375", "0.375", "0.691"]
    assert "step 0.25 µm across × 0.5 µm down" in str(ebsd.Grid.square(4, 6, dx=0.25, dy=0.5))
    assert str(ebsd.Grid.square(4, 6, dx=0.25)).endswith("step 0.25 µm")


def test_percent_signs_stand_apart(scan: Path, tmp_path: Path) -> None:
    texts = [
        run("ebsd", "info", scan).stdout,
        run("ebsd", "grains", scan).stdout,
        run("ebsd", "clean", scan, tmp_path / "clean.ang").stdout,
    ]
    for text in texts:
        assert re.search(r"\d %", text)
        assert not re.search(r"\d%", text)
