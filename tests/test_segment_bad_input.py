"""Bad input: a clear error, and nothing written."""

from __future__ import annotations

import pickle
import warnings

import imagecodecs
import numpy as np
import pytest
import torch

import bainite_fast
from bainite_fast import io
from bainite_fast.errors import (
    BainiteError,
    BainiteWarning,
    BudgetError,
    DeviceError,
    InputError,
    JournalError,
    ModelError,
    MosaicError,
    NonFiniteError,
    OutputExistsError,
    OutputLockedError,
)
from bainite_fast.segmentation.journal import exclusive
from segment_helpers import save_small_package, small_unet

GRAY = np.zeros((40, 50), np.uint8)


@pytest.fixture(scope="module")
def net():
    return small_unet(depth=1)


def _segment(source, model, out, **options):
    return bainite_fast.segment(source, model, out=out, progress=False, **options)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nothing/here.ome.zarr", "nothing/here.ome.zarr"),
        (np.zeros((3, 40, 50), np.uint8), "plane|axes|shape"),
        (np.zeros((0, 50), np.uint8), "size|shape|pixel"),
        (np.zeros((40, 50), np.complex64), "complex"),
        (np.full((4, 5), "x"), "dtype|str"),
        (np.zeros((40, 50, 5), np.uint8), "plane"),
        (np.zeros(7, np.uint8), "shape|2"),
    ],
)
def test_bad_source(source, words, net, tmp_path):
    with pytest.raises(BainiteError, match=words) as caught:
        _segment(source, net, tmp_path / "out.ome.zarr")
    assert isinstance(caught.value, ValueError | FileNotFoundError)
    assert list(tmp_path.iterdir()) == []


def test_empty_file_and_folder(net, tmp_path):
    (tmp_path / "empty.tif").write_bytes(b"")
    (tmp_path / "folder.ome.zarr").mkdir()
    for source in ("empty.tif", "folder.ome.zarr"):
        with pytest.raises(MosaicError, match=source):
            _segment(tmp_path / source, net, tmp_path / "out.ome.zarr")
    assert not (tmp_path / "out.ome.zarr").exists()


def test_bad_models(tmp_path):
    pickled = tmp_path / "model.pt"
    pickled.write_bytes(pickle.dumps({"weights": [1, 2]}))
    checkpoint = tmp_path / "checkpoint.pth"
    torch.save(small_unet(depth=1).state_dict(), checkpoint)
    halving = torch.jit.trace(torch.nn.Conv2d(1, 2, 3, stride=2), torch.zeros(1, 1, 16, 16))
    halving.save(str(tmp_path / "halving.pt"))
    unbounded = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.InstanceNorm2d(4), torch.nn.Conv2d(4, 2, 1)
    )
    rgb = small_unet(depth=1, in_channels=4)
    for model, words in [
        (pickled, "pickle"),
        (checkpoint, "pickle|checkpoint"),
        (tmp_path / "halving.pt", "as large as its input"),
        (unbounded, "px away"),
        (rgb, "channel"),
        ("no-such-model", "no-such-model"),
    ]:
        with pytest.raises(BainiteError, match=words):
            _segment(GRAY, model, tmp_path / "out.ome.zarr")
        assert not (tmp_path / "out.ome.zarr").exists()


def test_damaged_package_fails_its_self_test(tmp_path):
    package = tmp_path / "package"
    save_small_package(small_unet(depth=1), package)
    expected = np.load(package / "test_output.npy")
    np.save(package / "test_output.npy", expected + 1)
    with pytest.raises(ModelError, match="self-test|sha256|digest|hash"):
        _segment(GRAY, package, tmp_path / "out.ome.zarr")
    assert not (tmp_path / "out.ome.zarr").exists()


def test_existing_output_is_kept_unless_told(net, tmp_path):
    first = _segment(GRAY, net, tmp_path / "out.ome.zarr")
    before = first.path.stat().st_mtime_ns
    with pytest.raises(OutputExistsError, match="overwrite"):
        _segment(GRAY, net, tmp_path / "out.ome.zarr")
    assert first.path.stat().st_mtime_ns == before
    second = _segment(GRAY + 200, net, tmp_path / "out.ome.zarr", overwrite=True)
    assert second.path == first.path
    third = _segment(GRAY, net, tmp_path / "out.ome.zarr", name="again")
    assert third.path.parent == second.path.parent


