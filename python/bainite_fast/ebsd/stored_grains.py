"""Grains of a map that is larger than memory, merged across the bands that it is read in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, OutputExistsError
from ..kernels import grains as sums
from ..kernels._checks import whole
from ..kernels.orientations import laue_code
from ._points import grain_tolerance, grid_shape, nearest_code
from .atomic import Replacement, refuse_foreign
from .bands import Band, bands, seam
from .grain_map import MAX_ROUNDS, angles_of, inner_kam, links_of, mean_of, times
from .zarr_store import StoredMap

CHUNK_POINTS = 1 << 18


@dataclass(frozen=True, eq=False, slots=True)
class StoredGrains:
    """Grains of a stored map: what belongs to points is in a Zarr group, what belongs to grains is in memory.

    Attributes
    ----------
    path : Path
        The group; its arrays `grain_id` (int32) and `grod` (float32, degrees) have one value per point, row by row.
    first, sizes : ndarray, (grains,), int64
        First point and number of points of every grain.
    phase_id : ndarray, (grains,), int32
        Phase.
    mean_orientation : ndarray, (grains, 4), float64
        See :attr:`Grains.mean_orientation`.
    gos, gam_pairs, gam_kam : ndarray, (grains,), float64
        Degrees; see :attr:`Grains.gos` and :meth:`Grains.gam`.
    """

    path: Path
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]
    phase_id: NDArray[np.int32]
    mean_orientation: NDArray[np.float64]
    gos: NDArray[np.float64]
    gam_pairs: NDArray[np.float64]
    gam_kam: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def ids(self) -> Any:
        """Zarr array of the grain of every point, int32 (points,)."""
        return self._array("grain_id")

    @property
    def grod(self) -> Any:
        """Zarr array of GROD in degrees, float32 (points,)."""
        return self._array("grod")

    def _array(self, name: str) -> Any:
        import zarr

        return zarr.open_group(self.path, mode="r")[name]


def grains_of_store(
    source: StoredMap,
    path: str | Path,
    tolerance: float = 5.0,
    min_points: int = 1,
    *,
    rows: int | None = None,
    overwrite: bool = False,
) -> StoredGrains:
    """Find the grains of a stored map, and all that :class:`Grains` knows of them, in bounded memory.

    Ids, sizes and partition are those of :func:`grains` on the whole map, and so are, to the last bit, the mean
    orientations, GROD, GOS and GAM.

    Parameters
    ----------
    source : StoredMap
        The map.
    path : path
        Folder of the Zarr group to make.
    tolerance, min_points
        As in :func:`grains`.
    rows : int, optional
        Rows of a band; about two million points by default.
    overwrite : bool
        Replace a group that exists.

    Returns
    -------
    StoredGrains
        The grains.

    Raises
    ------
    InputError
        If an argument is wrong.
    OutputExistsError
        If the group exists, or something else does, which is not replaced.
    """
    import zarr

    angle, least = grain_tolerance(tolerance, "tolerance", source.phases), whole(min_points, "min_points", 1)
    place = Path(path)
    if overwrite and place.exists() and not (place / "grain_id" / "zarr.json").exists():
        raise OutputExistsError(f"{place} exists and holds no grains; it is not replaced, choose another name")
    if overwrite:
        refuse_foreign(place, ("zarr.json", "grain_id", "grod"))
    replacement = Replacement(place, overwrite=overwrite)
    try:
        group = zarr.create_group(replacement.partial)
        ids, grod = (
            group.create_array(
                name, shape=(source.grid.size,), dtype=dtype, chunks=(min(CHUNK_POINTS, source.grid.size),)
            )
            for name, dtype in (("grain_id", "<i4"), ("grod", "<f4"))
        )
        table = _Table(*number_grains(source, ids, angle, least, rows), source=source, ids=ids, rows=rows)
        mean = table.mean_orientation()
        gos = table.spread(mean, grod)
        pairs, inner = table.pairs(), table.inner_kam()
    except BaseException:
        replacement.discard()
        raise
    replacement.commit()
    return StoredGrains(place, table.first, table.sizes, table.phase_id, mean, gos, pairs, inner)


def number_grains(
    source: StoredMap, ids: Any, tolerance: float, least: int, rows: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int32]]:
    """Write the grain of every point to `ids`; return first points, sizes, reference orientations and phases.

    Every band's grains are numbered after those of the bands before it, the numbers that touch at a seam are joined,
    and the joined ones are counted anew by their lowest, which is that of their first point.
    """
    if source.grid.size >= 2**31:
        raise InputError(f"the map has {source.grid.size} points; grains are numbered up to 2147483647")
    code = nearest_code(source.grid.kind == "hexagonal")
    firsts, sizes, references, phases, joined = [], [], [], [], []
    count, above = 0, None
    for band in bands(source, rows, below=1):
        links = links_of(band.ebsd, tolerance, code)[band.inner]
        phase = band.ebsd.phase_id[band.inner]
        found, here = sums.label_grains(links, phase, grid=grid_shape(band.grid), neighbourhood=code)
        first, size = sums.grain_table(found, here)
        numbered = np.where(found >= 0, found + np.int32(count), np.int32(-1))
        ids[band.start : band.stop] = numbered
        starts = band.grid.row_starts()
        if above is not None:
            row, last_links, last_ids = above
            upper, lower = seam(source.grid, row, last_links)
            joined.append(np.stack([last_ids[upper], numbered[lower]]))
        final = slice(starts[-2], starts[-1])
        above = (band.rows - 1, links[final], numbered[final])
        firsts.append(first + band.start)
        sizes.append(size)
        references.append(band.ebsd.quaternions[band.inner][first])
        phases.append(phase[first].astype(np.int32))
        count += here
    number, roots = _joined(count, joined)
    total = np.zeros(len(roots), np.int64)
    np.add.at(total, number, np.concatenate(sizes))
    kept = total >= least
    renumber = np.where(kept, np.cumsum(kept) - 1, -1)
    number = np.append(renumber[number], -1).astype(np.int32)  # the last entry is for id -1
    for band in bands(source, rows):
        ids[band.start : band.stop] = number[ids[band.start : band.stop]]
    roots = roots[kept]
    return np.concatenate(firsts)[roots], total[kept], np.concatenate(references)[roots], np.concatenate(phases)[roots]


def _joined(count: int, joined: list[NDArray[np.int32]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the new number of every old one, in the order of the lowest that were joined, and these lowest."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = np.concatenate([*joined, np.empty((2, 0), np.int32)], axis=1)
    graph = coo_array((np.ones(pairs.shape[1], bool), (pairs[0], pairs[1])), shape=(count, count))
    parts, part = connected_components(graph, directed=False)
    lowest = np.full(parts, count, np.int64)
    np.minimum.at(lowest, part, np.arange(count))
    order = np.argsort(lowest)
    rank = np.empty(parts, np.int64)
    rank[order] = np.arange(parts)
    return rank[part], lowest[order]


@dataclass(eq=False)
class _Table:
    """What is summed over grains, band by band."""

    first: NDArray[np.int64]
    sizes: NDArray[np.int64]
    reference: NDArray[np.float64]
    phase_id: NDArray[np.int32]
    source: StoredMap
    ids: Any
    rows: int | None

    def _bands(self, above: int = 0, below: int = 0) -> Iterator[tuple[Band, NDArray[np.int32]]]:
        """Yield bands and the grain of every point of them, halo included."""
        for band in bands(self.source, self.rows, above=above, below=below):
            first = band.start - band.skip
            yield band, np.ascontiguousarray(self.ids[first : first + band.ebsd.size], np.int32)

    @property
    def _laue(self) -> NDArray[np.uint8]:
        codes = {phase.id: laue_code(phase.laue) for phase in self.source.phases}
        return np.array([codes[int(number)] for number in self.phase_id], np.uint8)

    def mean_orientation(self) -> NDArray[np.float64]:
        laue, relative = self._laue, np.zeros((len(self.sizes), 4))
        relative[:, 0] = 1.0
        moments = np.full((len(self.sizes), 10), -1, np.int64)
        for _ in range(MAX_ROUNDS):
            found = np.zeros_like(moments)
            for band, ids in self._bands():
                sums.add_moments(
                    band.ebsd.quaternions, ids, laue, reference=self.reference, mean=relative, moments=found
                )
            if np.array_equal(found, moments):
                break
            moments = found
            relative = sums.moment_means(moments)
        return times(relative, self.reference)

    def spread(self, mean: NDArray[np.float64], grod: Any) -> NDArray[np.float64]:
        total, count = np.zeros((2, len(self.sizes)), np.int64)
        laue = self._laue
        for band, ids in self._bands():
            deviation = sums.grain_deviation(band.ebsd.quaternions, ids, laue, mean=mean)
            grod[band.start : band.stop] = deviation
            sums.add_values(deviation, ids, sums=total, counts=count)
        return mean_of(total, count)

    def pairs(self) -> NDArray[np.float64]:
        total, count = np.zeros((2, len(self.sizes)), np.int64)
        for band, ids in self._bands(below=1):
            angles = angles_of(band.ebsd)
            angles[band.inner.stop :] = np.nan  # the pairs of the row below are the next band's
            grid = band.ebsd.grid
            sums.add_pairs(
                angles,
                ids,
                sums=total,
                counts=count,
                grid=grid_shape(grid),
                neighbourhood=nearest_code(grid.kind == "hexagonal"),
            )
        return mean_of(total, count)

    def inner_kam(self) -> NDArray[np.float64]:
        total, count = np.zeros((2, len(self.sizes)), np.int64)
        for band, ids in self._bands(above=1, below=1):
            values = inner_kam(band.ebsd, ids)[band.inner]
            sums.add_values(np.ascontiguousarray(values), ids[band.inner], sums=total, counts=count)
        return mean_of(total, count)
