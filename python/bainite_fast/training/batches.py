"""Batches of tiles or random crops: a pure function of seed, epoch and place in the epoch, so that a run can resume."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import BainiteWarning, InputError
from ..geometry import round_up
from .dataset import IGNORE, Dataset
from .large import bands
from .recipe import Recipe

_COUNTED_ONCE = 1 << 20  # px from which the counts of a mask are kept: small ones, of many tiles, are soon made
_FULL_SCALE = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}


@dataclass(frozen=True, slots=True)
class Batch:
    """What one step learns from.

    Attributes
    ----------
    images : Tensor [N, C, H, W], float32
        Intensities, integers brought to 0…1; not normalised.
    masks : Tensor [N, H, W], uint8
        Labels, 255 where unknown.
    names : tuple of str
        Of the images.
    corners : tuple of (int, int)
        Row and column of each crop in its image, px.
    """

    images: torch.Tensor
    masks: torch.Tensor
    names: tuple[str, ...]
    corners: tuple[tuple[int, int], ...]


class Batches:
    """Cuts a data set into batches.

    Parameters
    ----------
    data : Dataset
        Tiles or images.
    recipe : Recipe
        Crop, batch and seed.
    multiple : int
        What height and width must be multiples of; images are mirrored at the right and the bottom up to it.

    Raises
    ------
    InputError
        If images that are not cropped differ in size.
    """

    def __init__(self, data: Dataset, recipe: Recipe, multiple: int) -> None:
        self.data, self.size, self.seed = data, recipe.batch, recipe.seed
        self.crop = recipe.data.crop
        self.on_classes, self.multiple = recipe.data.crops_on_classes, multiple
        self._rows: dict[int, NDArray[np.int64]] = {}
        shapes = [data.image(i).shape[:2] for i in range(len(data))]
        if self.crop is None:
            if len(set(shapes)) > 1:
                raise InputError(
                    f"the training images differ in size ({_by(min(shapes))} … {_by(max(shapes))} px) and cannot be "
                    "stacked whole; set data.tile or data.crop in the recipe"
                )
            self.repeats = [1] * len(shapes)
        else:
            area = self.crop * self.crop
            given = recipe.data.crops_per_image
            self.repeats = [given or max(1, round(h * w / area)) for h, w in shapes]

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return -(-sum(self.repeats) // self.size)

    def order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the images of an epoch in their order, and five numbers in 0…1 for each: where its crop lies."""
        draw = np.random.default_rng([self.seed, epoch])
        order = draw.permutation(np.repeat(np.arange(len(self.repeats)), self.repeats))
        return order, draw.random((len(order), 5))

    def batch(self, epoch: int, index: int) -> Batch:
        """Return batch `index` of an epoch."""
        order, places = self.order(epoch)
        mine, names = slice(index * self.size, (index + 1) * self.size), self.data.names
        cut = [self._cut(int(i), place) for i, place in zip(order[mine], places[mine], strict=True)]
        return Batch(
            images=torch.from_numpy(np.stack([image for image, _, _ in cut])),
            masks=torch.from_numpy(np.stack([mask for _, mask, _ in cut])),
            names=tuple(names[int(i)] for i in order[mine]),
            corners=tuple(corner for _, _, corner in cut),
        )

    def _cut(self, i: int, place: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[Any], tuple[int, int]]:
        image, mask = self.data.image(i), self.data.mask(i)
        height, width = mask.shape
        y = x = 0
        if self.crop is not None:
            y, x = self._corner(i, mask, self.crop, place)
            image, mask = (a[y : y + self.crop, x : x + self.crop] for a in (image, mask))
        target = [self.crop or round_up(edge, self.multiple) for edge in (height, width)]
        image, mask = (mirrored(a, (target[0], target[1])) for a in (image, mask))
        return channels_first(image), np.ascontiguousarray(mask), (y, x)

    def _corner(self, i: int, mask: NDArray[np.uint8], crop: int, place: NDArray[np.float64]) -> tuple[int, int]:
        """Return row and column of a crop: anywhere, or, as often as the recipe says, round a pixel of some class."""
        room = [max(0, edge - crop) for edge in mask.shape]
        if place[2] >= self.on_classes:
            return int(place[0] * (room[0] + 1)), int(place[1] * (room[1] + 1))
        upto = self._rows.get(i)
        if upto is None:
            upto = _pixels_to_row(mask, self.data.n_classes)
            if mask.size > _COUNTED_ONCE:
                self._rows[i] = upto
        present = np.flatnonzero(upto[:, -1])
        if not len(present):
            return int(place[0] * (room[0] + 1)), int(place[1] * (room[1] + 1))
        value = int(present[int(place[3] * len(present))])
        chosen = int(place[4] * upto[value, -1])  # of the pixels of this class, row by row
        row = int(np.searchsorted(upto[value], chosen, side="right"))
        before = int(upto[value, row - 1]) if row else 0
        pixel = row, int(np.flatnonzero(mask[row] == value)[chosen - before])
        y, x = (min(max(0, p - int(part * crop)), free) for p, part, free in zip(pixel, place[:2], room, strict=True))
        return y, x


