"""Tiles cover images as the paper's do; folds never leak."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast.errors import BainiteWarning, InputError
from bainite_fast.training.dataset import IGNORE, array_dataset, class_pixels, read_dataset
from bainite_fast.training.splits import k_fold, read_split, write_split
from bainite_fast.training.tiles import (
    micrograph_of,
    plan_grid,
    scale_dataset,
    summarize,
    summary_table,
    tile_dataset,
)


def data_of(shapes, *, classes=2, seed=0, um_per_px=None):
    rng = np.random.default_rng(seed)
    images = [rng.integers(0, 256, shape, np.uint8) for shape in shapes]
    masks = [rng.integers(0, classes, shape, np.uint8) for shape in shapes]
    return array_dataset(images, masks, classes=classes, um_per_px=um_per_px)


def test_tiles_that_are_mostly_mirrored_are_told():
    data = data_of([(60, 80), (60, 100)])
    with pytest.warns(BainiteWarning, match="only 15 % of their pixels are the images' own"):
        tile_dataset(data, 192)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tile_dataset(data, 100)
        tile_dataset(data, 64, padding="mirror")


@pytest.mark.parametrize(
    ("shape", "tile", "rows", "columns", "sides"),
    [
        ((1433, 2048), 512, 3, 4, (51, 52, 0, 0)),  # SEM of the paper
        ((716, 1024), 512, 2, 2, (154, 154, 0, 0)),  # at half scale
        ((1024, 1024), 256, 4, 4, (0, 0, 0, 0)),  # LOM of the paper
        ((1024, 1024), 64, 16, 16, (0, 0, 0, 0)),
        ((1024, 1024), 128, 8, 8, (0, 0, 0, 0)),
        ((1024, 1024), 512, 2, 2, (0, 0, 0, 0)),
        ((1024, 1024), 96, 11, 11, (16, 16, 16, 16)),
        ((1024, 1024), 192, 6, 6, (64, 64, 64, 64)),
        ((5, 7), 100, 1, 1, (47, 48, 46, 47)),
    ],
)
def test_mirrored_rows_are_shared_evenly(shape, tile, rows, columns, sides):
    grid = plan_grid(shape, tile)
    assert (grid.rows, grid.columns) == (rows, columns)
    assert (grid.top, grid.bottom, grid.left, grid.right) == sides


@pytest.mark.parametrize(("tile", "count", "first"), [(96, 10, 32), (192, 5, 32), (256, 4, 0)])
def test_what_does_not_divide_is_dropped_on_request(tile, count, first):
    grid = plan_grid((1024, 1024), tile, "drop")
    assert (grid.rows, grid.columns, grid.top, grid.bottom) == (count, count, -first, -(1024 - count * tile - first))
    assert next(grid.corners()) == (first, first)


def test_sem_of_the_paper_scaled_before_and_after():
    data = data_of([(1433, 2048)], um_per_px=0.0277)
    native, before = tile_dataset(data, 512), tile_dataset(data, 512, scale=0.5)
    after = tile_dataset(data, 512, scale=0.5, scale_when="after")
    assert [len(native), len(before), len(after)] == [12, 4, 12]
    assert before.source.image(0).shape == (716, 1024)
    assert after.image(0).shape == after.mask(0).shape == (256, 256)
    assert [round(t.um_per_px, 4) for t in (native, before, after)] == [0.0277, 0.0554, 0.0554]


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    tile=st.integers(1, 45),
    colour=st.booleans(),
    seed=st.integers(0, 99),
)
def test_tiles_are_cuts_of_the_mirrored_image(shape, tile, colour, seed):
    rng = np.random.default_rng(seed)
    size = (*shape, 3) if colour else shape
    image, mask = rng.integers(0, 256, size, np.uint8), rng.integers(0, 2, shape, np.uint8)
    other = (np.arange(4).reshape(2, 2) % 2).astype(np.uint8)  # so that there are two classes
    data = array_dataset(
        [image, np.repeat(other[..., None], 3, 2) if colour else other], [mask, other], gray=not colour
    )
    tiles, grid = tile_dataset(data, tile), plan_grid(shape, tile)
    sides = ((grid.top, grid.bottom), (grid.left, grid.right))
    whole = np.pad(data.image(0), (*sides, *([(0, 0)] if colour else [])), mode="reflect")
    labels = np.pad(mask, sides, mode="reflect")
    ignored = tile_dataset(data, tile, mask_padding="ignore")
    assert min(grid.top, grid.bottom, grid.left, grid.right) >= 0
    assert grid.bottom - grid.top in (0, 1)
    assert grid.right - grid.left in (0, 1)
    for i in range(grid.rows * grid.columns):
        y, x = divmod(i, grid.columns)
        cut = np.s_[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
        assert np.array_equal(tiles.image(i), whole[cut])
        assert np.array_equal(tiles.mask(i), labels[cut])
        assert tiles.places[i].image == 0
        assert np.array_equal(ignored.mask(i)[tiles.inside(i)], tiles.mask(i)[tiles.inside(i)])
        assert (ignored.mask(i)[~tiles.inside(i)] == IGNORE).all()
    assert np.array_equal(class_pixels(ignored), class_pixels(data))  # nothing twice, nothing missing


def test_a_summary_counts():
    data = data_of([(1024, 1024), (1024, 1024)], um_per_px=0.1266)
    some = [summarize(tile_dataset(data, tile)) for tile in (96, 256)]
    assert [(s.tiles, s.images) for s in some] == [(242, 2), (32, 2)]
    assert some[1].mirrored == 0
    assert some[0].mirrored == pytest.approx(1 - 1024**2 / 1056**2)
    assert some[1].tile_um == pytest.approx(32.4096)
    share = sum(int(data.mask(i).sum()) for i in range(2)) / (2 * 1024**2)
    assert some[1].fractions["foreground"] == pytest.approx(share)
    assert "| 256 px | 32.4 µm | 32 | 2 | 0.0 % |" in summary_table(some)
    assert some[0].to_dict()["tile_px"] == 96


def test_bad_tiles():
    data = data_of([(30, 40), (200, 200)])
    for options, message in (
        ({"tile": 0}, "at least 1 px"),
        ({"tile": 64, "padding": "drop"}, "image 0: .*holds no whole tile"),
        ({"tile": 8, "padding": "zeros"}, "padding"),
        ({"tile": 8, "scale_when": "never"}, "scale_when"),
        ({"tile": 8, "scale": -1}, "positive"),
    ):
        with pytest.raises(InputError, match=message):
            tile_dataset(data, **options)
    with pytest.raises(InputError, match="positive"):
        scale_dataset(data, 0)


@given(
    images=st.integers(2, 12),
    folds=st.integers(2, 6),
    tile=st.sampled_from([None, 8, 11]),
    stratified=st.booleans(),
    seed=st.integers(0, 99),
)
def test_folds_cover_all_once_and_never_share_a_micrograph(images, folds, tile, stratified, seed):
    rng = np.random.default_rng(seed)
    data = data_of([(int(h), 16) for h in rng.integers(8, 30, images)], seed=seed)
    items = data if tile is None else tile_dataset(data, tile)
    if images < folds:
        with pytest.raises(InputError, match=f"{folds} folds are asked for, of {images} micrographs;"):
            k_fold(items, folds, stratified=stratified, seed=seed)
        return
    made = k_fold(items, folds, stratified=stratified, seed=seed)
    origin = micrograph_of(items)
    assert sorted(i for fold in made for i in fold.test) == list(range(len(items)))
    for fold in made:
        assert sorted(fold.train + fold.test) == list(range(len(items)))
        assert not {origin[i] for i in fold.train} & {origin[i] for i in fold.test}
    sizes = [len({origin[i] for i in fold.test}) for fold in made]
    assert max(sizes) - min(sizes) <= 1
    assert made == k_fold(items, folds, stratified=stratified, seed=seed)


@given(st.integers(2, 5), st.integers(0, 50), st.booleans())
def test_folds_by_tile(folds, seed, stratified):
    tiles = tile_dataset(data_of([(32, 32), (32, 40)]), 8)
    made = k_fold(tiles, folds, by="tile", seed=seed, stratified=stratified)
    assert sorted(i for fold in made for i in fold.test) == list(range(len(tiles)))
    sizes = [len(fold.test) for fold in made]
    assert max(sizes) - min(sizes) <= 1
    assert all(set(micrograph_of(tiles.subset(fold.test))) == {"image 0", "image 1"} for fold in made[:1])


def test_stratified_folds_are_closer_than_random_ones():
    masks = [np.repeat(np.uint8([0, 1]), (100 - n, n)).reshape(10, 10) for n in range(2, 98, 4)]
    data = array_dataset(masks, masks)
    spread = {}
    for stratified in (False, True):
        parts = [
            [
                class_pixels(data.subset(f.test))[1] / (100 * len(f.test))
                for f in k_fold(data, 4, stratified=stratified, seed=s)
            ]
            for s in range(5)
        ]
        spread[stratified] = float(np.std(parts, axis=1).mean())
    assert spread[True] < 0.3 * spread[False]


def test_bad_folds():
    data = data_of([(16, 16)] * 4)
    for options in ({"folds": 5}, {"folds": 1}, {"by": "tile"}, {"by": "grain"}):
        with pytest.raises(InputError, match="folds|by="):
            k_fold(data, **{"folds": 2, **options})
    with pytest.raises(InputError, match="of 4 tiles"):
        k_fold(tile_dataset(data, 16), 5, by="tile")


def test_split_files(tmp_path):
    data = array_dataset(
        *[data_of([(16, 16)] * 6).__getattribute__(k) for k in ("images", "masks")], names=list("abcdef")
    )
    (tmp_path / "lists.json").write_text(json.dumps({"train": "a.txt", "val": ["c.png"], "test": ["d", "e"]}))
    (tmp_path / "a.txt").write_text("a.tif\nb.tif")
    split = read_split(tmp_path / "lists.json")
    assert split.indices(data) == {"train": (0, 1), "validation": (2,), "test": (3, 4)}
    assert split.folds(data)[0].test == (3, 4)
    tiles = tile_dataset(data, 8)
    assert split.indices(tiles)["validation"] == (8, 9, 10, 11)
    assert read_split(tmp_path / "a.txt").indices(data) == {"train": (0, 1)}
    (tmp_path / "s.csv").write_text("name,split\na.png,0\nb.png,1\nc.png,0\n")
    folds = read_split(tmp_path / "s.csv").folds(data)
    assert [(f.train, f.test) for f in folds] == [((1,), (0, 2)), ((0, 2), (1,))]
    write_split(tmp_path / "made.json", data, k_fold(data, 3, seed=4))
    assert read_split(tmp_path / "made.json").folds(data) == k_fold(data, 3, seed=4)
    assert read_split({"0": ["a"], "1": ["b"]}).is_folds
    numbered = array_dataset(data.images[:3], data.masks[:3], names=["steel7", "steel8", "steel9"])
    with pytest.warns(BainiteWarning, match=r"by their last number: m07 as steel7; check that they are the same"):
        assert read_split({"train": ["m07", "steel8"], "test": ["steel9"]}).indices(numbered)["train"] == (0, 1)


def test_arrays_named_after_files_are_found(recwarn):
    named = data_of([(16, 16)] * 4)
    named = array_dataset(named.images, named.masks, names=["a1.png", "b1.tif", "c.png", "day 2/c.png"])
    split = read_split({"train": ["a1.png"], "test": ["b1.tif"]})
    assert split.indices(named) == {"train": (0,), "test": (1,)}
    with pytest.raises(InputError, match="2 have its name"):
        read_split({"train": ["a1.png"], "test": ["c.png"]}).indices(named)
    assert not recwarn.list  # nothing is guessed by its number


@pytest.mark.parametrize("name", ["s.csv", "s.json", "s.txt"])
def test_lists_saved_by_excel_begin_with_a_mark(name, tmp_path, recwarn):
    data = data_of([(16, 16)] * 3)
    data = array_dataset(data.images, data.masks, names=["a1", "b2", "c3"])
    text = {"s.csv": "name,split\na1,train\nc3,train\n", "s.json": '{"train": ["a1", "c3"]}', "s.txt": "a1\nc3\n"}
    (tmp_path / name).write_text(text[name], encoding="utf-8-sig")
    assert read_split(tmp_path / name).indices(data) == {"train": (0, 2)}
    assert not recwarn.list


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("3", "holds a int"),
        ('{"train": ["a"], "0": ["b"]}', "has the parts"),
        ('{"0": ["a"]}', "one fold"),
        ('{"train": 3}', "train is int"),
        ('{"train": ["a"], "test": ["a"]}', "a is in train and in test"),
        ('{"train": ["a"], "test": ["zzz"]}', "lists zzz"),
        ('{"train": ["a"]}', "train and test are needed"),
    ],
)
def test_bad_split_files(tmp_path, text, message):
    (tmp_path / "s.json").write_text(text)
    data = data_of([(16, 16)] * 2)
    data = array_dataset(data.images, data.masks, names=["a", "b"])
    with pytest.raises(InputError, match=message):
        read_split(tmp_path / "s.json").folds(data)
    with pytest.raises(InputError, match="cannot be read"):
        read_split(tmp_path / "none.json")


def test_published_splits_of_uhcs(data_dir):
    folder = data_dir / "uhcs"
    data = read_dataset(folder / "images", folder / "labels")
    lists = {"train": "train16A.txt", "validation": "validate4A.txt", "test": "test4A.txt"}
    parts = read_split({part: str(folder / name) for part, name in lists.items()}).indices(data)
    assert [len(parts[part]) for part in lists] == [16, 4, 4]
    assert sorted(sum(parts.values(), ())) == list(range(24))
    old = read_dataset(folder / "images", folder / "labels_decost2019")
    folds = read_split(folder / "decost_6fold_validation_sets.json").folds(old)
    assert [len(fold.test) for fold in folds] == [4] * 6
    assert [len(fold.train) for fold in folds] == [20] * 6
    assert {old.names[i] for i in folds[0].test} == {"uhcs1176", "uhcs1219", "uhcs0357", "uhcs0333"}
    assert len(read_split(folder / "split_cv.csv").folds(data)) == 6
