"""Labels and images on disk: equal to what went in, valid for others, whole or not there."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st

from bainite_fast import io, kernels
from bainite_fast.errors import (
    InputError,
    JournalError,
    MosaicError,
    MosaicNotFoundError,
    OutputError,
    OutputExistsError,
)
from bainite_fast.io.files import write_json
from bainite_fast.io.image_writer import halve_mean
from bainite_fast.io.label_store import halve_values
from bainite_fast.io.labels import plan_levels
from property_helpers import examples

CLASSES = (("other", (0, 0, 0)), ("bainite", (230, 60, 20)), ("ferrite", (0, 90, 200)))
PROVENANCE = {"model": {"name": "x", "sha256": "0"}}


def patches(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Label-like patches of 0, 1, 2 of a few pixels."""
    coarse = np.random.default_rng(seed).integers(0, 3, (-(-shape[0] // 7), -(-shape[1] // 7)), dtype="u1")
    return np.kron(coarse, np.ones((7, 7), "u1"))[: shape[0], : shape[1]]


def begin(
    mosaic: io.Mosaic, out: Path | None, *, block: int = 512, confidence: bool = False, with_image: bool = False, **kw
) -> io.LabelStore:
    target = io.LabelTarget.resolve(mosaic, out, **kw)
    layout = io.LabelLayout(
        shape=mosaic.shape,
        block=block,
        chunk=min(block, 128),
        levels=target.levels(mosaic.shape, block),
        ome_version=target.ome_version,
        um_per_px=mosaic.um_per_px,
        classes=CLASSES,
        confidence=confidence,
    )
    return io.LabelStore.create(target, layout, with_image=with_image)


def write(store: io.LabelStore, labels: np.ndarray) -> list[io.ShardRecord]:
    """Write all blocks on threads, last first."""
    block = store.layout.block
    grid = np.ndindex(*[-(-size // block) for size in labels.shape])

    def one(index: tuple[int, int]) -> list[io.ShardRecord]:
        part = labels[index[0] * block : (index[0] + 1) * block, index[1] * block : (index[1] + 1) * block]
        return store.write_block(*index, part, part * 100 if store.layout.confidence else None)

    with ThreadPoolExecutor(2) as pool:
        return [record for records in pool.map(one, list(grid)[::-1]) for record in records]


def pyramid(labels: np.ndarray, count: int) -> list[np.ndarray]:
    levels = [labels]
    while len(levels) < count:
        levels.append(kernels.downsample_labels(levels[-1]))
    return levels


def validate(path: Path) -> None:
    """Let the validators of others read a container, its labels, and open it in napari's readers."""
    models = pytest.importorskip("ome_zarr_models", reason="outputs are judged by ome-zarr-models (extra 'test')")
    root = zarr.open_group(path, mode="r")
    assert type(models.open_ome_zarr(root)).__name__ == "Image"
    if not (path / "labels").is_dir():
        return
    assert type(models.open_ome_zarr(root["labels"])).__name__ == "Labels"
    for name in io.label_names(path):
        assert type(models.open_ome_zarr(root[f"labels/{name}"])).__name__ == "ImageLabel"
        labels = io.read_labels(path, name)
        if not labels.provenance.get("foreign"):
            assert {one.value for one in labels.classes} == set(range(len(CLASSES)))


def shown(path: Path) -> dict[str, tuple[int, ...]]:
    """Return name and shape of what ome-zarr's reader, the basis of napari's, shows."""
    reader = pytest.importorskip("ome_zarr.reader", reason="needs ome-zarr (extra 'test')")
    from ome_zarr.io import parse_url

    return {
        Path(str(node.zarr.path)).name: node.data[0].shape
        for node in reader.Reader(parse_url(str(path)))()
        if node.data
    }


# -- labels ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("with_image", [False, True])
def test_a_container_of_its_own(tmp_path: Path, version: str, with_image: bool) -> None:
    labels = patches((1300, 1101))
    labels[:512, :512] = 0
    out = tmp_path / "m.ome.zarr"
    store = begin(io.open_mosaic(labels), out, confidence=True, with_image=with_image, ome_version=version)
    assert store.target.partial_dir == out / "labels" / "phases.partial"
    records = write(store, labels)
    assert store.verify_block(records) and store.verify_block([tuple(one) for one in records])
    assert any(size is None for _, size in records)
    assert not (out / "labels" / "phases").exists()
    path = store.finish(PROVENANCE)
    assert path == out / "labels" / "phases" and not store.target.partial_dir.exists()
    found = io.read_labels(out)
    for level, expected in zip(found.levels, pyramid(labels, len(found.levels)), strict=True):
        np.testing.assert_array_equal(level[:], expected)
    np.testing.assert_array_equal(found.confidence[:], labels * 100)
    result, confidence = store.target.open_result()
    assert result.shape == (1300, 1101) and confidence is not None
    assert found.provenance == PROVENANCE and [one.name for one in found.classes] == ["other", "bainite", "ferrite"]
    kept = {"0", "1", "2", "confidence", *(["zarr.json"] if version == "0.5" else [".zgroup", ".zattrs"])}
    assert {entry.name for entry in path.iterdir()} == kept
    validate(out)
    assert set(shown(out)) >= {"m.ome.zarr"}
    if with_image:
        with io.open_mosaic(out) as image:
            np.testing.assert_array_equal(image.read(0, 1300, 0, 1101), labels)
    else:
        with pytest.raises(InputError, match="labels only"):
            io.open_mosaic(out)
    with pytest.raises(InputError, match="label image"):
        io.open_mosaic(path)
    json.dumps(io.describe(out))
    json.dumps(io.describe(path))


def test_napari_opens_them(tmp_path: Path) -> None:
    napari = pytest.importorskip("napari_ome_zarr", reason="napari's reader is not installed (napari-ome-zarr)")
    labels = patches((600, 700))
    for version in ("0.4", "0.5"):
        out = tmp_path / f"{version}.ome.zarr"
        store = begin(io.open_mosaic(labels), out, ome_version=version)
        write(store, labels)
        store.finish({})
        layers = napari.napari_get_reader(str(out))(str(out))
        assert [layer[2] for layer in layers] == ["image", "labels"]
        np.testing.assert_array_equal(np.asarray(layers[1][0][0]), labels)


@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_labels_go_into_the_group_of_their_image(tmp_path: Path, version: str) -> None:
    image = np.random.default_rng(0).integers(0, 255, (1111, 900), dtype="u1")
    group = io.convert(image, tmp_path / "i.ome.zarr", um_per_px=0.1, ome_version=version)
    for name in ("phases", "grains"):
        store = begin(io.open_mosaic(group), None, name=name)
        assert store.target.container == group and store.target.ome_version == version
        write(store, patches(image.shape))
        store.finish(PROVENANCE)
    validate(group)
    assert io.label_names(group) == ("phases", "grains")
    assert len(io.read_labels(group, "grains").levels) == len(io.open_mosaic(group).level_shapes)
    assert io.read_labels(group, "grains").um_per_px == pytest.approx(0.1)
    with pytest.raises(InputError, match="choose one .name="):
        io.read_labels(group)
    with pytest.raises(MosaicNotFoundError, match="has no labels 'x'"):
        io.read_labels(group, "x")
    with pytest.raises(InputError, match="is a label image itself, and not 'grains'"):
        io.read_labels(group / "labels" / "phases", "grains")
    assert io.read_labels(group / "labels" / "phases", "phases").name == "phases"
    np.testing.assert_array_equal(io.open_mosaic(group).read(0, 1111, 0, 900), image)
    assert io.describe(group)["labels"] == ["phases", "grains"]
    with pytest.raises(InputError, match="of that version only"):
        io.LabelTarget.resolve(io.open_mosaic(group), name="z", ome_version={"0.4": "0.5", "0.5": "0.4"}[version])


def _corner(group: Path, level: int = 0, kind: str = "translation") -> list[float]:
    """Return the translation (or scale) of a level that is written as scale, then translation."""
    ome = zarr.open_group(group, mode="r").attrs.asdict()["ome"]
    steps = ome["multiscales"][0]["datasets"][level]["coordinateTransformations"]
    return next(step[kind] for step in steps if step["type"] == kind)


@pytest.mark.parametrize("unit", [{"unit": "micrometer"}, {}])
def test_labels_lie_where_their_image_lies(unit: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "placed.ome.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    data = []
    for level, factor in enumerate((1, 2)):
        group.create_array(str(level), data=np.zeros((600 // factor, 700 // factor), np.uint8))
        steps = [
            {"type": "scale", "scale": [0.2 * factor] * 2},
            {"type": "translation", "translation": [30.0 + 0.1 * (factor - 1), 12.0 + 0.1 * (factor - 1)]},
        ]
        data.append({"path": str(level), "coordinateTransformations": steps})
    axes = [{"name": name, "type": "space", **unit} for name in "yx"]
    common = [{"type": "translation", "translation": [1.0, 0.0]}]
    entry = {"axes": axes, "datasets": data, "coordinateTransformations": common}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [entry]}

    def labelled(name: str, **choice: Any) -> Path:
        store = begin(io.open_mosaic(path, **choice), None, name=name)
        write(store, patches(store.layout.shape))
        return store.finish({})

    whole = labelled("whole")
    assert [_corner(whole, level, "scale") for level in (0, 1)] == [pytest.approx([edge] * 2) for edge in (0.2, 0.4)]
    assert io.read_labels(whole).um_per_px == (pytest.approx(0.2) if unit else None)
    assert _corner(whole) == pytest.approx([31.0, 12.0])
    assert _corner(whole, 1) == pytest.approx([31.1, 12.1])
    assert _corner(labelled("cropped", crop_bar=(50, 10))) == pytest.approx([41.0, 12.0])
    assert _corner(labelled("coarse", level=1)) == pytest.approx([31.1, 12.1])
    copied = io.convert(path, tmp_path / "copied.ome.zarr", crop_bar=(50, 10))
    assert _corner(copied) == pytest.approx([41.0, 12.0])
    assert io.open_mosaic(copied).spec.place == pytest.approx((205.0, 60.0))


def test_labels_in_the_one_image_of_a_group_are_found_from_the_group(tmp_path: Path) -> None:
    """As bioformats2raw lays a file out: a group that is no image, its images in 0, 1, …, and OME."""
    group = zarr.open_group(tmp_path / "raw.zarr", mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    group.create_group("OME")
    image = np.arange(40 * 50, dtype=np.uint8).reshape(40, 50)
    io.convert(image, tmp_path / "raw.zarr" / "0", ome_version="0.4")
    labels = patches((40, 50))
    mosaic = io.open_mosaic(tmp_path / "raw.zarr")
    store = begin(mosaic, None)
    write(store, labels)
    assert store.finish(PROVENANCE) == tmp_path / "raw.zarr" / "0" / "labels" / "phases"
    for name in (None, "phases"):
        np.testing.assert_array_equal(io.read_labels(tmp_path / "raw.zarr", name).labels[:], labels)
    for place in ("raw.zarr", "raw.zarr/0", "raw.zarr/0/0"):  # the group, the image, its array
        assert io.describe(tmp_path / place)["labels"] == ["phases"]
    io.convert(image, tmp_path / "raw.zarr" / "1", ome_version="0.4")
    assert io.label_names(tmp_path / "raw.zarr") == ()  # of which image?
    assert io.label_names(tmp_path / "raw.zarr" / "0" / "0") == ()


@pytest.mark.parametrize("seen", [8192 * 8192, 100_000])
def test_pyramids_of_other_programs_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seen: int) -> None:
    """Floor sizes, steps of 4 and more, steps that are no powers of two: same shapes, right labels, also in parts."""
    monkeypatch.setattr("bainite_fast.io.label_store._SEEN_PIXELS", seen, raising=False)
    labels = patches((1301, 1103))
    for factors in ((1, 2, 4, 8), (1, 4, 16), (1, 3, 9), (1, 16)):
        path = tmp_path / f"{factors[1]}{len(factors)}.zarr"
        group = zarr.open_group(path, mode="w", zarr_format=3)
        data = []
        for level, factor in enumerate(factors):
            group.create_array(
                str(level), shape=(1301 // factor, 1103 // factor), dtype="u1", dimension_names=("y", "x")
            )
            scale = {"type": "scale", "scale": [0.1 * factor, 0.1 * factor]}
            data.append({"path": str(level), "coordinateTransformations": [scale]})
        axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
        group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": data}]}
        store = begin(io.open_mosaic(path), None)
        write(store, labels)
        store.finish({})
        validate(path)
        found = io.read_labels(path)
        assert [level.shape for level in found.levels] == [(1301 // factor, 1103 // factor) for factor in factors]
        for level, factor in zip(found.levels, factors, strict=True):
            if factor in (2, 4, 8, 16):
                full = pyramid(labels, 1 + int(np.log2(factor)))[-1]
                if factors[1] in (4, 16) or factor == 2:
                    np.testing.assert_array_equal(level[:], full[: level.shape[0], : level.shape[1]])
            if factor == 3:
                picks = [
                    (2 * np.arange(n) + 1) * size // (2 * n) for n, size in zip(level.shape, (1301, 1103), strict=True)
                ]
                np.testing.assert_array_equal(level[:], labels[np.ix_(*picks)])


@pytest.mark.parametrize("factor", [16, 27])
def test_a_coarse_level_is_made_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: int) -> None:
    """Of a level of few pixels, one block looks at all that there is."""
    monkeypatch.setattr("bainite_fast.io.label_store._SEEN_PIXELS", 1 << 20, raising=False)
    labels = np.zeros((6000, 6000), np.uint8)
    target = io.LabelTarget.resolve(io.open_mosaic(labels), tmp_path / "o.ome.zarr")
    levels = plan_levels(labels.shape, 2048, factors=(1.0, factor), count=2)
    store = io.LabelStore.create(target, io.LabelLayout(labels.shape, 2048, 512, levels, "0.5", None, CLASSES))
    tracemalloc.start()
    store.finish({})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert io.read_labels(target.path).levels[1].shape == tuple(-(-size // factor) for size in labels.shape)
    assert peak < labels.nbytes / 3


@examples(12)
@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([128, 256, 384, 512]), st.sampled_from(["0.4", "0.5"]))
def test_any_shape_and_block(
    tmp_path_factory: pytest.TempPathFactory, h: int, w: int, block: int, version: str
) -> None:
    labels = patches((h, w), h * w)
    store = begin(io.open_mosaic(labels), tmp_path_factory.mktemp("l") / "a.ome.zarr", block=block, ome_version=version)
    write(store, labels)
    found = io.read_labels(store.finish({}))
    for level, expected in zip(found.levels, pyramid(labels, len(found.levels)), strict=True):
        np.testing.assert_array_equal(level[:], expected)


def test_the_bytes_are_the_same_every_time(tmp_path: Path) -> None:
    labels = patches((1030, 700))
    trees = []
    for name in ("a", "b"):
        store = begin(io.open_mosaic(labels), tmp_path / f"{name}.ome.zarr")
        write(pickle.loads(pickle.dumps(store)), labels)
        path = store.finish(PROVENANCE)
        trees.append({file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()})
    assert trees[0] == trees[1]


def test_a_block_may_be_written_again_and_missing_files_are_noticed(tmp_path: Path) -> None:
    store = begin(io.open_mosaic(np.zeros((600, 600), "u1")), tmp_path / "a.ome.zarr")
    first = store.write_block(0, 0, np.ones((512, 512), "u1"))
    assert store.verify_block(first)
    file = store.target.partial_dir / first[0].path
    file.write_bytes(file.read_bytes()[:-1])
    assert not store.verify_block(first)
    empty = store.write_block(0, 0, np.zeros((512, 512), "u1"))
    assert all(size is None for _, size in empty) and store.verify_block(empty) and not store.verify_block(first)
    again = io.LabelStore.open_partial(store.target)
    assert again.layout == store.layout and again.write_block(0, 0, np.ones((512, 512), "u1")) == first
    for bad in (np.ones((512, 511), "u1"), np.ones((512, 512), "i4")):
        with pytest.raises(InputError, match="is needed"):
            store.write_block(0, 0, bad)
    with pytest.raises(InputError, match="confidence"):
        store.write_block(0, 0, np.ones((512, 512), "u1"), np.ones((512, 512), "u1"))
    store.abandon()
    assert not (tmp_path / "a.ome.zarr").exists()
    with pytest.raises(JournalError, match="resume=False"):
        io.LabelStore.open_partial(store.target)


# -- where labels may go -----------------------------------------------------------------------------------------------
def test_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite(tmp_path / "scan.tif", np.zeros((20, 30), "u1"))
    mosaic = io.open_mosaic(tmp_path / "scan.tif")
    assert io.LabelTarget.resolve(mosaic).path == tmp_path / "scan.ome.zarr" / "labels" / "phases"
    assert io.LabelTarget.resolve(io.open_mosaic(np.zeros((4, 4), "u1"))).container.parent == tmp_path
    for name in ("", "a/b", "../x", ".hidden", "x.partial", "ü", "a" * 101):
        with pytest.raises(InputError, match="cannot name labels"):
            io.LabelTarget.resolve(mosaic, name=name)
    with pytest.raises(InputError, match="ome_version"):
        io.LabelTarget.resolve(mosaic, ome_version="0.6")
    for out in ("s3://bucket/x.zarr", tmp_path / "scan.tif"):
        with pytest.raises(OutputError):
            io.LabelTarget.resolve(mosaic, out)
    with pytest.raises(OutputError, match="no Zarr group"):
        io.LabelTarget.resolve(mosaic, tmp_path)
    other = io.convert(np.zeros((9, 9), "u1"), tmp_path / "other.ome.zarr")
    with pytest.raises(InputError, match="labels go beside their own image"):
        io.LabelTarget.resolve(mosaic, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.ome.zarr", "scan.tif"]


def test_what_is_half_deleted_is_not_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new start is killed while it deletes the unfinished run before it."""
    mosaic = io.open_mosaic(np.zeros((900, 700), "u1"))
    write(begin(mosaic, tmp_path / "o.ome.zarr"), patches((900, 700)))
    remove, entries = io.label_store.remove, Path.iterdir

    def killed(path: Path) -> None:
        if path.name == "1":
            raise KeyboardInterrupt
        remove(path)

    monkeypatch.setattr("bainite_fast.io.label_store.remove", killed)
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(sorted(entries(folder))))
    with pytest.raises(KeyboardInterrupt):
        begin(mosaic, tmp_path / "o.ome.zarr")
    with pytest.raises(JournalError, match="no unfinished labels that can be taken up.*resume=False"):
        io.LabelStore.open_partial(io.LabelTarget.resolve(mosaic, tmp_path / "o.ome.zarr"))


def test_a_file_that_is_gone_by_the_time_it_is_measured(tmp_path: Path) -> None:
    path = io.convert(np.ones((90, 70), "u1"), tmp_path / "i.ome.zarr")
    size = io.describe(path)["bytes_on_disk"]
    (path / "gone").symlink_to(tmp_path / "nowhere")  # as a file of a running segmentation that was just moved
    assert io.describe(path)["bytes_on_disk"] == size


def test_overwriting_keeps_the_old_result_until_the_new_one_is_complete(tmp_path: Path) -> None:
    old, new = patches((300, 300), 1), patches((300, 300), 2)
    mosaic, out = io.open_mosaic(old), tmp_path / "a.ome.zarr"
    store = begin(mosaic, out)
    write(store, old)
    store.finish({})
    with pytest.raises(OutputExistsError, match="overwrite"):
        io.LabelTarget.resolve(mosaic, out)
    store = begin(mosaic, out, overwrite=True)
    write(store, new)
    np.testing.assert_array_equal(io.read_labels(out).labels[:], old)
    store.finish({})
    np.testing.assert_array_equal(io.read_labels(out).labels[:], new)
    assert [entry.name for entry in (out / "labels").iterdir() if entry.is_dir()] == ["phases"]
    validate(out)


def test_a_process_forked_from_one_that_has_read_reads_and_finishes_labels(tmp_path: Path) -> None:
    """It has none of the threads of zarrs, and waited for them for ever."""
    pixels = patches((1500, 1500))
    mosaic = io.open_mosaic(pixels)

    def label(out: Path) -> None:
        store = begin(mosaic, out)
        for by, bx in np.ndindex(3, 3):
            store.write_block(by, bx, pixels[512 * by : 512 * (by + 1), 512 * bx : 512 * (bx + 1)])
        assert np.array_equal(io.read_labels(store.finish(PROVENANCE)).labels[:], pixels)

    label(tmp_path / "parent.ome.zarr")
    child = multiprocessing.get_context("fork").Process(target=label, args=(tmp_path / "child.ome.zarr",))
    child.start()
    child.join(20)
    child.kill()
    assert child.exitcode == 0
    parent, forked = (
        {str(one.relative_to(out)): one.read_bytes() for one in out.rglob("*") if one.is_file()}
        for out in (tmp_path / "parent.ome.zarr", tmp_path / "child.ome.zarr")
    )
    assert parent == forked


def test_a_result_whose_writer_was_killed_before_listing_it_is_listed(tmp_path: Path, monkeypatch) -> None:
    mosaic, out = io.open_mosaic(patches((300, 300))), tmp_path / "a.ome.zarr"
    store = begin(mosaic, out)
    write(store, patches((300, 300)))
    with monkeypatch.context() as patch:
        patch.setattr(io.LabelTarget, "list_labels", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.finish(PROVENANCE)
    assert io.label_names(out) == ()
    with pytest.raises(OutputExistsError):
        io.LabelTarget.resolve(mosaic, out)
    assert io.label_names(out) == ("phases",)
    validate(out)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_writer_that_is_killed_at_any_file_of_the_groups_is_followed_by_another(
    tmp_path: Path, monkeypatch, version: str
) -> None:
    mosaic, labels = io.open_mosaic(patches((300, 300))), patches((300, 300), 1)

    def run(out: Path) -> None:
        store = begin(mosaic, out, ome_version=version)
        write(store, labels)
        store.finish(PROVENANCE)

    run(tmp_path / "whole.ome.zarr")
    written = 0
    for moment in range(100):
        out, left = tmp_path / f"{moment}.ome.zarr", moment

        def dies(path: Path, value: Any) -> None:
            nonlocal left
            if path.name in ("zarr.json", ".zattrs", ".zgroup"):
                if left == 0:
                    path.parent.mkdir(exist_ok=True)
                    path.with_name(f".{path.name}.0123abcd.partial").write_text("")
                    raise KeyboardInterrupt
                left -= 1
            write_json(path, value)

        with monkeypatch.context() as patch:
            patch.setattr("bainite_fast.io.files.write_json", dies)
            try:
                run(out)
                break
            except KeyboardInterrupt:
                written += 1
        with contextlib.suppress(OutputExistsError):  # it was complete
            run(out)
        validate(out)
        for name in ("zarr.json", ".zattrs", "labels/zarr.json", "labels/.zattrs"):
            files = [folder / name for folder in (out, tmp_path / "whole.ome.zarr")]
            assert files[0].exists() == files[1].exists()
            assert not files[0].exists() or files[0].read_bytes() == files[1].read_bytes()
    assert written > 4


def test_consolidated_groups_show_their_new_labels(tmp_path: Path) -> None:
    group = io.convert(np.zeros((300, 300), "u1"), tmp_path / "c.ome.zarr", ome_version="0.4")
    zarr.consolidate_metadata(str(group))
    store = begin(io.open_mosaic(group), None)
    write(store, patches((300, 300)))
    store.finish({})
    assert zarr.open_group(group, mode="r")["labels/phases/0"].shape == (300, 300)


BROKEN = {
    "labels/zarr.json": [("ome", {"labels": 3})],
    "labels/phases/zarr.json": [
        ("ome.image-label.colors", [{"rgba": [1, 2, 3, 255]}]),
        ("ome.image-label.colors", [{"label-value": 1, "rgba": [1, 2]}]),
        ("ome.image-label.colors", [{"label-value": 1, "rgba": [0, 0, 300, 255]}]),
        ("ome.image-label.properties", ["x"]),
        ("ome.image-label.properties", [{"label-value": "a", "class": "b"}]),
    ],
    "labels/phases/0/zarr.json": [("shape", [300]), ("shape", [0, 300]), ("data_type", "float32"), ("codecs", "x")],
}


@pytest.mark.parametrize(
    ("file", "key", "value"), [(file, *change) for file, changes in BROKEN.items() for change in changes]
)
def test_labels_metadata_that_is_broken_is_told(tmp_path: Path, file: str, key: str, value: Any) -> None:
    out = tmp_path / "l.ome.zarr"
    store = begin(io.open_mosaic(patches((300, 300))), out)
    write(store, patches((300, 300)))
    store.finish({})
    node = json.loads((out / file).read_text())
    place = node if key == "shape" or "/0/" in file else node["attributes"]
    *inside, last = key.split(".")
    for name in inside:
        place = place[name]
    place[last] = value
    (out / file).write_text(json.dumps(node))
    for broken in (lambda: io.read_labels(out, "phases"), lambda: io.describe(out)):
        with pytest.raises(MosaicError, match=r"breaks the OME-Zarr spec|cannot be opened as Zarr|no labels \(y, x\)"):
            broken()


def test_labels_of_other_programs_may_have_no_colours_and_any_values(tmp_path: Path) -> None:
    out = tmp_path / "l.ome.zarr"
    store = begin(io.open_mosaic(patches((300, 300))), out)
    write(store, patches((300, 300)))
    group = zarr.open_group(store.finish({}), mode="r+")
    group.attrs["ome"] = {**group.attrs["ome"], "image-label": {"colors": [{"label-value": -1, "rgba": [9, 9, 9, 9]}]}}
    _, table = io.export_labels(out, tmp_path / "a.tif")
    assert [row.split(",")[0] for row in table.read_text().splitlines()] == ["class", "-1", "0", "1", "2"]
    assert tifffile.TiffFile(tmp_path / "a.tif").pages[0].colormap[0, 255] == 65535  # not that of -1
    group.attrs["ome"] = {key: value for key, value in group.attrs["ome"].items() if key != "image-label"}
    assert io.read_labels(out, "phases").classes == ()


# -- when the disk or the process fails --------------------------------------------------------------------------------
WRITER = """
import resource, signal, sys
import numpy as np
from bainite_fast import io
from bainite_fast.errors import OutputError
mode, out = sys.argv[1:]
mosaic = io.open_mosaic(np.zeros((1024, 1024), "u1"))
target = io.LabelTarget.resolve(mosaic, out)
layout = io.LabelLayout((1024, 1024), 512, 512, target.levels(mosaic.shape, 512), "0.5", None, (("a", (0, 0, 0)),))
store = io.LabelStore.create(target, layout)
noise = [np.random.default_rng(i).integers(0, 255, (512, 512), dtype="u1") for i in range(2)]
if mode == "full":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    try:
        store.write_block(0, 0, noise[0])
    except OutputError as error:
        print(error)
    sys.exit(0)
print("ready", flush=True)
while True:
    for block in noise:
        for by in range(2):
            for bx in range(2):
                store.write_block(by, bx, block)
"""


def run(tmp_path: Path, mode: str) -> subprocess.Popen[str]:
    script = tmp_path / "writer.py"
    script.write_text(textwrap.dedent(WRITER))
    return subprocess.Popen(
        [sys.executable, str(script), mode, str(tmp_path / "k.ome.zarr")], stdout=subprocess.PIPE, text=True
    )


def test_a_full_disk_is_named_and_leaves_no_torn_shard(tmp_path: Path) -> None:
    process = run(tmp_path, "full")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "k.ome.zarr" in said and "Make room" in said and "File too large" in said
    partial = tmp_path / "k.ome.zarr" / "labels" / "phases.partial"
    assert not list(partial.glob("0/c/**/[0-9]")) or not [f for f in partial.glob("0/c/*/*") if f.is_file()]
    assert not list((partial / ".scratch").iterdir())


def test_nothing_is_written_where_the_folder_of_the_run_is_not_seen(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (900, 700), "u1")
    mosaic = io.open_mosaic(noise)
    store = begin(mosaic, tmp_path / "m.ome.zarr")
    bound = pickle.loads(pickle.dumps(store.bind("first")))
    bound.check_place()
    write(bound, noise)
    (tmp_path / "m.ome.zarr").rename(tmp_path / "elsewhere")  # as on a machine with a disk of its own
    with pytest.raises(OutputError, match="does not see the output.*same paths"):
        bound.check_place()
    with pytest.raises(OutputError, match="cannot write block"):
        write(bound, noise)
    assert not (tmp_path / "m.ome.zarr").exists()


def test_a_worker_left_from_a_run_that_is_no_more_spoils_no_later_one(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (900, 700), "u1")
    mosaic = io.open_mosaic(noise)
    old = begin(mosaic, tmp_path / "m.ome.zarr").bind("old")
    write(old, noise)
    new = begin(mosaic, tmp_path / "m.ome.zarr")  # from the start, as resume=False
    write(new.bind("new"), 2 - noise)
    for late in (noise[:512, :512], np.zeros((512, 512), "u1")):  # a block of background deletes its file
        with pytest.raises(OutputError):
            old.write_block(0, 0, late)
    path = new.finish(PROVENANCE)
    assert np.array_equal(zarr.open_array(path / "0", mode="r")[:], 2 - noise)
    with pytest.raises(OutputError):
        old.write_block(0, 0, noise[:512, :512])
    assert not path.with_name("phases.partial").exists()


def test_a_killed_writer_leaves_no_torn_shard(tmp_path: Path) -> None:
    noise = [np.random.default_rng(i).integers(0, 255, (512, 512), dtype="u1") for i in range(2)]
    process = run(tmp_path, "kill")
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.3 + os.getpid() % 17 / 100)
    process.send_signal(signal.SIGKILL)
    process.wait()
    array = zarr.open_array(tmp_path / "k.ome.zarr" / "labels" / "phases.partial" / "0", mode="r")
    seen = 0
    for by in range(2):
        for bx in range(2):
            block = array[by * 512 : (by + 1) * 512, bx * 512 : (bx + 1) * 512]
            seen += bool(block.any())
            assert not block.any() or any(np.array_equal(block, one) for one in noise)
    assert seen


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        begin(io.open_mosaic(np.zeros((9, 9), "u1")), tmp_path / "file" / "a.ome.zarr")
    with pytest.raises((OutputError, OutputExistsError)):
        io.convert(np.zeros((9, 9), "u1"), tmp_path / "file" / "a.ome.zarr")


# -- images ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", ["0.5", "0.4"])
@pytest.mark.parametrize("kind", ["u1", "u2", "f4", "rgb"])
def test_images_are_written_whole_with_a_pyramid(tmp_path: Path, version: str, kind: str) -> None:
    rng = np.random.default_rng(0)
    shape = (2100, 1301, 3) if kind == "rgb" else (2100, 1301)
    image = rng.integers(0, 256, shape).astype("u1" if kind == "rgb" else kind)
    seen: list[tuple[int, int]] = []
    out = io.convert(
        image, tmp_path / "i.ome.zarr", ome_version=version, um_per_px=0.5, progress=lambda *done: seen.append(done)
    )
    validate(out)
    assert seen[-1] == (2100 * 1301,) * 2 and sorted(seen) == seen
    expected = image.transpose(2, 0, 1) if kind == "rgb" else image
    with io.open_mosaic(out) as mosaic:
        assert mosaic.rgb == (kind == "rgb") and mosaic.um_per_px == 0.5 and mosaic.dtype == image.dtype
        np.testing.assert_array_equal(mosaic.read(0, 2100, 0, 1301), image)
        count = len(mosaic.level_shapes)
    for level in range(count):
        np.testing.assert_array_equal(zarr.open_array(out / str(level), mode="r")[:], expected)
        expected = halve_mean(expected)
    with pytest.raises(OutputExistsError):
        io.convert(image, out)
    io.convert(image[:30, :30], out, overwrite=True)
    assert io.open_mosaic(out).shape == (30, 30)
    assert [path.name for path in tmp_path.iterdir()] == ["i.ome.zarr"]


@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["u1", "u2", "f4"]))
def test_means_count_only_pixels_that_exist(height: int, width: int, kind: str) -> None:
    image = np.random.default_rng(height * width).integers(0, 250, (height, width)).astype(kind)
    small = halve_mean(image)
    for y, x in np.ndindex(*small.shape):
        cell = image[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype("f8").mean()
        assert small[y, x] == (cell if kind == "f4" else np.floor(cell + 0.5))
    if kind == "u1":
        np.testing.assert_array_equal(halve_values(image), small)


def test_a_source_that_breaks_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "t.tif", patches((1000, 900)), tile=(128, 128), compression="zlib")
    with tifffile.TiffFile(tmp_path / "t.tif") as tiff:
        start = tiff.pages[0].dataoffsets[20]
    data = bytearray((tmp_path / "t.tif").read_bytes())
    data[start : start + 30] = bytes(30)
    (tmp_path / "t.tif").write_bytes(data)
    with pytest.raises(MosaicError, match="tile"):
        io.convert(tmp_path / "t.tif", tmp_path / "o.ome.zarr")
    assert not (tmp_path / "o.ome.zarr").exists()


# -- export ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("version", ["0.5", "0.4"])
def test_export(tmp_path: Path, version: str) -> None:
    labels = patches((1300, 2301))
    labels[0, 0] = 7  # a value that no class has
    source = io.convert(labels, tmp_path / "i.ome.zarr", um_per_px=0.25, ome_version=version)
    store = begin(io.open_mosaic(source), None)
    write(store, labels)
    store.finish({})
    done: list[tuple[int, int]] = []
    tiff, table = io.export_labels(source, tmp_path / "out.ome.tif", progress=lambda *step: done.append(step))
    assert done[-1] == (labels.size, labels.size)
    with tifffile.TiffFile(tiff) as file:
        assert file.is_bigtiff and file.is_ome and file.pages[0].is_tiled
        np.testing.assert_array_equal(file.asarray(), labels)
        np.testing.assert_array_equal(file.pages[0].colormap[:, 1], np.array(CLASSES[1][1]) * 257)
        assert 'PhysicalSizeX="0.25"' in file.ome_metadata and "1 = bainite" in file.ome_metadata
    rows = [line.split(",") for line in table.read_text().splitlines()]
    assert rows[0] == ["class", "value", "colour", "pixels", "area_um2", "fraction"]
    assert [row[0] for row in rows[1:]] == ["other", "bainite", "ferrite", "7"] and rows[2][2] == "#e63c14"
    assert sum(int(row[3]) for row in rows[1:]) == labels.size
    assert float(rows[2][4]) == pytest.approx(int((labels == 1).sum()) * 0.0625)
    assert sum(float(row[5]) for row in rows[1:]) == pytest.approx(1)
    with pytest.raises(OutputExistsError):
        io.export_labels(source, tiff)
    store = begin(io.open_mosaic(io.convert(labels, tmp_path / "fine.ome.zarr", um_per_px=2e-4)), None)
    write(store, labels)
    _, table_of_nm = io.export_labels(store.finish({}), tmp_path / "fine.tif")
    areas = [float(line.split(",")[4]) for line in table_of_nm.read_text().splitlines()[1:]]
    assert areas == pytest.approx([int(row[3]) * 4e-8 for row in rows[1:]], rel=1e-9)
    assert io.export_labels(source / "labels" / "phases", tiff, overwrite=True) == [tiff, table]
    with pytest.raises(MosaicNotFoundError):
        io.export_labels(tmp_path, tmp_path / "x.ome.tif")
    for name in ("x.jpg", "x", "x.zarr"):
        with pytest.raises(InputError, match=r"is no TIFF name; use for example x\.ome\.tif"):
            io.export_labels(source, tmp_path / name)
    assert not list(tmp_path.glob("x*"))


# -- real micrographs --------------------------------------------------------------------------------------------------
def test_the_real_mosaic_reads_as_tifffile_decodes_it_and_survives_conversion(data_dir: Path, tmp_path: Path) -> None:
    path = data_dir / "mosaic_dendritic.tif"
    whole = tifffile.imread(path)
    rng = np.random.default_rng(0)
    with io.open_mosaic(path) as mosaic:
        assert mosaic.shape == whole.shape == (6000, 9900)
        for _ in range(10):
            y0, x0 = int(rng.integers(0, 5990)), int(rng.integers(0, 9890))
            y1, x1 = y0 + int(rng.integers(1, 900)), x0 + int(rng.integers(1, 900))
            y1, x1 = min(y1, 6000), min(x1, 9900)
            np.testing.assert_array_equal(mosaic.read(y0, y1, x0, x1), whole[y0:y1, x0:x1])
    out = io.convert(path, tmp_path / "d.ome.zarr")
    validate(out)
    with io.open_mosaic(out) as mosaic:
        np.testing.assert_array_equal(mosaic.read(0, 6000, 0, 9900), whole)


def test_real_micrographs_are_equal_by_every_route(data_dir: Path, tmp_path: Path) -> None:
    paths = sorted((data_dir / "uhcs" / "images").iterdir())
    assert len(paths) == 24
    for path in paths:
        with io.open_mosaic(path) as mosaic:
            height, width = mosaic.shape
            pixels = mosaic.read(0, height, 0, width)
        tifffile.imwrite(tmp_path / "m.tif", pixels, tile=(128, 128), compression="zlib")
        routes = [tmp_path / "m.tif", io.convert(path, tmp_path / "m.ome.zarr", overwrite=True)]
        for route in routes:
            with io.open_mosaic(route) as mosaic:
                np.testing.assert_array_equal(mosaic.read(0, height, 0, width), pixels)
