"""Which two axes of a stored array are the picture, and what is chosen on all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MosaicError

Plane = int | Mapping[str, int] | None
Channel = int | str | Sequence[int | str] | None


def plain(choice: Any) -> Any:
    """Return a choice of planes or channels with Python's own integers in place of NumPy's."""
    if isinstance(choice, (np.integer, np.ndarray)):
        return choice.tolist()
    if isinstance(choice, Mapping):
        return {key: plain(one) for key, one in choice.items()}
    return [plain(one) for one in choice] if isinstance(choice, (list, tuple)) else choice


def is_index(value: Any) -> bool:
    """Return whether a value is an integer, and no bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_choice(plane: Any, channel: Any, level: Any) -> None:
    """Refuse a choice of the wrong type, which could otherwise be rounded, or fail later.

    Raises
    ------
    InputError
        With what is meant.
    """
    planes = plane.values() if isinstance(plane, Mapping) else [] if plane is None else [plane]
    if not all(is_index(one) for one in planes):
        raise InputError(f"plane={plane!r} is no plane; give its number, or that of each axis: {{'z': 3, 't': 0}}")
    channels = channel if isinstance(channel, (list, tuple)) else [] if channel is None else [channel]
    if not all(is_index(one) or isinstance(one, str) for one in channels):
        raise InputError(f"channel={channel!r} is no channel; give its number or name, several of them, or 'rgb'")
    if not is_index(level):
        raise InputError(f"level={level!r} is no level; give its number, 0 for full resolution")


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """How a region of the picture is cut out of an N-dimensional array.

    Parameters
    ----------
    y, x : int
        Positions of the picture's axes.
    c : int or None
        Position of the channel axis.
    ndim : int
        Number of axes.
    fixed : tuple of (int, int)
        Chosen index of every other axis.
    channels : tuple of int
        Chosen channels, in order; empty without a channel axis.
    rgb : bool
        Whether the chosen channels are red, green and blue.
    alpha : int or None
        Channel that must be opaque, because it is left out.
    """

    y: int
    x: int
    c: int | None
    ndim: int
    fixed: tuple[tuple[int, int], ...]
    channels: tuple[int, ...] = ()
    rgb: bool = False
    alpha: int | None = None

    @property
    def count(self) -> int:
        """Number of channels that come out."""
        return max(1, len(self.channels))

    def selection(self, y0: int, y1: int, x0: int, x1: int) -> tuple[slice, ...]:
        """Return slices of every axis (never integers, so that the result keeps all axes)."""
        wanted = [slice(0, 1)] * self.ndim
        for axis, index in self.fixed:
            wanted[axis] = slice(index, index + 1)
        wanted[self.y], wanted[self.x] = slice(y0, y1), slice(x0, x1)
        if self.c is not None:
            needed = (*self.channels, *(() if self.alpha is None else (self.alpha,)))
            wanted[self.c] = slice(min(needed), max(needed) + 1)
        return tuple(wanted)

    def arrange(self, block: NDArray[Any]) -> NDArray[Any]:
        """Turn what `selection` cut out into [h, w] or [h, w, C].

        Raises
        ------
        MosaicError
            If a channel that is left out as alpha is not opaque.
        """
        order = [self.y, self.x] if self.c is None else [self.y, self.x, self.c]
        rest = [axis for axis in range(self.ndim) if axis not in order]
        picture = block.transpose(*order, *rest).reshape([block.shape[axis] for axis in order])
        if self.c is None:
            return picture
        if self.alpha is not None:
            first = min(*self.channels, self.alpha)
            self._check_opaque(picture[..., self.alpha - first], len(self.channels))
        else:
            first = min(self.channels)
        picked = [channel - first for channel in self.channels]
        if len(picked) == 1:
            return picture[..., picked[0]]
        if picked == list(range(picked[0], picked[0] + len(picked))):
            return picture[..., picked[0] : picked[0] + len(picked)]
        return picture[..., picked]

    @staticmethod
    def _check_opaque(alpha: NDArray[Any], others: int) -> None:
        opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind == "u" else 1
        if not bool((alpha == opaque).all()):
            raise MosaicError(
                "the picture has an alpha channel that is not opaque everywhere; flatten the picture on a background "
                f"first, or choose channel=0{' (1 or 2)' if others > 1 else ''}"
            )


