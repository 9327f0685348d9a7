"""Folders of images and masks: pairing, meaning of mask values, checks."""

from __future__ import annotations

import shutil
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import bainite_fast
from bainite_fast.errors import BainiteWarning, InputError, MosaicError, MosaicNotFoundError
from bainite_fast.training.dataset import IGNORE, array_dataset, as_dataset, class_pixels, read_dataset
from bainite_fast.training.rescale import scale_image, scale_mask
from bainite_fast.training.values import choose_values
from segment_helpers import small_unet


def write(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, array)
    elif path.suffix == ".bmp":
        path.write_bytes(imagecodecs.bmp_encode(array))
    elif path.suffix == ".jpg":
        path.write_bytes(imagecodecs.jpeg8_encode(array, level=95))
    else:
        path.write_bytes(imagecodecs.png_encode(array))


@pytest.fixture
def steel() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (3, 20, 30), np.uint8), rng.integers(0, 2, (3, 20, 30), np.uint8)


def folders(tmp_path: Path, images, masks, image_names=("a.png", "b.tif", "c.bmp"), mask_names=None):
    mask_names = mask_names or [f"{Path(n).stem}.png" for n in image_names]
    for name, array in zip(image_names, images, strict=True):
        write(tmp_path / "images" / name, array)
    for name, array in zip(mask_names, masks, strict=True):
        write(tmp_path / "masks" / name, array)
    return tmp_path / "images", tmp_path / "masks"


def test_a_folder_is_read_in_order_of_names(tmp_path, steel):
    images, masks = steel
    data = read_dataset(*folders(tmp_path, images, masks))
    assert data.names == ("a", "b", "c")
    assert (len(data), data.n_classes, data.channels, data.um_per_px) == (3, 2, 1, None)
    for i in range(3):
        assert np.array_equal(data.image(i), images[i])
        assert np.array_equal(data.mask(i), masks[i])
    assert class_pixels(data).tolist() == np.bincount(masks.ravel()).tolist()
    assert "gray" in repr(data)
    assert "foreground" in repr(data)


def test_names_with_usual_endings_and_lists(tmp_path, steel):
    where = folders(
        tmp_path, *steel, ("a_img.png", "b.ome.tif", "c.png"), ("a_mask.tif", "b_label.png", "c_segmentation.png")
    )
    assert read_dataset(*where).names == ("a_img", "b", "c")
    (tmp_path / "list.txt").write_text("c.tif\nb.png\n\n")
    chosen = read_dataset(*where, names=tmp_path / "list.txt")
    assert chosen.names == ("c", "b")
    assert np.array_equal(chosen.image(0), steel[0][2])
    assert read_dataset(*where, names=["b"]).names == ("b",)
    with pytest.raises(InputError, match=r"d of the list has no image in .*holds a_img"):
        read_dataset(*where, names=["b", "d"])
    with pytest.raises(InputError, match="b more than once"):
        read_dataset(*where, names=["b", "b.tif"])


def test_images_and_masks_in_one_folder(tmp_path, steel):
    for name, image, mask in zip("xyz", *steel, strict=True):
        write(tmp_path / f"{name}.png", image)
        write(tmp_path / f"{name}_mask.png", mask)
    assert read_dataset(tmp_path, tmp_path).names == ("x", "y", "z")


def test_images_given_as_masks_and_masks_as_images_are_told(tmp_path, steel):
    steel[1][0] = 0  # a mask may be of one class
    where = folders(tmp_path, *steel)
    for swapped in (where[::-1], [list(steel[1]), list(steel[0])], [list(COLOURS[steel[1]]), list(steel[0])]):
        with pytest.raises(InputError, match=r"images and masks are swapped.* few \("):
            as_dataset(*swapped)
    with pytest.raises(InputError, match="neither class indices"):
        as_dataset(where[0], shutil.copytree(where[0], tmp_path / "again"))  # pictures as both


