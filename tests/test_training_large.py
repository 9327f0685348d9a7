"""Images that do not fit into memory lie in files, and large ones are worked on in bands: to the same values."""

from __future__ import annotations

import gc
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast.errors import BainiteWarning, InputError, OutputError
from bainite_fast.training import large
from bainite_fast.training.batches import Batches, measure_intensities
from bainite_fast.training.dataset import IGNORE, array_dataset, class_pixels, read_dataset
from bainite_fast.training.large import Shelf, bands, distinct
from bainite_fast.training.prepare import digest_of, training_items
from bainite_fast.training.recipe_files import read_recipe
from bainite_fast.training.tiles import scale_dataset
from bainite_fast.training.values import choose_values, code


def in_file(array: np.ndarray) -> bool:
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return isinstance(array, mmap.mmap) or isinstance(getattr(array, "obj", None), mmap.mmap)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(2)
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for k, shape in enumerate([(40, 61), (33, 35), (52, 30)]):
        tifffile.imwrite(tmp_path / "images" / f"{k}.tif", rng.integers(0, 2**16, shape, np.uint16))
        tifffile.imwrite(tmp_path / "masks" / f"{k}.tif", rng.integers(0, 3, shape, np.uint8))
    return tmp_path / "images", tmp_path / "masks"


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_what_lies_in_files_is_the_same(folders, scale, monkeypatch):
    held = read_dataset(*folders, scale=scale)
    monkeypatch.setattr(large, "free_memory", lambda: 0)
    with pytest.warns(BainiteWarning, match=r"more than half of the free memory.*TMPDIR") as told:
        filed = read_dataset(*folders, scale=scale)
    assert len(told) == 1
    assert [in_file(a) for a in (*filed.images, *filed.masks)] == [True] * 6
    assert not any(in_file(a) for a in (*held.images, *held.masks))
    assert digest_of(filed) == digest_of(held)
    assert class_pixels(filed).tolist() == class_pixels(held).tolist()
    assert measure_intensities(filed) == measure_intensities(held)
    recipe = read_recipe(
        "vanilla", changes={"data.tile": None, "data.crop": 32, "data.crops_on_classes": 0.5, "batch": 3}
    )
    one, other = (Batches(training_items(data, recipe.data), recipe, 16) for data in (held, filed))
    for index in range(one.steps):
        a, b = one.batch(0, index), other.batch(0, index)
        assert (a.names, a.corners) == (b.names, b.corners)
        assert a.images.equal(b.images)
        assert a.masks.equal(b.masks)
    with pytest.warns(BainiteWarning, match="temporary files"):
        assert all(in_file(image) for image in scale_dataset(filed, 0.5).images)


def test_half_of_what_is_free_is_taken_and_given_back(monkeypatch):
    monkeypatch.setattr(large, "free_memory", lambda: 2000)
    shelf = Shelf()
    first = shelf.keep(np.zeros((20, 30), np.uint8))
    assert not in_file(first)
    assert shelf.keep(first, of=first) is first
    with pytest.warns(BainiteWarning, match="temporary files"):
        assert in_file(shelf.keep(np.zeros((20, 30), np.uint8)))
    assert not in_file(second := shelf.keep(np.zeros((20, 20), np.uint8)))
    del first
    gc.collect()
    third = shelf.keep(np.ones((20, 30), np.uint8))
    strided = shelf.keep(np.eye(20, 30, dtype=np.uint8)[:, ::2])
    assert [in_file(a) for a in (second, third, strided)] == [False, False, True]
    assert np.array_equal(strided, np.eye(20, 30)[:, ::2])


def test_files_without_room_are_told(folders, monkeypatch, tmp_path):
    monkeypatch.setattr(large, "free_memory", lambda: 0)
    monkeypatch.setattr(large.tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.warns(BainiteWarning), pytest.raises(OutputError, match=r"no room for .*No space left.*set TMPDIR"):
        read_dataset(*folders)


class Full:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def write(self, data):
        raise OSError(28, os.strerror(28))


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 19)), classes=st.integers(2, 4), seed=st.integers(0, 999),
    place=st.lists(st.floats(0, 1, exclude_max=True), min_size=5, max_size=5), band=st.integers(1, 40),
)  # fmt: skip
def test_crops_are_around_pixels_of_each_class_alike(shape, classes, seed, place, band):
    """The pixel is the one that counting through the whole mask finds."""
    mask = np.random.default_rng(seed).choice([*range(classes), IGNORE], shape).astype(np.uint8)
    recipe = read_recipe("vanilla", changes={"data.tile": None, "data.crop": 16, "data.crops_on_classes": 1.0})
    data = array_dataset([np.zeros((2, 2), np.uint8)], [np.array([[0, 1], [0, classes - 1]])], classes=classes)
    cut = Batches(data, recipe, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "BAND", band)
        found = cut._corner(0, mask, 16, np.array(place))
    room = [max(0, edge - 16) for edge in shape]
    present = np.unique(mask[mask != IGNORE])
    if len(present):
        pixels = np.argwhere(mask == present[int(place[3] * len(present))])
        pixel = pixels[int(place[4] * len(pixels))]
        expected = [min(max(0, p - int(part * 16)), free) for p, part, free in zip(pixel, place[:2], room, strict=True)]
    else:
        expected = [int(part * (free + 1)) for part, free in zip(place[:2], room, strict=True)]
    assert list(found) == expected


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 7)), dtype=st.sampled_from(["u1", "u2", "i4", "i8", "f4"]),
    colour=st.booleans(), band=st.integers(1, 30), dense=st.integers(1, 99), seed=st.integers(0, 999),
)  # fmt: skip
def test_values_of_masks_are_found_in_bands(shape, dtype, colour, band, dense, seed):
    rng = np.random.default_rng(seed)
    palette = np.array([[0, 0, 0], [255, 0, 0], [0, 9, 200], [7, 7, 7]], np.uint8)
    drawn = palette[rng.integers(0, 4, shape)] if colour else rng.choice([0, 1, 7, 30], shape).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large, "BAND", band)
        patch.setattr(large, "_DENSE", dense)
        assert np.array_equal(np.concatenate(list(bands(drawn))), drawn)
        assert np.array_equal(distinct(drawn.ravel()), np.unique(drawn))
        is_colour = colour and not (drawn == drawn[..., :1]).all()
        codes = code(drawn, is_colour)
        given = {int(value): k for k, value in enumerate(np.unique(codes))}
        if is_colour:
            with pytest.warns(BainiteWarning, match="masks are coloured"):
                found = choose_values([drawn], ["a"], None, None)
            assert found.codes.tolist() == list(given)
        meaning = {f"#{value:06x}": k for value, k in given.items()} if is_colour else given
        values = choose_values([drawn], ["a"], None, meaning)
        assert values.colour == is_colour
        assert np.array_equal(values.apply(drawn, "a"), np.vectorize(given.get)(codes))
        drawn[-1, -1] = 99
        with pytest.raises(InputError, match="mask of a holds (99|#636363) without a class, at 1 pixels"):
            values.apply(drawn, "a")


def test_intensities_are_measured_in_bands(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    data = array_dataset([image], [np.arange(2000).reshape(50, 40) % 2], gray=False)
    whole = measure_intensities(data)
    monkeypatch.setattr(large, "BAND", 90)
    assert len(list(bands(image))) == 25
    parts = measure_intensities(data)
    assert np.allclose(parts.mean, whole.mean, rtol=1e-12)
    assert np.allclose(parts.std, whole.std, rtol=1e-12)
    assert parts.window == whole.window
