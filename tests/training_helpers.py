"""Small data sets and recipes that train in a second."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from bainite_fast.training.dataset import ArrayDataset, array_dataset
from bainite_fast.training.recipe import Recipe
from bainite_fast.training.recipe_files import read_recipe

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"crop": 32, "crops_per_image": 2},
    "network": {"base": 4, "depth": 1},
    "loss": {"kind": "cross_entropy"},
    "optimiser": {"learning_rate": 0.01},
    "epochs": 3,
    "batch": 4,
    "precision": "float32",
}


def small(**changes: Any) -> Recipe:
    """The small recipe; changes by dotted name, with __ for the dots."""
    return read_recipe(SMALL, changes={key.replace("__", "."): value for key, value in changes.items()})


def blobs(count: int = 4, shape: tuple[int, int] = (48, 56), classes: int = 2, seed: int = 0) -> ArrayDataset:
    """Noisy images whose blobs are brighter, the brighter the higher their class."""
    rng = np.random.default_rng(seed)
    images, masks = [], []
    for _ in range(count):
        field = ndimage.gaussian_filter(rng.normal(size=shape), 5)
        mask = np.digitize(field, np.quantile(field, np.linspace(0, 1, classes + 1)[1:-1])).astype(np.uint8)
        gray = 60 + 120 * mask / (classes - 1) + rng.normal(0, 12, shape)
        images.append(gray.clip(0, 255).astype(np.uint8))
        masks.append(mask)
    return array_dataset(images, masks, classes=classes, um_per_px=0.25)


SPLIT = {"train": ["image 0", "image 1", "image 2"], "validation": ["image 3"]}
