#!/usr/bin/env python
"""Draw pictures that look like ultrahigh-carbon steel in the SEM, with their labels, to pretrain a network on.

    python tools/draw_uhcs.py OUT [--count 168] [--seed 1000]

writes ``OUT/images`` and ``OUT/labels``. Drawn are the four constituents of the UHCS data set: matrix (0), the
proeutectoid carbide network at the former austenite grain boundaries (1) with a zone free of particles beside it,
spheroidite particles (2), and bundles of Widmanstätten laths that start at the network (3). Sizes, brightness and
shares vary widely; they were set by eye after the 16 training micrographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree
from skimage.draw import polygon

SHAPE = (484, 645)
Field = NDArray[np.float32]
Labels = NDArray[np.uint8]


def smooth_noise(rng: np.random.Generator, sigma: float) -> Field:
    """Return noise of mean 0 and standard deviation 1 that varies over `sigma` px."""
    step = max(1, int(sigma // 2))
    small = tuple(-(-n // step) + 8 for n in SHAPE)
    coarse = ndimage.gaussian_filter(rng.standard_normal(small).astype(np.float32), sigma / step, mode="wrap")
    fine = ndimage.zoom(coarse, step, order=1)[: SHAPE[0], : SHAPE[1]]
    return np.asarray((fine - fine.mean()) / max(float(fine.std()), 1e-6), np.float32)


def network(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return where carbide lies along the boundaries of former austenite grains: thick, thin, broken, with holes."""
    if rng.random() < 0.08:
        return np.zeros(SHAPE, bool)
    edge = rng.uniform(120, 420)  # px, of a grain
    extent = np.array(SHAPE) + 2 * edge
    seeds = rng.uniform(-edge, extent - edge, (max(3, int(extent.prod() / edge**2)), 2))
    y, x = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]].astype(np.float32)
    bend = rng.uniform(2, 0.12 * edge)
    at = np.stack([y + bend * smooth_noise(rng, edge / 5), x + bend * smooth_noise(rng, edge / 5)], -1)
    distance = cKDTree(seeds).query(at, k=2)[0]
    between = (distance[..., 1] - distance[..., 0]) / 2
    width = rng.uniform(4, 18) * np.exp(rng.uniform(0.1, 0.5) * smooth_noise(rng, edge / 3))
    width *= smooth_noise(rng, edge / 2) > rng.uniform(-2.5, -0.6)  # the network is broken here and there
    found = between < ndimage.gaussian_filter(width, rng.uniform(2, 6))
    found &= ~(smooth_noise(rng, rng.uniform(4, 12)) > rng.uniform(1.8, 3.5))  # islands of matrix
    return np.asarray(ndimage.binary_opening(found, iterations=2))


def laths(rng: np.random.Generator, carbide: NDArray[np.bool_], body: Field, labels: Labels) -> None:
    """Draw bundles of parallel laths: bright lines or outlines, many from the network on, some across each other."""
    starts = np.argwhere(carbide)
    for _ in range(rng.choice([0, 1, 2, 3, 5, 8], p=[0.05, 0.1, 0.2, 0.25, 0.22, 0.18])):
        from_network = len(starts) > 0 and rng.random() < 0.5
        centre = starts[rng.integers(len(starts))] if from_network else rng.uniform((0, 0), SHAPE)
        angle = rng.uniform(0, np.pi)
        along, across = np.array([np.sin(angle), np.cos(angle)]), np.array([np.cos(angle), -np.sin(angle)])
        length, width = rng.uniform(40, 320), rng.uniform(2.0, 7.0)
        pitch, bright = width * rng.uniform(1.2, 4.0), rng.uniform(0.7, 1.3)
        outline = rng.random() < 0.4
        for k in range(rng.choice([1, 2, 3, 5, 8, 12])):
            own = length * rng.uniform(0.4, 1.1)
            origin = centre + across * (k * pitch + rng.normal(0, 0.3 * width)) + along * rng.normal(0, 0.15 * length)
            direction = along + across * rng.normal(0, 0.02)
            t = np.linspace(0, own, max(4, int(own / 6)))
            half = width / 2 * (0.6 + 0.4 * rng.random(len(t))) * np.minimum(1, 8 * np.minimum(t, own - t) / own + 0.25)
            middle = origin + t[:, None] * direction + across * rng.normal(0, 0.25, (len(t), 1)).cumsum(0) * 0.3
            sides = np.concatenate([middle + half[:, None] * across, (middle - half[:, None] * across)[::-1]])
            rows, columns = polygon(sides[:, 0], sides[:, 1], SHAPE)
            free = ~carbide[rows, columns]
            rows, columns = rows[free], columns[free]
            mask = np.zeros(SHAPE, bool)
            mask[rows, columns] = True
            labels[mask] = 3
            if outline:
                mask &= ~ndimage.binary_erosion(mask)
            body[mask] = bright * rng.uniform(0.8, 1.2)


