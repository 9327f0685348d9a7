"""Every command on real files: results on stdout, the rest on stderr, and the chain from picture to table."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from bainite_fast import io
from bainite_fast.cli import _segment, app
from bainite_fast.cli._console import progress
from bainite_fast.segmentation import ProgressEvent

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Ask = Callable[..., Any]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command that must succeed in an empty folder; return its JSON."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Any:
        done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture(scope="session")
def threshold(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a TorchScript file that labels what is brighter than one half."""
    network = torch.nn.Conv2d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1))
        network.bias.copy_(torch.tensor([0.5, 0.0]))
    path = tmp_path_factory.mktemp("model") / "threshold.pt"
    torch.jit.trace(network, torch.zeros(1, 1, 16, 16)).save(str(path))
    return str(path)


@pytest.fixture
def picture(tmp_path: Path) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Write picture.png, and return its pixels."""
    image = np.random.default_rng(3).integers(0, 256, (70, 90), dtype=np.uint8)
    (tmp_path / "picture.png").write_bytes(imagecodecs.png_encode(image))
    return image


def test_a_picture_is_segmented(ask: Ask, threshold: str, picture: np.ndarray[Any, Any]) -> None:
    result = ask("segment", "picture.png", "--model", threshold)
    bright = int((picture / 255 > 0.5).sum())
    assert list(result["counts"].values()) == [picture.size - bright, bright]
    assert sum(result["fractions"].values()) == pytest.approx(1)
    assert result["shape"] == [70, 90]
    assert Path(result["path"]).is_dir()
    assert Path(result["path"]).parts[-3:] == ("picture.ome.zarr", "labels", "phases")
    assert {"tile", "halo", "stride"} <= result["plan"].keys()
    assert result["seconds"] >= 0


def test_a_second_run_needs_leave_to_overwrite(ask: Ask, threshold: str, picture: np.ndarray[Any, Any]) -> None:
    command = ("segment", "picture.png", "--model", threshold)
    ask(*command)
    refused = CliRunner().invoke(app, [*command])
    assert refused.exit_code == 1
    assert "error: " in refused.stderr
    assert "overwrite" in refused.stderr
    ask(*command, "--overwrite")


def test_a_dry_run_writes_nothing(ask: Ask, threshold: str, picture: np.ndarray[Any, Any], tmp_path: Path) -> None:
    plan = ask("segment", "picture.png", "--model", threshold, "--dry-run", "--memory", "2GiB")
    assert plan["memory"] == 2 * 2**30
    assert plan["estimated_seconds"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["picture.png"]
    text = CliRunner().invoke(app, ["segment", "picture.png", "--model", threshold, "--dry-run"]).stdout
    for word in ("tiles", "halo", "memory", "time", "picture.ome.zarr/labels/phases (new)"):
        assert word in text


def test_a_dry_run_refuses_what_the_run_would(ask: Ask, threshold: str, picture: np.ndarray[Any, Any]) -> None:
    command = ("segment", "picture.png", "--model", threshold)
    ask(*command)
    refused = CliRunner().invoke(app, [*command, "--dry-run"])
    assert refused.exit_code == 1
    assert "overwrite" in refused.stderr
    assert ask(*command, "--dry-run", "--overwrite")["state"] == "replaces the labels there"
    Path("picture.ome.zarr/labels/other.partial").mkdir()
    assert ask(*command, "--dry-run", "--name", "other")["state"] == "replaces the unfinished run there"


def test_results_are_on_stdout_and_progress_on_stderr(threshold: str, picture: Any, tmp_path: Path) -> None:
    arguments = ["segment", str(tmp_path / "picture.png"), "--model", threshold, "--out", str(tmp_path / "o.ome.zarr")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    assert "Mpx" in done.stderr
    assert "70 × 90 px" in done.stdout
    quiet = CliRunner().invoke(app, [*arguments, "--overwrite", "--quiet"])
    assert quiet.stderr == ""
    plan = CliRunner().invoke(app, [*arguments[:2], "--out", str(tmp_path / "p.ome.zarr"), "--dry-run", "--quiet"])
    assert plan.exit_code == 0
    assert plan.stderr == ""  # though the model in the box has seen no real steel


def test_a_program_without_stderr_does_its_work(picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)  # as Python sets it where the file is closed
    with progress("convert") as step:
        io.convert(tmp_path / "picture.png", tmp_path / "c.ome.zarr", progress=step)
    assert io.open_mosaic(tmp_path / "c.ome.zarr").shape == picture.shape


def test_a_resumed_run_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        seen: list[tuple[int, int]] = []
        follow = _segment._follower(lambda done, total, seen=seen: seen.append((done, total)), quiet=quiet)
        for done in (3_000_000, 9_000_000):
            follow(ProgressEvent(done=done, total=15_000_000, resumed=3_000_000, seconds=1.0))
        assert seen == [(3_000_000, 15_000_000), (9_000_000, 15_000_000)]
        assert capsys.readouterr().err == ("" if quiet else "continuing: 3 of 15 Mpx were done\n")


def test_a_synthetic_mosaic_through_the_whole_chain(ask: Ask, threshold: str, tmp_path: Path) -> None:
    made = ask("synth", "steel.ome.zarr", "--shape", "300,400", "--seed", "4", "--mask")
    assert (made["shape"], made["preset"], made["seed"]) == ([300, 400], "lom", 4)
    described = ask("info", "steel.ome.zarr")
    assert described["shape"][:2] == [300, 400]
    assert described["um_per_px"] == pytest.approx(0.1266)
    labels = ask("segment", "steel.ome.zarr", "--model", threshold, "--name", "bright", "--confidence")
    assert Path(labels["path"]) == Path("steel.ome.zarr/labels/bright")
    written = ask("export", labels["path"], "bright.ome.tif")["paths"]
    table = next(path for path in written if path.endswith(".csv"))
    with Path(table).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(labels["counts"])
    assert (tmp_path / "bright.ome.tif").is_file()


def test_conversion_keeps_every_pixel(ask: Ask, picture: np.ndarray[Any, Any], threshold: str) -> None:
    result = ask("convert", "picture.png", "copy.ome.zarr")
    assert ask("info", result["path"])["shape"][:2] == [70, 90]
    direct = ask("segment", "picture.png", "--model", threshold)
    copied = ask("segment", "copy.ome.zarr", "--model", threshold)
    assert direct["counts"] == copied["counts"]


def test_the_same_seed_is_the_same_mosaic(ask: Ask, threshold: str) -> None:
    counts = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        ask("synth", f"{name}.ome.zarr", "--shape", "128,128", "--seed", seed)
        counts.append(ask("segment", f"{name}.ome.zarr", "--model", threshold)["counts"])
    assert counts[0] == counts[1] != counts[2]


def test_the_models_in_the_box(ask: Ask) -> None:
    found = ask("models")
    assert found
    assert sum(model["default"] for model in found.values()) == 1
    for name, model in found.items():
        assert model["synthetic_only"] == (name != "uhcs")  # trained on real micrographs
        assert model["default"] == (name != "uhcs")
        assert len(model["classes"]) == (4 if name == "uhcs" else 2)
    text = CliRunner().invoke(app, ["models"]).stdout
    assert "has seen no real steel" in text


def test_the_demo(ask: Ask, tmp_path: Path) -> None:
    result = ask("demo", "--out", "show", "--shape", "700,800")
    page = imagecodecs.png_decode((tmp_path / result["overlay"]).read_bytes())
    assert page.shape[2] == 3
    assert result["iou"]["lath bainite"] > 0.8
    assert sum(result["true_fractions"].values()) == pytest.approx(1)
    assert result["pixels_per_second"] > 0
    again = CliRunner().invoke(app, ["demo", "--out", "show", "--shape", "700,800", "--overwrite"])
    assert again.exit_code == 0, again.stderr
    assert "IoU" in again.stdout
    assert result["overlay"] in again.stdout
