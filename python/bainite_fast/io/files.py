"""Small files of metadata: read, and replaced whole."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import zarr

from .._disk import explain_os_errors, lock, write_text
from ..errors import MosaicError, OutputError, OutputExistsError, OutputLockedError
from .ome_metadata import ome_attributes


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a JSON file in one step, on disk before this returns."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False))


def read_group(folder: Path) -> tuple[dict[str, Any], str] | None:
    """Return the attributes of a Zarr group and the OME-Zarr version that its format stands for; None without one.

    Raises
    ------
    MosaicError
        If the metadata is no JSON object, or is that of an array.
    """
    if (folder / "zarr.json").exists():
        node = _read_object(folder / "zarr.json")
        if node.get("node_type") != "group":
            raise MosaicError(f"{folder} is a Zarr array; a group is needed", place=str(folder))
        attributes = node.get("attributes", {})
        if not isinstance(attributes, dict):
            raise MosaicError(f"{folder} has attributes that are no JSON object", place=str(folder))
        return attributes, "0.5"
    if (folder / ".zgroup").exists():
        return (_read_object(folder / ".zattrs") if (folder / ".zattrs").exists() else {}), "0.4"
    return None


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MosaicError(f"{path.parent} has metadata that is no JSON ({error})", place=str(path.parent)) from error
    if not isinstance(value, dict):
        raise MosaicError(f"{path.parent} has metadata that is no JSON object", place=str(path.parent))
    return value


_METADATA = frozenset({"zarr.json", ".zgroup", ".zattrs", ".zmetadata"})
# What looks like a file of pixels to a user and to other programs.
_PICTURES = frozenset({".tif", ".tiff", ".btf", ".png", ".jpg", ".jpeg", ".bmp", ".jp2", ".gif", ".svg", ".pdf"})


def check_group_name(folder: Path) -> None:
    """Refuse to make a group that by its name would be a picture.

    Raises
    ------
    OutputError
        If the name ends as that of a picture, or there is none.
    """
    if folder.name in ("", ".."):
        raise OutputError(f"{str(folder)!r} names no folder to make; give a name, such as mosaic.ome.zarr")
    if folder.suffix.lower() in _PICTURES and not folder.is_dir():
        stem = folder.name.split(".")[0] or "mosaic"
        raise OutputError(
            f"{folder.name} would name a picture, and an OME-Zarr is a folder of many files; name it "
            f"{stem}.ome.zarr. Labels become a TIFF by bainite-fast export"
        )


def check_replaceable(folder: Path) -> None:
    """Refuse to replace what is not an OME-Zarr, or holds more than one.

    Raises
    ------
    OutputExistsError
        If there is a file, a folder that is no OME-Zarr (another Zarr, such as an EBSD store, is none), or one with
        anything in it that is no part of it.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    cure = "it is not replaced; choose another name, or move it away first"
    if not folder.is_dir():
        raise OutputExistsError(f"{folder} is a file, and no OME-Zarr: {cure}")
    if not _is_ome_zarr(folder):
        raise OutputExistsError(f"{folder} is a folder that is no OME-Zarr: {cure}")
    foreign = [one.name for one in sorted(folder.iterdir()) if not _belongs(one)]
    if foreign:
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise OutputExistsError(f"{folder} also holds {', '.join(foreign[:3])}{more}, which is no part of it: {cure}")


def _is_ome_zarr(folder: Path) -> bool:
    """Say whether a folder is an OME-Zarr image, or holds labels alone."""
    with contextlib.suppress(MosaicError):
        for place, key in ((folder, "multiscales"), (folder / "labels", "labels")):
            group = read_group(place)
            if group is not None and key in ome_attributes(group[0])[0]:
                return True
    return False


def _belongs(path: Path) -> bool:
    """Say whether something in a group is metadata, an array, a group, or what a writer left unfinished."""
    if path.name in _METADATA or path.name in ("OME", ".scratch") or path.name.endswith((".partial", ".replaced")):
        return True
    return path.is_dir() and any((path / name).exists() for name in (*_METADATA, ".zarray"))


def write_group(folder: Path, attributes: Mapping[str, Any], version: str) -> None:
    """Create or replace the metadata of a group, never its members."""
    if version == "0.5":
        write_json(folder / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)})
        return
    write_json(folder / ".zattrs", dict(attributes))
    write_json(folder / ".zgroup", {"zarr_format": 2})


@contextlib.contextmanager
def exclusive_update(folder: Path) -> Iterator[None]:
    """Let one process at a time change the metadata of a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        lock(handle, folder, wait=True)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def exclusive_folder(folder: Path, what: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold a folder that a writer fills, emptied of what an earlier one left; a killed process lets go of it.

    What is in it when the writer fails is deleted: nobody takes it up, and it may have filled the disk.

    Parameters
    ----------
    folder : Path
        Made if it is not there. It may be renamed or removed while it is held.
    what : Path
        The output, named in the error.
    wait : bool
        Whether to wait for another writer to end.

    Raises
    ------
    OutputLockedError
        If another writer holds the folder, and `wait` is false.
    OutputError
        If the folder cannot be made.
    """
    handle = _hold(folder, what, wait)
    try:
        with explain_os_errors(folder, "the output"):
            for entry in folder.iterdir():
                remove(entry)
        yield
    except BaseException:  # Ctrl-C too
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(handle), folder.stat()):  # not moved into place, nor another's by now
                remove(folder)
        raise
    finally:
        os.close(handle)


def _hold(folder: Path, what: Path, wait: bool) -> int:
    while True:
        if not folder.is_dir():
            remove(folder)
        with explain_os_errors(folder, "the output"):
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY)
        try:
            if not lock(handle, what, wait=wait):
                raise OutputLockedError(
                    f"{what} is being written by another process; wait for it, stop it, or choose another name"
                )
            # Whoever held it may have moved it into place meanwhile: then the name is free again, or another's.
            if folder.exists() and os.path.samestat(os.fstat(handle), folder.stat()):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def remove(path: Path) -> None:
    """Delete a file or folder that may not be there."""
    with explain_os_errors(path.parent, path.name):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def is_consolidated(folder: Path) -> bool:
    """Return whether a group carries a copy of its members' metadata, which new members must enter."""
    if (folder / ".zmetadata").exists():
        return True
    try:
        node = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    return bool(node.get("consolidated_metadata"))


def consolidate(folder: Path) -> None:
    """Renew that copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr warns that version 3 has not standardised it; the file has it already
        zarr.consolidate_metadata(str(folder))
