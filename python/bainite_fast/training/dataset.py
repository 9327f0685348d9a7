"""Annotated images from folders or arrays: read, checked, and held. Imports no torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from ..errors import BainiteWarning, InputError
from ..io.pixel_size import check_pixel_size
from .annotated import ArrayDataset, Classes, Dataset, Pixels, check_indices, class_pixels
from .checks import assemble, check_one_meaning, common_scale
from .large import Shelf
from .matching import match_files
from .pictures import CropBar, Pair, is_gray, read_pair, to_gray
from .rescale import MaskScaling
from .values import IGNORE, MaskValues, names_colours

__all__ = [
    "IGNORE",
    "ArrayDataset",
    "Classes",
    "Dataset",
    "MaskScaling",
    "array_dataset",
    "as_dataset",
    "check_indices",
    "class_pixels",
    "read_dataset",
]


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
    gray: bool | None = None,
    um_per_px: float | None = None,
) -> ArrayDataset:
    """Read a folder of images and a folder of masks, and check them.

    They are held in memory; what takes more than half of the free memory lies in temporary files and is mapped.

    Images and masks (PNG, TIFF, JPEG, BMP, OME-Zarr) belong together by their names without suffix; ``_mask``,
    ``_label``, ``_image`` and the like at the end of a name are overlooked. The two folders may be one.

    Parameters
    ----------
    images, masks : path
        Folders. Or a mosaic as OME-Zarr, or a folder of such, and the name of the labels in each.
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
    gray : bool, optional
        Turn colour images to gray (luma, ITU-R BT.601), which is done by default, and told. Otherwise all images have
        three channels if one has.
    um_per_px : float, optional
        Size of a pixel before scaling, where the files do not say it, or not rightly.

    Returns
    -------
    ArrayDataset

    Raises
    ------
    InputError
        If a folder is empty, nothing matches, sizes differ, a mask holds what is no class, a mask is empty, there are
        fewer than two classes, or OME-Zarr labels name their values in another order than others or `classes` do.
    MosaicError
        If a file cannot be read.
    OutputError
        If images do not fit into memory, nor into the folder for temporary files (``TMPDIR``).

    Warns
    -----
    BainiteWarning
        If files have no partner or images differ in scale: they are named. If images go to temporary files, colours of
        masks are taken for classes in their order, images lose their colours unasked, or masks were made by a model.
    """
    check_pixel_size(um_per_px)
    matched, shelf = match_files(Path(images), Path(masks), names), Shelf()
    options: dict[str, bool] = {"gray": gray is not False, "indexed": not names_colours(mask_values)}
    pairs = [read_pair(one.image, one.mask, crop_bar, shelf, **options) for one in matched]
    if gray is None and any(pair.coloured for pair in pairs):
        _warn_of_gray()
    _warn_of_makers({pair.maker for pair in pairs if pair.maker is not None})
    _check_names([one.name for one in matched], pairs, None if mask_values is not None else classes)
    named = {pair.class_names for pair in pairs}
    if classes is None and mask_values is None and len(named) == 1:
        classes = named.pop() or None  # OME-Zarr label images that agree
    pixels, drawn, scales = (
        [pair.image for pair in pairs],
        [pair.mask for pair in pairs],
        [p.um_per_px for p in pairs],
    )
    del pairs  # the two lists are let go of one by one
    return assemble(
        [one.name for one in matched],
        pixels,
        drawn,
        classes=classes,
        mask_values=mask_values,
        scaling=(scale, mask_scaling),
        um_per_px=um_per_px if um_per_px is not None else common_scale(scales),
        shelf=shelf,
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
    gray: bool | None = None,
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
    if gray is None and any(image.ndim == 3 and not is_gray(image) for image in pixels):
        _warn_of_gray()
    return assemble(
        called,
        [to_gray(image) if gray is not False and image.ndim == 3 else image for image in pixels],
        [mask.astype(np.uint8) if mask.dtype == np.bool_ else mask for mask in drawn],
        classes=classes,
        mask_values=mask_values,
        scaling=(scale, mask_scaling),
        um_per_px=um_per_px,
        shelf=Shelf(),
    )


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


def _check_names(names: list[str], pairs: list[Pair], classes: Classes) -> None:
    """Refuse OME-Zarr labels whose own names of the values contradict each other, or the classes that are given."""
    said = [(f"the labels of {n}", dict(enumerate(p.class_names))) for n, p in zip(names, pairs, strict=True)]
    remedy = "label them alike, or take them apart and say with mask_values= which class each value is"
    if classes is not None and not isinstance(classes, int):
        said.insert(0, ("the classes", dict(enumerate(map(str, classes)))))
        remedy = "say with mask_values={value: class, …} which class each value is"
    check_one_meaning(said, remedy)


def _warn_of_gray() -> None:
    warnings.warn(
        "the images have colours, which are turned to gray: to keep them, --colour, or from Python "
        "training.read_dataset(…, gray=False)",
        BainiteWarning,
        stacklevel=4,
    )


def _warn_of_makers(makers: set[str]) -> None:
    if makers:
        warnings.warn(
            f"the labels were made by the model {', '.join(sorted(makers))}: unless they were corrected by hand since, "
            "they are no truth to learn from or to be scored by",
            BainiteWarning,
            stacklevel=4,
        )


def _checked_image(image: ArrayLike, name: str) -> Pixels:
    from ..io import open_mosaic

    array = np.asarray(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise InputError(f"{name} has shape {array.shape}; [H, W] or [H, W, 3] is needed")
    with open_mosaic(array) as mosaic:
        return mosaic.read(0, array.shape[0], 0, array.shape[1])
