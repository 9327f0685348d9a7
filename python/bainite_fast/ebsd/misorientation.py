"""Kernel average misorientation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from ..kernels.orientations import MAX_ORDER, NEIGHBOURHOODS, kam_values
from ._points import Neighbourhood, angle_argument, comparable, grain_ids, grid_shape, neighbourhood_code
from .device import checked_device, kam_on_device
from .map import EBSDMap


@dataclass(frozen=True, slots=True)
class KamConvention:
    """What a KAM was computed from; programs differ in it, so it goes with the result.

    Parameters
    ----------
    order : int
        Order of the farthest neighbours.
    perimeter : bool
        Only the neighbours of that order count, instead of all up to it.
    neighbourhood : {"hexagonal", 8, 4}
        What a neighbour is.
    max_angle : float
        Pairs above this many degrees are left out.
    grains : bool
        Only pairs within a grain count.
    """

    order: int
    perimeter: bool
    neighbourhood: Neighbourhood
    max_angle: float
    grains: bool

    def __str__(self) -> str:
        which = f"order {self.order}" if self.order == 1 else f"orders 1 to {self.order}"
        which = f"order {self.order} alone" if self.perimeter and self.order > 1 else which
        limit = "no limit" if self.max_angle == float("inf") else f"up to {self.max_angle:g}°"
        where = ", within grains" if self.grains else ""
        return f"{which}, {self.neighbourhood} neighbours, {limit}{where}"


class KamMap(np.ndarray[Any, np.dtype[np.float32]]):
    """A float32 array of KAM in degrees that knows its `convention`; what is computed from it is a plain array."""

    convention: KamConvention | None

    def __array_finalize__(self, source: NDArray[Any] | None) -> None:
        self.convention = getattr(source, "convention", None)

    def __array_wrap__(self, array: NDArray[Any], context: Any = None, return_scalar: bool = False) -> Any:
        plain = np.asarray(array)
        return plain[()] if return_scalar else plain

    def __reduce__(self) -> tuple[Any, ...]:
        return _kam_map, (np.asarray(self), self.convention)


def _kam_map(values: NDArray[np.float32], convention: KamConvention | None) -> KamMap:
    made = values.view(KamMap)
    made.convention = convention
    return made


def kam(
    ebsd_or_quaternions: EBSDMap | ArrayLike,
    order: int = 3,
    *,
    perimeter: bool = False,
    max_angle: float = 5.0,
    neighbourhood: Neighbourhood | None = None,
    grains: Any = None,
    device: str = "auto",
) -> KamMap:
    """Return the kernel average misorientation (KAM) of every point.

    The mean disorientation of a point to its neighbours. Neighbours outside of the map, not indexed, of another phase
    or of another grain do not count, nor do those above `max_angle`.

    Parameters
    ----------
    ebsd_or_quaternions : EBSDMap, or array_like (rows, columns, 4)
        A map; or orientations w, x, y, z (passive, any length; NaN or zeros where not indexed) of one cubic phase on a
        square grid.
    order : int
        1 to 10. Neighbours of order n are the 6n points of the n-th hexagonal shell, the 8n of the n-th square ring
        (`neighbourhood=8`), or the 4n at n steps along rows and columns (`neighbourhood=4`).
    perimeter : bool
        Only neighbours of exactly this order count (OIM: "perimeter only"), instead of all orders up to it.
    max_angle : float
        Degrees; a pair above is left out, as in OIM. ``math.inf``: none is (MTEX, DREAM.3D).
    neighbourhood : {"hexagonal", 8, 4}, optional
        By default "hexagonal" on a hexagonal grid and 8 on a square one (OIM, pyebsd); 4 are MTEX's diamonds.
    grains : Grains or array_like of int, optional
        Grain of every point: only pairs within a grain count. Negative ids are in no grain.
    device : {"auto", "cpu", "cuda"}
        "auto" is the CPU. "cuda" needs a build with CUDA and a device, and spends most of its time on the way there and
        back; arrays that are on a GPU already go to :func:`bainite_fast.kernels.kam`.

    Returns
    -------
    KamMap, float32
        Degrees: (rows, columns) on a square grid, (points,) row by row on a hexagonal one. NaN where no neighbour
        counts. An array like any other, which has the `convention` it was computed by. Errors are below 1e-5°:
        orientations are multiplied in float64, and angles taken from the sine of half of them, in float32 where
        `max_angle` is at most 10°, else in float64.

    Raises
    ------
    InputError
        If an argument is wrong.
    DeviceError
        If `device="cuda"` cannot be met.

    Notes
    -----
    Definitions as in Wright, Nowell and Field, Microsc. Microanal. 17 (2011) 316. DREAM.3D also counts the point
    itself, so for n neighbours its values are n/(n + 1) of these.
    """
    device = checked_device(device)
    order = checked_order(order)
    limit = angle_argument(max_angle, "max_angle", infinite=True)
    if isinstance(ebsd_or_quaternions, EBSDMap):
        ebsd = ebsd_or_quaternions
        quaternions: NDArray[Any] = ebsd.quaternions
        grid, shape = grid_shape(ebsd.grid), ebsd.shape
        ids = None if grains is None else grain_ids(grains, ebsd.size)
        passes = list(comparable(ebsd, ids))
    else:
        quaternions = _checked_quaternions(ebsd_or_quaternions)
        shape = quaternions.shape[:2]
        quaternions = quaternions.reshape(-1, 4)
        grid = (False, shape[0], shape[1], shape[1])
        passes = [("m-3m", None if grains is None else grain_ids(grains, len(quaternions)), False)]  # type: ignore[list-item]
    code = neighbourhood_code(neighbourhood, grid[0])
    out = np.empty(len(quaternions), np.float32)
    run = kam_values if device == "cpu" else kam_on_device
    for laue, labels, keep in passes:
        run(
            quaternions,
            labels,
            out,
            grid=grid,
            laue=laue,
            neighbourhood=code,
            order=order,
            perimeter=bool(perimeter),
            max_angle=limit,
            keep=keep,
        )
    named = cast(Neighbourhood, NEIGHBOURHOODS[code])
    return _kam_map(out.reshape(shape), KamConvention(order, bool(perimeter), named, limit, grains is not None))


def checked_order(order: object) -> int:
    """Return the order of a KAM, or refuse it."""
    if isinstance(order, bool) or not isinstance(order, (int, np.integer)) or not 1 <= order <= MAX_ORDER:
        raise InputError(f"order={order!r} is refused; use an integer from 1 to {MAX_ORDER}")
    return int(order)


def _checked_quaternions(given: ArrayLike) -> NDArray[Any]:
    array = np.asarray(given)
    if array.ndim != 3 or array.shape[-1] != 4 or array.dtype.kind not in "fiu":
        raise InputError(
            f"quaternions have shape {array.shape} and dtype {array.dtype}; (rows, columns, 4) with w, x, y, z, or an "
            "EBSDMap is needed"
        )
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    return np.ascontiguousarray(array)
