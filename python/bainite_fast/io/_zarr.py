"""Opening Zarr arrays: which store, which codec pipeline, and never a lasting change of Zarr's own settings."""

from __future__ import annotations

import functools
import os
import tempfile
import threading
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec, ShardingCodec
from zarr.core.array import create_codec_pipeline
from zarr.core.metadata import ArrayV2Metadata
from zarr.storage import FsspecStore, LocalStore, ZipStore
from zarrs.pipeline import UnsupportedMetadataError

from ..errors import MissingExtraError, MosaicError, MosaicNotFoundError

ZARRS: dict[str, Any] = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "codec_pipeline.strict": True}
ZARR_PYTHON: dict[str, Any] = {"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}

# zarr.config is one object for the whole process: settings are changed for the length of one open, one at a time.
_open_lock = threading.RLock()


@functools.cache
def start_zarr_threads() -> None:
    """Let Zarr start its event loop and pool under its own settings, before any of ours could size them."""
    zarr.create_array(store=zarr.storage.MemoryStore(), shape=(1,), dtype="uint8")[:] = 0


_lacks_threads = False


def _after_fork() -> None:
    """Note in a forked process that zarrs would wait for ever for the threads that it had in the parent."""
    global _lacks_threads
    _lacks_threads = _lacks_threads or start_zarr_threads.cache_info().currsize > 0


os.register_at_fork(after_in_child=_after_fork)


def open_array(
    store: Store, path: str = "", *, mode: Literal["r", "r+"] = "r", threads: int | None = None
) -> tuple[Any, str]:
    """Open an array with the fastest codec pipeline that reads it right.

    The pipeline of the package `zarrs` (3 to 10 times faster) takes local stores. It has no big-endian or
    Fortran-ordered Zarr v2 arrays, no remote or zip stores, and not every codec, and shards whose index has no checksum
    are not safe with it, nor is reading in a process forked from one that has read: those go, by decision here and
    never by a fallback of its own, through zarr-python's pipeline.

    Of sharded arrays, zarrs checks the checksum that a compressor carries (zstd, gzip) and not a separate crc32c codec,
    unless it reads a whole shard: what this package writes has zstd's.

    Parameters
    ----------
    store : zarr.abc.store.Store
        Where the array is.
    path : str
        Path of the array inside the store.
    mode : str
        "r" or "r+".
    threads : int, optional
        Threads that the zarrs pipeline may use for this array; default all cores.

    Returns
    -------
    tuple
        The zarr.Array and the name of its pipeline, "zarrs" or "zarr-python".

    Raises
    ------
    FileNotFoundError
        If there is no array.
    MosaicError
        If its metadata is damaged.
    """
    start_zarr_threads()
    with _open_lock:
        with zarr.config.set(ZARR_PYTHON):
            try:
                plain = zarr.open_array(store=store, path=path, mode=mode)
            except FileNotFoundError:
                raise
            # Broken metadata: every parser of it has errors of its own.
            except Exception as error:
                place = f"{store}/{path}"
                raise MosaicError(
                    f"{place} cannot be opened as Zarr ({type(error).__name__}: {error})", place=place
                ) from error
        if _lacks_threads or not isinstance(store, LocalStore) or not _zarrs_reads(plain.metadata):
            return plain, "zarr-python"
        settings = {**ZARRS, **({} if threads is None else {"threading.max_workers": threads})}
        try:
            with zarr.config.set(settings):
                return zarr.open_array(store=store, path=path, mode=mode), "zarrs"
        except UnsupportedMetadataError:
            return plain, "zarr-python"


def _zarrs_reads(metadata: Any) -> bool:
    if not isinstance(metadata, ArrayV2Metadata):
        # A damaged index of a shard sends zarrs to allocate what it says, and the process aborts; a checksum tells.
        return all(
            any(isinstance(one, Crc32cCodec) for one in codec.index_codecs)
            for codec in metadata.codecs
            if isinstance(codec, ShardingCodec)
        )
    dtype = metadata.dtype.to_native_dtype()
    return bool(dtype.isnative and metadata.order == "C" and metadata.fill_value is not None)


def open_store(location: str | Path, *, storage_options: Mapping[str, Any] | None = None) -> tuple[Store, str]:
    """Return the read-only store of a folder, zip file or URL, and the path of the Zarr node inside it.

    Raises
    ------
    MosaicNotFoundError
        If a local path does not exist.
    MosaicError
        If a zip file holds no Zarr.
    """
    if is_url(location):
        return _remote_store(str(location), storage_options), ""
    path = Path(location)
    if path.is_dir():
        return LocalStore(path, read_only=True), ""
    if not path.exists():
        raise MosaicNotFoundError(f"{path} does not exist")
    return ZipStore(path, mode="r"), _root_in_zip(path)


def _remote_store(url: str, storage_options: Mapping[str, Any] | None) -> FsspecStore:
    try:
        options = None if storage_options is None else dict(storage_options)
        return FsspecStore.from_url(url.rstrip("/"), storage_options=options, read_only=True)
    except ImportError as error:
        raise MissingExtraError(
            f"{url} cannot be reached without a further package ({error}); install it with: pip install "
            '"bainite-fast[remote]"'
        ) from error
    except (ValueError, TypeError, OSError) as error:
        raise MosaicError(f"{url} cannot be opened ({error}); check the URL and storage_options", place=url) from error


def is_url(location: object) -> bool:
    """Return whether a location is an fsspec URL (``s3://…``, ``zip::https://…``) and not a local path."""
    return isinstance(location, str) and ("://" in location or "::" in location)


def _root_in_zip(path: Path) -> str:
    """Return "" when the node is at the root of the zip file, else the one top folder that holds it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise MosaicError(f"{path} cannot be read as a zip file ({error})", place=str(path)) from error
    nodes = [name for name in names if name.rpartition("/")[2] in ("zarr.json", ".zgroup", ".zarray")]
    if not nodes:
        raise MosaicError(
            f"{path} holds no Zarr group or array; zip an OME-Zarr folder or its content", place=str(path)
        )
    return min(nodes, key=lambda name: name.count("/")).rpartition("/")[0]


def read_node(store: Store, path: str, location: str) -> zarr.Group | zarr.Array[Any] | None:
    """Return the group or array at a path, None where there is none.

    Raises
    ------
    MosaicError
        If the metadata is damaged, or the place cannot be reached.
    """
    start_zarr_threads()
    with _open_lock, zarr.config.set(ZARR_PYTHON):
        try:
            return zarr.open(store=store, path=path, mode="r")
        except FileNotFoundError:
            return None
        # Broken metadata, missing rights, a host that does not answer: every store and parser has errors of its own.
        except Exception as error:
            raise MosaicError(
                f"{location} cannot be opened as Zarr ({type(error).__name__}: {error})", place=location
            ) from error


def codec_pipeline() -> tuple[str, str | None]:
    """Return the codec pipeline that local stores get, and why it is not the fast one (None where it is)."""
    start_zarr_threads()
    store = zarr.storage.LocalStore(tempfile.gettempdir(), read_only=True)
    metadata = zarr.create_array(store=zarr.storage.MemoryStore(), shape=(1,), dtype="uint8").metadata
    try:
        with _open_lock, zarr.config.set(ZARRS):
            create_codec_pipeline(metadata, store=store)
    except (UnsupportedMetadataError, ImportError, RuntimeError, TypeError) as error:
        return "zarr-python", str(error) or type(error).__name__
    return "zarrs", None
