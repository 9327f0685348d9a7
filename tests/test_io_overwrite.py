"""What is replaced, and what is not: an OME-Zarr, and never anything else that a user has there."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zarr

import bainite_fast
from bainite_fast import ebsd, io
from bainite_fast.errors import BainiteWarning, InputError, OutputError, OutputExistsError, OutputLockedError
from bainite_fast.synthetic import write
from segment_helpers import small_unet

IMAGE = np.arange(64 * 80, dtype=np.uint8).reshape(64, 80)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"mine")
    return folder


def test_a_folder_of_pictures_is_not_replaced(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputExistsError, match="is a folder that is no OME-Zarr"):
        io.convert(IMAGE, photos, overwrite=True)
    with pytest.raises(OutputExistsError, match="is a folder that is no OME-Zarr"):
        write(photos, (32, 32), overwrite=True)
    file = photos / "a.png"
    with pytest.raises(OutputExistsError, match="is a file, and no OME-Zarr"):
        io.convert(IMAGE, file.rename(photos / "a.dat"), overwrite=True)
    assert (photos / "a.dat").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_another_zarr_is_not_replaced(tmp_path: Path) -> None:
    scan = ebsd.EBSDMap(
        grid=ebsd.Grid.square(2, 3, dx=0.1), phases=(ebsd.Phase(1, "Ferrite"),), quaternions=np.eye(4)[np.zeros(6, int)]
    )
    ebsd.write(scan, tmp_path / "scan.zarr")
    zarr.create_array(tmp_path / "array.zarr", data=IMAGE)
    zarr.create_group(tmp_path / "group.zarr", attributes={"mine": 1}).create_array("x", data=IMAGE)
    for path in tmp_path.iterdir():
        before = sorted(one.relative_to(path) for one in path.rglob("*"))
        for write_it in (
            lambda at: io.convert(IMAGE, at, overwrite=True),
            lambda at: write(at, (32, 32), overwrite=True),
        ):
            with pytest.raises(OutputExistsError, match="is a folder that is no OME-Zarr"):
                write_it(path)
        assert sorted(one.relative_to(path) for one in path.rglob("*")) == before
    assert ebsd.read(tmp_path / "scan.zarr").size == 6


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_alone_are_an_ome_zarr(version: str, tmp_path: Path) -> None:
    out = tmp_path / "labels.ome.zarr"
    bainite_fast.segment(IMAGE, small_unet(depth=1), out=out, ome_version=version, progress=False)
    assert io.read_labels(out).shape == IMAGE.shape
    io.convert(IMAGE[::2, ::2].copy(), out, overwrite=True)
    with io.open_mosaic(out) as mosaic:
        assert mosaic.shape == (32, 40)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_an_ome_zarr_is_replaced_unless_it_holds_more(version: str, tmp_path: Path) -> None:
    out = io.convert(IMAGE, tmp_path / "a.ome.zarr", ome_version=version)
    bainite_fast.segment(out, small_unet(depth=1), scale="as-is", progress=False)
    io.convert(IMAGE[::-1].copy(), out, ome_version=version, overwrite=True)
    with io.open_mosaic(out) as mosaic:
        assert np.array_equal(mosaic.read(0, 64, 0, 80), IMAGE[::-1])
    (out / "notes.txt").write_text("mine")
    (out / "sketches").mkdir()
    with pytest.raises(OutputExistsError, match=r"also holds notes\.txt, sketches, which is no part of it"):
        io.convert(IMAGE, out, overwrite=True)
    with pytest.raises(OutputExistsError, match=r"also holds notes\.txt"):
        write(out, (32, 32), overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_the_source_is_not_replaced(tmp_path: Path) -> None:
    source = io.convert(IMAGE, tmp_path / "a.ome.zarr", um_per_px=0.5)
    with pytest.raises(OutputExistsError, match="is, or holds, the mosaic that is read"):
        io.convert(source, source / ".." / "a.ome.zarr", um_per_px=0.2, overwrite=True)
    with (
        io.open_mosaic(source, crop_bar=8) as part,
        pytest.raises(OutputExistsError, match="is, or holds, the mosaic that is read"),
    ):
        io.convert(part, source, overwrite=True)
    spaced = io.convert(IMAGE, tmp_path / "two words.ome.zarr", um_per_px=0.5)
    for url, path in ((f"file://{source}", source), (spaced.as_uri(), spaced)):
        with pytest.raises(OutputExistsError, match="is, or holds, the mosaic that is read"):
            io.convert(url, path, overwrite=True)
    with io.open_mosaic(source) as mosaic:
        assert mosaic.um_per_px == 0.5


def test_a_link_stays_and_what_it_points_to_is_made_or_replaced(tmp_path: Path) -> None:
    link, disk = tmp_path / "m.ome.zarr", tmp_path / "disk"
    link.symlink_to(disk / "m.ome.zarr")  # not there yet
    for pixels, overwrite in ((IMAGE, False), (255 - IMAGE, True)):
        assert io.convert(pixels, link, overwrite=overwrite) == link
        assert link.is_symlink()
        assert np.array_equal(io.open_mosaic(disk / "m.ome.zarr").read(0, 64, 0, 80), pixels)
        assert [path.name for path in disk.iterdir()] == ["m.ome.zarr"]
    with pytest.raises(OutputExistsError, match="exists"):
        io.convert(IMAGE, link)
    with pytest.raises(OutputExistsError, match="is, or holds, the mosaic that is read"):
        io.convert(link, disk / "m.ome.zarr", overwrite=True)


def test_an_image_needs_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for out in (".", ".."):
        with pytest.raises((OutputError, OutputExistsError), match=r"names no folder to make|exists"):
            io.convert(IMAGE, out)
        with pytest.raises(OutputError, match="names no folder to make; give a name"):
            io.convert(IMAGE, out, overwrite=True)


@pytest.mark.parametrize("name", ["labels.tif", "a.PNG", "m.ome.tiff"])
def test_a_group_does_not_take_the_name_of_a_picture(name: str, tmp_path: Path) -> None:
    stem = name.split(".")[0]
    for write_it in (
        lambda: io.convert(IMAGE, tmp_path / name),
        lambda: write(tmp_path / name, (32, 32)),
        lambda: bainite_fast.segment(IMAGE, small_unet(depth=1), out=tmp_path / name, progress=False),
    ):
        with pytest.raises(OutputError, match=rf"would name a picture.*name it {stem}\.ome\.zarr"):
            write_it()
    assert not list(tmp_path.iterdir())


def test_the_size_of_a_pixel_is_checked(tmp_path: Path) -> None:
    for wrong in (-1.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="is no size of a pixel"):
            io.convert(IMAGE, tmp_path / "a.ome.zarr", um_per_px=wrong)
    assert not list(tmp_path.iterdir())
    with pytest.warns(BainiteWarning, match="a pixel of 126.6 µm is larger"):
        io.convert(IMAGE, tmp_path / "a.ome.zarr", um_per_px=126.6)


class _Meeting(io.Mosaic):
    """A mosaic that lets something happen once, when half of it has been read."""

    def __init__(self, happens, shape: tuple[int, int] = (4100, 2100)) -> None:
        self.happens, self.reads = happens, 0
        self.pixels = np.full(shape, 7, np.uint8)
        super().__init__(io.open_mosaic(self.pixels).spec)

    def _read_region(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        self.reads += 1
        if self.reads == 4:
            self.happens()
        return self.pixels[y0:y1, x0:x1]

    def fingerprint(self) -> dict:
        return {"kind": "meeting"}


def test_two_writers_of_one_image_do_not_mix(tmp_path: Path) -> None:
    out = tmp_path / "o.ome.zarr"

    def second() -> None:
        with pytest.raises(OutputLockedError, match=r"o\.ome\.zarr is being written by another process"):
            io.convert(IMAGE, out)

    io.write_image(_Meeting(second), out, threads=1)
    with io.open_mosaic(out) as mosaic:
        assert (mosaic.read(0, 4100, 0, 2100) == 7).all()


def test_what_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "o.ome.zarr"
    with pytest.raises(OutputExistsError, match="exists"):
        io.write_image(_Meeting(lambda: out.mkdir()), out, threads=1)
    assert not any(out.iterdir())
    with pytest.raises(OutputExistsError, match="exists"):
        io.convert(IMAGE, out)
    io.convert(IMAGE, out, overwrite=True)  # what the broken run has left is in nobody's way
    assert [path.name for path in tmp_path.iterdir()] == ["o.ome.zarr"]


def test_the_image_of_two_labels_is_copied_by_one(tmp_path: Path) -> None:
    out = tmp_path / "o.ome.zarr"
    seen: list[threading.Thread] = []

    def finish(mosaic: io.Mosaic, name: str) -> None:
        target = io.LabelTarget.resolve(mosaic, out, name=name)
        levels = target.levels(mosaic.shape, 2048)
        layout = io.LabelLayout(mosaic.shape, 2048, 512, levels, "0.5", None, (("a", (0, 0, 0)),))
        io.LabelStore.create(target, layout, with_image=True).finish({})

    def second() -> None:
        seen.append(threading.Thread(target=finish, args=(_Meeting(lambda: None), "b")))
        seen[0].start()
        time.sleep(0.5)

    finish(_Meeting(second), "a")
    seen[0].join()
    assert set(io.describe(out)["labels"]) == {"a", "b"}
    with io.open_mosaic(out) as mosaic:
        assert (mosaic.read(0, 4100, 0, 2100) == 7).all()
    assert not (out / ".image.partial").exists()
