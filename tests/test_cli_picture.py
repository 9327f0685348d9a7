"""Labels as a picture for a report, and as a TIFF that is read again."""

from __future__ import annotations

import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

import bainite_fast
from bainite_fast import io
from bainite_fast.cli._overlay import MARGIN
from bainite_fast.cli.app import app
from bainite_fast.training.dataset import read_dataset
from segment_helpers import save_small_package, small_unet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("picture")
    image = np.kron(np.random.default_rng(3).integers(0, 256, (40, 50), np.uint8), np.ones((8, 8), np.uint8))
    package = save_small_package(small_unet(depth=1, seed=7), folder / "model")
    options = {"scale": 0.1, "progress": False}
    bainite_fast.segment(image, package, out=folder / "with.ome.zarr", with_image=True, **options)
    bainite_fast.segment(image, package, out=folder / "alone.ome.zarr", **options)
    return folder


def export(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["export", *map(str, words)])
    return done.exit_code, " ".join(done.output.split())


def test_classes_are_tinted_over_the_image(folder: Path) -> None:
    assert export(folder / "with.ome.zarr", folder / "a.png")[0] == 0
    assert export(folder / "alone.ome.zarr", folder / "b.png")[0] == 0
    labels = np.asarray(io.read_labels(folder / "alone.ome.zarr").labels)
    page = imagecodecs.png_decode((folder / "b.png").read_bytes())
    colours = [one.colour for one in io.read_labels(folder / "alone.ome.zarr").classes]
    # Somewhere below the heading the labels stand in the colours of their classes, pixel by pixel.
    flat = np.asarray(colours, np.uint8)[labels]
    rows = [y for y in range(page.shape[0] - 320) if (page[y : y + 200, MARGIN : MARGIN + 400] == flat[:200]).all()]
    assert len(rows) == 1
    (top,) = rows
    shown = imagecodecs.png_decode((folder / "a.png").read_bytes())[top : top + 200, MARGIN : MARGIN + 400]
    black = labels[:200] == next(k for k, colour in enumerate(colours) if not any(colour))
    assert black.any() and not black.all()
    gray = shown[..., 0] == shown[..., 2]
    assert gray[black].all() and not gray[~black].any()


def test_the_shares_are_those_of_the_labels_as_they_are_at_full_resolution(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    monkeypatch.setattr("bainite_fast.cli._picture.draw_legend", lambda page, y, row: shown.extend(t for t, _ in row))
    copy = Path(shutil.copytree(folder / "alone.ome.zarr", tmp_path / "corrected.ome.zarr"))
    source = io.read_labels(copy)
    found = source.labels[:]
    labels = zarr.open_array(source.path / "0", mode="r+")
    labels[:] = 0
    labels[::8] = 1  # thinner than what is shown, and not what the model found
    monkeypatch.setattr("bainite_fast.cli._picture.LONGEST", 150)
    assert export(copy, tmp_path / "x.png")[0] == 0
    assert [text.rsplit(" ", 2)[1] for text in shown][:2] == ["87.5", "12.5"]
    shown.clear()
    assert export(folder / "alone.ome.zarr", tmp_path / "y.png")[0] == 0
    shares = np.bincount(found.ravel(), minlength=len(shown)) / found.size
    assert [text.rsplit(" ", 2)[1] for text in shown] == [f"{100 * share:.1f}" for share in shares]


def test_labels_without_a_small_level_are_thinned(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bainite_fast.cli._picture.LONGEST", 150)
    monkeypatch.setattr("bainite_fast.cli._picture._BAND", 40, raising=False)
    for name, gray in (("with", True), ("alone", False)):
        source = io.read_labels(folder / f"{name}.ome.zarr")
        assert len(source.levels) == 1 and max(source.shape) > 150
        assert export(source.path, folder / f"thin-{name}.png")[0] == 0
        page = imagecodecs.png_decode((folder / f"thin-{name}.png").read_bytes())
        table = np.asarray([one.colour for one in source.classes], np.uint8)
        flat = table[np.asarray(source.labels)[::3, ::3]]
        assert page.shape[0] < flat.shape[0] + 200
        part = page[:, MARGIN : MARGIN + 134]
        fits = [y for y in range(len(part) - 107) if (part[y : y + 30] == flat[:30]).all()]
        assert len(fits) == (0 if gray else 1)


def test_a_picture_is_not_replaced_unasked(folder: Path) -> None:
    target = folder / "c.png"
    target.write_bytes(b"mine")
    status, said = export(folder / "with.ome.zarr", target)
    assert status == 1 and "--overwrite" in said and target.read_bytes() == b"mine"
    assert export(folder / "with.ome.zarr", target, "--overwrite")[0] == 0
    assert imagecodecs.png_decode(target.read_bytes()).ndim == 3
    status, said = export(folder / "nowhere.ome.zarr", folder / "d.png")
    assert status == 1 and "is no OME-Zarr group" in said and not (folder / "d.png").exists()


def test_exported_labels_are_read_as_masks_again(folder: Path, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    assert export(folder / "alone.ome.zarr", tmp_path / "masks" / "one.tif")[0] == 0
    labels = np.asarray(io.read_labels(folder / "alone.ome.zarr").labels)
    (tmp_path / "images/one.png").write_bytes(imagecodecs.png_encode(np.zeros(labels.shape, np.uint8)))
    (tmp_path / "masks/one.csv").unlink()
    data = read_dataset(tmp_path / "images", tmp_path / "masks", classes=2)
    assert np.array_equal(data.mask(0), labels)
    with pytest.raises(bainite_fast.errors.MosaicError, match="palette"):
        io.open_mosaic(tmp_path / "masks/one.tif")
    scores = bainite_fast.evaluate(folder / "model", folder / "with.ome.zarr", tmp_path / "masks/one.tif")
    assert scores.accuracy == 1.0