def test_second_writer_is_refused(net, tmp_path):
    out = tmp_path / "out.ome.zarr"
    _segment(GRAY, net, out, name="first")
    partial = out / "labels" / "phases.partial"
    partial.mkdir()
    with exclusive(partial / "lock", partial), pytest.raises(OutputLockedError, match="written by process"):
        _segment(GRAY, net, out)
    assert sum(_segment(GRAY, net, out).counts.values()) == GRAY.size


def test_labels_that_another_process_finishes_meanwhile_are_kept(net, tmp_path, monkeypatch):
    out, make_partial = tmp_path / "out.ome.zarr", io.LabelTarget.make_partial

    def slow(target):
        monkeypatch.setattr(io.LabelTarget, "make_partial", make_partial)
        _segment(GRAY + 100, net, out)
        make_partial(target)

    monkeypatch.setattr(io.LabelTarget, "make_partial", slow)
    with pytest.raises(OutputExistsError, match="overwrite"):
        _segment(GRAY, net, out)
    assert not bainite_fast.io.describe(out)["unfinished"]
    seg = _segment(GRAY, net, out, overwrite=True)
    assert sum(seg.counts.values()) == GRAY.size


def test_too_small_a_budget(net, tmp_path):
    with pytest.raises(BudgetError, match="too small"):
        _segment(GRAY, net, tmp_path / "out.ome.zarr", memory="10MB")
    with pytest.raises(InputError, match="4GiB"):
        _segment(GRAY, net, tmp_path / "out.ome.zarr", memory="much")
    with pytest.raises(InputError, match="multiple of the model's stride"):
        _segment(GRAY, net, tmp_path / "out.ome.zarr", tile=33)
    with pytest.raises(DeviceError, match="CUDA"):
        _segment(GRAY, net, tmp_path / "out.ome.zarr", device="cuda")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_stops_the_run_at_its_place(net, tmp_path, value):
    image = np.random.default_rng(0).random((1100, 700), np.float32)
    image[1057, 23] = value
    out = tmp_path / "out.ome.zarr"
    with pytest.raises(NonFiniteError, match="row 1057, column 23"):
        _segment(image, net, out)
    assert not (out / "labels" / "phases").exists()
    assert (out / "labels" / "phases.partial").is_dir()
    assert bainite_fast.io.describe(out)["unfinished"]


def test_another_run_is_refused_and_starting_again_works(net, tmp_path):
    image = np.random.default_rng(0).random((1100, 700), np.float32)
    broken = image.copy()
    broken[1057, 23] = np.nan
    out = tmp_path / "out.ome.zarr"
    with pytest.raises(NonFiniteError):
        _segment(broken, net, out, tile=64)
    with pytest.raises(BainiteError, match="another run"):
        _segment(image, small_unet(depth=1, seed=9), out, tile=64)
    with pytest.raises(BainiteError, match=r"plan\.tile.* start again with resume=False$"):
        _segment(broken, net, out, tile=128)
    with pytest.raises(BainiteError, match=r"plan\.tile"):  # which is about finished outputs: a killed run goes on
        _segment(broken, net, out, tile=128, overwrite=True)
    seg = _segment(image, net, out, resume=False)
    assert sum(seg.counts.values()) == image.size


def test_unscaled_mosaic_and_synthetic_model_warn_once(tmp_path):
    package = tmp_path / "package"
    save_small_package(small_unet(depth=1), package)
    with pytest.warns(BainiteWarning, match="µm/px") as caught:
        _segment(GRAY, package, tmp_path / "out.ome.zarr")
    assert len([w for w in caught if issubclass(w.category, BainiteWarning)]) == 1


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((60, 60), 255.0, np.float32), "reaches 255.*0…1.*bright"),
        (np.full((60, 60), 4080, np.uint16), "reaches 4080.*0…65535.*dark"),
    ],
)
def test_intensities_far_from_their_range_are_told(net, tmp_path, image, words):
    with pytest.warns(BainiteWarning, match=words):
        _segment(image, net, tmp_path / "out.ome.zarr")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("image", [GRAY, GRAY.astype(np.float32), np.full((9, 9), 60_000, np.uint16)])
