"""OME-Zarr mosaics and their labels as training images."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import zarr

import bainite_fast
from bainite_fast import io
from bainite_fast.errors import BainiteWarning, InputError, MosaicNotFoundError
from bainite_fast.evaluation import agree
from bainite_fast.training import large
from bainite_fast.training.dataset import read_dataset


@pytest.fixture(scope="module")
def mosaics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mosaics")
    for seed, shape in enumerate([(150, 203), (96, 128)]):
        bainite_fast.synthetic.write(folder / f"steel{seed}.ome.zarr", shape, seed=seed, mask=True)
    return folder


def content(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with io.open_mosaic(path) as mosaic:
        image = mosaic.read(0, mosaic.shape[0], 0, mosaic.shape[1])
    return image, io.read_labels(path, "truth").labels[:]


@pytest.mark.parametrize("band", [1, 4000, 1 << 23])
@pytest.mark.parametrize("free", [0, 1 << 40])
def test_a_mosaic_and_the_name_of_its_labels(mosaics: Path, band: int, free: int, monkeypatch) -> None:
    monkeypatch.setattr(large, "BAND", band)
    monkeypatch.setattr("bainite_fast.training.pictures.BAND", band)
    monkeypatch.setattr(large, "free_memory", lambda: free)
    image, truth = content(mosaics / "steel0.ome.zarr")
    labels = mosaics / "steel0.ome.zarr" / "labels" / "truth"
    for named in ("truth", labels):
        with nullcontext() if free else pytest.warns(BainiteWarning, match="temporary files"):
            data = read_dataset(mosaics / "steel0.ome.zarr", named)
        assert data.names == ("steel0",)
        assert data.class_names == ("other", "lath bainite")
        assert data.um_per_px == io.open_mosaic(mosaics / "steel0.ome.zarr").um_per_px
        assert np.array_equal(data.image(0), image)
        assert np.array_equal(data.mask(0), truth)
    if free:
        assert read_dataset(mosaics / "steel0.ome.zarr", "truth", classes=["a", "b"]).class_names == ("a", "b")
        cut = read_dataset(mosaics / "steel0.ome.zarr", "truth", crop_bar=20)
        assert np.array_equal(cut.image(0), image[:-20])
        assert np.array_equal(cut.mask(0), truth[:-20])


def test_a_folder_of_mosaics(mosaics: Path, tmp_path: Path) -> None:
    data = read_dataset(mosaics, "truth")
    assert data.names == ("steel0", "steel1")
    for k in range(2):
        image, truth = content(mosaics / f"steel{k}.ome.zarr")
        assert np.array_equal(data.image(k), image)
        assert np.array_equal(data.mask(k), truth)
    assert read_dataset(mosaics, "truth", names=["steel1"]).names == ("steel1",)
    # Masks of their own: plain Zarr arrays of another integer type, named as the mosaics are.
    for k in range(2):
        zarr.create_array(tmp_path / f"steel{k}.zarr", data=content(mosaics / f"steel{k}.ome.zarr")[1].astype("u2"))
    beside = read_dataset(mosaics, tmp_path)
    assert all(np.array_equal(beside.mask(k), data.mask(k)) for k in range(2))
    assert beside.class_names == ("background", "foreground")
    alone = read_dataset(mosaics / "steel1.ome.zarr", tmp_path / "steel1.zarr")
    assert np.array_equal(alone.mask(0), data.mask(1))
    with pytest.warns(BainiteWarning, match="steel0.zarr"):
        assert read_dataset(mosaics / "steel1.ome.zarr", tmp_path).names == ("steel1",)
    (tmp_path / "notes").mkdir()  # a folder that is no Zarr is no picture
    assert read_dataset(mosaics, tmp_path).names == data.names
    with pytest.raises(InputError, match="holds no picture"):
        read_dataset(mosaics, tmp_path / "notes")
    assert agree(tmp_path, Path(shutil.copytree(tmp_path, tmp_path.with_name("copy")))).kappa == 1


def test_the_labels_of_the_one_image_in_a_group(mosaics: Path, tmp_path: Path) -> None:
    """As bioformats2raw lays a file out."""
    zarr.open_group(tmp_path / "raw.zarr", mode="w")
    shutil.copytree(mosaics / "steel1.ome.zarr", tmp_path / "raw.zarr" / "0")
    image, truth = content(mosaics / "steel1.ome.zarr")
    for images in (tmp_path / "raw.zarr", tmp_path):  # by itself, and in a folder
        data = read_dataset(images, "truth")
        assert np.array_equal(data.image(0), image)
        assert np.array_equal(data.mask(0), truth)


def test_labels_that_are_not_there_are_told_with_those_that_are(mosaics: Path) -> None:
    for images in (mosaics, mosaics / "steel0.ome.zarr"):
        with pytest.raises(MosaicNotFoundError, match=r"no labels 'trut' \(it has truth\)"):
            read_dataset(images, "trut")
    with pytest.raises(MosaicNotFoundError, match="folder of masks, a/b, does not exist"):
        read_dataset(mosaics, "a/b")


def test_labels_that_name_their_values_in_another_order_are_refused(mosaics: Path, tmp_path: Path) -> None:
    for k in range(2):
        shutil.copytree(mosaics / f"steel{k}.ome.zarr", tmp_path / f"steel{k}.ome.zarr")
    described = tmp_path / "steel1.ome.zarr" / "labels" / "truth" / "zarr.json"
    content = json.loads(described.read_text())
    names = content["attributes"]["ome"]["image-label"]["properties"]
    names[0]["class"], names[1]["class"] = names[1]["class"], names[0]["class"]
    described.write_text(json.dumps(content))
    with pytest.raises(InputError, match="'lath bainite' is 1 in the labels of steel0 and 0 in the labels of steel1"):
        read_dataset(tmp_path, "truth")
    other = tmp_path / "steel1.ome.zarr"
    model = "lath-bainite-synthetic"
    for images in (tmp_path, other):  # the same by the mosaic, block by block
        with pytest.raises(InputError, match=r"is 1 in the (classes|model .*) and 0 in the .*labels.* mask_values="):
            bainite_fast.evaluate(model, images, "truth", names=["steel1"] if images == tmp_path else None)
    told = {"names": ["steel1"], "mask_values": {0: 1, 1: 0}}
    assert bainite_fast.evaluate(model, tmp_path, "truth", **told).fractions_true["lath bainite"] == pytest.approx(
        np.mean(io.read_labels(mosaics / "steel1.ome.zarr", "truth").labels[:] == 0)
    )
    # The label groups alone, as masks of two annotators.
    for annotator, folder in (("a", mosaics), ("b", mosaics), ("c", tmp_path)):
        shutil.copytree(folder / "steel1.ome.zarr" / "labels" / "truth", tmp_path / annotator / "steel1.zarr")
    assert agree(tmp_path / "a", tmp_path / "b").class_names == ("other", "lath bainite")
    with pytest.raises(InputError, match="'lath bainite' is 1 in steel1 of the first annotator and 0 in steel1 of the"):
        agree(tmp_path / "a", tmp_path / "c")


def test_labels_that_a_model_made_are_told(mosaics: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(mosaics / "steel1.ome.zarr", tmp_path / "steel.ome.zarr"))
    bainite_fast.segment(copy, progress=False)
    with pytest.warns(BainiteWarning, match="made by the model lath-bainite-synthetic: unless they were corrected"):
        read_dataset(copy, "phases")
    with pytest.warns(BainiteWarning, match="made by the model lath-bainite-synthetic"):
        read_dataset(tmp_path, "phases")
    read_dataset(copy, "truth")


def test_a_mosaic_trains_and_is_evaluated(mosaics: Path, tmp_path: Path) -> None:
    run = bainite_fast.train(
        "vanilla", mosaics, "truth", tmp_path / "run", epochs=1, split={"train": ["steel0"], "validation": ["steel1"]},
        changes={"network.base": 4, "network.depth": 2, "data.tile": 64},
    )  # fmt: skip
    assert run.class_names == ("other", "lath bainite")
    found = bainite_fast.evaluate(run.package, mosaics, "truth", names=["steel1"], precision="float32")
    whole = bainite_fast.evaluate(run.package, mosaics / "steel1.ome.zarr", "truth", precision="float32")
    assert np.array_equal(found.counts, whole.counts)
    with pytest.raises(InputError, match="knows 2 classes"):
        bainite_fast.evaluate(run.package, mosaics, "truth", classes=3)
