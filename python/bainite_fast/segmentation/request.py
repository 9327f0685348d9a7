"""What the caller asked for, checked before anything is opened or written."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from .._memory import format_bytes, total_memory
from ..errors import BainiteWarning, InputError
from ..io.pixel_size import SCALE_TOLERANCE, check_pixel_size
from ..models.device import resolve_device
from ..models.exported import RUNTIMES
from .memory import default_budget, parse_memory
from .run_plan import Edge

Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True, slots=True)
class Request:
    """Settings of one run, as the caller gave them.

    Attributes
    ----------
    device : str
        "cpu" or "cuda:N".
    precision, runtime, edge : str
        As in :func:`bainite_fast.segment`.
    scale : {"auto", "as-is"} or float
        As in :func:`bainite_fast.segment`.
    tile : int or None
        Core edge, in pixels.
    memory : int
        Budget in bytes.
    confidence, resume, overwrite, with_image : bool
        As in :func:`bainite_fast.segment`.
    """

    device: str
    precision: str
    runtime: str
    edge: Edge
    scale: str | float
    tile: int | None
    memory: int
    confidence: bool
    resume: bool
    overwrite: bool
    with_image: bool


def check_request(
    *,
    device: str,
    precision: str,
    runtime: str,
    edge: str,
    scale: str | float,
    tile: int | None,
    memory: int | float | str | None,
    **switches: bool,
) -> Request:
    """Return the settings, or say which is wrong.

    Raises
    ------
    InputError
        For an unknown word or a wrong number.
    DeviceError
        For a device that this build or this machine cannot use.
    """
    _one_of("precision", precision, get_args(Precision))
    _one_of("runtime", runtime, (*RUNTIMES, "auto"))
    _one_of("edge", edge, get_args(Edge))
    if isinstance(scale, str):
        _one_of("scale", scale, ("auto", "as-is"), "or the mosaic's scale in µm/px, a positive number")
    elif not (math.isfinite(scale) and scale > 0):
        raise InputError(f"scale={scale!r} is not a scale; use 'auto', 'as-is' or a positive number of µm/px")
    else:
        check_pixel_size(scale)
    if tile is not None and (isinstance(tile, bool) or not isinstance(tile, (int, np.integer)) or tile < 1):
        raise InputError(f"tile={tile!r} is not a positive whole number of pixels")
    return Request(
        device=resolve_device(device),
        precision=precision,
        runtime=runtime,
        edge="native" if edge == "native" else "mirror",
        scale=scale,
        tile=None if tile is None else int(tile),
        memory=default_budget() if memory is None else _budget(memory),
        **switches,
    )


def _budget(memory: int | float | str) -> int:
    """Return a budget in bytes, and say so where the machine has less."""
    budget, there = parse_memory(memory), total_memory()
    if budget > there:
        warnings.warn(
            f"a budget of {format_bytes(budget)} is more than the {format_bytes(there)} that this machine has: the run "
            "may be killed",
            BainiteWarning,
            stacklevel=4,
        )
    return budget


def _one_of(name: str, value: Any, allowed: tuple[str, ...], more: str = "") -> None:
    if value not in allowed:
        words = ", ".join(repr(word) for word in allowed)
        raise InputError(f"{name}={value!r} is not known; use one of {words}{' ' + more if more else ''}")


def scale_factor(scale: str | float, um_per_px: float | None, model_um_per_px: float | None) -> float:
    """Return model pixels per mosaic pixel: 1 where the scales agree within 2 %, or must not be compared.

    Parameters
    ----------
    scale : {"auto", "as-is"} or float
        ``"as-is"`` compares nothing; a number stands for the mosaic's own µm/px.
    um_per_px, model_um_per_px : float or None
        Scale of the mosaic and of the images that the model was trained on.
    """
    mosaic = float(scale) if not isinstance(scale, str) else um_per_px
    if scale == "as-is" or mosaic is None or model_um_per_px is None:
        return 1.0
    factor = mosaic / model_um_per_px
    return 1.0 if abs(factor - 1) <= SCALE_TOLERANCE else factor
