"""Whether a mosaic and a model fit each other: what does not is refused, what may not is told."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np

from ..errors import BainiteWarning, InputError, MosaicError
from ..io import Mosaic, find_bar
from ..models import LoadedModel
from .request import Request, scale_factor


def check_channels(mosaic: Mosaic, loaded: LoadedModel) -> None:
    """Refuse a model that takes other channels than the mosaic has.

    Raises
    ------
    InputError
        With the remedy.
    """
    has, wants = mosaic.channels, loaded.contract.in_channels
    if has == wants or (has == 1 and wants == 3) or (mosaic.rgb and wants == 1):
        return
    cure = f"choose one with channel=0…{has - 1}" if has > 1 and wants == 1 else f"use a model for {has}"
    raise InputError(
        f"{mosaic.name} has {has} channel{'s' * (has > 1)} and the model {loaded.contract.name!r} takes {wants}; {cure}"
    )


_ABSURD = 100  # times larger or smaller pixels than the model's: nobody resamples so far


def warn_of_scale(mosaic: Mosaic, loaded: LoadedModel, request: Request) -> None:
    """Say so when a mosaic is resampled a lot, its scale is unknown, or the model has seen no real steel.

    Raises
    ------
    InputError
        If the scales are so far apart that one of them must be wrong.
    """
    contract = loaded.contract
    factor = scale_factor(request.scale, mosaic.um_per_px, contract.um_per_px)
    if not 1 / _ABSURD <= factor <= _ABSURD:
        said = mosaic.um_per_px if isinstance(request.scale, str) else float(request.scale)
        raise InputError(
            f"{mosaic.name} is said to have {said:.6g} µm/px and the model {contract.um_per_px:.4g}: more than "
            f"{_ABSURD} times apart. Give its size of a pixel in µm, not nm or mm (scale=<µm/px>), or use scale='as-is'"
        )
    _warn_of_contradiction(mosaic, request.scale)
    if not 1 / 8 <= factor <= 4:
        warnings.warn(
            f"{mosaic.name} is resampled by {factor:.3g} to the model's {contract.um_per_px} µm/px, "
            f"{factor**2:.3g} times as many pixels; check its µm/px, or use scale='as-is'",
            BainiteWarning,
            stacklevel=5,
        )
    if contract.synthetic_only and not mosaic.synthetic:
        warnings.warn(
            f"the model {contract.name!r} was trained on synthetic images and has seen no real steel: "
            "do not trust its labels on micrographs",
            BainiteWarning,
            stacklevel=5,
        )
    if request.scale == "auto" and mosaic.um_per_px is None and contract.um_per_px is not None:
        warnings.warn(
            f"{mosaic.name} does not say its µm/px, so it is segmented as it is; the model expects "
            f"{contract.um_per_px:.4g} µm/px (give scale=<µm/px of the mosaic>, or scale='as-is')",
            BainiteWarning,
            stacklevel=5,
        )


def _warn_of_contradiction(mosaic: Mosaic, scale: str | float) -> None:
    """Say so when the caller's µm/px is not the file's."""
    own = mosaic.um_per_px
    if isinstance(scale, str) or own is None or scale_factor(scale, own, own) == 1.0:
        return
    warnings.warn(
        f"{mosaic.name} says {own:.4g} µm/px and scale={scale:.4g} says otherwise, which is taken, for "
        "the labels' scale too: beside an image of another scale, viewers draw them at another size",
        BainiteWarning,
        stacklevel=6,
    )


_SAMPLE = 512  # px; edge of the patch in the middle whose intensities are looked at
_FULL = {"uint16": 65535.0, "float32": 1.0}


def warn_of_intensities(mosaic: Mosaic) -> None:
    """Say so when a mosaic's intensities lie far from the range that its dtype stands for, 0…65535 or 0…1."""
    full = _FULL.get(mosaic.dtype.name)
    if full is None:
        return
    (y, y1), (x, x1) = ((max((n - _SAMPLE) // 2, 0), min((n + _SAMPLE) // 2 + 1, n)) for n in mosaic.shape)
    values = mosaic.read(y, y1, x, x1)
    brightest = float(values.max(initial=0, where=np.isfinite(values)))
    if brightest > 2 * full or 0 < brightest < full / 8:
        warnings.warn(
            f"the middle of {mosaic.name} reaches {brightest:.4g}, and {mosaic.dtype.name} intensities are taken as "
            f"0…{full:g}: the model may see it far too {'bright' if brightest > full else 'dark'}. Rescale the mosaic, "
            "or give a bare network normalize=(mean, std) that fits",
            BainiteWarning,
            stacklevel=5,
        )


_PICTURE = 64 * 2**20  # px; a larger one is no single picture of a microscope


def warn_of_bar(mosaic: Mosaic) -> None:
    """Say so when the foot of a picture looks like the annotation bar of a microscope, which no model knows."""
    if mosaic.shape[0] * mosaic.shape[1] > _PICTURE or mosaic.synthetic:
        return
    rows = 0
    with contextlib.suppress(MosaicError):  # of what is damaged: the run names it, and keeps what is finished
        rows = find_bar(mosaic)
    if rows:
        warnings.warn(
            f"the lowest {rows} rows of {mosaic.name} look like the annotation bar of a microscope, and are labelled "
            "and counted like the rest; leave them out with crop_bar='auto'",
            BainiteWarning,
            stacklevel=5,
        )


_BUSY = 3  # blocks that keep a GPU busy: one being read, one on the GPU, one being written


def warn_of_threads(threads: int) -> None:
    """Say so when the workers of a cluster have too few threads to read and write while their GPU computes."""
    if threads < _BUSY:
        warnings.warn(
            f"the cluster's workers have {threads} thread{'s' * (threads > 1)} each, so their GPUs wait while blocks "
            f"are read and written; start them with {_BUSY} or more (dask worker --nthreads, threads_per_worker=)",
            BainiteWarning,
            stacklevel=5,
        )
