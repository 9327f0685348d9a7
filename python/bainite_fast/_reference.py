"""NumPy oracle of every kernel: slow, short, obviously right. The tests compare the compiled kernels with these."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

NUMPY_PAD: dict[str, Any] = {"mirror": "reflect", "symmetric": "symmetric", "edge": "edge", "constant": "constant"}
"""Names of the pad modes in :func:`numpy.pad`."""


def padded(image: Array, before: tuple[int, int], after: tuple[int, int], pad: str, fill: float = 0.0) -> Array:
    """Pad the two first axes of an image (H, W) or (H, W, C) with numpy.pad, any number of periods."""
    widths = [(before[0], after[0]), (before[1], after[1])] + [(0, 0)] * (image.ndim - 2)
    mode = NUMPY_PAD[pad]
    if pad == "constant":
        return np.pad(image, widths, mode=mode, constant_values=image.dtype.type(fill))
    return np.pad(image, widths, mode=mode)


def window(image: Array, corner: Sequence[int], size: tuple[int, int], pad: str, fill: float = 0.0) -> Array:
    """Return the window of `size` at `corner` (y, x) of the endless padded image."""
    height, width = image.shape[:2]
    y, x = (int(value) for value in corner)
    before = (max(0, -y), max(0, -x))
    after = (max(0, y + size[0] - height), max(0, x + size[1] - width))
    whole = padded(image, before, after, pad, fill)
    return whole[y + before[0] : y + before[0] + size[0], x + before[1] : x + before[1] + size[1]]


def tile_image(image: Array, tile: tuple[int, int], *, halo: int = 0, pad: str = "mirror") -> Array:
    """Oracle of :func:`bainite_fast.kernels.tile_image`."""
    size = (tile[0] + 2 * halo, tile[1] + 2 * halo)
    corners = [
        (y - halo, x - halo) for y in range(0, image.shape[0], tile[0]) for x in range(0, image.shape[1], tile[1])
    ]
    return np.stack([window(image, corner, size, pad) for corner in corners])


def stitch_tiles(tiles: Array, shape: Sequence[int], tile: tuple[int, int], *, halo: int = 0) -> Array:
    """Oracle of :func:`bainite_fast.kernels.stitch_tiles`."""
    rows, cols = -(-shape[0] // tile[0]), -(-shape[1] // tile[1])
    cores = tiles[:, halo : halo + tile[0], halo : halo + tile[1]]
    lines = [np.concatenate(list(cores[row * cols : (row + 1) * cols]), axis=1) for row in range(rows)]
    whole: Array = np.concatenate(lines, axis=0)[: shape[0], : shape[1]]
    return whole


def gather(
    image: Array,
    corners: Sequence[Sequence[int]],
    size: tuple[int, int],
    gain: Sequence[float],
    offset: Sequence[float],
    *,
    pad: str = "mirror",
    fill: float = 0.0,
) -> NDArray[np.float32]:
    """Oracle of :func:`bainite_fast.kernels.gather` before the cast to the output's type: (n, C', th, tw) float32."""
    channels = len(gain)
    tiles = []
    for corner in corners:
        tile = window(image, corner, size, pad, fill).astype(np.float32)
        tile = tile[..., np.newaxis] if tile.ndim == 2 else tile
        if tile.shape[-1] == 3 and channels == 1:
            red, green, blue = np.moveaxis(tile, -1, 0)
            gray = np.float32(0.299) * red + np.float32(0.587) * green
            tile = (gray + np.float32(0.114) * blue)[..., np.newaxis]
        scaled = tile * np.asarray(gain, np.float32) + np.asarray(offset, np.float32)
        tiles.append(np.moveaxis(np.broadcast_to(scaled, (*size, channels)), -1, 0))
    return np.stack(tiles).astype(np.float32)


def classify(logits: Array) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.bool_]]:
    """Return labels, 255 · confidence (not rounded) and finiteness of float logits (K, h, w), in float64."""
    wide = logits.astype(np.float64)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(wide).all(axis=0))
    wide = np.where(finite, wide, 0.0)
    if len(wide) == 1:
        wide = np.concatenate([np.zeros_like(wide), wide])  # K = 1: two classes with logits (0, l)
    odds = np.exp(wide - wide.max(axis=0))
    return wide.argmax(axis=0).astype(np.uint8), 255.0 * odds.max(axis=0) / odds.sum(axis=0), finite


def confusion_matrix(truth: ArrayLike, pred: ArrayLike, n_classes: int, ignore: int | None = None) -> NDArray[np.int64]:
    """Oracle of :func:`bainite_fast.kernels.confusion_matrix`."""
    true, predicted = np.asarray(truth).ravel().astype(np.int64), np.asarray(pred).ravel().astype(np.int64)
    kept = np.ones(true.shape, bool) if ignore is None else true != ignore
    pairs = true[kept] * n_classes + predicted[kept]
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def downsample_labels(labels: Array) -> NDArray[np.uint8]:
    """Oracle of :func:`bainite_fast.kernels.downsample_labels`."""
    rows, cols = (labels.shape[0] + 1) // 2, (labels.shape[1] + 1) // 2
    out = np.empty((rows, cols), np.uint8)
    for y in range(rows):
        for x in range(cols):
            cell = labels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist()
            out[y, x] = max(cell, key=cell.count)  # max() keeps the first of equals: raster order
    return out


def nonfinite(region: Array) -> tuple[int, int, int] | None:
    """Oracle of :func:`bainite_fast.kernels.nonfinite`."""
    deep = region[..., np.newaxis] if region.ndim == 2 else region
    places = np.argwhere(~np.isfinite(deep))
    return None if len(places) == 0 else (int(places[0][0]), int(places[0][1]), int(places[0][2]))


def resample_matrix(n: int, n_scaled: int) -> NDArray[np.float64]:
    """Return the float64 weights (n_scaled, n) that scale one axis: box averaging down, bilinear up."""
    weights = np.zeros((n_scaled, n))
    for i in range(n_scaled):
        if n_scaled < n:
            low, high = i * n / n_scaled, (i + 1) * n / n_scaled
            j = np.arange(n)
            weights[i] = np.clip(np.minimum(high, j + 1) - np.maximum(low, j), 0, None) / (high - low)
        else:
            centre = min(max((i + 0.5) * n / n_scaled - 0.5, 0.0), n - 1.0)
            first = int(centre)
            second = min(first + 1, n - 1)
            weights[i, first] += 1 - (centre - first)
            weights[i, second] += centre - first
    return weights


def resample(image: Array, scaled_shape: tuple[int, int]) -> NDArray[np.float64]:
    """Oracle of :func:`bainite_fast.kernels.resample`, in float64."""
    rows = resample_matrix(image.shape[0], scaled_shape[0])
    cols = resample_matrix(image.shape[1], scaled_shape[1])
    scaled: NDArray[np.float64] = np.einsum("ih,hw...,jw->ij...", rows, image.astype(np.float64), cols)
    return scaled


def quaternion_product(a: Array, b: Array) -> NDArray[np.float64]:
    """Return Hamilton products of quaternions w, x, y, z on the last axis."""
    v, u = a[..., 1:], b[..., 1:]
    scalar = a[..., :1] * b[..., :1] - np.sum(v * u, axis=-1, keepdims=True)
    return np.concatenate([scalar, a[..., :1] * u + b[..., :1] * v + np.cross(v, u)], axis=-1)


@cache
def rotations_of(laue: str) -> NDArray[np.float64]:
    """Return the proper rotations of a Laue group, (n, 4), by multiplying its generators until nothing new comes."""

    def turn(axis: Sequence[float], fold: int) -> Array:
        unit = np.asarray(axis, float) / np.linalg.norm(axis)
        return np.concatenate([[np.cos(np.pi / fold)], np.sin(np.pi / fold) * unit])

    x, y, z, diagonal = (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)
    generators = {
        "-1": [],
        "2/m": [turn(y, 2)],
        "mmm": [turn(x, 2), turn(z, 2)],
        "4/m": [turn(z, 4)],
        "4/mmm": [turn(z, 4), turn(x, 2)],
        "-3": [turn(z, 3)],
        "-3m": [turn(z, 3), turn(x, 2)],
        "6/m": [turn(z, 6)],
        "6/mmm": [turn(z, 6), turn(x, 2)],
        "m-3": [turn(x, 2), turn(z, 2), turn(diagonal, 3)],
        "m-3m": [turn(x, 4), turn(z, 4), turn(diagonal, 3)],
    }[laue]
    found = [np.array([1.0, 0.0, 0.0, 0.0])]
    for element in found:  # grows while it is walked over
        for generator in generators:
            new = quaternion_product(element, generator)
            if all(abs(new @ known) < 1 - 1e-9 for known in found):
                found.append(new)
    return np.array(found)


def disorientation(q1: Array, q2: Array, laue: str = "m-3m") -> NDArray[np.float64]:
    """Oracle of :func:`bainite_fast.kernels.orientations.disorientation`: the least of all equivalent rotations."""
    wide1, wide2 = np.asarray(q1, np.float64), np.asarray(q2, np.float64)
    between = quaternion_product(wide1, wide2 * [1.0, -1.0, -1.0, -1.0])
    copies = quaternion_product(rotations_of(laue), between[..., np.newaxis, :])
    half = np.arctan2(np.linalg.norm(copies[..., 1:], axis=-1), np.abs(copies[..., 0]))
    return np.asarray(np.degrees(2.0 * half.min(axis=-1)))


def neighbour_table(grid: tuple[bool, int, int, int], neighbourhood: object, order: int) -> NDArray[np.int64]:
    """Return the points of order n about every point, (points, n), found by distance; -1 outside of the map."""
    hexagonal, rows, columns, columns_even = grid
    places = [(r, c) for r in range(rows) for c in range(columns_even if hexagonal and r % 2 else columns)]
    number = {place: i for i, place in enumerate(places)}
    # In half steps: hexagonal rows lie one half step further to the right every other time.
    across = [2 * c + (r % 2 if hexagonal else 0) for r, c in places]
    table: list[list[int]] = []
    for i, (r, _) in enumerate(places):
        found = []
        for dy in range(-order, order + 1):
            for half in range(-2 * order, 2 * order + 1):
                column, odd = divmod(across[i] + half - ((r + dy) % 2 if hexagonal else 0), 2)
                dx = abs(half) / 2
                if neighbourhood == "hexagonal":
                    distance = max(float(abs(dy)), dx + abs(dy) / 2)
                else:
                    distance = max(abs(dy), dx) if neighbourhood == 8 else abs(dy) + dx
                if odd == 0 and distance == order:
                    found.append(number.get((r + dy, column), -1))
        table.append(found)
    return np.array(table, np.int64).reshape(len(places), -1)


def kam(
    quaternions: Array,
    labels: Array,
    grid: tuple[bool, int, int, int],
    neighbourhood: object,
    orders: Sequence[int],
    *,
    max_angle: float = 5.0,
    laue: str = "m-3m",
) -> NDArray[np.float64]:
    """Oracle of :func:`bainite_fast.kam`, in degrees: pairs of equal labels of 0 or more count."""
    table = np.concatenate([neighbour_table(grid, neighbourhood, order) for order in orders], axis=1)
    pair = (table >= 0) & (labels[:, np.newaxis] >= 0) & (labels[table] == labels[:, np.newaxis])
    angle = disorientation(quaternions[:, np.newaxis], quaternions[table], laue)
    pair &= angle <= max_angle
    total, count = np.where(pair, angle, 0.0).sum(axis=1), pair.sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def grains(
    quaternions: Array, labels: Array, grid: tuple[bool, int, int, int], tolerance: float, laue: str = "m-3m"
) -> NDArray[np.int32]:
    """Oracle of :func:`bainite_fast.ebsd.grains`: a flood from every point that no grain has reached."""
    table = neighbour_table(grid, "hexagonal" if grid[0] else 4, 1)
    pair = (table >= 0) & (labels[:, np.newaxis] >= 0) & (labels[table] == labels[:, np.newaxis])
    pair &= disorientation(quaternions[:, np.newaxis], quaternions[table], laue) <= tolerance
    ids = np.full(len(labels), -1, np.int32)
    for start in np.flatnonzero(labels >= 0):
        waiting = [int(start)] if ids[start] < 0 else []
        number = ids.max() + 1
        while waiting:
            point = waiting.pop()
            if ids[point] < 0:
                ids[point] = number
                waiting += table[point][pair[point]].tolist()
    return ids


def nci(ci: Array, labels: Array, grid: tuple[bool, int, int, int], least: float) -> NDArray[np.int64]:
    """Oracle of :func:`bainite_fast.kernels.grains.nci_sources`: the point that each takes from, or -1."""
    table = neighbour_table(grid, "hexagonal" if grid[0] else 8, 1)
    usable = np.where((table >= 0) & (labels[table] >= 0), ci[table], -np.inf)
    best = usable.argmax(axis=1)
    highest = usable.max(axis=1)
    return np.where((ci < least) & (highest > ci), table[np.arange(len(ci)), best], -1)


def noc(
    quaternions: Array, labels: Array, grid: tuple[bool, int, int, int], tolerance: float, level: int
) -> NDArray[np.int64]:
    """Oracle of :func:`bainite_fast.kernels.grains.noc_sources`: the point that each takes from, or -1."""
    table = neighbour_table(grid, "hexagonal" if grid[0] else 8, 1)
    source = np.full(len(labels), -1, np.int64)

    def alike(a: int, b: int) -> bool:
        same = labels[a] >= 0 and labels[a] == labels[b]
        return bool(same and disorientation(quaternions[a], quaternions[b]) <= tolerance)

    needed = table.shape[1] - level
    for point, around in enumerate(table):
        inside = [int(other) for other in around if other >= 0]
        if sum(not alike(point, other) for other in inside) < needed:
            continue
        groups = [sum(alike(one, other) for other in inside) for one in inside]
        if groups and max(groups) >= needed:
            source[point] = inside[groups.index(max(groups))]
    return source
