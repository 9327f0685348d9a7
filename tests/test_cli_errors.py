"""Mistakes get one clear line and the right exit status, and nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

import bainite_fast.segmentation
from bainite_fast.cli import app
from bainite_fast.cli._wording import as_options
from bainite_fast.errors import BainiteWarning
from bainite_fast.io import open_mosaic

# That the default model has seen no real steel is shown as a line; here it must not become an exception.
pytestmark = pytest.mark.filterwarnings("ignore::bainite_fast.errors.BainiteWarning")

Ask = Callable[..., Any]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(imagecodecs.png_encode(np.full((40, 50), 99, np.uint8)))
    return path


def fails(done: Any, status: int, *words: str) -> None:
    """Check the exit status, that nothing is on stdout, and that stderr is short, clear and no traceback."""
    assert done.exit_code == status, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    flat = " ".join(done.stderr.replace("│", " ").split())
    for word in words:
        assert word in flat


@pytest.mark.parametrize("command", ["segment", "info"])
@pytest.mark.parametrize("source", ["nowhere.tif", "nowhere.ome.zarr", "no/folder/at/all.png"])
def test_a_source_that_is_not_there(ask: Ask, tmp_path: Path, command: str, source: str) -> None:
    done = ask(command, source)
    fails(done, 1, "error: ", source)
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_empty_path(ask: Ask) -> None:
    fails(ask("segment", ""), 1, "error: ")


def test_conversion_and_export_of_what_is_not_there(ask: Ask, tmp_path: Path) -> None:
    fails(ask("convert", "nowhere.tif", "out.ome.zarr"), 1, "error: ", "nowhere.tif")
    fails(ask("export", "nowhere.ome.zarr/labels/phases", "out.ome.tif"), 1, "error: ", "nowhere.ome.zarr")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_model(ask: Ask, picture: Path) -> None:
    fails(ask("segment", picture, "--model", "no-such-model"), 1, "error: ", "no-such-model")
    assert list(picture.parent.iterdir()) == [picture]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--memory", "4Gx"), ("--memory", "4Gx", "4GiB")),
        (("--memory", "lots"), ("--memory", "4GiB")),
        (("--tile", "big"), ("--tile", "integer")),
        (("--edge", "wrap"), ("--edge", "wrap", "mirror")),
        (("--scale", "huge"), ("--scale", "huge", "as-is")),
        (("--precision", "float8"), ("--precision", "bfloat16")),
        (("--normalize", "0.5"), ("--normalize", "MEAN,STD")),
        (("--plane", "top"), ("--plane", "top", "z=3,t=0")),
        (("--crop-bar", "yes"), ("--crop-bar", "auto")),
        (("--ome-version", "0.6"), ("--ome-version", "0.5")),
        (("--fast",), ("--fast",)),
    ],
)
def test_a_wrong_option_is_a_usage_error(ask: Ask, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    fails(ask("segment", "mosaic.tif", *arguments), 2, *words)


def test_missing_arguments_and_unknown_commands_are_usage_errors(ask: Ask) -> None:
    fails(ask("segment"), 2, "SOURCE")
    fails(ask("synth", "out.ome.zarr"), 2, "--shape")
    fails(ask("synth", "out.ome.zarr", "--shape", "100"), 2, "height,width")
    fails(ask("synth", "out.ome.zarr", "--shape", "64,64", "--preset", "tem"), 2, "tem", "lom")
    fails(ask("sharpen", "mosaic.tif"), 2, "sharpen")


def test_a_device_that_is_not_there(ask: Ask, picture: Path) -> None:
    fails(ask("segment", picture, "--device", "cuda:7"), 1, "error: ", "cuda:7")


def test_a_budget_too_small(ask: Ask, picture: Path) -> None:
    fails(ask("segment", picture, "--memory", "1MiB"), 1, "error: ")
    assert list(picture.parent.iterdir()) == [picture]


def test_an_output_that_exists_is_kept(ask: Ask, picture: Path, tmp_path: Path) -> None:
    (tmp_path / "there.ome.zarr").mkdir()
    (tmp_path / "there.ome.zarr" / "mine").write_text("mine")
    fails(ask("convert", picture, "there.ome.zarr"), 1, "error: ", "there.ome.zarr", "overwrite")
    fails(ask("synth", "there.ome.zarr", "--shape", "64,64"), 1, "error: ", "there.ome.zarr", "overwrite")
    assert (tmp_path / "there.ome.zarr" / "mine").read_text() == "mine"


def test_a_picture_of_an_earlier_demo_is_kept(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "overlay.png").write_text("mine")
    fails(ask("demo", "--out", tmp_path, "--shape", "64,64"), 1, "error: ", "overlay.png", "--overwrite")
    assert [path.name for path in tmp_path.iterdir()] == ["overlay.png"]


def replace_segment(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]) -> None:
    monkeypatch.setattr(bainite_fast.segmentation, "segment", run)


def test_ctrl_c_says_how_to_go_on(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    replace_segment(monkeypatch, interrupt)
    fails(ask("segment", "mosaic.tif"), 130, "interrupted", "same command continues")


def test_one_sigint_stops_in_order_and_the_old_handler_returns(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)

    def run(*args: Any, **kwargs: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    replace_segment(monkeypatch, run)
    fails(ask("segment", "mosaic.tif"), 130, "stopping after the blocks in flight", "same command continues")
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_sigint_leaves_at_once() -> None:
    program = (
        "import signal\nfrom bainite_fast.cli._interrupt import graceful_interrupt\n"
        "with graceful_interrupt():\n"
        "    try:\n        signal.raise_signal(signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n        signal.raise_signal(signal.SIGINT)\n"
        "print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")


def test_a_full_disk_is_one_line(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device", "shard")

    replace_segment(monkeypatch, fill)
    done = ask("segment", "mosaic.tif")
    fails(done, 1, "error: ", "No space left on device")
    assert len(done.stderr.splitlines()) == 1


def test_a_warning_is_one_line_without_its_source(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*args: Any, **kwargs: Any) -> None:
        warnings.warn("a developer's concern", DeprecationWarning, stacklevel=1)
        warnings.warn("no µm/px,\n segmented as it is", BainiteWarning, stacklevel=1)
        raise KeyboardInterrupt

    replace_segment(monkeypatch, warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = ask("segment", "mosaic.tif")
    assert "warning: no µm/px, segmented as it is" in done.stderr.splitlines()
    assert "developer" not in done.stderr


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_traceback_wherever_it_stands(ask: Ask, place: int) -> None:
    arguments = ["info", "nowhere.tif"]
    arguments.insert(place, "--debug")
    done = ask(*arguments)
    assert done.exit_code == 1
    assert "Traceback" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize(
    "command",
    [
        ("segment", "picture.png", "--out", "s3://bucket/x.zarr"),
        ("convert", "picture.png", "http://host/x.zarr"),
        ("export", "labels.ome.zarr", "zip::s3://bucket/x.tif"),
        ("synth", "s3://bucket/x.zarr", "--shape", "64,64"),
    ],
)
def test_outputs_are_local(ask: Ask, picture: Path, command: tuple[str, ...]) -> None:
    fails(ask(*command), 2, "is a URL", "local disks")
    assert [path.name for path in Path.cwd().iterdir()] == ["picture.png"]


@pytest.mark.parametrize(
    ("python", "line"),
    [
        (
            "use scale='as-is', or say scale=<µm/px of the mosaic>",
            "use --scale as-is, or say --scale <µm/px of the mosaic>",
        ),
        ("use plane={'t': 3} or plane=0", "use --plane t=3 or --plane 0"),
        ("use plane={'z': 3, 't': 0}", "use --plane z=3,t=0"),
        ("choose channel=0…2; tile=96 is odd", "choose --channel 0…2; --tile 96 is odd"),
        ('use channel=0 to 2 or channel="rgb" if', "use --channel 0 to 2 or --channel rgb if"),
        ("give a bare network normalize=(mean, std) that fits", "give a bare network --normalize MEAN,STD that fits"),
        ("start again with overwrite=True or resume=False", "start again with --overwrite or --no-resume"),
        ("choose another out= or name=", "choose another --out or --name"),
        ("(memory='800MiB'), with crop_bar='auto'", "(--memory 800MiB), with --crop-bar auto"),
        ("a file named rename=3.tif", "a file named rename=3.tif"),
    ],
)
def test_messages_speak_the_command_line(python: str, line: str) -> None:
    assert as_options(python) == line


def test_errors_and_warnings_name_options(ask: Ask, picture: Path) -> None:
    fails(ask("segment", picture, "--channel", "4"), 1, "error: ", "--channel 4")
    fails(ask("segment", picture, "--tile", "17"), 1, "error: ", "--tile 17")


def test_the_channels_of_a_file(ask: Ask, tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (3, 40, 50), np.uint16)
    zarr.create_array(tmp_path / "three.zarr", data=stack, dimension_names=("c", "y", "x"))
    fails(ask("convert", tmp_path / "three.zarr", tmp_path / "a.ome.zarr"), 1, "--channel 0 to 2 or --channel rgb if")
    for text, shape in (("1", (40, 50)), ("rgb", (3, 40, 50))):
        assert ask("convert", tmp_path / "three.zarr", tmp_path / f"{text}.ome.zarr", "--channel", text).exit_code == 0
        assert zarr.open_array(tmp_path / f"{text}.ome.zarr" / "0", mode="r").shape == shape
    fails(ask("convert", tmp_path / "three.zarr", tmp_path / "b.ome.zarr", "--channel", "red"), 1, "red")


def test_the_plane_of_a_file_with_two_stack_axes(ask: Ask, tmp_path: Path) -> None:
    stack = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3, 1, 1) * np.ones((32, 40), np.uint8)
    tifffile.imwrite(tmp_path / "stack.ome.tif", stack, metadata={"axes": "TZYX"})
    fails(ask("convert", "stack.ome.tif", "out.ome.zarr"), 1, "is a stack and no plane is chosen; use --plane t=0,z=0")
    fails(ask("convert", "stack.ome.tif", "out.ome.zarr", "--plane", "2"), 1, "--plane 2 does not say", "t=0,z=0")
    fails(ask("convert", "stack.ome.tif", "out.ome.zarr", "--plane", "z=2"), 1, "on the axis t; use --plane t=0,z=2")
    assert "use --plane t=0,z=0" in ask("info", "stack.ome.tif").stdout
    done = ask("convert", "stack.ome.tif", "out.ome.zarr", "--plane", "z=2,t=1")
    assert done.exit_code == 0, done.output
    with open_mosaic(tmp_path / "out.ome.zarr") as mosaic:
        assert np.array_equal(mosaic.read(0, 32, 0, 40), stack[1, 2])
