"""Writing labels block by block, and finishing them into an OME-Zarr label image."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.storage import LocalStore

from .. import kernels
from .._disk import explain_os_errors, sync_folder, sync_tree
from ..errors import InputError, JournalError, OutputError
from ._zarr import open_array
from .files import exclusive_update, read_group, remove, write_group, write_json
from .image_writer import copy_image_into
from .labels import CONFIDENCE, LabelLayout, LabelTarget
from .ome_metadata import group_attributes, image_label, write_multiscale
from .shards import BlockWriter, ShardRecord, create_array, verify_records

Progress = Callable[[int, int], None]
_SCRATCH, _LAYOUT, _LOCK = ".scratch", "layout.json", "lock"
_SEEN_PIXELS = 8192 * 8192  # of the finer level that are held while a coarser one is made


class LabelStore:
    """The unfinished labels of one target.

    Blocks are written in any order, by any number of threads and processes (the store pickles); a block that is written
    again replaces the former one. `finish` makes the label image of it.
    """

    def __init__(
        self, target: LabelTarget, layout: LabelLayout, *, with_image: bool = False, run: str | None = None
    ) -> None:
        self.target, self.layout, self.with_image = target, layout, with_image
        root, self._scratch = target.partial_dir, target.partial_dir / _SCRATCH / (run or "")
        bound, levels = run is not None, range(len(layout.levels))
        self._labels = [BlockWriter(root, layout.array(n), self._scratch, bound=bound) for n in levels]
        self._confidence = [BlockWriter(root, layout.array(n, CONFIDENCE), self._scratch, bound=bound) for n in levels]

    @classmethod
    def create(cls, target: LabelTarget, layout: LabelLayout, *, with_image: bool = False) -> LabelStore:
        """Begin the labels of a target; what an earlier, unfinished run left there is deleted (a held lock stays).

        Parameters
        ----------
        target : LabelTarget
            The place.
        layout : LabelLayout
            How the labels lie there.
        with_image : bool
            Whether `finish` puts a copy of the mosaic, with a pyramid, into a container that has no image.

        Raises
        ------
        OutputError
            If the folder cannot be written.
        """
        target.make_partial()
        store = cls(target, layout, with_image=with_image)
        remove(target.partial_dir / _LAYOUT)  # first: without it nothing half deleted is taken up
        with explain_os_errors(target.partial_dir, "the output"):
            for entry in target.partial_dir.iterdir():
                if entry.name != _LOCK:
                    remove(entry)
            for writer in store._writers():
                create_array(target.partial_dir, writer.layout)
        write_json(target.partial_dir / _LAYOUT, {"layout": layout.to_json(), "with_image": with_image})
        return store

    @classmethod
    def open_partial(cls, target: LabelTarget) -> LabelStore:
        """Take up the unfinished labels of a target.

        Raises
        ------
        JournalError
            As :meth:`read_partial`.
        """
        store = cls.read_partial(target)
        remove(target.partial_dir / _SCRATCH)
        return store

    @classmethod
    def read_partial(cls, target: LabelTarget) -> LabelStore:
        """Return the unfinished labels of a target to look at; nothing is written.

        Raises
        ------
        JournalError
            If there are none, or their layout cannot be read.
        """
        path = target.partial_dir / _LAYOUT
        try:
            saved = json.loads(path.read_text(encoding="utf-8"))
            store = cls(target, LabelLayout.from_json(saved["layout"]), with_image=bool(saved["with_image"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise JournalError(
                f"{target.partial_dir} holds no unfinished labels that can be taken up ({error}); "
                "start again with resume=False"
            ) from error
        return store

    def bind(self, run: str) -> LabelStore:
        """Return the store for those who write the blocks of one run, on this machine or on others.

        It makes a folder that only this run has, and they write only while it is there: so nothing goes to a disk of
        their own where the output's is not shared, nor into the output of a later run once this one is no more.

        Parameters
        ----------
        run : str
            Unique name of the run.

        Raises
        ------
        OutputError
            If the folder cannot be made.
        """
        target = replace(self.target, container=self.target.container.absolute())  # from wherever they run
        store = LabelStore(target, self.layout, with_image=self.with_image, run=run)
        with explain_os_errors(self.target.partial_dir, "the output"):
            store._scratch.mkdir(parents=True, exist_ok=True)
        return store

    def check_place(self) -> None:
        """Refuse to write from a machine that does not see the folder of the run that the store is bound to.

        Raises
        ------
        OutputError
            With the remedy.
        """
        partial = self.target.partial_dir
        for folder in (self.target.container, partial.parent, partial, self._scratch):
            try:
                os.listdir(folder)  # noqa: PTH208 - opening a folder makes a network file system look again
            except OSError as error:
                raise OutputError(
                    f"{socket.gethostname()} does not see the output that this run writes, {partial} "
                    f"({folder.name}: {error.strerror}); let the workers run where input and output lie under the "
                    "same paths, as on a shared disk"
                ) from error

    def write_block(
        self, by: int, bx: int, labels: NDArray[np.uint8], confidence: NDArray[np.uint8] | None = None
    ) -> list[ShardRecord]:
        """Write a block and what it gives of the pyramid.

        Parameters
        ----------
        by, bx : int
            Row and column of the block.
        labels : ndarray of uint8, shape (h, w)
            The block, clipped at the border of the mosaic.
        confidence : ndarray of uint8, shape (h, w), optional
            Needed if the layout has confidence, and only then.

        Returns
        -------
        list of ShardRecord
            Every file written, for the journal.

        Raises
        ------
        InputError
            If a shape or dtype is wrong.
        OutputError
            If the disk is full or cannot be written.
        """
        if (confidence is not None) != self.layout.confidence:
            raise InputError(
                "this layout has a confidence image and the block brings none"
                if confidence is None
                else "the block brings confidence, and this layout has no confidence image"
            )
        records = self._write_levels(self._labels, (by, bx), labels, halve_labels)
        if confidence is not None:
            records += self._write_levels(self._confidence, (by, bx), confidence, halve_values)
        return records

    def _write_levels(
        self, writers: list[BlockWriter], index: tuple[int, int], block: NDArray[np.uint8], halve: Halve
    ) -> list[ShardRecord]:
        records: list[ShardRecord] = []
        for level, writer in zip(self.layout.levels, writers, strict=True):
            if not level.local:
                break
            for _ in range(level.halvings or 0):
                block = halve(block)
            extent = writer.layout.extent(index)
            # A pyramid that rounds sizes down has no place for the last, clipped row or column.
            size = [max(0, part.stop - part.start) for part in extent]
            if 0 in size:
                break
            records += writer.write(index, block[: size[0], : size[1]])
        return records

    def verify_block(self, records: Iterable[tuple[str, int | None]]) -> bool:
        """Return whether every file of a written block is there with its size."""
        return verify_records(self.target.partial_dir, records)

    def finish(self, attrs: dict[str, Any], *, progress: Progress | None = None) -> Path:
        """Complete the pyramid and the metadata, and move the labels to their final place.

        Everything is on disk before the folder gets its final name; a result that is replaced is deleted after that.
        Then the labels are listed in the container. Files that are not part of the labels (journal, lock) go last.

        Parameters
        ----------
        attrs : dict
            Provenance, stored as attribute "bainite_fast" of the label group.
        progress : callable, optional
            Called with (blocks done, all blocks) while the remaining levels are made.

        Returns
        -------
        pathlib.Path
            The label group.
        """
        target = self.target
        self._build_levels(progress)
        if self.with_image:
            copy_image_into(target.container, target.mosaic, self.layout, target.ome_version, progress=progress)
        remove(target.partial_dir / _SCRATCH)
        self._write_metadata(attrs)
        old = target.path.with_name(f"{target.name}.replaced")
        with explain_os_errors(target.path, "the finished labels"):
            sync_tree(target.partial_dir)
            with exclusive_update(target.container):
                if target.path.exists():
                    remove(old)
                    target.path.rename(old)
                target.partial_dir.rename(target.path)
                sync_folder(target.path.parent)
            target.list_labels()
            remove(old)
            keep = {one.layout.path.partition("/")[0] for one in self._writers()}
            keep |= {"zarr.json", ".zgroup", ".zattrs"}
            for entry in target.path.iterdir():
                if entry.name not in keep:
                    remove(entry)
        return target.path

    def abandon(self) -> None:
        """Delete the unfinished labels; a container that holds nothing else goes with them."""
        remove(self.target.partial_dir)
        labels = read_group(self.target.container / "labels")
        own = {"zarr.json", ".zgroup", ".zattrs", "labels"}
        if labels is not None and not any(entry.is_dir() for entry in (self.target.container / "labels").iterdir()):
            if self.target.container == self.target.mosaic.source_group:
                return
            if {entry.name for entry in self.target.container.iterdir()} <= own:
                remove(self.target.container)

    # -- parts of finishing --------------------------------------------------------------------------------------------
    def _writers(self) -> list[BlockWriter]:
        return self._labels + (self._confidence if self.layout.confidence else [])

    def _build_levels(self, progress: Progress | None) -> None:
        """Make the levels that no single block could make, each streamed from the one before (or from level 0)."""
        todo = [level for level, one in enumerate(self.layout.levels) if not one.local]
        sets: list[tuple[list[BlockWriter], Halve]] = [(self._labels, halve_labels)]
        if self.layout.confidence:
            sets.append((self._confidence, halve_values))
        total = sum(int(np.prod(writers[level].layout.grid)) for writers, _ in sets for level in todo)
        done = 0
        for writers, halve in sets:
            for level in todo:
                for index in np.ndindex(*writers[level].layout.grid):
                    self._build_block(writers, level, index, halve)
                    done += 1
                    if progress is not None:
                        progress(done, total)

    def _build_block(self, writers: list[BlockWriter], level: int, index: tuple[int, ...], halve: Halve) -> None:
        root, one = LocalStore(self.target.partial_dir, read_only=True), self.layout.levels[level]
        finer = writers[0 if one.halvings is None else level - 1].layout
        source = open_array(root, finer.path, threads=1)[0]
        rows, columns = writers[level].layout.extent(index)
        parts = []
        for some in _bands(rows, columns, max(-(-a // b) for a, b in zip(finer.shape, one.shape, strict=True))):
            if one.halvings is None:
                parts.append(_nearest(source, some, columns, one.shape))
                continue
            step = 2**one.halvings
            part = np.asarray(source[some.start * step : some.stop * step, columns.start * step : columns.stop * step])
            for _ in range(one.halvings):
                part = halve(part)
            parts.append(part[: some.stop - some.start, : columns.stop - columns.start])
        writers[level].write(index, np.concatenate(parts))

    def _write_metadata(self, attrs: dict[str, Any]) -> None:
        layout, target = self.layout, self.target
        version = target.ome_version
        exact = all(one.halvings is not None for one in layout.levels)
        method = {
            "method": "mode of 2 x 2 pixels" if exact else "mode of 2 x 2 pixels; nearest pixel where not a power of 2",
            "halvings": [one.halvings for one in layout.levels],
        }
        paths, factors = [str(level) for level in range(len(layout.levels))], [one.factor for one in layout.levels]
        common: dict[str, Any] = {
            "um_per_px": layout.um_per_px,
            "version": version,
            "origin": target.mosaic.spec.place,
            "pixel": target.mosaic.spec.pixel,
        }
        values = [(value, name, colour) for value, (name, colour) in enumerate(layout.classes)]
        ome = {
            "multiscales": [write_multiscale(target.name, paths, factors, kind="mode", metadata=method, **common)],
            "image-label": image_label(values, version),
        }
        if layout.confidence:
            mean = {"method": "mean of 2 x 2 pixels", "meaning": "255 is certain"}
            entry = write_multiscale(CONFIDENCE, paths, factors, kind="mean", metadata=mean, **common)
            folder = target.partial_dir / CONFIDENCE
            write_group(folder, group_attributes({"multiscales": [entry]}, version), version)
        write_group(target.partial_dir, {**group_attributes(ome, version), "bainite_fast": attrs}, version)


Halve = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def halve_labels(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mode of every 2 × 2 pixels; on ties the first in raster order wins."""
    return kernels.downsample_labels(labels, threads=1)


