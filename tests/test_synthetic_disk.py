"""Synthetic mosaics on disk: a valid OME-Zarr image with its truth, written in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

from bainite_fast.errors import InputError, OutputExistsError
from bainite_fast.io import open_mosaic
from bainite_fast.synthetic import CLASSES, make, write

SHAPE = (2100, 700)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int]]]:
    calls: list[tuple[int, int]] = []
    out = tmp_path_factory.mktemp("synth") / "steel.ome.zarr"
    path = write(out, SHAPE, preset="lom", seed=7, mask=True, progress=lambda done, total: calls.append((done, total)))
    assert path == out
    return path, calls


def test_image_and_truth_are_those_of_make(written: tuple[Path, list[tuple[int, int]]]) -> None:
    path, _ = written
    image, mask = make(SHAPE, preset="lom", seed=7)
    with open_mosaic(path) as mosaic:
        assert mosaic.um_per_px == pytest.approx(0.1266)
        assert mosaic.synthetic
        np.testing.assert_array_equal(mosaic.read(0, SHAPE[0], 0, SHAPE[1]), image)
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(np.asarray(group["labels/truth/0"]), mask)
    labels = dict(group["labels/truth"].attrs)["ome"]
    assert len(labels["multiscales"][0]["datasets"]) == len(dict(group.attrs)["ome"]["multiscales"][0]["datasets"])
    assert CLASSES[1] in str(labels["image-label"])


def test_output_is_valid_ome_zarr(written: tuple[Path, list[tuple[int, int]]]) -> None:
    v05 = pytest.importorskip("ome_zarr_models.v05")
    path, _ = written
    v05.Image.from_zarr(zarr.open_group(path, mode="r"))
    v05.ImageLabel.from_zarr(zarr.open_group(path / "labels" / "truth", mode="r"))


def test_progress_counts_the_pixels_of_the_mosaic(written: tuple[Path, list[tuple[int, int]]]) -> None:
    _, calls = written
    done, totals = zip(*calls, strict=True)
    assert set(totals) == {SHAPE[0] * SHAPE[1]}
    assert list(done) == sorted(done)
    assert done[-1] == totals[-1]


def test_existing_output_is_kept_unless_overwritten(tmp_path: Path) -> None:
    out = tmp_path / "small.ome.zarr"
    write(out, (40, 50), preset="sem", seed=1)
    assert not (out / "labels").exists()
    with pytest.raises(OutputExistsError, match="exists"):
        write(out, (40, 50), preset="sem", seed=2)
    write(out, (30, 20), preset="sem", seed=2, mask=True, overwrite=True)
    image, mask = make((30, 20), preset="sem", seed=2)
    with open_mosaic(out) as mosaic:
        np.testing.assert_array_equal(mosaic.read(0, 30, 0, 20), image)
    np.testing.assert_array_equal(np.asarray(zarr.open_group(out, mode="r")["labels/truth/0"]), mask)


def test_bad_input_writes_nothing(tmp_path: Path) -> None:
    for shape, preset in (((0, 5), "lom"), ((5, 5), "tem")):
        with pytest.raises(InputError):
            write(tmp_path / "x.ome.zarr", shape, preset=preset)
    assert not list(tmp_path.iterdir())


def test_what_a_broken_off_writer_has_drawn_is_deleted(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        assert (tmp_path / "x.ome.zarr.partial" / "0").is_dir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x.ome.zarr", (64, 64), progress=stop)
    assert not list(tmp_path.iterdir())
