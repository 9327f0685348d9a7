"""Writing images as OME-Zarr: streamed in blocks, with an area-mean pyramid, moved into place when complete."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.storage import LocalStore

from .._disk import explain_os_errors, sync_folder, sync_tree
from ..errors import InputError, OutputError, OutputExistsError
from ._zarr import is_url, open_array
from .files import (
    check_group_name,
    check_replaceable,
    exclusive_folder,
    exclusive_update,
    read_group,
    remove,
    write_group,
)
from .labels import OME_VERSIONS, LabelLayout, LabelLevel, has_own_image, plan_levels
from .mosaic import Mosaic
from .ome_metadata import group_attributes, ome_attributes, rgb_omero, write_multiscale
from .pixel_size import check_pixel_size
from .shards import ArrayLayout, BlockWriter, create_array

Progress = Callable[[int, int], None]
_SCRATCH, _BLOCK, _CHUNK = ".scratch", 2048, 512
_THREADS = 2  # reading and encoding overlap; more threads would hold more blocks


def write_image(
    mosaic: Mosaic,
    out: str | Path,
    *,
    ome_version: str = "0.5",
    um_per_px: float | None = None,
    overwrite: bool = False,
    attributes: dict[str, Any] | None = None,
    threads: int = _THREADS,
    progress: Progress | None = None,
) -> Path:
    """Write a mosaic as an OME-Zarr image with a pyramid.

    Memory holds a few blocks of 2048² pixels, whatever the size. The image is written to ``<out>.partial`` and gets its
    name when it is complete.

    Parameters
    ----------
    mosaic : Mosaic
        What is written.
    out : path
        Folder to create.
    ome_version : {"0.5", "0.4"}
        0.5 is Zarr v3 with shards, 0.4 Zarr v2.
    um_per_px : float, optional
        Size of a pixel; default what the mosaic says.
    overwrite : bool
        Whether an existing OME-Zarr is replaced, its labels too (once the new one is complete).
    attributes : dict, optional
        Stored as attribute "bainite_fast" of the group.
    threads : int
        Blocks in flight.
    progress : callable, optional
        Called with (pixels done, all pixels) of level 0.

    Returns
    -------
    pathlib.Path
        The group.

    Raises
    ------
    OutputExistsError
        If there is something at `out` and `overwrite` is False, or something that is no OME-Zarr or holds more.
    OutputLockedError
        If another process is writing there.
    OutputError
        If `out` is a URL or the name of a picture, or the disk is full or cannot be written.
    InputError
        If `um_per_px` is not positive.
    """
    path = check_group_output(out, overwrite=overwrite)
    check_pixel_size(um_per_px)
    if ome_version not in OME_VERSIONS:
        raise InputError(f"ome_version is {ome_version!r}; use one of {OME_VERSIONS}")
    place = path.resolve() if path.is_symlink() else path  # a link stays, and what it points to is made or replaced
    partial = place.with_name(f"{place.name}.partial")
    with exclusive_folder(partial, path):
        levels = plan_levels(mosaic.shape, _BLOCK)
        _ImageWriter(partial, mosaic, levels, ome_version, threads).run(progress)
        ours = {**({"synthetic": True} if mosaic.synthetic else {}), **(attributes or {})}
        um = mosaic.um_per_px if um_per_px is None else um_per_px
        ome = image_metadata(mosaic, levels, ome_version, um, mosaic.name)
        write_group(
            partial, {**group_attributes(ome, ome_version), **({"bainite_fast": ours} if ours else {})}, ome_version
        )
        check_group_output(out, overwrite=overwrite)  # another may have put something there meanwhile
        with explain_os_errors(path, "the finished image"):
            sync_tree(partial)
            replaced = place.with_name(f"{place.name}.replaced")
            remove(replaced)
            if place.exists():
                place.rename(replaced)
            partial.rename(place)
            sync_folder(place.parent)
            remove(replaced)
    return path


def check_output(out: str | Path, *, overwrite: bool) -> Path:
    """Return a path at which something may be written, or say why not."""
    if is_url(out):
        raise OutputError(f"{out}: only local disks are written to; give a folder, and copy it afterwards")
    if not str(out):
        raise InputError("the output path is empty")
    path = Path(out)
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists; choose another name, or overwrite it (overwrite=True)")
    if not path.absolute().parent.exists():
        with explain_os_errors(path.parent, "the folder"):
            path.parent.mkdir(parents=True)
    return path


def check_group_output(out: str | Path, *, overwrite: bool) -> Path:
    """Return a path at which an OME-Zarr may be written, or say why not."""
    path = check_output(out, overwrite=overwrite)
    check_group_name(path)
    check_replaceable(path)
    return path


def copy_image_into(
    container: Path, mosaic: Mosaic, layout: LabelLayout, version: str, *, progress: Progress | None = None
) -> None:
    """Put a copy of a mosaic into a container that has labels only; one that has its image is left as it is."""
    if _image_is_there(container):
        return
    partial = container / ".image.partial"
    with exclusive_folder(partial, container, wait=True):  # the labels of another name may bring the image, too
        if _image_is_there(container):
            remove(partial)
            return
        # The image follows the pyramid of its labels: a reader wants the same number of levels.
        levels = plan_levels(layout.shape, _BLOCK, count=len(layout.levels))
        _ImageWriter(partial, mosaic, levels, version, _THREADS).run(progress)
        with explain_os_errors(container, "the image"):
            sync_tree(partial)
        with explain_os_errors(container, "the image"), exclusive_update(container):
            for level in range(len(levels)):
                remove(container / str(level))
                (partial / str(level)).rename(container / str(level))
            remove(partial)
            root = read_group(container)
            attributes = {} if root is None else root[0]
            image = image_metadata(mosaic, levels, version, layout.um_per_px, mosaic.name)
            merged = {**ome_attributes(attributes)[0], **image}
            written = group_attributes(merged, version)
            write_group(container, {**attributes, **written}, version)


def _image_is_there(container: Path) -> bool:
    root = read_group(container)
    return root is not None and has_own_image(ome_attributes(root[0])[0])


def image_metadata(
    mosaic: Mosaic, levels: tuple[LabelLevel, ...], version: str, um_per_px: float | None, name: str
) -> dict[str, Any]:
    """Return the OME attributes of an image."""
    entry = write_multiscale(
        name,
        [str(level) for level in range(len(levels))],
        [one.factor for one in levels],
        um_per_px=um_per_px,
        version=version,
        kind="mean",
        metadata={"method": "mean of 2 x 2 pixels"},
        colour=mosaic.channels > 1,
        origin=mosaic.spec.place,
        pixel=mosaic.spec.pixel,
    )
    white = {"u1": 255.0, "u2": 65535.0, "f4": 1.0}[mosaic.dtype.str[1:]]
    return {"multiscales": [entry], **({"omero": rgb_omero(white)} if mosaic.rgb else {})}


class _ImageWriter:
    """The arrays of one image and its pyramid."""

    def __init__(self, root: Path, mosaic: Mosaic, levels: tuple[LabelLevel, ...], version: str, threads: int) -> None:
        self._root, self._mosaic, self._levels, self._threads = root, mosaic, levels, max(1, threads)
        self._writers = [BlockWriter(root, self._array(i, version), root / _SCRATCH) for i in range(len(levels))]

    def _array(self, level: int, version: str) -> ArrayLayout:
        one, count = self._levels[level], self._mosaic.channels
        shape: tuple[int, ...] = one.shape
        block: tuple[int, ...] = (one.block,) * 2
        chunk: tuple[int, ...] = (min(_CHUNK, one.block),) * 2
        if count > 1:
            shape, block, chunk = (count, *shape), (count, *block), (1, *chunk)
        return ArrayLayout(str(level), shape, block, chunk, self._mosaic.dtype.name, version)

    def run(self, progress: Progress | None) -> None:
        """Write level 0 and what its blocks give of the pyramid, then the rest of it."""
        for writer in self._writers:
            create_array(self._root, writer.layout)
        height, width = self._mosaic.shape
        lock, done = threading.Lock(), 0

        def base(index: tuple[int, int]) -> None:
            nonlocal done
            pixels = self._base(index)
            with lock:
                done += pixels
                if progress is not None:
                    progress(done, height * width)

        rows, columns = self._writers[0].layout.grid[-2:]
        bounded_map(base, ((by, bx) for by in range(rows) for bx in range(columns)), self._threads)
        for level, one in enumerate(self._levels):
            if not one.local:
                rows, columns = self._writers[level].layout.grid[-2:]
                jobs = ((level, by, bx) for by in range(rows) for bx in range(columns))
                bounded_map(self._coarse, jobs, self._threads)
        remove(self._root / _SCRATCH)

    def _base(self, index: tuple[int, int]) -> int:
        full = (0, *index) if self._mosaic.channels > 1 else index
        y, x = self._writers[0].layout.extent(full)[-2:]
        block = self._mosaic.read(y.start, y.stop, x.start, x.stop)
        if block.ndim == 3:
            block = np.ascontiguousarray(block.transpose(2, 0, 1))
        for one, writer in zip(self._levels, self._writers, strict=True):
            if not one.local:
                break
            if one.halvings:
                block = halve_mean(block)
            writer.write(full, block)
        return int((y.stop - y.start) * (x.stop - x.start))

    def _coarse(self, job: tuple[int, int, int]) -> None:
        level, by, bx = job
        full = (0, by, bx) if self._mosaic.channels > 1 else (by, bx)
        y, x = self._writers[level].layout.extent(full)[-2:]
        source = open_array(LocalStore(self._root, read_only=True), str(level - 1))[0]
        block = np.asarray(source[..., 2 * y.start : 2 * y.stop, 2 * x.start : 2 * x.stop])
        self._writers[level].write(full, halve_mean(block))


def halve_mean(block: NDArray[Any]) -> NDArray[Any]:
    """Return the mean of every 2 × 2 pixels of [..., h, w]; integers are rounded half up.

    Cells clipped by the border hold only the pixels that exist. The sums are exact: float32 is averaged in float32 in
    one fixed order, integers in 32 bits.
    """
    height, width = block.shape[-2:]
    if height % 2 or width % 2:
        pad = [(0, 0)] * (block.ndim - 2) + [(0, height % 2), (0, width % 2)]
        block = np.pad(block, pad, mode="edge")
    if block.dtype.kind == "f":
        rows = block[..., 0::2, :] * np.float32(0.5) + block[..., 1::2, :] * np.float32(0.5)
        return np.asarray(rows[..., 0::2] * np.float32(0.5) + rows[..., 1::2] * np.float32(0.5), dtype=block.dtype)
    wide = np.uint16 if block.dtype == np.uint8 else np.uint32
    rows = block[..., 0::2, :].astype(wide) + block[..., 1::2, :]
    return np.asarray((rows[..., 0::2] + rows[..., 1::2] + wide(2)) >> 2, dtype=block.dtype)


def bounded_map(work: Callable[[Any], Any], jobs: Iterable[Any], threads: int) -> None:
    """Run jobs on threads with at most `threads` + 1 begun; the first error stops the rest and is raised."""
    if threads == 1:
        for job in jobs:
            work(job)
        return
    with ThreadPoolExecutor(threads) as pool:
        running: set[Future[Any]] = set()
        remaining: Iterator[Any] = iter(jobs)
        try:
            for job in remaining:
                running.add(pool.submit(work, job))
                if len(running) > threads:
                    finished, running = wait(running, return_when=FIRST_COMPLETED)
                    for one in finished:
                        one.result()
            for one in running:
                one.result()
        finally:
            for one in running:
                one.cancel()
