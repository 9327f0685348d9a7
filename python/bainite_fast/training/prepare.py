"""From a data set and a recipe to what the loop works with: parted, tiled, held in memory, checked. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .._memory import free_memory
from ..errors import InputError
from .dataset import ArrayDataset, Dataset, class_pixels
from .recipe import DataRecipe
from .splits import Split, read_split
from .tiles import scale_dataset, tile_dataset

SplitSource = str | os.PathLike[str] | Mapping[str, str | Path | Sequence[str]] | Split | None
_MEMORY_SHARE = 0.25  # of what is free, that tiles may take


def part_indices(data: Dataset, split: SplitSource) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which items are for training and which for validation; a test part stays unseen.

    Parameters
    ----------
    data : Dataset
        All images or tiles.
    split : path, mapping, Split or None
        As :func:`bainite_fast.training.splits.read_split` takes it. Without one everything is for training.

    Raises
    ------
    InputError
        If it names what is not there, lists folds, or has no training part.
    """
    if split is None:
        return tuple(range(len(data))), ()
    if not isinstance(split, Split):
        split = read_split(split if isinstance(split, Mapping) else Path(split))
    if split.is_folds:
        raise InputError(
            f"{split.source} lists folds; cross_validate trains them all, and a single run needs the parts train and, "
            "where it is to be validated, validation"
        )
    parts = split.indices(data)
    if not parts.get("train"):
        raise InputError(f"{split.source} has no training images")
    return parts["train"], parts.get("validation", ())


def training_items(data: Dataset, recipe: DataRecipe) -> Dataset:
    """Return what a run learns from: images or tiles, at the recipe's scale, in memory where they fit."""
    if recipe.tile is None:
        return scale_dataset(data, recipe.scale)
    return held(
        tile_dataset(data, recipe.tile, padding=recipe.padding, scale=recipe.scale, scale_when=recipe.scale_when)
    )


def held(data: Dataset) -> Dataset:
    """Return a data set with all pixels in memory, or as it is where they would take too much of it."""
    first = data.image(0)
    needed = len(data) * (first.nbytes + first.shape[0] * first.shape[1])
    if isinstance(data, ArrayDataset) or needed > _MEMORY_SHARE * free_memory():
        return data
    return ArrayDataset(
        names=data.names,
        class_names=data.class_names,
        channels=data.channels,
        um_per_px=data.um_per_px,
        images=tuple(data.image(i) for i in range(len(data))),
        masks=tuple(data.mask(i) for i in range(len(data))),
    )


def check_classes(data: Dataset) -> NDArray[np.int64]:
    """Return the training pixels of every class, int64 [K].

    Raises
    ------
    InputError
        If the masks hold one class only.
    """
    counts = class_pixels(data)
    present = np.flatnonzero(counts)
    if len(present) < 2:
        held_class = f"class {present[0]} ({data.class_names[present[0]]}) only" if len(present) else "no known pixel"
        raise InputError(
            f"the masks of the training images hold {held_class}; a network learns to tell at least two classes apart"
        )
    return counts


def digest_of(data: Dataset) -> str:
    """Return a sha256 over names, classes and pixels of a data set."""
    digest = hashlib.sha256(json.dumps([list(data.names), list(data.class_names), data.channels]).encode())
    for i in range(len(data)):
        for array in (data.image(i), data.mask(i)):
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
