"""Outputs appear whole or not at all, and nothing gets its name before it is on disk."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bainite_fast import _disk, io
from bainite_fast._disk import beside, left_by, put, sync_folder, sync_tree, write_text
from bainite_fast.errors import InputError, OutputError
from bainite_fast.segmentation.journal import exclusive
from bainite_fast.training.folder import locked


class Journal:
    """What was synced by the time each name was given."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.synced: set[tuple[int, int]] = set()
        self.missing: dict[str, list[str]] = {}
        fsync = os.fsync

        def sync(handle: int) -> None:
            fsync(handle)
            found = os.fstat(handle)
            self.synced.add((found.st_dev, found.st_ino))

        patch.setattr(os, "fsync", sync)
        for name in ("rename", "replace"):
            patch.setattr(os, name, self._watched(getattr(os, name)))

    def _watched(self, move: Callable[..., None]) -> Callable[..., None]:
        def moved(source: str | Path, target: str | Path, **more: int) -> None:
            source = Path(source)
            held = [one for one in source.rglob("*") if one.is_file()] if source.is_dir() else [source]
            unsynced = [one.name for one in held if (one.stat().st_dev, one.stat().st_ino) not in self.synced]
            self.missing.setdefault(Path(target).name, []).extend(unsynced)
            move(source, target, **more)

        return moved


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("before", ["nothing", "file", "folder"])
def test_what_is_made_takes_the_place_of_what_was_there(
    kind: str, before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "deep" / "out"
    refused = before not in (kind, "nothing")
    if before == "file":
        write_text(target, "old")
    elif before == "folder":
        (target / "sub").mkdir(parents=True)
        (target / "sub" / "old").write_text("old")
    journal = Journal(monkeypatch)
    with (
        pytest.raises(OutputError, match="Is a directory|Not a directory") if refused else nullcontext(),
        beside(target) as made,
    ):
        assert left_by(made.name) == "out"
        if kind == "file":
            made.write_text("new")
        else:
            (made / "sub").mkdir(parents=True)
            (made / "sub" / "x").write_text("new")
    if refused:
        assert (target if before == "file" else target / "sub" / "old").read_text() == "old"
    else:
        assert (target if kind == "file" else target / "sub" / "x").read_text() == "new"
    assert [one.name for one in target.parent.iterdir()] == ["out"]
    assert journal.missing["out"] == []


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    for error in (KeyboardInterrupt(), ValueError("no"), InputError("no")):
        with pytest.raises(type(error)), beside(target) as made:
            made.write_text("half")
            raise error
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    told = r"a\.txt of .* GiB are free there\. Make room, then run the same again$"
    with pytest.raises(OutputError, match=told), beside(target) as made:
        made.write_text("half")
        raise full
    assert target.read_text() == "old" and [one.name for one in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_cannot_be_put_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, made = tmp_path / "out", tmp_path / "made"
    for folder in (target, made):
        folder.mkdir()
        (folder / "who").write_text(folder.name)
    rename = Path.rename

    def fails(self: Path, to: Path) -> Path:
        if self == made:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="Input/output"):
        put(made, target)
    assert (target / "who").read_text() == "out"


@pytest.mark.parametrize(
    ("name", "of"),
    [
        (".best.yaml.0123abcd.partial", "best.yaml"),
        (".model.0123abcd.old", "model"),
        ("best.yaml", None),
        (".best.yaml.partial", "best.yaml"),
        ("best.yaml.0123abcd.partial", None),
    ],
)
def test_names_that_a_kill_leaves_are_known(name: str, of: str | None) -> None:
    assert left_by(name) == of


def test_a_folder_of_many_files_is_synced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(100):
        (tmp_path / str(k % 3)).mkdir(exist_ok=True)
        (tmp_path / str(k % 3) / str(k)).write_text("x")
    one_by_one: list[int] = []
    monkeypatch.setattr(os, "fsync", one_by_one.append)
    sync_tree(tmp_path)
    assert not one_by_one
    monkeypatch.setattr(_disk, "_sync_file_system", lambda folder: False)  # as where the system has no such call
    sync_tree(tmp_path)
    assert len(one_by_one) == 100 + 3 + 1
    monkeypatch.undo()
    library = SimpleNamespace(syncfs=lambda handle: ctypes.set_errno(errno.EIO) or -1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name, use_errno: library)
    with pytest.raises(OSError, match="Input/output"):
        sync_tree(tmp_path)


def test_folders_that_cannot_be_synced_are_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(number: int) -> Callable[[int], None]:
        def fsync(handle: int) -> None:
            raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr(os, "fsync", fails(errno.EINVAL))
    sync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", fails(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_is_refused(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fails)
    image = np.zeros((40, 50), np.uint8)
    for write in (
        lambda: io.convert(image, tmp_path / "image.ome.zarr"),
        lambda: exclusive(tmp_path / "lock", tmp_path / "labels").__enter__(),
        lambda: locked(tmp_path / "run").__enter__(),
    ):
        with pytest.raises(OutputError, match="locks no files .* write to another disk"):
            write()


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_images_and_labels_are_on_disk_before_they_have_their_name(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(monkeypatch)
    image = np.random.default_rng(1).integers(0, 255, (700, 900), dtype=np.uint8)
    out = io.convert(image, tmp_path / "image.ome.zarr", ome_version=version)
    mosaic = io.open_mosaic(out)
    target = io.LabelTarget.resolve(mosaic, None)
    classes = (("a", (0, 0, 0)), ("b", (255, 0, 0)))
    layout = io.LabelLayout((700, 900), 512, 256, target.levels(mosaic.shape, 512), version, None, classes)
    store = io.LabelStore.create(target, layout)
    for by, bx in np.ndindex(2, 2):
        part = image[by * 512 : by * 512 + 512, bx * 512 : bx * 512 + 512]
        store.write_block(by, bx, part // 128)
    store.finish({})
    assert journal.missing["image.ome.zarr"] == [] and journal.missing["phases"] == []
