"""``bainite-fast evaluate`` as a user runs it, and values that the options of training and scores refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import bainite_fast
from bainite_fast import io
from bainite_fast.cli import app
from bainite_fast.errors import BainiteWarning, InputError
from bainite_fast.evaluation import evaluate
from bainite_fast.training.dataset import array_dataset, read_dataset
from segment_helpers import save_small_package, small_unet

pytestmark = pytest.mark.filterwarnings("ignore::bainite_fast.errors.BainiteWarning")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def flat(done: Result) -> str:
    return " ".join(done.output.replace("│", " ").split())


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_small_package(small_unet(), tmp_path_factory.mktemp("model") / "net"))


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OME-Zarr with the labels `truth`."""
    path = tmp_path_factory.mktemp("mosaic") / "steel.ome.zarr"
    image, mask = bainite_fast.synthetic.make((96, 128), seed=1)
    io.convert(image, path, um_per_px=0.1)
    bainite_fast.segment(path, save_small_package(small_unet(), path.parent / "net"), name="truth", progress=False)
    return path


def test_progress_over_a_mosaic_is_in_pixels(package: Path, mosaic: Path) -> None:
    done = run("evaluate", package, "--images", mosaic, "--masks", "truth", "--precision", "float32")
    assert done.exit_code == 0, done.output
    assert "evaluate: 100 %, 0.0123 of 0.0123 Mpx" in done.stderr
    assert "images" not in done.stderr


def test_labels_that_a_model_made_are_no_truth(package: Path, mosaic: Path) -> None:
    with pytest.warns(BainiteWarning, match="were made by the model net: unless they were corrected by hand"):
        evaluate(str(package), mosaic, "truth")


def test_labels_that_a_mosaic_lacks_are_answered_with_those_that_it_has(package: Path, mosaic: Path) -> None:
    done = run("evaluate", package, "--images", mosaic, "--masks", "nosuch")
    assert done.exit_code == 1
    assert "no label image 'nosuch' (it has truth)" in flat(done)


def test_a_place_for_results_is_looked_at_before_anything_is_scored(
    package: Path, mosaic: Path, tmp_path: Path
) -> None:
    line = ["evaluate", package, "--images", mosaic, "--masks", "truth", "--precision", "float32"]
    assert run(*line, "--csv", tmp_path / "new" / "scores.csv").exit_code == 0
    assert (tmp_path / "new" / "scores.csv").read_text().startswith("image,class,iou")
    (tmp_path / "folder.csv").mkdir()
    for option, place, said in (
        ("--csv", tmp_path / "folder.csv", "is a folder, and a file is to be written"),
        ("--csv", tmp_path / "new" / "scores.csv" / "x.csv", "cannot be made"),
        ("--overlays", tmp_path / "new" / "scores.csv" / "x", "cannot be made"),
    ):
        done = run(*line[:3], "nothing", *line[4:], option, place, "--overwrite")
        assert done.exit_code == 1
        assert said in " ".join(done.stderr.split())
    done = run("evaluate", "net.pt", *line[2:3], "nothing", *line[4:], "--calibrate", tmp_path / "calibrated")
    assert done.exit_code == 1 and "net.pt is no model package" in flat(done)  # not when all is scored


def test_masks_of_more_classes_than_the_model_knows(package: Path, tmp_path: Path) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    image, _ = bainite_fast.synthetic.make((64, 64), seed=1)
    Image.fromarray(image).save(tmp_path / "images/1.png")
    four = (np.arange(64 * 64).reshape(64, 64) // 1024).astype(np.uint8)
    Image.fromarray(four).save(tmp_path / "masks/1.png")
    line = ["evaluate", package, "--images", tmp_path / "images", "--masks", tmp_path / "masks"]
    done = run(*line)
    assert done.exit_code == 1
    for words in ("knows 2 classes (0 ", "the masks hold the values 2, 3 (first in 1)", "--mask-value VALUE=CLASS"):
        assert words in flat(done)
    assert "raise classes" not in flat(done)
    values = [word for pair in ("0=0", "1=1", "2=1", "3=255") for word in ("--mask-value", pair)]
    assert run(*line, *values, "--quiet").exit_code == 0
    done = run(*line, "--classes", 4)
    assert done.exit_code == 1 and "knows 2 classes" in flat(done) and "--mask-value" in flat(done)
    colours = np.stack([four * 60, four, four], axis=-1)
    Image.fromarray(colours).save(tmp_path / "masks/1.png")
    assert "the masks hold 4 colours (#000000, #3c0101, #780202, #b40303)" in flat(run(*line))


@pytest.mark.parametrize("um", ["-0.5", "0", "nan", "inf", "half"])
def test_a_pixel_size_is_a_positive_number(um: str, tmp_path: Path) -> None:
    folders = ["--images", "i", "--masks", "m", "--out", tmp_path / "out"]
    for command in (
        ["train", *folders],
        ["search", *folders],
        ["cross-validate", *folders],
        ["study", "table1"],
        ["convert", "a.png", "b.ome.zarr"],
    ):
        done = run(*command, "--um-per-px", um)
        assert done.exit_code == 2 and "write a positive number of µm/px" in flat(done), done.output
    assert not (tmp_path / "out").exists()


def test_the_library_refuses_such_a_pixel_size_too(package: Path, mosaic: Path) -> None:
    image, mask = bainite_fast.synthetic.make((64, 64), seed=1)
    for um in (-1.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="um_per_px="):
            array_dataset([image], [mask], um_per_px=um)
        with pytest.raises(InputError, match="um_per_px="):
            read_dataset("nowhere", "nowhere", um_per_px=um)
        with pytest.raises(InputError, match="scale="):
            evaluate(package, [image], [mask], scale=um)
        with pytest.raises(InputError, match="scale="):
            evaluate(package, mosaic, "truth", scale=um, tiles=64)


@pytest.mark.parametrize(
    "line",
    [
        ("evaluate", "model", "--images", "i", "--masks", "m", "--tiles", "-4"),
        ("evaluate", "model", "--images", "i", "--masks", "m", "--tolerance", "-1"),
        ("cross-validate", "--images", "i", "--masks", "m", "--out", "o", "--tiles", "64,-4"),
        ("study", "fig2", "--sizes", "0"),
        ("study", "fig4", "--strengths", "-0.1"),
        ("study", "fig4", "--strengths", "nan"),
        ("bench", "--gigapixels", "-1"),
        ("bench", "--gigapixels", "0.0001"),
    ],
)
def test_a_value_out_of_range_is_wrong_usage(line: tuple[str, ...]) -> None:
    done = run(*line)
    assert done.exit_code == 2, done.output
    assert line[-2] in flat(done) or "positive numbers" in flat(done)
