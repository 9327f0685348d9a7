"""Annotated images in memory: the data that training and evaluation see, and its checks. Imports no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import kernels
from ..errors import BainiteWarning, InputError
from .matching import match_files
from .pictures import CropBar, read_pair, to_gray
from .rescale import MaskScaling, scale_image, scale_mask
from .values import IGNORE, MaskValues, choose_values

__all__ = [
    "IGNORE",
    "ArrayDataset",
    "Classes",
    "Dataset",
    "MaskScaling",
    "array_dataset",
    "class_pixels",
    "read_dataset",
]

Classes = int | Sequence[str] | None
Pixels = NDArray[Any]
Mask = NDArray[np.uint8]


class Dataset(Protocol):
    """Images with their masks.

    Attributes
    ----------
    names : tuple of str
        Of the images; for tiles, of the tiles.
    n_classes : int
        Number of classes, at least 2.
    class_names : tuple of str
        Of the label values, from 0.
    channels : int
        1 (gray) or 3 (RGB).
    um_per_px : float or None
        Size of a pixel in µm, None where it is unknown.
    """

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102 - see the class
    @property
    def n_classes(self) -> int: ...  # noqa: D102
    @property
    def class_names(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def channels(self) -> int: ...  # noqa: D102
    @property
    def um_per_px(self) -> float | None: ...  # noqa: D102

    def __len__(self) -> int: ...

    def image(self, i: int) -> Pixels:
        """Return image `i`: [H, W], or [H, W, 3] where `channels` is 3; uint8, uint16 or float32."""
        ...

    def mask(self, i: int) -> Mask:
        """Return mask `i`: uint8 [H, W], the class of every pixel, 255 (`IGNORE`) where it is not known."""
        ...

    def subset(self, indices: Iterable[int]) -> Dataset:
        """Return the images of these indices, in this order, without copying."""
        ...


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ArrayDataset:
    """A :class:`Dataset` whose pixels are all in memory.

    Made by :func:`read_dataset` and :func:`array_dataset`, which check it.

    Attributes
    ----------
    names, class_names : tuple of str
        Of the images and of the classes.
    channels : int
        1 or 3.
    um_per_px : float or None
        Size of a pixel, µm.
    images : tuple of ndarray [H, W] or [H, W, 3]
        uint8, uint16 or float32.
    masks : tuple of ndarray [H, W], uint8
        Classes, 255 where unknown.
    """

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    channels: int
    um_per_px: float | None
    images: tuple[Pixels, ...]
    masks: tuple[Mask, ...]

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.names)

    def image(self, i: int) -> Pixels:
        """Return image `i`, [H, W] or [H, W, 3]."""
        return self.images[i]

    def mask(self, i: int) -> Mask:
        """Return mask `i`, uint8 [H, W]."""
        return self.masks[i]

    def subset(self, indices: Iterable[int]) -> ArrayDataset:
        """Return the images of these indices, in this order, without copying.

        Raises
        ------
        InputError
            If there are none, or one is out of range.
        """
        chosen = check_indices(indices, len(self))
        return replace(
            self,
            names=tuple(self.names[i] for i in chosen),
            images=tuple(self.images[i] for i in chosen),
            masks=tuple(self.masks[i] for i in chosen),
        )

    def __repr__(self) -> str:
        counts = class_pixels(self)
        known = max(int(counts.sum()), 1)
        shares = ", ".join(f"{n} {100 * c / known:.1f} %" for n, c in zip(self.class_names, counts, strict=True))
        scale = "scale unknown" if self.um_per_px is None else f"{self.um_per_px:.4g} µm/px"
        kind = "gray" if self.channels == 1 else "RGB"
        return f"<{type(self).__name__}: {len(self)} {kind} images, {scale}; {shares}>"


def check_indices(indices: Iterable[int], length: int) -> tuple[int, ...]:
    """Return indices as integers.

    Raises
    ------
    InputError
        If there are none, or one is not in 0 … length - 1.
    """
    chosen = tuple(int(i) for i in indices)
    if not chosen or min(chosen) < 0 or max(chosen) >= length:
        raise InputError(f"a subset needs indices in 0 … {length - 1}, at least one, and got {list(chosen)[:10]}")
    return chosen


def class_pixels(data: Dataset) -> NDArray[np.int64]:
    """Return how many pixels each class has, int64 [n_classes]; ignored pixels are in none."""
    total = np.zeros(data.n_classes, np.int64)
    for i in range(len(data)):
        mask = data.mask(i)
        known = mask[mask != IGNORE]
        total += kernels.class_counts(known, data.n_classes)
    return total


def read_dataset(
    images: str | Path,
    masks: str | Path,
    *,
    classes: Classes = None,
    names: str | Path | Sequence[str] | None = None,
    mask_values: MaskValues | None = None,
    scale: float = 1.0,
    mask_scaling: MaskScaling = "majority",
    crop_bar: CropBar = "off",
    gray: bool = True,
    um_per_px: float | None = None,
) -> ArrayDataset:
    """Read a folder of images and a folder of masks into memory, and check them.

    Images and masks (PNG, TIFF, JPEG, BMP) belong together by their names without suffix; ``_mask``, ``_label``,
    ``_image`` and the like at the end of a name are overlooked. The two folders may be one.

    Parameters
    ----------
    images, masks : path
        Folders.
    classes : int or sequence of str, optional
        Number of classes, or their names from label 0. By default as many as the masks hold.
    names : path or sequence of str, optional
        Which images, in this order: names, or a text file with one name a line; suffixes are overlooked.
    mask_values : mapping, optional
        From what stands in the masks, a gray value or a colour as (red, green, blue) or ``"#rrggbb"``, to the class; to
        255 where the class is not known. By default gray masks hold class indices (255 beside several other values:
        unknown), or 0 and 255 for two classes; the colours of coloured masks become classes in ascending order of
        (red, green, blue), so that black is class 0.
    scale : float
        Factor on height and width: images are averaged over areas (interpolated where they grow).
    mask_scaling : {"majority", "nearest"}
        A scaled mask holds the class that covers most of the pixel, ties to the lower one, or that at its centre.
    crop_bar : "off", "auto" or int
        Annotation bar at the foot of SEM images: found, or so many rows. It is cut off images, and off masks that are
        as high as their image.
    gray : bool
        Turn colour images to gray (luma, ITU-R BT.601). Otherwise all images have three channels if one has.
    um_per_px : float, optional
        Size of a pixel before scaling, where the files do not say it, or not rightly.

    Returns
    -------
    ArrayDataset

    Raises
    ------
    InputError
        If a folder is empty, nothing matches, sizes differ, a mask holds what is no class, a mask is empty, or there
        are fewer than two classes.
    MosaicError
        If a file cannot be read.

    Warns
    -----
    BainiteWarning
        If files have no partner or images differ in scale: they are named.
    """
    matched = match_files(Path(images), Path(masks), names)
    read = [read_pair(one.image, one.mask, crop_bar, gray) for one in matched]
    return _assemble(
        [one.name for one in matched],
        [one.image for one in read],
        [one.mask for one in read],
        classes=classes,
        mask_values=mask_values,
        scaling=(scale, mask_scaling),
        um_per_px=um_per_px if um_per_px is not None else _common_scale([one.um_per_px for one in read]),
    )


def array_dataset(
    images: Sequence[ArrayLike],
    masks: Sequence[ArrayLike],
    *,
    classes: Classes = None,
    names: Sequence[str] | None = None,
    mask_values: MaskValues | None = None,
    scale: float = 1.0,
    mask_scaling: MaskScaling = "majority",
    gray: bool = True,
    um_per_px: float | None = None,
) -> ArrayDataset:
    """Make a data set of arrays, with the checks of :func:`read_dataset`.

    Parameters
    ----------
    images : sequence of array_like [H, W] or [H, W, 3]
        uint8, uint16 or floats.
    masks : sequence of array_like [H, W] or [H, W, 3], integers or bool
        As :func:`read_dataset` takes them from files; bool is two classes.
    classes, mask_values, scale, mask_scaling, gray, um_per_px
        As in :func:`read_dataset`.
    names : sequence of str, optional
        Of the images; ``"image 0"`` … by default.

    Returns
    -------
    ArrayDataset

    Raises
    ------
    InputError
        As in :func:`read_dataset`.
    """
    if len(images) != len(masks) or not len(images):
        raise InputError(
            f"{len(images)} images and {len(masks)} masks are given; as many of each, at least one, needed"
        )
    called = [f"image {i}" for i in range(len(images))] if names is None else [str(name) for name in names]
    if len(called) != len(images) or len(set(called)) != len(called):
        raise InputError(f"{len(called)} names are given for {len(images)} images; one for each, all different, needed")
    pixels = [_checked_image(image, name) for image, name in zip(images, called, strict=True)]
    drawn = [np.asarray(mask) for mask in masks]
    return _assemble(
        called,
        [to_gray(image) if gray and image.ndim == 3 else image for image in pixels],
        [mask.astype(np.uint8) if mask.dtype == np.bool_ else mask for mask in drawn],
        classes=classes,
        mask_values=mask_values,
        scaling=(scale, mask_scaling),
        um_per_px=um_per_px,
    )


def _checked_image(image: ArrayLike, name: str) -> Pixels:
    from ..io import open_mosaic

    array = np.asarray(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise InputError(f"{name} has shape {array.shape}; [H, W] or [H, W, 3] is needed")
    with open_mosaic(array) as mosaic:
        return mosaic.read(0, array.shape[0], 0, array.shape[1])


def _assemble(
    names: list[str],
    images: list[Pixels],
    masks: list[NDArray[Any]],
    *,
    classes: Classes,
    mask_values: MaskValues | None,
    scaling: tuple[float, MaskScaling],
    um_per_px: float | None,
) -> ArrayDataset:
    for name, image, mask in zip(names, images, masks, strict=True):
        _check_pair(name, image, mask)
    wanted = classes if classes is None or isinstance(classes, int) else len(classes)
    if wanted is not None and not 2 <= wanted <= IGNORE:
        raise InputError(f"{wanted} class(es) are asked for; 2 … {IGNORE} are possible, the background is one of them")
    values = choose_values(masks, names, wanted, mask_values)
    indexed = [values.apply(mask, name) for name, mask in zip(names, masks, strict=True)]
    _check_content(names, indexed)
    factor, how = scaling
    if not (np.isfinite(factor) and factor > 0):
        raise InputError(f"scale={factor} is refused; a positive factor is needed, such as 0.5 for half the resolution")
    channels = 3 if any(image.ndim == 3 for image in images) else 1
    equal = [np.repeat(x[..., None], 3, axis=2) if channels == 3 and x.ndim == 2 else x for x in images]
    return ArrayDataset(
        names=tuple(names),
        class_names=_class_names(classes, values.n_classes),
        channels=channels,
        um_per_px=None if um_per_px is None else um_per_px / factor,
        images=tuple(scale_image(image, factor) for image in equal),
        masks=tuple(scale_mask(mask, factor, how) for mask in indexed),
    )


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


def _check_content(names: list[str], masks: list[Mask]) -> None:
    present: set[int] = set()
    for name, mask in zip(names, masks, strict=True):
        here = set(np.unique(mask).tolist()) - {IGNORE}
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
    return ("background", "foreground") if count == 2 else tuple(f"class {i}" for i in range(count))


def _common_scale(scales: list[float | None]) -> float | None:
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


def as_dataset(images: Any, masks: Any = None, **options: Any) -> Dataset:
    """Return a data set of what a caller names: two folders, two sequences of arrays, or a :class:`Dataset` alone.

    Parameters
    ----------
    images : path, sequence of array_like or Dataset
        With a data set, `masks` is left out and no option may be given.
    masks : path or sequence of array_like, optional
        In the form of `images`.
    **options
        Of :func:`read_dataset` or :func:`array_dataset`.

    Raises
    ------
    InputError
        If the two are not of one form, or as in the two functions.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if hasattr(images, "subset") and hasattr(images, "mask"):
        if masks is not None or given:
            raise InputError("a data set holds masks, classes and names already; leave masks and options out")
        return cast(Dataset, images)
    if isinstance(images, (str, Path)) and isinstance(masks, (str, Path)):
        return read_dataset(images, masks, **given)
    if masks is None or isinstance(images, (str, Path)) or isinstance(masks, (str, Path)):
        raise InputError(
            f"images are {type(images).__name__} and masks {type(masks).__name__}; give two folders, two sequences of "
            "arrays, or one data set"
        )
    return array_dataset(list(images), list(masks), **given)
