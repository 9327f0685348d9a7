"""Models on images and mosaics: the labels that are scored are those of `segment`, or of each tile alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch

import bainite_fast
from bainite_fast import io, kernels, metrics
from bainite_fast.errors import BainiteWarning, DeviceError, InputError, ModelError
from bainite_fast.evaluation import calibrated_copy, evaluate
from bainite_fast.evaluation.api import file_names
from bainite_fast.evaluation.boundary import tolerant_counts
from bainite_fast.evaluation.overlay import OVER, UNDER, legend, overlay
from bainite_fast.evaluation.predict import Predictor, evaluation_device
from bainite_fast.evaluation.scores import from_counts
from bainite_fast.models import load
from bainite_fast.models.device import cuda_problem
from bainite_fast.models.package_files import read_description
from bainite_fast.training.dataset import IGNORE, array_dataset
from bainite_fast.training.tiles import plan_grid
from segment_helpers import save_small_package, small_unet

CLASSES = ("ferrite", "bainite")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return save_small_package(small_unet(), tmp_path_factory.mktemp("model") / "net")


@pytest.fixture(scope="module")
def steel():
    pairs = [bainite_fast.synthetic.make((h, w), seed=h) for h, w in ((150, 203), (96, 128), (64, 70))]
    return [image for image, _ in pairs], [mask for _, mask in pairs]


def segmented(image, package, folder, **options):
    seg = bainite_fast.segment(
        image, package, out=folder / f"{len(list(folder.iterdir()))}.ome.zarr", progress=False, **options
    )
    return np.asarray(seg.labels)


def test_whole_images_are_scored_as_segment_labels_them(package, steel, tmp_path):
    images, masks = steel
    masks = [mask.copy() for mask in masks]
    masks[0][:20] = IGNORE
    data = array_dataset(images, masks, classes=CLASSES, um_per_px=0.1)
    found = evaluate(package, data, tolerance=2, precision="float32")
    total = np.zeros((3, 2, 2), np.int64)
    for one, image, mask in zip(found.images, images, masks, strict=True):
        labels = segmented(image, package, tmp_path, scale=0.1, precision="float32")
        expected = tolerant_counts(mask, labels, 2, 2)
        assert np.array_equal(one.counts, expected[0])
        total += expected
    assert np.array_equal(found.tolerance, total)
    assert found.mean_iou == metrics.mean_iou_from_confusion(total[0])
    assert found.counts.sum() == sum((mask != IGNORE).sum() for mask in masks)
    assert found.mode == "whole images"


def test_images_of_another_scale_are_resampled_as_segment_does(package, steel, tmp_path):
    images, masks = steel
    found = evaluate(package, images[:1], masks[:1], scale=0.07, precision="float32")
    labels = segmented(images[0], package, tmp_path, scale=0.07, precision="float32")
    assert np.array_equal(found.counts, kernels.confusion_matrix(masks[0], labels, 2))
    as_is = evaluate(package, array_dataset(images[:1], masks[:1], um_per_px=0.07), scale="as-is", precision="float32")
    assert not np.array_equal(as_is.counts, found.counts)


def test_tiles_stand_alone_with_the_networks_own_padding(package, steel):
    images, masks = steel
    loaded = load(package)
    found = evaluate(package, images, masks, tiles=64, scale="as-is", precision="float32")
    assert found.mode == "tiles of 64 px"
    for one, image, mask in zip(found.images, images, masks, strict=True):
        grid = plan_grid(image.shape, 64)
        sides = ((grid.top, grid.bottom), (grid.left, grid.right))
        padded, labels = np.pad(image, sides, mode="reflect"), []
        for row in range(grid.rows):
            for column in range(grid.columns):
                tile = padded[64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
                with torch.inference_mode():
                    labels.append(loaded.module(torch.from_numpy(loaded.contract.normalize(tile)))[0].argmax(0).numpy())
        rows = [np.concatenate(labels[r * grid.columns : (r + 1) * grid.columns], 1) for r in range(grid.rows)]
        whole = np.concatenate(rows)[grid.top :, grid.left :][: image.shape[0], : image.shape[1]]
        expected = kernels.confusion_matrix(mask, whole, 2)
        # Float32 sums in another order may turn a tie.
        assert np.abs(one.counts - expected).sum() <= 4
        assert one.counts.sum() == image.size
    with pytest.raises(InputError, match="tiles=52"):
        evaluate(package, images, masks, tiles=50)


@pytest.mark.filterwarnings("ignore:the temperature lies at the end")  # of a network that has learned nothing
def test_the_calibration_sees_the_logits_that_make_the_labels(package, steel):
    images, masks = steel
    for options in ({}, {"tiles": 64}):
        found = evaluate(package, images, masks, calibrate=True, scale="as-is", precision="float32", **options)
        bins = found.calibration.bins_before
        right = sum(one.accuracy * one.pixels for one in bins if one.pixels) / found.calibration.pixels
        assert right == pytest.approx(found.accuracy)
        assert found.calibration.pixels == found.counts.sum()
        assert found.calibration.nll_after <= found.calibration.nll_before
        assert "temperature" in str(found)


@pytest.mark.filterwarnings("ignore:the temperature lies at the end")
def test_a_calibrated_copy_keeps_the_labels_and_says_the_last_temperature(package, steel, tmp_path):
    own = Path(shutil.copytree(package, tmp_path / "own"))
    (own / "card.md").write_text("My own words.\n")
    once = calibrated_copy(own, tmp_path / "once", 1.5)
    twice = calibrated_copy(once, tmp_path / "twice.zip", 2.5)
    loaded = load(twice)
    assert loaded.contract.temperature == 2.5
    assert read_description(twice)[1] == "My own words.\n\nCalibrated: confidence = softmax(logits / 2.5).\n"
    labels = Predictor(loaded, "float32").labels(steel[0][2])
    assert np.array_equal(labels, Predictor(load(package), "float32").labels(steel[0][2]))
    for wrong in (0, -1.0, np.nan, 1e9, "2"):
        with pytest.raises(ModelError, match="temperature=.* is refused; a number of 0.01 … 100"):
            calibrated_copy(own, tmp_path / "no", wrong)
    assert not (tmp_path / "no").exists()


def test_one_logit_is_two_classes(steel):
    images, masks = steel
    net = small_unet(classes=1)
    found = evaluate(net, images, masks, calibrate=True)
    assert found.class_names == ("background", "foreground")
    predictor = Predictor(load(net))
    with torch.inference_mode():
        (logits,) = (part for _, _, part in predictor.parts(images[2]))
    assert np.array_equal(predictor.labels(images[2]), logits[0] > 0)


def mosaic(tmp_path, image, mask, name="mosaic.ome.zarr"):
    import zarr

    io.convert(image, tmp_path / name)
    truth = tmp_path / "truth.zarr"
    zarr.create_array(truth, data=mask, chunks=(64, 64), overwrite=True)
    return tmp_path / name, truth


@pytest.mark.parametrize("tiles", [None, 64])
def test_a_mosaic_is_counted_block_by_block(package, tmp_path, tiles, monkeypatch):
    from bainite_fast.evaluation import streaming

    monkeypatch.setattr(streaming, "_BLOCK", 128)
    image, mask = bainite_fast.synthetic.make((300, 341), seed=5)
    mask[:9] = IGNORE
    whole, truth = mosaic(tmp_path, image, mask)
    calls = []
    found = evaluate(
        package, whole, truth, tolerance=3, tiles=tiles, scale="as-is", precision="float32",
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert calls[-1] == (300 * 341, 300 * 341)
    if tiles is None:
        together = evaluate(package, [image], [mask], classes=2, tolerance=3, scale="as-is", precision="float32")
        assert np.array_equal(found.tolerance, together.tolerance)
        assert np.array_equal(evaluate(package, io.open_mosaic(image), mask, scale="as-is").counts, found.counts)
    else:
        together = evaluate(
            package, [image], [mask], classes=2, tiles=64, tolerance=3, scale="as-is", precision="float32"
        )
        assert np.array_equal(found.tolerance, together.tolerance)
        assert found.counts.sum() == (mask != IGNORE).sum()


def test_black_and_white_is_two_classes_for_a_mosaic_as_for_folders(package, tmp_path):
    import zarr

    image, mask = bainite_fast.synthetic.make((96, 128), seed=5)
    picture, options = io.open_mosaic(image), {"scale": "as-is", "tiles": 32}
    counts = evaluate(package, picture, mask, **options).counts
    assert np.array_equal(evaluate(package, picture, mask * np.uint8(255), **options).counts, counts)
    mask[:9] = IGNORE
    assert evaluate(package, picture, mask, **options).counts.sum() == 87 * 128
    steel = bainite_fast.synthetic.write(tmp_path / "steel.ome.zarr", (96, 128), seed=5, mask=True)
    zarr.open_array(steel / "labels/truth/0", mode="r+")[:] = np.where(mask == 1, IGNORE, mask)
    # These labels name their value 1, so that 255 is what nobody knows.
    assert evaluate(package, steel, "truth", **options).counts[1].sum() == 0


def test_the_bar_moves_once_from_start_to_end(package, tmp_path, monkeypatch):
    from bainite_fast.evaluation import streaming

    monkeypatch.setattr(streaming, "_BLOCK", 128)
    whole, truth = mosaic(tmp_path, *bainite_fast.synthetic.make((300, 341), seed=5))
    done = []
    evaluate(package, whole, truth, scale="as-is", progress=lambda d, total: done.append(d / total))
    assert done == sorted(done)
    assert sum(share == 1 for share in done) == 1
    assert 0 < done[0] < done[-2] < 1


def test_scores_say_what_made_them(package, steel, tmp_path):
    images, masks = steel
    found = evaluate(package, images, masks, scale=0.07, precision="float32", device="cpu")
    made = found.provenance
    assert made["model"] == {"name": load(package).contract.name, "sha256": load(package).contract.sha256}
    assert made["runtime"]["precision"] == "float32"
    assert made["device"] == "cpu"
    assert made["input"]["factor"] == 0.07 / load(package).contract.um_per_px
    assert f"model sha256 {made['model']['sha256'][:16]}…, float32 on cpu, bainite_fast" in str(found)
    again = from_counts(json.loads(found.to_json()))
    assert again.provenance == made

    def digest(masks):
        return evaluate(package, images, masks, scale="as-is").provenance["input"]["sha256"]

    assert f"images resampled by {made['input']['factor']:.4g} to the scale of the model" in str(found)
    with pytest.warns(BainiteWarning, match=r"do not say their µm/px.*expects 0.1 µm/px"):
        evaluate(package, images[2:], masks[2:])
    changed = [mask.copy() for mask in masks]
    changed[2][5, 5] ^= 1
    assert digest(masks) == made["input"]["sha256"] != digest(changed)

    whole, truth = mosaic(tmp_path, images[0], masks[0])
    of_mosaic = evaluate(package, whole, truth, scale="as-is").provenance["input"]
    assert of_mosaic["mosaic"] == io.open_mosaic(whole).fingerprint()
    assert of_mosaic["factor"] == 1
    scaled = evaluate(package, whole, truth, scale=0.05, precision="float32")
    assert scaled.provenance["input"]["factor"] == 0.5
    assert "images resampled by 0.5 to" in str(scaled)
    assert of_mosaic["sha256_of_truth"] == hashlib.sha256(masks[0].tobytes()).hexdigest()  # one block


@pytest.mark.skipif(cuda_problem() is None, reason="a CUDA device is here")
def test_a_gpu_that_is_not_there_is_refused(package, steel):
    with pytest.raises(DeviceError, match="device='cuda' cannot be used"):
        evaluate(package, *steel, device="cuda")
    assert evaluation_device("cuda:1") == "cpu"
    assert evaluation_device("auto") == "auto"


@pytest.mark.gpu
@pytest.mark.skipif(cuda_problem() is not None, reason="no CUDA device can be used here")
@pytest.mark.parametrize("tiles", [None, 64])
def test_a_gpu_scores_as_the_cpu_does(package, steel, tmp_path, tiles):
    images, masks = steel
    on_cpu = evaluate(package, images, masks, tiles=tiles, tolerance=2, precision="float32", device="cpu")
    on_gpu = evaluate(package, images, masks, tiles=tiles, tolerance=2, precision="float32", device="cuda")
    assert on_gpu.provenance["device"] == "cuda:0"
    # Float32 sums in another order may turn a tie.
    assert np.abs(on_gpu.tolerance - on_cpu.tolerance).sum() <= 8
    assert on_gpu.counts.sum() == on_cpu.counts.sum()
    whole, truth = mosaic(tmp_path, images[0], masks[0])
    one = evaluate(package, whole, truth, tiles=tiles, scale="as-is", precision="float32", device="cuda")
    assert np.abs(one.counts - on_cpu.images[0].counts).sum() <= 4


def test_labels_inside_an_ome_zarr_are_found_by_name(package, tmp_path):
    bainite_fast.synthetic.write(tmp_path / "steel.ome.zarr", (256, 256), seed=1, mask=True)
    found = evaluate(package, tmp_path / "steel.ome.zarr", "truth", scale="as-is")
    truth = io.read_labels(tmp_path / "steel.ome.zarr", "truth").labels[:]
    assert found.counts.sum(axis=1).tolist() == np.bincount(truth.ravel()).tolist()
    with pytest.raises(InputError, match="for folders of images"):
        evaluate(package, tmp_path / "steel.ome.zarr", "truth", calibrate=True)
    with pytest.raises(InputError, match="classes is for folders of images"):
        evaluate(package, tmp_path / "steel.ome.zarr", "truth", classes=3)
    with pytest.warns(BainiteWarning, match="array does not say its µm/px, so its tiles"):
        evaluate(package, io.open_mosaic(np.zeros((32, 32), np.uint8)), truth[:32, :32], tiles=32)
    with pytest.raises(InputError, match="one grid"):
        evaluate(package, io.open_mosaic(np.zeros((9, 9), np.uint8)), truth, scale="as-is")
    with pytest.raises(InputError, match="hold 7"):
        evaluate(package, io.open_mosaic(np.zeros((256, 256), np.uint8)), truth * 7, scale="as-is")
    with pytest.raises(InputError, match="hold 0.5"):
        evaluate(package, io.open_mosaic(np.zeros((256, 256), np.uint8)), truth * np.float32(0.5), scale="as-is")


def test_bad_input(package, steel):
    images, masks = steel
    first, second = load(package).contract.classes
    with pytest.raises(InputError, match=f"'{second}' is 1 in the model 'net' and 0 in the masks"):
        evaluate(package, images, masks, classes=(second, first))
    with pytest.raises(InputError, match="knows 2 classes .* the masks have 3"):
        evaluate(package, images, masks, classes=3)
    with pytest.raises(InputError, match="masks hold the values 2 .first in image 0."):
        evaluate(package, images, [mask * 2 for mask in masks])
    with pytest.raises(InputError, match="crop_bar=9 is for folders"):
        evaluate(package, images, masks, crop_bar=9)
    with pytest.raises(InputError, match="crop_bar is for folders of images and not for a mosaic"):
        evaluate(package, io.open_mosaic(images[0]), masks[0], crop_bar=9)
    with pytest.raises(InputError, match="leave masks and options out"):
        evaluate(package, array_dataset(images, masks), names=["image 0"])
    with pytest.raises(InputError, match="tolerance"):
        evaluate(package, images, masks, tolerance=-1)
    with pytest.raises(InputError, match="scale"):
        evaluate(package, images, masks, scale="half")
    with pytest.raises(InputError, match="mask 9"):
        evaluate(package, [images[0]], [masks[0][:9]])
    rgb = array_dataset([np.stack([image] * 3, -1) for image in images], masks, gray=False)
    with pytest.raises(InputError, match="takes gray"):
        evaluate(package, rgb)


def test_overlays_have_the_papers_colours(package, steel, tmp_path):
    images, masks = steel
    truth, pred = np.uint8([[0, 1, 1, 0]]), np.uint8([[1, 0, 1, 1]])
    truth[0, 3] = IGNORE
    picture = overlay(np.uint8([[100, 100, 100, 100]]), truth, pred)
    assert picture[0, 0, 0] > picture[0, 0, 2] + 80  # too much: red
    assert picture[0, 1, 2] > picture[0, 1, 0] + 80  # missed: blue
    assert len(set(picture[0, 2])) == len(set(picture[0, 3])) == 1
    large = np.random.default_rng(0).integers(0, 255, (40, 31, 3), np.uint8)
    wrong = np.random.default_rng(1).integers(0, 3, (2, 40, 31), np.uint8)
    whole = overlay(large, *wrong)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bainite_fast.training.large.BAND", 100)
        assert np.array_equal(overlay(large, *wrong), whole)
    assert OVER[0] > 200
    assert UNDER[2] > 200
    assert [line.split()[:2] for line in legend(["a", "b"]).splitlines()[:-1]] == [
        ["red", "#e22626"],
        ["blue", "#265ce2"],
    ]
    assert legend(["a", "b", "c"]).splitlines()[2].startswith("orange #e69f00")
    assert file_names(["a b", "a_b", "a/b", "c"]) == ["a_b", "a_b_2", "a_b_3", "c"]
    evaluate(package, images, masks, overlays=tmp_path / "o", scale="as-is")
    files = sorted((tmp_path / "o").iterdir())
    assert [file.name for file in files] == ["image_0.png", "image_1.png", "image_2.png", "legend.txt"]
    assert imagecodecs.png_decode(files[0].read_bytes()).shape == (150, 203, 3)


def test_images_that_the_model_was_trained_on_are_told(tmp_path):
    rng = np.random.default_rng(5)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for k in range(3):
            top = 256 if folder == "images" else 2
            png = imagecodecs.png_encode(rng.integers(0, top, (64, 80)).astype(np.uint8))
            (tmp_path / folder / f"steel{k}.png").write_bytes(png)
    trained = {"data": {"training images": ["steel0", "steel2", "other"]}}
    save_small_package(small_unet(depth=1), tmp_path / "package", um_per_px=None, training=trained)
    folders = {"images": tmp_path / "images", "masks": tmp_path / "masks"}
    with pytest.warns(BainiteWarning, match=r"2 of 3 images bear the names .*\(steel0, steel2\).*leave them out"):
        evaluate(tmp_path / "package", **folders)
    with pytest.warns(BainiteWarning, match=r"1 of 1 image .*\(steel2\).*score it on others"):
        evaluate(tmp_path / "package", *(folder / "steel2.png" for folder in folders.values()), tiles=64)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(tmp_path / "package", **folders, names=["steel1"])