def test_files_without_partner_are_named(tmp_path, steel):
    images, masks = steel
    for name, image in zip("abc", images, strict=True):
        write(tmp_path / "i" / f"{name}.png", image)
    for name, mask in zip("abd", masks, strict=True):
        write(tmp_path / "m" / f"{name}.png", mask)
    with pytest.warns(BainiteWarning) as told:
        data = read_dataset(tmp_path / "i", tmp_path / "m")
    assert data.names == ("a", "b")
    assert any("c.png" in str(w.message) for w in told)
    assert any("d.png" in str(w.message) for w in told)
    with pytest.raises(InputError, match="no image .* has a mask of its name"):
        read_dataset(tmp_path / "i", _renamed(tmp_path / "m"))


def _renamed(folder: Path) -> Path:
    for path in list(folder.iterdir()):
        path.rename(folder / f"other{path.name}")
    return folder


def test_bad_folders(tmp_path, steel):
    with pytest.raises(MosaicNotFoundError, match="does not exist"):
        read_dataset(tmp_path / "none", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no picture"):
        read_dataset(tmp_path / "empty", tmp_path / "empty")
    images, masks = steel
    where = folders(tmp_path, images, [masks[0], masks[1], masks[2][:-1]])
    with pytest.raises(InputError, match=r"image c is 20 × 30 px and its mask 19 × 30"):
        read_dataset(*where)


COLOURS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)


def test_what_mask_values_mean(steel):
    images, masks = steel
    assert np.array_equal(array_dataset(images, masks * 255).mask(1), masks[1])
    assert np.array_equal(array_dataset(images, masks.astype(bool)).mask(1), masks[1])
    assert array_dataset(images, masks, classes=["other", "lath bainite", "martensite"]).n_classes == 3
    three = np.arange(images.size).reshape(images.shape).astype(np.uint16) % 3
    assert np.array_equal(array_dataset(images, three).mask(0), three[0])
    # Colours in ascending order of (red, green, blue): black, green, red.
    with pytest.warns(BainiteWarning, match="#000000 is class 0, #00ff00 is class 1, #ff0000 is class 2. Say so"):
        coloured = array_dataset(images, COLOURS[three])
    assert coloured.mask_values == coloured.subset([0]).mask_values == {"#000000": 0, "#00ff00": 1, "#ff0000": 2}
    assert array_dataset(images, masks).mask_values == {}
    assert array_dataset(images, masks * 255).mask_values == {"0": 0, "255": 1}
    assert np.array_equal(coloured.mask(0), np.array([0, 2, 1], np.uint8)[three[0]])
    given = array_dataset(images, COLOURS[three], mask_values={(0, 0, 0): 0, "#ff0000": 1, "#00ff00": IGNORE})
    assert given.n_classes == 2
    assert np.array_equal(given.mask(0), np.array([0, 1, IGNORE], np.uint8)[three[0]])
    assert np.array_equal(array_dataset(images, np.repeat(masks[..., None], 3, 3)).mask(0), masks[0])
    unknown = masks.copy()
    unknown[:, :2] = IGNORE
    assert np.array_equal(array_dataset(images, unknown).mask(2), unknown[2])
    assert np.array_equal(array_dataset(images, masks * 90 + 10, mask_values={10: 1, 100: 0}).mask(0), 1 - masks[0])


def test_black_and_white_masks_among_indices_are_told(steel):
    images, masks = steel
    mixed = [masks[0], masks[1] * np.uint8(255), masks[2]]
    with pytest.warns(BainiteWarning, match=r"masks of image 1 hold 0 and 255 alone, .* taken for unknown"):
        assert set(np.unique(array_dataset(images, mixed).mask(1))) == {0, IGNORE}
    said = array_dataset(images, mixed, mask_values={0: 0, 1: 1, 255: 1})
    assert np.array_equal(said.mask(1), masks[1])