def guess_axes(shape: Sequence[int], dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Name the axes of an array that does not name them: a last axis of at most 4 is colour, leading ones are stacks.

    (H, W) is y, x; (H, W, 3) of integers is y, x, c; (N, H, W) is z, y, x; more axes are named t, c, z from the left as
    in OME's order.

    Raises
    ------
    InputError
        If there are fewer than 2 or more than 5 axes.
    """
    ndim = len(shape)
    if not 2 <= ndim <= 5:
        raise InputError(
            f"an array of {ndim} axes {tuple(shape)} is no picture; 2 to 5 axes are needed, such as (y, x)"
        )
    if ndim > 2 and shape[-1] <= 4 and dtype.kind in "ubf":
        return (*("t", "z")[4 - (ndim - 1) :], "y", "x", "c") if ndim < 5 else ("t", "z", "y", "x", "c")
    return {2: ("y", "x"), 3: ("z", "y", "x"), 4: ("t", "z", "y", "x"), 5: ("t", "c", "z", "y", "x")}[ndim]


def plan_axes(
    axes: Sequence[str],
    shape: Sequence[int],
    *,
    plane: Plane = None,
    channel: Channel = None,
    channel_names: Sequence[str] = (),
    colour: bool = False,
    name: str = "array",
) -> AxisPlan:
    """Decide what is read of an array.

    Parameters
    ----------
    axes : sequence of str
        Name of every axis, lower case; "y" and "x" are the picture, "c" the channels.
    shape : sequence of int
        Size of every axis.
    plane : int or mapping of str to int, optional
        Index on the one stack axis that is longer than 1, or the index of each by name.
    channel : int, str, sequence or None
        Index or name of a channel, several of them, or "rgb" to take three channels as colours.
    channel_names : sequence of str
        Names that `channel` may use.
    colour : bool
        Whether the file says that its channels are red, green, blue (and alpha).
    name : str
        What is read, for messages.

    Returns
    -------
    AxisPlan
        The choice.

    Raises
    ------
    InputError
        If a choice is missing, superfluous or out of range; the message lists axes and sizes.
    """
    listing = ", ".join(f"{axis} {size}" for axis, size in zip(axes, shape, strict=True))
    if "y" not in axes or "x" not in axes or len(set(axes)) != len(axes):
        raise InputError(f"{name} has the axes ({listing}); one y and one x axis are needed")
    if 0 in shape:
        raise InputError(f"{name} has zero size ({listing}); at least one pixel is needed")
    c = axes.index("c") if "c" in axes else None
    channels, rgb, alpha = _plan_channels(
        None if c is None else shape[c], channel, channel_names, colour, f"{name} ({listing})"
    )
    return AxisPlan(
        y=axes.index("y"),
        x=axes.index("x"),
        c=c,
        ndim=len(axes),
        fixed=_plan_planes(axes, shape, plane, f"{name} ({listing})"),
        channels=channels,
        rgb=rgb,
        alpha=alpha,
    )


def _plan_planes(axes: Sequence[str], shape: Sequence[int], plane: Plane, name: str) -> tuple[tuple[int, int], ...]:
    stacks = {axis: size for axis, size in zip(axes, shape, strict=True) if axis not in ("y", "x", "c")}
    longer = [axis for axis, size in stacks.items() if size > 1]
    chosen: dict[str, int] = {}
    if isinstance(plane, Mapping):
        unknown = [axis for axis in plane if axis not in stacks]
        if unknown:
            raise InputError(f"plane names the axis {unknown[0]!r}, which {name} has not; choose among {list(stacks)}")
        chosen = {axis: int(index) for axis, index in plane.items()}
    elif plane is not None:
        if len(longer) > 1:
            raise InputError(f"plane={plane} does not say on which axis of {name}; use plane={_example(longer)}")
        if not stacks:
            if plane != 0:
                cure = "leave it out" + (", or choose one of the channels with channel=…" if "c" in axes else "")
                raise InputError(f"plane={plane} is asked for, but {name} is a single plane; {cure}")
        else:
            chosen = {longer[0] if longer else next(iter(stacks)): int(plane)}
    missing = [axis for axis in longer if axis not in chosen]
    if missing:
        where = f" on the axis {missing[0]}" if chosen else ""
        raise InputError(
            f"{name} is a stack and no plane is chosen{where}; use plane={_example(longer, chosen)}"
            + (" or plane=0" if len(longer) == 1 else "")
        )
    for axis, index in chosen.items():
        if not 0 <= index < stacks[axis]:
            raise InputError(f"plane {axis}={index} is not in {name}; use 0 to {stacks[axis] - 1}")
    return tuple((axes.index(axis), chosen.get(axis, 0)) for axis in stacks)


def _example(axes: Sequence[str], chosen: Mapping[str, int] = MappingProxyType({})) -> str:
    return "{" + ", ".join(f"{axis!r}: {chosen.get(axis, 0)}" for axis in axes) + "}"


def _plan_channels(
    size: int | None, channel: Channel, names: Sequence[str], colour: bool, name: str
) -> tuple[tuple[int, ...], bool, int | None]:
    """Return (chosen channels, rgb, alpha)."""
    if size is None:
        if channel not in (None, 0):
            raise InputError(f"channel={channel!r} is asked for, but {name} has no channel axis")
        return (), False, None
    if channel is None:
        if size == 1:
            return (0,), False, None
        if colour and size in (3, 4):
            return (0, 1, 2), True, 3 if size == 4 else None
        if colour and size == 2:
            return (0,), False, 1
        known = f" named {list(names)}" if names else ""
        cure = ' or channel="rgb" if they are red, green and blue' if size == 3 else ""
        raise InputError(f"{name} has {size} channels{known} and none is chosen; use channel=0 to {size - 1}{cure}")
    if channel == "rgb" and "rgb" not in names:
        if size not in (3, 4):
            raise InputError(f'channel="rgb" needs 3 or 4 channels; {name} has {size}')
        return (0, 1, 2), True, 3 if size == 4 else None
    several = isinstance(channel, Sequence) and not isinstance(channel, str)
    wanted: Sequence[Any] = channel if several else [channel]  # type: ignore[assignment]
    if not wanted:
        raise InputError(f"channel is an empty list; choose at least one of the {size} channels of {name}")
    return tuple(_channel_index(one, size, names, name) for one in wanted), False, None


def _channel_index(channel: int | str, size: int, names: Sequence[str], name: str) -> int:
    if isinstance(channel, str):
        if channel in names:
            return list(names).index(channel)
        raise InputError(f"channel {channel!r} is not in {name}; its channels are {list(names) or list(range(size))}")
    if not 0 <= channel < size:
        raise InputError(f"channel {channel} is not in {name}; use 0 to {size - 1}")
    return int(channel)
