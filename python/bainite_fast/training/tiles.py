"""Tiles of one size that cover annotated images without overlap. Imports no torch."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import BainiteWarning, InputError
from ..geometry import mirror_index
from .dataset import IGNORE, ArrayDataset, Dataset, MaskScaling, check_indices, class_pixels
from .large import Shelf
from .rescale import scale_image, scale_mask
from .words import counted

__all__ = [
    "Grid",
    "Place",
    "TileSet",
    "TileSummary",
    "micrograph_of",
    "plan_grid",
    "scale_dataset",
    "summarize",
    "tile_dataset",
]

Padding = Literal["mirror", "drop"]
ScaleWhen = Literal["before", "after"]
MaskPadding = Literal["mirror", "ignore"]
_LEAST_SEEN = 0.5  # share of the pixels of tiles that are of the images: with less, one is told


@dataclass(frozen=True, slots=True)
class Grid:
    """How tiles of one size lie on an image: pure integers, px.

    Attributes
    ----------
    shape : (int, int)
        Height and width of the image.
    tile : int
        Edge of a tile.
    rows, columns : int
        Of tiles.
    top, bottom, left, right : int
        Rows and columns of mirrored pixels that are added on each side; negative where they are dropped.
    """

    shape: tuple[int, int]
    tile: int
    rows: int
    columns: int
    top: int
    bottom: int
    left: int
    right: int

    def corners(self) -> Iterator[tuple[int, int]]:
        """Yield (y, x) of the first pixel of every tile in the image, row by row; it may lie outside."""
        for row in range(self.rows):
            for column in range(self.columns):
                yield row * self.tile - self.top, column * self.tile - self.left

    def __str__(self) -> str:
        height, width = self.shape
        sides = f"{self.top} + {self.bottom} rows, {self.left} + {self.right} columns"
        return f"{height} × {width} px: {self.rows} × {self.columns} tiles of {self.tile} px, {sides} more"


def plan_grid(shape: tuple[int, int], tile: int, padding: Padding = "mirror") -> Grid:
    """Lay tiles of one size over an image without overlap.

    Parameters
    ----------
    shape : (int, int)
        Height and width of the image, px.
    tile : int
        Edge of a tile, px.
    padding : {"mirror", "drop"}
        Add rows and columns up to whole tiles, shared evenly between opposite sides (the odd one at the bottom and
        right), or leave out what is beyond whole tiles, in the same way.

    Raises
    ------
    InputError
        If the tile is below 1 px, or larger than the image with ``"drop"``.
    """
    if tile < 1:
        raise InputError(f"a tile of {tile} px is refused; at least 1 px is needed")
    if padding not in ("mirror", "drop"):
        raise InputError(f'padding={padding!r} is not understood; use "mirror" or "drop"')
    if padding == "drop" and tile > min(shape):
        raise InputError(
            f"an image of {shape[0]} × {shape[1]} px holds no whole tile of {tile} px; use padding='mirror' or smaller "
            "tiles"
        )
    counts = [-(-length // tile) if padding == "mirror" else length // tile for length in shape]
    more = [count * tile - length for count, length in zip(counts, shape, strict=True)]
    first = [m // 2 if m >= 0 else -(-m // 2) for m in more]
    return Grid(
        (shape[0], shape[1]), tile, counts[0], counts[1],
        first[0], more[0] - first[0], first[1], more[1] - first[1],
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tile was cut: the index of its image in the source, and (y, x) of its first pixel there, px."""

    image: int
    y: int
    x: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TileSet:
    """Tiles of a data set, which is a :class:`~bainite_fast.training.dataset.Dataset` itself; cut when asked for.

    Made by :func:`tile_dataset`.

    Attributes
    ----------
    source : Dataset
        The whole images.
    places : tuple of Place
        Where each tile lies.
    tile : int
        Edge of a tile in its source image, px.
    scale : float
        Factor on each tile after cutting.
    mask_scaling : {"majority", "nearest"}
        How masks follow.
    mask_padding : {"mirror", "ignore"}
        What masks hold beyond the image: mirrored labels, or 255.
    """

    source: Dataset
    places: tuple[Place, ...]
    tile: int
    scale: float = 1.0
    mask_scaling: MaskScaling = "majority"
    mask_padding: MaskPadding = "mirror"

    @property
    def names(self) -> tuple[str, ...]:
        """Name of the image and corner of the tile."""
        return tuple(f"{self.source.names[p.image]} @{p.y},{p.x}" for p in self.places)

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return self.source.n_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the label values."""
        return self.source.class_names

    @property
    def channels(self) -> int:
        """1 or 3."""
        return self.source.channels

    @property
    def um_per_px(self) -> float | None:
        """Size of a pixel of the tiles, µm."""
        return None if self.source.um_per_px is None else self.source.um_per_px / self.scale

    def __len__(self) -> int:
        return len(self.places)

    def image(self, i: int) -> NDArray[Any]:
        """Return tile `i`, [tile, tile] or [tile, tile, 3] times the scale."""
        place = self.places[i]
        return scale_image(_cut(self.source.image(place.image), place, self.tile), self.scale)

    def mask(self, i: int) -> NDArray[np.uint8]:
        """Return the mask of tile `i`, uint8 [tile, tile] times the scale."""
        place = self.places[i]
        whole = self.source.mask(place.image)
        mask = _cut(whole, place, self.tile)
        if self.mask_padding == "ignore":
            mask = mask.copy()
            mask[~self.inside(i)] = IGNORE
        return scale_mask(mask, self.scale, self.mask_scaling)

    def inside(self, i: int) -> NDArray[np.bool_]:
        """Return which pixels of tile `i`, before scaling, are of the image and not mirrored, bool [tile, tile]."""
        place = self.places[i]
        height, width = self.source.mask(place.image).shape
        rows, columns = np.arange(place.y, place.y + self.tile), np.arange(place.x, place.x + self.tile)
        inside: NDArray[np.bool_] = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
        return inside

    def subset(self, indices: Iterable[int]) -> TileSet:
        """Return these tiles, in this order."""
        return replace(self, places=tuple(self.places[i] for i in check_indices(indices, len(self))))

    def __repr__(self) -> str:
        images = counted(len({place.image for place in self.places}), "image")
        return f"<TileSet: {counted(len(self), 'tile')} of {self.tile} px from {images}, × {self.scale:g}>"


def _cut(image: NDArray[Any], place: Place, tile: int) -> NDArray[Any]:
    height, width = image.shape[:2]
    if 0 <= place.y <= height - tile and 0 <= place.x <= width - tile:
        return np.ascontiguousarray(image[place.y : place.y + tile, place.x : place.x + tile])
    rows = np.array([mirror_index(y, height) for y in range(place.y, place.y + tile)])
    columns = np.array([mirror_index(x, width) for x in range(place.x, place.x + tile)])
    return np.ascontiguousarray(image[rows[:, None], columns[None, :]])


def tile_dataset(
    data: Dataset,
    tile: int,
    *,
    padding: Padding = "mirror",
    scale: float = 1.0,
    scale_when: ScaleWhen = "before",
    mask_scaling: MaskScaling = "majority",
    mask_padding: MaskPadding = "mirror",
) -> TileSet:
    """Cut a data set into tiles of one size that cover its images without overlap.

    Parameters
    ----------
    data : Dataset
        Whole images.
    tile : int
        Edge of a tile, px: 64, 96, 128, 192, 256, 512 or any other. With ``scale_when="after"`` it counts before
        scaling, so a tile of 256 scaled by 0.5 has 128 px.
    padding : {"mirror", "drop"}
        See :func:`plan_grid`.
    scale : float
        Factor on height and width.
    scale_when : {"before", "after"}
        Scale the images and then cut them, or cut them and scale each tile.
    mask_scaling : {"majority", "nearest"}
        As in :func:`~bainite_fast.training.dataset.read_dataset`.
    mask_padding : {"mirror", "ignore"}
        What masks hold beyond the image: the mirrored labels, or 255, so that nothing counts twice.

    Raises
    ------
    InputError
        If an image is smaller than a tile with ``padding="drop"``, or a word or factor is not understood.

    Warns
    -----
    BainiteWarning
        If more than half of all pixels are mirrored.
    """
    if scale_when not in ("before", "after") or mask_padding not in ("mirror", "ignore"):
        raise InputError(
            f'scale_when={scale_when!r} and mask_padding={mask_padding!r}: use "before" or "after", and "mirror" or '
            '"ignore"'
        )
    source = scale_dataset(data, scale, mask_scaling) if scale_when == "before" else data
    places, own = [], 0
    for i in range(len(source)):
        height, width = source.mask(i).shape
        try:
            grid = plan_grid((height, width), tile, padding)
        except InputError as error:
            raise InputError(f"{source.names[i]}: {error}") from None
        places += [Place(i, y, x) for y, x in grid.corners()]
        own += height * width
    _warn_of_mirrored(own / (len(places) * tile**2), tile)
    return TileSet(source, tuple(places), tile, scale if scale_when == "after" else 1.0, mask_scaling, mask_padding)


def _warn_of_mirrored(share: float, tile: int) -> None:
    if share < _LEAST_SEEN:
        warnings.warn(
            f"tiles of {tile} px are so large for these images that only {100 * share:.0f} % of their pixels are the "
            "images' own, and the rest is mirrored; smaller tiles see more and train faster",
            BainiteWarning,
            stacklevel=3,
        )


def scale_dataset(data: Dataset, factor: float, mask_scaling: MaskScaling = "majority") -> Dataset:
    """Return a data set scaled by a factor on height and width.

    Images are averaged over areas, or interpolated where they grow; `mask_scaling` says how masks follow.

    Raises
    ------
    InputError
        If the factor is not a positive number.
    """
    if not (np.isfinite(factor) and factor > 0):
        raise InputError(f"scale={factor} is refused; a positive factor is needed, such as 0.5 for half the resolution")
    if factor == 1.0:
        return data
    shelf = Shelf()
    return ArrayDataset(
        names=data.names,
        class_names=data.class_names,
        channels=data.channels,
        um_per_px=None if data.um_per_px is None else data.um_per_px / factor,
        images=tuple(shelf.keep(scale_image(data.image(i), factor)) for i in range(len(data))),
        masks=tuple(shelf.keep(scale_mask(data.mask(i), factor, mask_scaling)) for i in range(len(data))),
    )


def micrograph_of(data: Dataset) -> tuple[str, ...]:
    """Return the name of the micrograph that each item of a data set comes from: its own, or its tile's."""
    if isinstance(data, TileSet):
        origin = micrograph_of(data.source)
        return tuple(origin[place.image] for place in data.places)
    return data.names


