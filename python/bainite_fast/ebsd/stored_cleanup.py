"""Clean-up of a map that is larger than memory, from one Zarr store to another."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import OutputError, OutputExistsError
from .bands import Band, bands
from .cleanup import (
    PAPER_CLEANUP,
    CleanLog,
    CleanStep,
    PlannedStep,
    Step,
    gather_ci,
    nci,
    plan_steps,
    raise_ci,
    standardisation_tolerance,
)
from .map import EBSDMap
from .stored_grains import number_grains
from .zarr_store import StoredMap, ZarrWriter, spare_others

MOST_PASSES = 16
"""Passes done on a band before the next one is read; each needs one more row of halo."""


def clean_store(
    source: StoredMap,
    path: str | Path,
    steps: Sequence[Step] = PAPER_CLEANUP,
    *,
    rows: int | None = None,
    overwrite: bool = False,
) -> CleanLog:
    """Clean up a stored map in bounded memory; the result is that of :func:`clean` on the whole map.

    Parameters
    ----------
    source : StoredMap
        The map.
    path : path
        Folder of the Zarr store to make.
    steps : sequence of tuples
        As in :func:`clean`. Steps that touch one another are done in one go over the map; "converge" and
        "ci_standardisation" take several.
    rows : int, optional
        Rows of a band; about two million points by default.
    overwrite : bool
        Replace a store that exists, other than `source`.

    Returns
    -------
    CleanLog
        What was changed. It holds two bytes per point and step in memory.

    Raises
    ------
    InputError
        If a step is unknown or its arguments are wrong, or the map has no CI and a step needs it.
    OutputExistsError
        If the store exists, or is that of `source`.
    OutputError
        If its folder does not exist, or it cannot be written.
    """
    target = Path(path)
    if target.exists() and target.samefile(source.path):
        raise OutputExistsError(
            f"{target} is the map itself, and a measurement is never replaced by what is made of it; give another name"
        )
    planned = plan_steps(steps, source.grid, source.phases, has_ci="ci" in source.properties)
    if target.exists() and not overwrite:
        raise OutputExistsError(f"{target} exists; choose another name, or overwrite=True")
    spare_others(target)
    if not target.parent.is_dir():
        raise OutputError(f"the folder {target.parent} does not exist; make it first")
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.cleaning-", dir=target.parent))
    try:
        work = _Work(source, scratch, rows)
        for step in planned:
            work.do(step)
        work.sweep(last=(target, overwrite))
        return CleanLog(tuple(log.finished() for log in work.logs))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass(eq=False)
class _Log:
    """What a step has changed so far."""

    step: PlannedStep
    turn: NDArray[np.int16]
    counts: list[int] = field(default_factory=list)

    def note(self, turns: list[NDArray[np.int64]], band: Band, offset: int) -> int:
        """Add what was changed within a band; return how many points."""
        total = 0
        for number, changed in enumerate(turns, offset):
            inner = changed[(changed >= band.inner.start) & (changed < band.inner.stop)] - band.skip + band.start
            self.counts += [0] * (number + 1 - len(self.counts))
            self.counts[number] += len(inner)
            self.turn[inner] = number
            total += len(inner)
        return total

    def finished(self) -> CleanStep:
        counts = list(self.counts)
        while self.step.name == "nci" and len(counts) > 1 and counts[-1] == 0:
            counts.pop()
        return CleanStep(self.step.name, self.step.arguments, tuple(counts), self.turn)


@dataclass(eq=False)
class _Work:
    """The map as it is after the steps done so far, and the steps that wait for the next sweep over it."""

    current: StoredMap
    scratch: Path
    rows: int | None
    waiting: list[_Log] = field(default_factory=list)
    logs: list[_Log] = field(default_factory=list)
    number: int = 0

    def do(self, step: PlannedStep) -> None:
        log = _Log(step, np.full(self.current.grid.size, -1, np.int16))
        self.logs.append(log)
        if step.name == "ci_standardisation":
            self._standardise(log)
        elif step.passes > MOST_PASSES:
            self._repeat(log)
        else:
            self.waiting.append(log)

    def sweep(self, last: tuple[Path, bool] | None = None) -> None:
        """Do the waiting steps on every band, with a halo of as many rows as they have turns."""
        waiting, self.waiting = self.waiting, []
        if not waiting and last is None:
            return

        def run(band: Band) -> EBSDMap:
            part = band.ebsd
            for log in waiting:
                part, turns = log.step.run(part)
                log.note(turns, band, 0)
            return part

        self._rewrite(run, sum(log.step.passes for log in waiting), last)

    def _rewrite(self, run: Any, halo: int, last: tuple[Path, bool] | None = None) -> None:
        path, overwrite = last or (self.scratch / f"{self.number}", False)
        source = self.current
        with ZarrWriter(
            path,
            source.grid,
            source.phases,
            properties=source.properties,
            metadata=source.metadata,
            overwrite=overwrite,
        ) as writer:
            for band in bands(source, self.rows, above=halo, below=halo):
                writer.append(inner_of(run(band), band))
        if last is None:
            self.number += 1
            self.current = StoredMap(path)
            if source.path.parent == self.scratch:
                shutil.rmtree(source.path, ignore_errors=True)

    def _repeat(self, log: _Log) -> None:
        """Do neighbour CI correlation some passes at a time, until these change nothing."""
        self.sweep()
        least, left, done = float(log.step.arguments[0]), log.step.passes, 0
        while left > 0:
            passes = min(left, MOST_PASSES)
            changed = 0

            def run(band: Band, passes: int = passes, offset: int = done) -> EBSDMap:
                nonlocal changed
                part, turns = nci(band.ebsd, least, passes)
                changed += log.note(turns, band, offset)
                return part

            self._rewrite(run, passes)
            if changed == 0:
                return
            left, done = left - passes, done + passes

    def _standardise(self, log: _Log) -> None:
        import zarr

        self.sweep()
        tolerance = standardisation_tolerance(log.step.arguments, self.current.phases)
        points = self.current.grid.size
        ids = zarr.create_array(
            self.scratch / f"ids-{self.number}", shape=(points,), dtype="<i4", chunks=(min(points, 1 << 18),)
        )
        first, *_ = number_grains(self.current, ids, tolerance, 1, self.rows)
        largest = np.full(len(first), -np.inf, np.float32)
        for band in bands(self.current, self.rows):
            gather_ci(band.ebsd.properties["ci"], np.asarray(ids[band.start : band.stop]), largest)

        def run(band: Band) -> EBSDMap:
            raised, changed = raise_ci(band.ebsd.properties["ci"], np.asarray(ids[band.start : band.stop]), largest)
            log.note([changed], band, 0)
            return band.ebsd.replace(ci=raised)

        self._rewrite(run, 0)


def inner_of(ebsd: EBSDMap, band: Band) -> EBSDMap:
    """Return the rows of a band without its halo."""
    inner = band.inner
    fields: dict[str, Any] = {name: values[inner] for name, values in ebsd.properties.items()}
    return EBSDMap(
        grid=band.grid,
        phases=ebsd.phases,
        quaternions=ebsd.quaternions[inner],
        phase_id=ebsd.phase_id[inner],
        **fields,
    )