def test_indices_among_coloured_masks_are_refused(steel):
    images, masks = steel
    mixed = [masks[0], COLOURS[masks[1]], masks[2]]
    with pytest.raises(InputError, match="mask of image 1 is coloured and that of image 0 holds gray values"):
        array_dataset(list(images), mixed)
    told = {0: 0, 1: 1, "#000000": 0, "#ff0000": 1}
    assert np.array_equal(array_dataset(list(images), mixed, mask_values=told).mask(1), masks[1])
    black = [np.zeros_like(masks[0]), COLOURS[masks[1]], COLOURS[masks[2]]]
    with pytest.warns(BainiteWarning, match="#ff0000 is class 1"):
        assert np.array_equal(array_dataset(list(images), black).mask(1), masks[1])


@pytest.mark.parametrize("bits", [2, 8])
def test_a_palette_is_read_as_the_indices_that_it_holds(tmp_path, steel, bits):
    images = steel[0]
    masks = np.random.default_rng(1).integers(0, 4, images.shape).astype(np.uint8)
    where = folders(tmp_path, images, masks)
    palette = [255, 255, 255, 0, 0, 200, 255, 0, 0, 0, 0, 0]  # descending: not the order of the colours
    for k, name in enumerate("abc"):
        picture = Image.fromarray(masks[k], mode="P")
        picture.putpalette(palette + ([] if bits == 2 else [0, 0, 0] * 252))
        picture.save(tmp_path / "masks" / f"{name}.png", bits=bits)
    data = read_dataset(*where)
    assert all(np.array_equal(data.mask(k), masks[k]) for k in range(3))
    meaning = {"#ffffff": 0, "#0000c8": 1, "#ff0000": 2, "#000000": IGNORE}
    coloured = read_dataset(*where, mask_values=meaning)
    assert np.array_equal(coloured.mask(0), np.where(masks[0] == 3, IGNORE, masks[0]))
    with bainite_fast.io.open_mosaic(tmp_path / "masks" / "a.png") as picture:
        assert picture.rgb


def test_indices_of_equal_and_transparent_colours_are_told_apart(tmp_path, steel):
    images = steel[0]
    masks = np.random.default_rng(1).choice([0, 1, 2, IGNORE], images.shape).astype(np.uint8)
    where = folders(tmp_path, images, masks)
    for k, name in enumerate("abc"):
        picture = Image.fromarray(masks[k], mode="P")
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [0] * 759)  # 255 is black, as 0 is
        picture.save(tmp_path / "masks" / f"{name}.png", **({"transparency": 0} if k else {}))
    data = read_dataset(*where)
    assert data.n_classes == 3
    assert all(np.array_equal(data.mask(k), masks[k]) for k in range(3))
    file = tmp_path / "masks" / "a.png"
    file.write_bytes(file.read_bytes()[:60])
    with pytest.raises(MosaicError, match="cannot be decoded as PNG"):
        read_dataset(*where)


def test_255_beside_a_lone_0_is_unknown_where_there_are_three_classes():
    masks = [np.array([[0, 255]], np.uint8)]
    assert choose_values(masks, ["a"], 3, None).apply(masks[0], "a").tolist() == [[0, IGNORE]]
    assert choose_values(masks, ["a"], None, None).apply(masks[0], "a").tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda m: m + 3, {"classes": 3}, "values 3, 4 .*indices 0 … 2"),
        (lambda m: m * 100 + 50, {}, "values 50, 150"),
        (lambda m: m * 0, {}, "one class only"),
        (lambda m: m * 100, {"mask_values": {0: 0}}, "holds 100 without a class"),
        (lambda m: m, {"mask_values": {0: 0, 1: 7}, "classes": 2}, "the class 7"),
        (lambda m: m, {"mask_values": {"red": 0}}, "'red'"),
        (lambda m: m, {"mask_values": {0: 0, 1: 1, "#010101": 0}}, "'#010101' the class 0 and 1; choose one"),
        (lambda m: m, {"mask_values": {0: 0, 1: 1.7}}, "the class 1.7"),
        (lambda m: m, {"classes": 1}, "1 class"),
        (lambda m: m, {"classes": ["a", "a"]}, "not all different"),
        (lambda m: m / 3, {}, "fractions"),
        (lambda m: m, {"scale": 0}, "positive factor"),
        (lambda m: m, {"names": ["a", "a", "b"]}, "all different"),
        (lambda m: m, {"scale": 0.5, "mask_scaling": "mode"}, "majority"),
    ],
)
def test_bad_masks(steel, change, options, message):
    images, masks = steel
    with pytest.raises(InputError, match=message):
        array_dataset(images, [change(mask) for mask in masks], **options)