def particles(rng: np.random.Generator, carbide: NDArray[np.bool_], body: Field, labels: Labels) -> None:
    """Draw spheroidite: bright, round to elongated, of one to three populations, none close to the network."""
    away = ndimage.distance_transform_edt(~carbide) if carbide.any() else np.full(SHAPE, 1e3)
    dense = smooth_noise(rng, rng.uniform(20, 90))
    for _ in range(rng.integers(2, 5)):
        radius = np.exp(rng.uniform(np.log(1.2), np.log(5.0)))
        count = int(SHAPE[0] * SHAPE[1] * rng.uniform(0.02, 0.09) / (np.pi * radius**2))
        zone, uneven, lean = rng.uniform(2, 35), rng.uniform(0, 0.8), rng.uniform(0, np.pi)
        stretch, bright = rng.uniform(0.0, 0.5), rng.uniform(0.6, 1.3)
        for centre in rng.uniform((0, 0), SHAPE, (count, 2)):
            y, x = int(centre[0]), int(centre[1])
            if away[y, x] < zone or labels[y, x] == 3 or uneven * dense[y, x] < rng.normal(-1, 0.7):
                continue
            size = radius * np.exp(rng.normal(0, 0.35))
            ratio = np.exp(rng.normal(stretch, 0.3))
            angle = rng.normal(lean, 0.5) if stretch > 0.25 else rng.uniform(0, np.pi)
            turn = np.linspace(0, 2 * np.pi, 10, endpoint=False)
            wave = size * (1 + 0.15 * rng.standard_normal(10))
            u, v = wave * np.sqrt(ratio) * np.cos(turn), wave / np.sqrt(ratio) * np.sin(turn)
            outline = (
                centre[0] + u * np.sin(angle) + v * np.cos(angle),
                centre[1] + u * np.cos(angle) - v * np.sin(angle),
            )
            rows, columns = polygon(*outline, SHAPE)
            ok = (labels[rows, columns] == 0) & (away[rows, columns] > 1)
            labels[rows[ok], columns[ok]] = 2
            body[rows[ok], columns[ok]] = bright * rng.uniform(0.75, 1.2)


def draw(seed: int) -> tuple[Labels, Labels]:
    """Return a picture and its labels, (484, 645) uint8 each."""
    rng = np.random.default_rng(seed)
    carbide = network(rng)
    labels = np.zeros(SHAPE, np.uint8)
    body = np.zeros(SHAPE, np.float32)  # brightness above the matrix: 1 is that of a bright particle
    laths(rng, carbide, body, labels)
    particles(rng, carbide, body, labels)
    labels[carbide] = 1
    body[carbide] = 0
    body = np.maximum(ndimage.gaussian_filter(body, rng.uniform(0.5, 1.0)), 0)

    matrix, contrast = rng.uniform(75, 140), rng.uniform(60, 120)
    gray = matrix + rng.uniform(2, 14) * smooth_noise(rng, rng.uniform(60, 200))
    gray += rng.uniform(2, 12) * smooth_noise(rng, rng.uniform(2, 8)) * ~carbide  # relief of the matrix
    inside = ndimage.gaussian_filter(carbide.astype(np.float32), 0.7)
    gray += inside * (rng.normal(-12, 12) + 4 * smooth_noise(rng, 30))
    outer = ndimage.distance_transform_edt(~carbide) - ndimage.distance_transform_edt(carbide)
    lit = (np.abs(outer - rng.uniform(-2, 1)) < rng.uniform(0.6, 1.6)) & (smooth_noise(rng, 25) > rng.uniform(-1.5, 1))
    gray += ndimage.gaussian_filter(lit.astype(np.float32), 0.6) * rng.uniform(
        -40, 90
    )  # an edge that shines, or is dark
    gray += contrast * body
    dark = ndimage.gaussian_filter(body, 1.2) - body  # ground beside the particles
    gray -= rng.uniform(0, 60) * np.maximum(dark, 0)
    for _ in range(rng.integers(0, 7)):  # spots that the beam or the etchant left
        y, x = rng.uniform((0, 0), SHAPE)
        r = rng.uniform(3, 30)
        yy, xx = np.ogrid[: SHAPE[0], : SHAPE[1]]
        gray -= rng.uniform(15, 80) * np.exp(-((yy - y) ** 2 + (xx - x) ** 2) / (2 * r**2))
    gray = ndimage.gaussian_filter(gray, rng.uniform(0.3, 0.9))
    gray += rng.uniform(3, 14) * rng.standard_normal(SHAPE) + rng.uniform(0, 2) * rng.standard_normal((SHAPE[0], 1))
    return np.clip(gray, 0, 255).astype(np.uint8), labels


def write(out: Path, count: int, seed: int) -> list[str]:
    """Write pictures and labels as PNG, those that are not there yet; return their names."""
    for part in ("images", "labels"):
        (out / part).mkdir(parents=True, exist_ok=True)
    names = [f"drawn{k:04d}" for k in range(count)]
    for k, name in enumerate(names):
        if not (out / "labels" / f"{name}.png").exists():
            image, labels = draw(seed + k)
            Image.fromarray(image).save(out / "images" / f"{name}.png")
            Image.fromarray(labels).save(out / "labels" / f"{name}.png")
    return names


def main() -> None:
    """Write images and labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=168)
    parser.add_argument("--seed", type=int, default=1000)
    options = parser.parse_args()
    write(options.out, options.count, options.seed)


if __name__ == "__main__":
    main()
