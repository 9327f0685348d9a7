"""What training and evaluation see: annotated images, in memory or cut when asked for. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..errors import InputError
from .large import bands
from .values import IGNORE
from .words import counted

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
    """A :class:`Dataset` of arrays, in memory or mapped into it.

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
    mask_values : dict of str to int
        Class of each value, or colour, that stood in the masks; empty where values are the classes themselves.
    """

    names: tuple[str, ...]
    class_names: tuple[str, ...]
    channels: int
    um_per_px: float | None
    images: tuple[Pixels, ...]
    masks: tuple[Mask, ...]
    mask_values: Mapping[str, int] = field(default_factory=dict)

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
        return f"<{type(self).__name__}: {counted(len(self), f'{kind} image')}, {scale}; {shares}>"


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
        for band in bands(mask):
            total += kernels.class_counts(band[band != IGNORE], data.n_classes)
    return total