def test_an_empty_mask_and_nan_are_named(steel):
    images, masks = steel
    masks = masks.copy()
    masks[1] = IGNORE
    with pytest.raises(InputError, match="mask of image 1 is empty"):
        array_dataset(images, masks, classes=2, mask_values={0: 0, 1: 1, 255: 255})
    sick = images.astype(np.float32)
    sick[2, 4, 5] = np.nan
    with pytest.raises(InputError, match="image 2 holds NaN .* row 4, column 5"):
        array_dataset(sick, steel[1])


def test_colour_images(tmp_path, steel):
    images, masks = steel
    rgb = np.stack([images, images[::-1], 255 - images], axis=-1)
    with pytest.warns(BainiteWarning, match="have colours, which are turned to gray: to keep them, --colour"):
        gray = array_dataset(rgb, masks)
    assert np.array_equal(array_dataset(rgb, masks, gray=True).image(0), gray.image(0))
    expected = np.rint(rgb[0].astype(np.float64) @ [0.299, 0.587, 0.114])
    assert gray.channels == 1
    assert np.abs(gray.image(0).astype(int) - expected).max() <= 1  # float32 at ties
    mixed = array_dataset([rgb[0], images[1], images[2]], masks, gray=False)
    assert mixed.channels == 3
    assert np.array_equal(mixed.image(0), rgb[0])
    assert np.array_equal(mixed.image(1)[..., 2], images[1])
    write(tmp_path / "i" / "a.jpg", rgb[0])
    write(tmp_path / "m" / "a.png", masks[0])
    with pytest.warns(BainiteWarning, match="turned to gray"):
        assert read_dataset(tmp_path / "i", tmp_path / "m").image(0).shape == (20, 30)
    assert read_dataset(tmp_path / "i", tmp_path / "m", gray=False).channels == 3
    write(tmp_path / "i" / "a.jpg", np.repeat(images[0][..., None], 3, axis=2))  # gray, stored as colours
    assert read_dataset(tmp_path / "i", tmp_path / "m").channels == 1


def test_the_annotation_bar_is_cut_off_image_and_mask(tmp_path):
    rng = np.random.default_rng(1)
    image, mask = rng.integers(40, 255, (200, 160), np.uint8), rng.integers(0, 2, (200, 160), np.uint8)
    image[-24:] = 0
    image[-16:-8, 10:100:3] = 255
    write(tmp_path / "i" / "whole.png", image)
    write(tmp_path / "m" / "whole.png", mask)
    write(tmp_path / "i" / "cut.png", image)
    write(tmp_path / "m" / "cut.png", mask[:-24])
    for crop in ("auto", 24):
        data = read_dataset(tmp_path / "i", tmp_path / "m", crop_bar=crop)
        for i in range(2):
            assert np.array_equal(data.image(i), image[:-24])
            assert np.array_equal(data.mask(i), mask[:-24])
    with pytest.raises(InputError, match="cut is 200 × 160 px and its mask 176"):
        read_dataset(tmp_path / "i", tmp_path / "m")
    with pytest.raises(InputError, match="crop_bar"):
        read_dataset(tmp_path / "i", tmp_path / "m", crop_bar="yes")
    write(tmp_path / "bare" / "cut.png", image[:-24])
    (tmp_path / "m" / "whole.png").unlink()
    with pytest.warns(BainiteWarning, match="no annotation bar was found in cut.* crop_bar=ROWS cuts off"):
        read_dataset(tmp_path / "bare", tmp_path / "m", crop_bar="auto")