def _pixels_to_row(mask: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Return how many pixels of each class lie in the rows of a mask up to each row, int64 [classes, H]."""
    counts = [[np.count_nonzero(band == value, axis=1) for band in bands(mask)] for value in range(classes)]
    return np.stack([np.concatenate(one) for one in counts]).cumsum(axis=1)


def without_margin(masks: torch.Tensor, margin: int) -> torch.Tensor:
    """Return masks [N, H, W] whose outer `margin` px are unknown, so that no loss counts them."""
    if margin == 0:
        return masks
    inner = (slice(None), slice(margin, -margin), slice(margin, -margin))
    kept = torch.full_like(masks, IGNORE)
    kept[inner] = masks[inner]
    return kept


def mirrored(array: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Return an image [H, W] or [H, W, C] mirrored at the right and the bottom to height and width `shape`."""
    missing = [(0, max(0, new - old)) for new, old in zip(shape, array.shape[:2], strict=True)]
    if missing == [(0, 0), (0, 0)]:
        return array
    mode: Any = "reflect" if min(array.shape[:2]) > 1 else "edge"
    return np.pad(array, missing + [(0, 0)] * (array.ndim - 2), mode=mode)


def channels_first(image: NDArray[Any]) -> NDArray[np.float32]:
    """Return an image as float32 [C, H, W]; uint8 and uint16 are brought to 0…1."""
    cube = image[np.newaxis] if image.ndim == 2 else image.transpose(2, 0, 1)
    full = _FULL_SCALE.get(image.dtype)
    scaled = cube.astype(np.float32)
    return np.ascontiguousarray(scaled if full is None else scaled * np.float32(1 / full))


@dataclass(frozen=True, slots=True)
class Intensities:
    """Of the training images, integers brought to 0…1.

    Attributes
    ----------
    mean, std : tuple of float
        Per channel.
    window : (float, float)
        Black and white: (0, 1) for integers, smallest and largest value for floats.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    window: tuple[float, float]


def measure_intensities(data: Dataset) -> Intensities:
    """Return mean and standard deviation of every channel, in float64 and in one pass.

    Raises
    ------
    InputError
        If every pixel has the same value, or one is NaN or infinite.

    Warns
    -----
    BainiteWarning
        If the brightest pixel is far from what white is in their dtype.
    """
    count, total, squares = 0, np.zeros(data.channels), np.zeros(data.channels)
    low, high, whole = np.inf, -np.inf, True
    dtypes: set[str] = set()
    for i in range(len(data)):
        image = data.image(i)
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            raise InputError(f"the training image {data.names[i]} holds NaN or infinity; replace such pixels")
        for band in bands(image):
            pixels = band.reshape(-1, data.channels).astype(np.float64) / _FULL_SCALE.get(image.dtype, 1.0)
            count, total, squares = count + len(pixels), total + pixels.sum(axis=0), squares + (pixels**2).sum(axis=0)
            low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
        whole = whole and image.dtype in _FULL_SCALE
        dtypes.add(image.dtype.name)
    mean = total / count
    _warn_of_range(dtypes, low, high)
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    if not (std > 1e-6 * max(1.0, abs(high))).all():
        raise InputError(f"the training images are of one gray value ({low:.4g}); give images that show something")
    return Intensities(tuple(mean.tolist()), tuple(std.tolist()), (0.0, 1.0) if whole else (low, high))


def _warn_of_range(dtypes: set[str], low: float, high: float) -> None:
    """Say so where images of another dtype, which a user takes for the same, would look far too bright or dark."""
    if dtypes == {"uint8"} or (1 / 8 <= high <= 2 and low >= -1):
        return
    white = "65535" if dtypes == {"uint16"} else "1"
    said = high * 65535 if dtypes == {"uint16"} else high
    warnings.warn(
        f"the training images reach {said:.4g}, and {' and '.join(sorted(dtypes))} intensities are taken as 0…{white}: "
        "to the model, pictures of another dtype will look far too bright or too dark. Rescale the images to that "
        "range, or save them as uint8",
        BainiteWarning,
        stacklevel=5,
    )


def _by(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} × {shape[1]}"
