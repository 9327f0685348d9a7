"""Grains: connected points and sums over them, in integers, so that parts of a map add up to the whole exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._checks import as_input_error, core
from .orientations import GridShape, laue_code

DEGREE = float(2**23)
"""Angles are summed as multiples of 1 / DEGREE degrees."""

Ids = NDArray[np.int32]
Sums = NDArray[np.int64]


def label_grains(
    links: NDArray[np.uint8], labels: NDArray[Any], *, grid: GridShape, neighbourhood: int, threads: int = 0
) -> tuple[Ids, int]:
    """Return the grain of every point, numbered in the order of their first points, and the number of grains.

    Parameters
    ----------
    links : ndarray, (points,), uint8
        See :func:`add_links`.
    labels : ndarray, (points,), int16 or int32
        Points of a negative label are in no grain: id -1.
    grid : GridShape
        The grid.
    neighbourhood : int
        Index into :data:`NEIGHBOURHOODS`.
    threads : int
        0: the cap.

    Returns
    -------
    ids : ndarray, (points,), int32
        Grain of every point.
    count : int
        Number of grains.
    """
    ids = np.empty(links.size, np.int32)
    with as_input_error():
        count = core.label_grains(links, labels, ids, grid=grid, neighbourhood=neighbourhood, threads=threads)
    return ids, count


def grain_table(ids: Ids, count: int) -> tuple[Sums, Sums]:
    """Return the first point and the number of points of every grain: two int64 (grains,); first is -1 for none."""
    first, sizes = np.empty(count, np.int64), np.empty(count, np.int64)
    with as_input_error():
        core.grain_table(ids, first, sizes)
    return first, sizes


def add_moments(
    quaternions: NDArray[np.float64],
    ids: Ids,
    laue: NDArray[np.uint8],
    *,
    reference: NDArray[np.float64],
    mean: NDArray[np.float64],
    moments: Sums,
    threads: int = 0,
) -> None:
    """Add u uᵀ of every point to the moments of its grain, (grains, 10) int64.

    u is the orientation relative to the grain's reference, (grains, 4), in the symmetric copy nearest to the grain's
    present mean, (grains, 4), which is relative to the reference too. `laue` holds a code for each grain.
    """
    with as_input_error():
        core.add_moments(quaternions, ids, laue, reference, mean, moments, threads=threads)


def moment_means(moments: Sums, *, threads: int = 0) -> NDArray[np.float64]:
    """Return the eigenvector of the largest eigenvalue of every grain's moments: float64 (grains, 4)."""
    means = np.empty((len(moments), 4))
    with as_input_error():
        core.moment_means(moments, means, threads=threads)
    return means


def grain_deviation(
    quaternions: NDArray[np.float64],
    ids: Ids,
    laue: NDArray[np.uint8],
    *,
    mean: NDArray[np.float64],
    threads: int = 0,
) -> NDArray[np.float32]:
    """Return the disorientation in degrees of every point to the mean of its grain; NaN in none."""
    out = np.empty(len(ids), np.float32)
    with as_input_error():
        core.grain_deviation(quaternions, ids, laue, mean, out, threads=threads)
    return out


def add_values(values: NDArray[np.float32], ids: Ids, *, sums: Sums, counts: Sums, threads: int = 0) -> None:
    """Add values, as multiples of 1 / DEGREE, and their number to their grains; NaN is left out."""
    with as_input_error():
        core.add_values(values, ids, sums, counts, threads=threads)


def add_pairs(
    angles: NDArray[np.float32],
    ids: Ids,
    *,
    sums: Sums,
    counts: Sums,
    grid: GridShape,
    neighbourhood: int,
    threads: int = 0,
) -> None:
    """Add the angles of pairs within a grain, see :func:`neighbour_angles`, and their number to the grain."""
    with as_input_error():
        core.add_pairs(angles, ids, sums, counts, grid=grid, neighbourhood=neighbourhood, threads=threads)


def nci_sources(
    ci: NDArray[np.float32],
    labels: NDArray[Any],
    *,
    grid: GridShape,
    neighbourhood: int,
    least_ci: float,
    threads: int = 0,
) -> tuple[Sums, int]:
    """Return for every point the one that it takes its orientation from, or -1, and how many do: one pass of NCI."""
    source = np.empty(ci.size, np.int64)
    with as_input_error():
        changed = core.nci_sources(
            ci, labels, source, grid=grid, neighbourhood=neighbourhood, least_ci=least_ci, threads=threads
        )
    return source, changed


def noc_sources(
    quaternions: NDArray[np.float64],
    phase_id: NDArray[np.int16],
    links: NDArray[np.uint8],
    *,
    laue_of_phase: dict[int, str],
    grid: GridShape,
    neighbourhood: int,
    tolerance: float,
    level: int,
    threads: int = 0,
) -> tuple[Sums, int]:
    """Return for every point the one that it takes its orientation from, or -1, and how many do: one level of NOC."""
    source = np.empty(phase_id.size, np.int64)
    table = np.zeros(2**15, np.uint8)
    for phase, laue in laue_of_phase.items():
        table[phase] = laue_code(laue)
    with as_input_error():
        changed = core.noc_sources(
            quaternions,
            phase_id,
            links,
            table,
            source,
            grid=grid,
            neighbourhood=neighbourhood,
            tolerance=tolerance,
            level=level,
            threads=threads,
        )
    return source, changed
