"""Disorientations, and the kernels on maps of orientations. Maps come flat: one row of an array per point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ._checks import as_input_error, as_kernel_error, core, stream_of

GridShape = tuple[bool, int, int, int]
"""Hexagonal or not, rows, points of the first, third … row, and points of the second, fourth … row."""

LAUE_GROUPS = ("-1", "2/m", "mmm", "4/m", "4/mmm", "-3", "-3m", "6/m", "6/mmm", "m-3", "m-3m")
"""The Laue groups in the order of the compiled kernels' codes."""

NEIGHBOURHOODS = ("hexagonal", 8, 4)
"""The neighbourhoods in the order of the compiled kernels' codes."""

FORWARD = (3, 4, 2)
"""Neighbours ahead of a point (to the right, and in the row below), for each neighbourhood."""

MAX_ORDER = 10


def laue_code(laue: str) -> int:
    """Return the compiled kernels' code of a Laue group."""
    if laue not in LAUE_GROUPS:
        raise InputError(f"Laue group {laue!r} is unknown; use one of {', '.join(LAUE_GROUPS)}")
    return LAUE_GROUPS.index(laue)


def disorientation(q1: ArrayLike, q2: ArrayLike, laue: str = "m-3m", *, threads: int = 0) -> NDArray[Any]:
    """Return the disorientation angle of pairs of orientations of one phase.

    The least rotation angle of s · q1 · q2⁻¹ over the proper rotations s of the Laue group, from the sine of half the
    angle, whose square is the sum of the squares of the small components: the cosine of a small angle has lost it. For
    the cubic group the three candidates of Grimmer, Acta Cryst. A 30 (1974) 685 are compared.

    Parameters
    ----------
    q1, q2 : array_like, (..., 4)
        Orientations w, x, y, z: passive (sample to crystal), brought to unit length here. Shapes are broadcast.
    laue : str
        Laue group, such as "m-3m" (cubic) or "6/mmm"; c is along z, the twofold axis of 2/m along y, and a along x.
    threads : int
        0: the cap.

    Returns
    -------
    ndarray, (...,), float32 or float64
        Degrees; float32 where both inputs are, else float64; computed in float64. In float32 the rounding of the
        inputs leaves up to 1e-5°, and near 180° 2e-5°. NaN where an input is no rotation: NaN, infinite or of length 0.

    Raises
    ------
    InputError
        If the last axis is not 4, the shapes do not fit, or the Laue group is unknown.
    """
    first, second = np.asarray(q1), np.asarray(q2)
    dtype = np.float32 if first.dtype == second.dtype == np.float32 else np.float64
    for name, array in (("q1", first), ("q2", second)):
        if array.ndim < 1 or array.shape[-1] != 4:
            raise InputError(f"{name} has shape {array.shape}; (..., 4) with w, x, y, z is needed")
    try:
        shape = np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        raise InputError(f"q1 {first.shape} and q2 {second.shape} cannot be broadcast to one shape") from None
    flat = [
        np.ascontiguousarray(np.broadcast_to(_unit(array, dtype), shape).reshape(-1, 4)) for array in (first, second)
    ]
    out = np.empty(len(flat[0]), dtype)
    with as_input_error():
        core.disorientation(flat[0], flat[1], out, laue=laue_code(laue), threads=threads)
    out[np.isnan(flat[0][:, 0]) | np.isnan(flat[1][:, 0])] = np.nan
    return out.reshape(shape[:-1])