def test_plain_intensities_are_not(net, tmp_path, image):
    assert _segment(image, net, tmp_path / "out.ome.zarr").counts


def test_absurd_scale_is_told(tmp_path):
    package = save_small_package(small_unet(depth=1), tmp_path / "package")
    with pytest.warns(BainiteWarning, match="25 times as many pixels"):
        bainite_fast.plan(GRAY, package, scale=0.5)
    with pytest.raises(InputError, match=r"to have 20 µm/px and the model 0\.1: more than 100 times apart.*not nm"):
        bainite_fast.plan(GRAY, package, scale=20.0)


@pytest.mark.parametrize("scale", [500.0, 50.0])  # 50 nm, very likely
def test_a_size_of_a_pixel_that_no_micrograph_has_is_told(net, scale):
    with pytest.warns(BainiteWarning, match=f"a pixel of {scale:g} µm is larger than that of any micrograph"):
        bainite_fast.plan(GRAY, net, scale=scale)


def test_an_annotation_bar_that_is_labelled_is_told(net):
    picture = np.random.default_rng(0).integers(60, 200, (340, 400), dtype=np.uint8)
    picture[300:] = 0
    picture[312:325, 20:200:3] = 255  # text
    with pytest.warns(
        BainiteWarning, match="the lowest 40 rows of array look like the annotation bar .*crop_bar='auto'"
    ):
        bainite_fast.plan(picture, net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert bainite_fast.plan(picture, net, crop_bar="auto").shape == (300, 400)
        bainite_fast.plan(picture[:300], net)


def test_a_run_is_not_gone_on_with_at_another_scale(net, tmp_path):
    """The scale is written when the output is begun, so that what goes on would be of the first one."""

    def stop(event):
        raise KeyboardInterrupt

    image, out = np.tile(GRAY, (30, 30)), tmp_path / "out.ome.zarr"
    with pytest.raises(KeyboardInterrupt):
        bainite_fast.segment(image, net, out=out, scale="as-is", tile=64, progress=stop)
    with pytest.raises(JournalError, match=r"output\.um_per_px was null, is 0\.25"):
        _segment(image, net, out, scale=0.25, tile=64)
    assert _segment(image, net, out, scale=0.25, tile=64, resume=False).um_per_px == 0.25


def test_more_memory_than_there_is_is_told(net):
    with pytest.warns(BainiteWarning, match="is more than the .* that this machine has"):
        bainite_fast.plan(GRAY, net, memory="4000TiB")


def test_a_scale_that_contradicts_the_file_is_told(tmp_path):
    mosaic = io.convert(np.zeros((64, 64), np.uint8), tmp_path / "m.ome.zarr", um_per_px=0.2)
    options = {"precision": "float32", "progress": False}
    with pytest.warns(BainiteWarning, match=r"says 0\.2 µm/px and scale=0\.4 says otherwise"):
        bainite_fast.segment(mosaic, small_unet(depth=1), scale=0.4, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", BainiteWarning)
        bainite_fast.segment(mosaic, small_unet(depth=1), scale=0.201, name="near", **options)


def test_labels_of_another_picture_are_named_before_they_are_replaced(tmp_path):
    for name in ("crop.tif", "crop.png"):
        imagecodecs.imwrite(tmp_path / name, np.zeros((64, 64), np.uint8))
    options = {"scale": "as-is", "precision": "float32", "progress": False}
    bainite_fast.segment(tmp_path / "crop.tif", small_unet(depth=1), **options)
    with pytest.raises(OutputExistsError, match=r"phases exists, with the labels of .*crop\.tif; choose"):
        bainite_fast.segment(tmp_path / "crop.png", small_unet(depth=1), **options)
    with pytest.raises(OutputExistsError, match="phases exists; choose"):
        bainite_fast.segment(tmp_path / "crop.tif", small_unet(depth=1), **options)
