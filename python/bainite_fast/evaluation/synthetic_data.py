"""Annotated images that are drawn, not read: to pretrain on, and to test a method where the truth is known."""

from __future__ import annotations

from ..synthetic import CLASSES, get_preset, make
from ..training.dataset import ArrayDataset, array_dataset
from ..training.recipe import SyntheticSource


def synthetic_dataset(source: SyntheticSource) -> ArrayDataset:
    """Draw the images that a recipe names, with their true masks.

    Parameters
    ----------
    source : SyntheticSource
        ``data.synthetic`` of a recipe: preset, number and shape of the images, seed.

    Returns
    -------
    ArrayDataset
        Gray uint8; image i is that of ``bainite_fast.synthetic.make(shape, preset=…, seed=1000 · seed + i)``.

    Raises
    ------
    InputError
        If preset or shape are not valid.
    """
    preset = get_preset(source.preset)
    drawn = [make(source.shape, preset=preset, seed=1000 * source.seed + i) for i in range(source.images)]
    return array_dataset(
        [image for image, _ in drawn],
        [mask for _, mask in drawn],
        classes=CLASSES,
        names=source.names,
        um_per_px=preset.um_per_px,
    )
