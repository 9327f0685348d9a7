"""Images and masks that were read or given, checked and brought to one form. Imports no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..errors import BainiteWarning, InputError
from ..io.pixel_size import check_pixel_size
from .annotated import ArrayDataset, Classes, Mask, Pixels
from .large import Shelf, bands, distinct
from .rescale import MaskScaling, scale_image, scale_mask
from .values import IGNORE, MOST_GUESSED, MaskValues, choose_values


def assemble(
    names: list[str],
    images: list[Pixels],
    masks: list[NDArray[Any]],
    *,
    classes: Classes,
    mask_values: MaskValues | None,
    scaling: tuple[float, MaskScaling],
    um_per_px: float | None,
    shelf: Shelf,
) -> ArrayDataset:
    """Return a data set of images and of what stands in their masks, checked and scaled.

    Parameters
    ----------
    names : list of str
        Of the images.
    images : list of ndarray [H, W] or [H, W, 3]
        uint8, uint16 or float32.
    masks : list of ndarray [H, W] or [H, W, 3]
        As they are stored.
    classes, mask_values, um_per_px
        As in :func:`bainite_fast.training.dataset.read_dataset`.
    scaling : (float, {"majority", "nearest"})
        Factor on height and width, and how masks follow.
    shelf : Shelf
        Keeps what is made. The two lists are emptied.

    Raises
    ------
    InputError
        As :func:`bainite_fast.training.dataset.read_dataset` does.
    """
    check_pixel_size(um_per_px)
    for name, image, mask in zip(names, images, masks, strict=True):
        _check_pair(name, image, mask)
    wanted = classes if classes is None or isinstance(classes, int) else len(classes)
    if wanted is not None and not 2 <= wanted <= IGNORE:
        raise InputError(f"{wanted} class(es) are asked for; 2 … {IGNORE} are possible, the background is one of them")
    _check_not_swapped(names, images, masks)
    values = choose_values(masks, names, wanted, mask_values)
    indexed = [
        shelf.gather(mask.shape[:2], np.dtype(np.uint8), values.parts(mask, name))
        for name, mask in zip(names, drained(masks), strict=True)
    ]
    _check_content(names, indexed)
    factor, how = scaling
    if not (np.isfinite(factor) and factor > 0):
        raise InputError(f"scale={factor} is refused; a positive factor is needed, such as 0.5 for half the resolution")
    channels = 3 if any(image.ndim == 3 for image in images) else 1
    return ArrayDataset(
        names=tuple(names),
        class_names=_class_names(classes, values.n_classes),
        channels=channels,
        um_per_px=None if um_per_px is None else um_per_px / factor,
        mask_values=values.to_dict(),
        images=tuple(shelf.keep(scale_image(_with_channels(x, channels), factor), of=x) for x in drained(images)),
        masks=tuple(shelf.keep(scale_mask(x, factor, how), of=x) for x in drained(indexed)),
    )


def drained(arrays: list[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """Yield the arrays of a list in their order, and let go of each: the list is empty in the end."""
    arrays.reverse()
    while arrays:
        yield arrays.pop()


def _with_channels(image: Pixels, channels: int) -> Pixels:
    """Return a gray image as RGB where the others are."""
    return np.repeat(image[..., None], 3, axis=2) if channels == 3 and image.ndim == 2 else image


def _check_pair(name: str, image: Pixels, mask: NDArray[Any]) -> None:
    if mask.ndim not in (2, 3) or (mask.ndim == 3 and mask.shape[2] != 3):
        raise InputError(f"the mask of {name} has shape {mask.shape}; [H, W], or [H, W, 3] for colours, is needed")
    if image.shape[:2] != mask.shape[:2]:
        raise InputError(
            f"the image {name} is {image.shape[0]} × {image.shape[1]} px and its mask {mask.shape[0]} × "
            f"{mask.shape[1]} px; draw the mask on this image, or cut both alike (crop_bar= cuts an annotation bar)"
        )
    if image.dtype.kind == "f" and (found := kernels.nonfinite(image)) is not None:
        raise InputError(f"{name} holds NaN or infinity at row {found[0]}, column {found[1]}; replace such pixels")


def _check_not_swapped(names: list[str], images: list[Pixels], masks: list[NDArray[Any]]) -> None:
    """Refuse pictures as masks where the images look like masks: the two were taken for each other."""
    if any(map(_few_values, masks)):
        return
    if any(image.min() < image.max() for image in images) and all(map(_few_values, images)):
        shown = ", ".join(f"{value:g}" for value in np.unique(images[0])[:6])
        raise InputError(
            f"images and masks are swapped: the masks hold more than {MOST_GUESSED} values each, as pictures do, and "
            f"the images few (those of {names[0]}: {shown}); give the pictures as images and what is drawn on them as "
            "masks"
        )


def check_one_meaning(sources: Iterable[tuple[str, Mapping[int, str]]], remedy: str) -> None:
    """Refuse labels that mean one thing to some and another to others.

    Parameters
    ----------
    sources : iterable of (str, mapping of int to str)
        Who names the label values, in words, and the names by value.
    remedy : str
        What a caller can do.

    Raises
    ------
    InputError
        If one name stands at two values.
    """
    known: dict[str, tuple[int, str]] = {}
    for who, names in sources:
        for value, name in names.items():
            before, by = known.setdefault(name, (value, who))
            if before != value:
                raise InputError(
                    f"{name!r} is {before} in {by} and {value} in {who}; a class must be one value for all: {remedy}"
                )


def _few_values(pixels: NDArray[Any]) -> bool:
    """Say whether there are no more values, or colours, than classes are guessed from."""
    found: set[float] = set()
    for band in bands(pixels):
        flat = band if band.ndim == 2 else band.astype(np.float64) @ np.array([65536.0, 256.0, 1.0])
        found |= set(distinct(flat).tolist())
        if len(found) > MOST_GUESSED:
            return False
    return True


def _check_content(names: list[str], masks: list[Mask]) -> None:
    present: set[int] = set()
    for name, mask in zip(names, masks, strict=True):
        here = {value for band in bands(mask) for value in distinct(band).tolist()} - {IGNORE}
        if not here:
            raise InputError(
                f"the mask of {name} is empty: every pixel is unknown ({IGNORE}); annotate it or leave it out"
            )
        present |= here
    if len(present) < 2:
        raise InputError(
            f"all {len(masks)} masks together hold one class only ({present.pop()}); at least two are needed to tell "
            "apart: check that these are the masks, and how their values are read (mask_values=)"
        )


def _class_names(classes: Classes, count: int) -> tuple[str, ...]:
    if classes is not None and not isinstance(classes, int):
        named = tuple(str(name) for name in classes)
        if len(set(named)) != len(named):
            raise InputError(f"the classes {list(named)} are not all different")
        return named
    return default_names(count)


def default_names(count: int) -> tuple[str, ...]:
    """Return the names of classes that nobody has named."""
    return ("background", "foreground") if count == 2 else tuple(f"class {i}" for i in range(count))


def common_scale(scales: list[float | None]) -> float | None:
    """Return the scale that images share, µm/px, or None where none is known.

    Warns
    -----
    BainiteWarning
        If they differ by more than 2 %, or only some say it.
    """
    known = [scale for scale in scales if scale is not None]
    if not known:
        return None
    if len(known) < len(scales) or max(known) > 1.02 * min(known):
        warnings.warn(
            f"the images do not share one scale ({min(known):.4g} … {max(known):.4g} µm/px, {len(scales) - len(known)} "
            "do not say it), so the data set has none; give um_per_px=, or keep images of one magnification together",
            BainiteWarning,
            stacklevel=3,
        )
        return None
    return float(np.median(known))