def _unit(quaternions: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Return unit quaternions of `dtype`; four NaN where there is no rotation."""
    wide = quaternions.astype(np.float64)
    norm = np.sqrt(np.einsum("...i,...i->...", wide, wide))[..., np.newaxis]
    good = np.isfinite(norm) & (norm > 1e-6)
    return np.where(good, wide / np.where(good, norm, 1.0), np.nan).astype(dtype)


def kam(
    quaternions: Any,
    *,
    out: Any,
    order: int = 3,
    perimeter: bool = False,
    max_angle: float = 5.0,
    neighbourhood: int = 8,
    grains: Any = None,
    threads: int = 0,
    stream: Any = None,
) -> Any:
    """Write the kernel average misorientation of one cubic phase on a square grid, in host or in device memory.

    What :func:`bainite_fast.kam` computes of bare quaternions, for arrays that are on a GPU and stay there.

    Parameters
    ----------
    quaternions : array, (rows, columns, 4), float32 or float64
        Orientations w, x, y, z, passive, of any length; NaN or zeros where not indexed. All arrays are contiguous, and
        all in host memory or all on one CUDA device.
    out : array, (rows, columns), float32
        Degrees, written in place; NaN where no pair counts.
    order, perimeter, max_angle
        As in :func:`bainite_fast.kam`.
    neighbourhood : {8, 4}
        As there.
    grains : array, (rows, columns), int16 or int32, optional
        Only pairs of equal ids count, and of none that is negative.
    threads : int
        0: the cap. Not for device arrays.
    stream : torch.cuda.Stream or int, optional
        For device arrays: the CUDA stream that the work is queued on; the call returns before it is done.

    Returns
    -------
    array
        `out`.

    Raises
    ------
    InputError
        If an argument is wrong, or the arrays do not fit each other.
    DeviceError
        If the arrays are on a device that this build or this machine cannot use.
    """
    shape = _shape(quaternions)
    if len(shape) != 3 or shape[2] != 4:
        raise InputError(f"quaternions have shape {shape}; an array (rows, columns, 4) is needed")
    rows, columns = shape[:2]
    for name, array in (("out", out), ("grains", grains)):
        if array is not None and _shape(array) != (rows, columns):
            raise InputError(f"{name} has shape {_shape(array)}; an array ({rows}, {columns}) is needed")
    if neighbourhood not in (8, 4):
        raise InputError(f"neighbourhood={neighbourhood!r} is refused; use 8 or 4")
    if not max_angle > 0:
        raise InputError(f"max_angle={max_angle!r} is refused; use a positive angle in degrees")
    kam_values(
        quaternions,
        grains,
        out,
        grid=(False, rows, columns, columns),
        laue="m-3m",
        neighbourhood=NEIGHBOURHOODS.index(neighbourhood),
        order=order,
        perimeter=perimeter,
        max_angle=max_angle,
        threads=threads,
        stream=stream,
    )
    return out


def _shape(array: Any) -> tuple[int, ...]:
    return tuple(int(length) for length in getattr(array, "shape", ()))


def kam_values(
    quaternions: Any,
    labels: Any,
    out: Any,
    *,
    grid: GridShape,
    laue: str,
    neighbourhood: int,
    order: int,
    perimeter: bool = False,
    max_angle: float = 5.0,
    keep: bool = False,
    threads: int = 0,
    stream: Any = None,
) -> None:
    """Write the kernel average misorientation of every point, in degrees, to `out`.

    Parameters
    ----------
    quaternions : array, (points, 4), float32 or float64
        Any length; what is no rotation counts as a negative label. All arrays in host memory, or all on one CUDA
        device.
    labels : array, (points,), int16 or int32, or None
        Pairs count between equal labels only; a negative one is part of no pair. None: all are 0.
    out : array, (points,), float32
        Written in place; NaN where no pair counts.
    grid : GridShape
        The grid.
    laue : str
        Laue group of all points.
    neighbourhood : int
        Index into :data:`NEIGHBOURHOODS`.
    order, perimeter, max_angle
        As in :func:`bainite_fast.kam`; `max_angle` may be infinite.
    keep : bool
        Leave `out` as it is where the label is negative.
    threads : int
        0: the cap. Not for device arrays.
    stream : torch.cuda.Stream or int, optional
        For device arrays: the CUDA stream that the work is queued on; the call returns before it is done.
    """
    queue = stream_of(stream, quaternions, labels, out)
    with as_kernel_error(queue):
        core.kam(
            quaternions,
            labels,
            out,
            grid=grid,
            laue=laue_code(laue),
            neighbourhood=neighbourhood,
            order=order,
            perimeter=perimeter,
            max_angle=max_angle,
            keep=keep,
            threads=threads,
            stream=queue,
        )


def neighbour_angles(
    quaternions: NDArray[Any],
    labels: NDArray[Any] | None,
    out: NDArray[np.float32],
    *,
    grid: GridShape,
    laue: str,
    neighbourhood: int,
    keep: bool = False,
    threads: int = 0,
) -> None:
    """Write the disorientation of every point to its forward neighbours, (points, forward), in degrees; else NaN."""
    with as_input_error():
        core.neighbour_angles(
            quaternions,
            labels,
            out,
            grid=grid,
            laue=laue_code(laue),
            neighbourhood=neighbourhood,
            keep=keep,
            threads=threads,
        )


def add_links(
    quaternions: NDArray[Any],
    labels: NDArray[Any] | None,
    out: NDArray[np.uint8],
    *,
    grid: GridShape,
    laue: str,
    neighbourhood: int,
    tolerance: float,
    threads: int = 0,
) -> None:
    """Set bit k of `out`, (points,) uint8, where a point and its k-th forward neighbour are within the tolerance.

    Compared in float64; only pairs of equal labels of 0 or more.
    """
    with as_input_error():
        core.links(
            quaternions,
            labels,
            out,
            grid=grid,
            laue=laue_code(laue),
            neighbourhood=neighbourhood,
            tolerance=tolerance,
            threads=threads,
        )