def halve_values(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the mean of every 2 × 2 pixels, rounded half up; cells clipped by the border repeat their last pixel."""
    height, width = values.shape
    if height % 2 or width % 2:
        values = np.pad(values, ((0, height % 2), (0, width % 2)), mode="edge")
    pairs = values[:, 0::2].astype(np.uint16) + values[:, 1::2]
    return ((pairs[0::2] + pairs[1::2] + 2) >> 2).astype(np.uint8)


def _bands(rows: slice, columns: slice, factor: int) -> list[slice]:
    """Return the rows of a block in parts that need few enough pixels of a level so many times finer."""
    count = max(1, _SEEN_PIXELS // ((columns.stop - columns.start) * factor**2))
    return [slice(start, min(start + count, rows.stop)) for start in range(rows.start, rows.stop, count)]


def _nearest(source: Any, rows: slice, columns: slice, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pixels of level 0 that lie nearest to the centres of a coarser level's pixels."""
    picks = [
        ((2 * np.arange(part.start, part.stop) + 1) * size // (2 * small)).astype(np.int64)
        for part, size, small in zip((rows, columns), source.shape, shape, strict=True)
    ]
    block = np.asarray(source[picks[0][0] : picks[0][-1] + 1, picks[1][0] : picks[1][-1] + 1])
    return np.ascontiguousarray(block[np.ix_(picks[0] - picks[0][0], picks[1] - picks[1][0])])