def test_scale_is_read_changed_and_disagreement_told(tmp_path, steel):
    images, masks = steel
    for name, image, mask, um in zip("abc", *steel, (0.1, 0.1, 0.4), strict=True):
        (tmp_path / "i").mkdir(exist_ok=True)
        tifffile.imwrite(
            tmp_path / "i" / f"{name}.tif", image, resolution=(1e4 / um, 1e4 / um), resolutionunit="CENTIMETER"
        )
        write(tmp_path / "m" / f"{name}.png", mask)
    where = tmp_path / "i", tmp_path / "m"
    data = read_dataset(*where, names=["a", "b"], scale=0.5)
    assert data.um_per_px == pytest.approx(0.2)
    assert data.image(0).shape == data.mask(0).shape == (10, 15)
    with pytest.warns(BainiteWarning, match="do not share one scale"):
        assert read_dataset(*where).um_per_px is None
    assert read_dataset(*where, um_per_px=0.3).um_per_px == 0.3


@given(st.integers(1, 6), st.integers(1, 6), st.integers(2, 5), st.integers(0, 999))
def test_half_scale_is_the_mean_and_the_majority(h, w, classes, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (2 * h, 2 * w), np.uint8)
    mask = rng.integers(0, classes, (2 * h, 2 * w), np.uint8)
    cells = image.reshape(h, 2, w, 2).astype(float).mean((1, 3))
    assert np.abs(scale_image(image, 0.5) - cells).max() <= 0.5 + 1e-4
    found = scale_mask(mask, 0.5)
    for y in range(h):
        for x in range(w):
            assert found[y, x] == np.bincount(mask[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel()).argmax()
    nearest = scale_mask(mask, 0.5, "nearest")
    assert np.array_equal(nearest, mask[1::2, 1::2])
    assert np.array_equal(scale_mask(mask, 2.0)[::2, ::2].shape, mask.shape)
    assert set(np.unique(scale_mask(mask, 1.7))) <= set(np.unique(mask))


def test_subsets_and_forms(steel, tmp_path):
    data = array_dataset(*steel)
    part = data.subset([2, 0])
    assert part.names == ("image 2", "image 0")
    assert part.image(0) is data.image(2)
    assert as_dataset(data) is data
    assert as_dataset(*steel).names == data.names
    assert as_dataset(*(str(f) for f in folders(tmp_path, *steel)), classes=2).names == ("a", "b", "c")
    for bad in ((data, steel[1]), (str(tmp_path), steel[1]), (steel[0], None)):
        with pytest.raises(InputError, match="give two|holds masks"):
            as_dataset(*bad)
    with pytest.raises(InputError, match=r"0 … 2"):
        data.subset([3])
    with pytest.raises(InputError, match="at least one"):
        data.subset([])


def test_uhcs(data_dir):
    folder = data_dir / "uhcs"
    data = read_dataset(folder / "images", folder / "labels")
    assert (len(data), data.n_classes, data.channels) == (24, 4, 1)
    names = [f"uhcs{n}" for n in ("0295", "1289", "0006", "1648")]
    assert list(read_dataset(folder / "images", folder / "labels", names=folder / "test4A.txt").names) == names
    assert len(read_dataset(folder / "images", folder / "labels", names=folder / "train16A.txt")) == 16


def test_one_folder_for_images_and_masks_without_masks_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(np.zeros((8, 8), np.uint8)))
    with pytest.raises(InputError, match="same folder"):
        read_dataset(tmp_path, tmp_path)


def test_labels_that_segment_left_beside_a_picture_are_no_image(tmp_path):
    rng = np.random.default_rng(4)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        pixels = rng.integers(0, 256 if folder == "images" else 2, (64, 80)).astype(np.uint8)
        imagecodecs.imwrite(tmp_path / folder / "a.png", pixels)
    bainite_fast.segment(
        tmp_path / "images" / "a.png", small_unet(depth=1), scale="as-is", precision="float32", progress=False
    )
    assert (tmp_path / "images" / "a.ome.zarr" / "labels").is_dir()
    assert read_dataset(tmp_path / "images", tmp_path / "masks").names == ("a",)
    imagecodecs.imwrite(tmp_path / "images" / "a.tif", pixels)
    with pytest.raises(InputError, match="which are one name; keep one of them"):
        read_dataset(tmp_path / "images", tmp_path / "masks")
