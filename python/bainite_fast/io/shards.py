"""Writing Zarr arrays block by block so that a block is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from ..errors import InputError, OutputError
from ._zarr import ZARR_PYTHON, _open_lock, open_array, start_zarr_threads


class ShardRecord(NamedTuple):
    """One file of a written block.

    Attributes
    ----------
    path : str
        Path relative to the folder that holds the arrays.
    size : int or None
        Bytes; None where the block is all background and so has no file.
    """

    path: str
    size: int | None


@dataclass(frozen=True, slots=True)
class ArrayLayout:
    """An array and the blocks in which it is written.

    Parameters
    ----------
    path : str
        Path relative to the folder that holds the arrays.
    shape, block, chunk : tuple of int
        Sizes along every axis; blocks are shards in Zarr v3, and groups of chunk files in v2.
    dtype : str
        NumPy name.
    version : str
        "0.5" writes Zarr v3 with shards, "0.4" Zarr v2.
    smooth : bool
        Whether values vary smoothly (an image) or stand in patches (labels): decides the compressor.
    """

    path: str
    shape: tuple[int, ...]
    block: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: str
    version: str
    smooth: bool = False

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of blocks along every axis."""
        return tuple(-(-size // block) for size, block in zip(self.shape, self.block, strict=True))

    def extent(self, index: tuple[int, ...]) -> tuple[slice, ...]:
        """Return the part of the array that a block covers, clipped at the border."""
        return tuple(
            slice(i * block, min((i + 1) * block, size))
            for i, block, size in zip(index, self.block, self.shape, strict=True)
        )


def create_array(root: Path, layout: ArrayLayout) -> None:
    """Create an empty array; its fill value is 0."""
    start_zarr_threads()
    names = ("c", "y", "x")[-len(layout.shape) :]
    common: dict[str, Any] = {"shape": layout.shape, "dtype": layout.dtype, "fill_value": 0, "overwrite": True}
    with _open_lock, zarr.config.set(ZARR_PYTHON):
        store = LocalStore(root)
        if layout.version == "0.5":
            # The checksum after the compressor finds every flipped byte, whatever the compressor would make of it.
            zarr.create_array(
                store=store,
                name=layout.path or None,
                chunks=layout.chunk,
                shards=layout.block,
                compressors=[_v3_compressor(layout), Crc32cCodec()],
                dimension_names=names,
                zarr_format=3,
                **common,
            )
        else:
            zarr.create_array(
                store=store,
                name=layout.path or None,
                chunks=layout.chunk,
                compressors=_v2_compressor(layout),
                chunk_key_encoding={"name": "v2", "separator": "/"},
                zarr_format=2,
                **common,
            )


def _v3_compressor(layout: ArrayLayout) -> Any:
    if not layout.smooth:
        return ZstdCodec(level=1)
    return BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle" if _item(layout) == 1 else "shuffle")


def _v2_compressor(layout: ArrayLayout) -> dict[str, Any]:
    if not layout.smooth:
        return {"id": "zstd", "level": 1}
    return {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 0 if _item(layout) == 1 else 1, "blocksize": 0}


def _item(layout: ArrayLayout) -> int:
    return np.dtype(layout.dtype).itemsize


class BlockWriter:
    """Writes blocks of one array: encoded into a scratch array beside it, then moved into place.

    A kill at any moment leaves a block's file as it was or as it is to be. Every thread of every process has a scratch
    array of its own. Pickles, so that a worker process can write.

    Parameters
    ----------
    root : pathlib.Path
        Folder that holds the array.
    layout : ArrayLayout
        The array, made by `create_array`.
    scratch : pathlib.Path
        Folder for scratch arrays, on the same file system.
    """

    def __init__(self, root: Path, layout: ArrayLayout, scratch: Path) -> None:
        self._root, self.layout, self._scratch = root, layout, scratch
        self._local = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_local": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def write(self, index: tuple[int, ...], block: NDArray[Any]) -> list[ShardRecord]:
        """Write one block and return its files.

        Parameters
        ----------
        index : tuple of int
            Position in `layout.grid`.
        block : ndarray
            The block's pixels, clipped at the border of the array.

        Raises
        ------
        InputError
            If shape or dtype are not those of the block.
        OutputError
            If the disk is full or the folder cannot be written.
        """
        layout = self.layout
        extent = tuple(part.stop - part.start for part in layout.extent(index))
        if block.shape != extent or block.dtype != np.dtype(layout.dtype):
            raise InputError(
                f"block {index} of {layout.path!r} is {block.dtype} of shape {block.shape}; "
                f"{layout.dtype} of shape {extent} is needed"
            )
        with explain_os_errors(self._root / layout.path, f"block {index}"):
            folder, array = self._scratch_array()
            if extent == layout.block:
                array[...] = block
            else:
                # Shards are always encoded whole: what hangs over the border is background.
                padded = np.zeros(layout.block, layout.dtype)
                padded[tuple(slice(0, size) for size in extent)] = block
                array[...] = padded
            return list(self._move(folder, index))

    def _scratch_array(self) -> tuple[Path, Any]:
        if not hasattr(self._local, "array"):
            name = f"{os.getpid()}-{threading.get_ident()}-{uuid.uuid4().hex}"
            folder = self._scratch / name
            folder.mkdir(parents=True, exist_ok=True)
            one = ArrayLayout(
                "",
                self.layout.block,
                self.layout.block,
                self.layout.chunk,
                self.layout.dtype,
                self.layout.version,
                self.layout.smooth,
            )
            create_array(folder, one)
            # One thread: several order the inner chunks of a shard differently every time.
            self._local.folder, self._local.array = folder, open_array(LocalStore(folder), mode="r+", threads=1)[0]
        return self._local.folder, self._local.array

    def _move(self, folder: Path, index: tuple[int, ...]) -> Iterator[ShardRecord]:
        for source, place in self._files(index):
            target = self._root / self.layout.path / place
            made = folder / source
            try:
                size = made.stat().st_size
            except FileNotFoundError:
                # All background has no file. What an earlier attempt may have left there must go.
                target.unlink(missing_ok=True)
                yield ShardRecord(f"{self.layout.path}/{place}", None)
                continue
            try:
                made.replace(target)
            except FileNotFoundError:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.replace(target)
            yield ShardRecord(f"{self.layout.path}/{place}", size)

    def _files(self, index: tuple[int, ...]) -> Iterator[tuple[str, str]]:
        """Yield (file in the scratch array, file in the array) of a block."""
        layout = self.layout
        if layout.version == "0.5":
            yield "/".join(["c", *["0"] * len(index)]), "/".join(["c", *map(str, index)])
            return
        per_block = [block // chunk for block, chunk in zip(layout.block, layout.chunk, strict=True)]
        chunks = [-(-size // chunk) for size, chunk in zip(layout.shape, layout.chunk, strict=True)]
        for inner in np.ndindex(*per_block):
            place = [i * n + j for i, n, j in zip(index, per_block, inner, strict=True)]
            if all(i < n for i, n in zip(place, chunks, strict=True)):
                yield "/".join(map(str, inner)), "/".join(map(str, place))


def verify_records(root: Path, records: Iterable[tuple[str, int | None]]) -> bool:
    """Return whether the files of a block are there with the sizes they were written with."""
    for path, expected in records:
        try:
            size: int | None = (root / path).stat().st_size
        except OSError:
            size = None
        if size != expected:
            return False
    return True


@contextlib.contextmanager
def explain_os_errors(place: Path, what: str) -> Iterator[None]:
    """Turn failures of the file system into an OutputError that names the place and the cure."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise _output_error(place, what, error.errno, error.strerror or str(error)) from error
    except RuntimeError as error:
        # The zarrs pipeline reports system errors as text: "No space left on device (os error 28)".
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        raise _output_error(place, what, int(found[1]), str(error)) from error


def _output_error(place: Path, what: str, number: int | None, text: str) -> OutputError:
    free = ""
    with contextlib.suppress(OSError):
        existing = next(folder for folder in (place, *place.parents) if folder.exists())
        free = f"; {shutil.disk_usage(existing).free / 2**30:.2f} GiB are free there"
    error = OutputError(
        f"cannot write {what} of {place}: {text}{free}. Make room or permit writing, then run the same again: "
        "what is finished is kept"
    )
    error.errno = number
    return error
