"""Writing Zarr arrays block by block so that a block is there whole or not at all."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.registry import get_numcodec
from zarr.storage import LocalStore

from .._disk import explain_os_errors
from ..errors import InputError
from ._zarr import ZARR_PYTHON, _open_lock, start_zarr_threads

_ZSTD_LEVEL = 1


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
    """

    path: str
    shape: tuple[int, ...]
    block: tuple[int, ...]
    chunk: tuple[int, ...]
    dtype: str
    version: str

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
            # zstd's own checksum finds every flipped byte. The crc32c codec would not do: zarrs does not look at it
            # when it reads part of a shard. In v2 the frames carry it too, though the metadata have no word for it that
            # zarrs knows.
            zarr.create_array(
                store=store,
                name=layout.path or None,
                chunks=layout.chunk,
                shards=layout.block,
                compressors=[ZstdCodec(level=_ZSTD_LEVEL, checksum=True)],
                dimension_names=names,
                zarr_format=3,
                **common,
            )
        else:
            zarr.create_array(
                store=store,
                name=layout.path or None,
                chunks=layout.chunk,
                compressors=get_numcodec({"id": "zstd", "level": _ZSTD_LEVEL}),  # type: ignore[typeddict-unknown-key]
                chunk_key_encoding={"name": "v2", "separator": "/"},
                zarr_format=2,
                **common,
            )


class BlockWriter:
    """Writes blocks of one array: encoded in memory, written beside it, then moved into place.

    A kill at any moment leaves a file of the array as it was or as it is to be. Shards are put together here and not by
    a codec pipeline: their bytes are then the same every time (pipelines with threads order the chunks as they finish),
    and no event loop stands between a worker and its disk. Thread-safe; pickles, so that a worker process can write.

    Parameters
    ----------
    root : pathlib.Path
        Folder that holds the array.
    layout : ArrayLayout
        The array, made by `create_array`.
    scratch : pathlib.Path
        Folder for files that are being written, on the same file system.
    bound : bool
        Whether to write only while that folder is there, and never to make it.
    """

    def __init__(self, root: Path, layout: ArrayLayout, scratch: Path, *, bound: bool = False) -> None:
        self._root, self.layout, self._scratch, self._bound = root, layout, scratch, bound

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
        chunks = encode_chunks(block, layout.chunk)
        with explain_os_errors(self._root / layout.path, f"block {index}"):
            if layout.version == "0.5":
                grid = tuple(size // chunk for size, chunk in zip(layout.block, layout.chunk, strict=True))
                return [self._put("/".join(["c", *map(str, index)]), pack_shard(chunks, grid))]
            first = [i * size // chunk for i, size, chunk in zip(index, layout.block, layout.chunk, strict=True)]
            return [
                self._put("/".join(str(i + j) for i, j in zip(first, inner, strict=True)), data)
                for inner, data in chunks
            ]

    def _put(self, place: str, data: bytes | None) -> ShardRecord:
        target = self._root / self.layout.path / place
        name = f"{self.layout.path}/{place}"
        if self._bound:
            self._scratch.stat()
        if data is None:
            # All background has no file. What an earlier attempt may have left there must go.
            target.unlink(missing_ok=True)
            return ShardRecord(name, None)
        made = self._scratch / uuid.uuid4().hex
        try:
            try:
                made.write_bytes(data)
            except FileNotFoundError:
                if self._bound:
                    raise
                made.parent.mkdir(parents=True, exist_ok=True)
                made.write_bytes(data)
            try:
                made.replace(target)
            except FileNotFoundError:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.replace(target)
        except OSError:
            with contextlib.suppress(OSError):
                made.unlink(missing_ok=True)
            raise
        return ShardRecord(name, len(data))


def encode_chunks(block: NDArray[Any], chunk: tuple[int, ...]) -> list[tuple[tuple[int, ...], bytes | None]]:
    """Return (position, compressed bytes) of the chunks that a block touches; None for a chunk of background alone."""
    codec = get_numcodec({"id": "zstd", "level": _ZSTD_LEVEL, "checksum": True})  # type: ignore[typeddict-unknown-key]
    little = block.dtype.newbyteorder("<")
    encoded: list[tuple[tuple[int, ...], bytes | None]] = []
    for index in np.ndindex(*[-(-size // edge) for size, edge in zip(block.shape, chunk, strict=True)]):
        part = block[tuple(slice(i * edge, (i + 1) * edge) for i, edge in zip(index, chunk, strict=True))]
        if not part.any():
            encoded.append((index, None))
            continue
        if part.shape != chunk:  # chunks are always stored whole: what hangs over the border is background
            whole = np.zeros(chunk, block.dtype)
            whole[tuple(slice(0, size) for size in part.shape)] = part
            part = whole
        encoded.append((index, bytes(codec.encode(np.ascontiguousarray(part, dtype=little)))))
    return encoded


def pack_shard(chunks: Iterable[tuple[tuple[int, ...], bytes | None]], grid: tuple[int, ...]) -> bytes | None:
    """Return a shard of the `sharding_indexed` codec (index at the end, with crc32c); None if all chunks are empty."""
    index = np.full((*grid, 2), np.iinfo(np.uint64).max, "<u8")
    parts: list[bytes] = []
    offset = 0
    for place, data in chunks:
        if data is not None:
            index[place] = offset, len(data)
            parts.append(data)
            offset += len(data)
    if not parts:
        return None
    table = index.tobytes()
    return b"".join([*parts, table, google_crc32c.value(table).to_bytes(4, "little")])


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