@dataclass(frozen=True, slots=True)
class TileSummary:
    """What a tiled set holds.

    Attributes
    ----------
    tile : int
        Edge of the tiles as the network sees them, px.
    tiles, images : int
        How many, and from how many images.
    fractions : dict of str to float
        Share of each class in the labelled pixels of the tiles, 0…1.
    tile_um : float or None
        Edge of a tile, µm.
    mirrored : float
        Share of the tiles' pixels that are mirrored, 0…1.
    """

    tile: int
    tiles: int
    images: int
    fractions: dict[str, float]
    tile_um: float | None
    mirrored: float

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {
            "tile_px": self.tile,
            "tile_um": self.tile_um,
            "tiles": self.tiles,
            "images": self.images,
            "mirrored": self.mirrored,
            "fractions": dict(self.fractions),
        }

    def __str__(self) -> str:
        return summary_table([self])


def summarize(tiles: TileSet) -> TileSummary:
    """Count the tiles, classes and mirrored pixels of a tiled set."""
    counts = class_pixels(tiles)
    total = max(int(counts.sum()), 1)
    edge = len(tiles.mask(0))
    return TileSummary(
        tile=edge,
        tiles=len(tiles),
        images=len(set(micrograph_of(tiles))),
        fractions={name: int(n) / total for name, n in zip(tiles.class_names, counts, strict=True)},
        tile_um=None if tiles.um_per_px is None else edge * tiles.um_per_px,
        mirrored=1 - float(np.mean([tiles.inside(i).mean() for i in range(len(tiles))])),
    )


def summary_table(summaries: Sequence[TileSummary]) -> str:
    """Return summaries as a Markdown table, one row each."""
    names = list(summaries[0].fractions)
    head = ["tile", "edge", "tiles", "images", "mirrored", *names]
    rows = [
        [
            f"{s.tile} px",
            "unknown" if s.tile_um is None else f"{s.tile_um:.3g} µm",
            str(s.tiles),
            str(s.images),
            f"{100 * s.mirrored:.1f} %",
            *(f"{100 * s.fractions[name]:.1f} %" for name in names),
        ]
        for s in summaries
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
