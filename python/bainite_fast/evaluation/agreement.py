"""Agreement of two annotators, which bounds what a model can be asked for. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..errors import InputError
from ..metrics import accuracy_from_confusion, iou_from_confusion, mean_iou_from_confusion
from ..training.checks import check_one_meaning
from ..training.dataset import IGNORE, Classes, array_dataset
from ..training.large import Shelf
from ..training.matching import match_files, read_names
from ..training.pictures import read_labels_file
from ..training.values import MaskValues, names_colours
from ..training.words import counted
from .scores import ImageScores, finite

_KINDS = ("first annotator's mask", "second annotator's mask")


def cohens_kappa(counts: NDArray[np.int64]) -> float:
    """Return Cohen's kappa of a table (k, k) of counts: (p_o - p_e) / (1 - p_e).

    After Cohen, Educ. Psychol. Meas. 20 (1960) 37. NaN where there are no counts, or chance alone agrees fully.
    """
    total = int(counts.sum())
    if not total:
        return float("nan")
    observed = float(np.trace(counts)) / total
    chance = float((counts.sum(axis=0) / total) @ (counts.sum(axis=1) / total))
    return (observed - chance) / (1 - chance) if chance < 1 else float("nan")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Agreement:
    """How far two annotators agree.

    Attributes
    ----------
    class_names : tuple of str
        Of the label values, from 0.
    counts : ndarray (k, k), int64
        Pixels by class of the first and of the second annotator, of all masks; what one of them left unknown is in
        none.
    images : tuple of ImageScores
        The same for each mask.
    """

    class_names: tuple[str, ...]
    counts: NDArray[np.int64]
    images: tuple[ImageScores, ...]

    @property
    def iou(self) -> dict[str, float]:
        """IoU of every class, by name; the same whichever annotator is called the truth."""
        values = iou_from_confusion(self.counts)
        return {name: float(value) for name, value in zip(self.class_names, values, strict=True)}

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that either annotator used."""
        return mean_iou_from_confusion(self.counts)

    @property
    def accuracy(self) -> float:
        """Share of pixels that both gave the same class."""
        return accuracy_from_confusion(self.counts)

    @property
    def kappa(self) -> float:
        """Cohen's kappa: agreement beyond chance, 1 is full."""
        return cohens_kappa(self.counts)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-able values; NaN is None."""
        values = {
            "classes": list(self.class_names),
            "pixels": int(self.counts.sum()),
            "iou": self.iou,
            "mean_iou": self.mean_iou,
            "accuracy": self.accuracy,
            "kappa": self.kappa,
            "counts": self.counts.tolist(),
            "images": [
                {
                    "name": one.name,
                    "mean_iou": mean_iou_from_confusion(one.counts),
                    "accuracy": accuracy_from_confusion(one.counts),
                    "kappa": cohens_kappa(one.counts),
                    "counts": one.counts.tolist(),
                }
                for one in self.images
            ],
        }
        plain: dict[str, Any] = finite(values)
        return plain

    def __str__(self) -> str:
        width = max(len(name) for name in self.class_names)
        lines = [f"two annotators on {counted(len(self.images), 'mask')}, {int(self.counts.sum()):,} px"]
        lines += [f"  {name:<{width}}  IoU {value:.4f}" for name, value in self.iou.items()]
        lines.append(f"mean IoU {self.mean_iou:.4f}, agreement {self.accuracy:.4f}, Cohen's kappa {self.kappa:.4f}")
        return "\n".join(lines)


def agree(
    first: str | Path | Sequence[Any],
    second: str | Path | Sequence[Any],
    *,
    classes: Classes = None,
    names: str | Path | Sequence[str] | None = None,
    mask_values: MaskValues | None = None,
) -> Agreement:
    """Compare the masks of two annotators.

    Parameters
    ----------
    first, second : path or sequence of array_like [H, W], integers
        Two folders of masks, matched by name, or masks in one order.
    classes, mask_values
        As in :func:`bainite_fast.training.dataset.read_dataset`; both annotators' masks are read alike.
    names : path or sequence of str, optional
        For folders: which masks, in this order. For arrays: their names.

    Returns
    -------
    Agreement

    Raises
    ------
    InputError
        If nothing matches, sizes differ, a value is no class, or OME-Zarr labels name their values in another order.
    """
    if isinstance(first, (str, Path)) and isinstance(second, (str, Path)):
        matched = match_files(Path(first), Path(second), names, kinds=_KINDS)
        called = [one.name for one in matched]
        shelf = Shelf()
        indexed = not names_colours(mask_values)
        a, names_a = zip(*(read_labels_file(one.image, shelf, indexed=indexed) for one in matched), strict=True)
        b, names_b = zip(*(read_labels_file(one.mask, shelf, indexed=indexed) for one in matched), strict=True)
        if classes is None and mask_values is None:
            classes = _one_naming(called, names_a, names_b)
    elif isinstance(first, (str, Path)) or isinstance(second, (str, Path)):
        raise InputError("give two folders of masks, or two sequences of arrays")
    else:
        a, b = tuple(np.asarray(one) for one in first), tuple(np.asarray(one) for one in second)
        if len(a) != len(b) or not a:
            raise InputError(f"{len(a)} and {len(b)} masks are given; as many of each, at least one, are needed")
        called = [f"mask {i}" for i in range(len(a))] if names is None else read_names(names)
        if len(called) != len(a):
            raise InputError(f"{len(called)} names are given for {counted(len(a), 'pair')} of masks; give one for each")
    return _compare(called, a, b, classes, mask_values)


def _one_naming(names: list[str], first: Sequence[tuple[str, ...]], second: Sequence[tuple[str, ...]]) -> Classes:
    """Return the classes that all masks name, None where they name none or others; none may contradict another."""
    check_one_meaning(
        (
            (f"{name} of the {which} annotator", dict(enumerate(said)))
            for which, theirs in (("first", first), ("second", second))
            for name, said in zip(names, theirs, strict=True)
        ),
        "label them alike, or say with classes= and mask_values= what each value is",
    )
    named = {*first, *second}
    return (named.pop() or None) if len(named) == 1 else None


def _compare(
    names: list[str],
    first: Sequence[NDArray[Any]],
    second: Sequence[NDArray[Any]],
    classes: Classes,
    mask_values: MaskValues | None,
) -> Agreement:
    for name, a, b in zip(names, first, second, strict=True):
        if a.shape[:2] != b.shape[:2]:
            raise InputError(f"the masks {name} are {a.shape[:2]} and {b.shape[:2]} px; one size is needed")
    # Read as one set, so that values mean the same in both.
    masks = [*first, *second]
    blank = [np.zeros(mask.shape[:2], np.uint8) for mask in masks]
    both = [*(f"{name} (first)" for name in names), *(f"{name} (second)" for name in names)]
    data = array_dataset(blank, masks, names=both, classes=classes, mask_values=mask_values)
    images = []
    for i, name in enumerate(names):
        a, b = data.mask(i), data.mask(len(names) + i)
        known = (a != IGNORE) & (b != IGNORE)
        images.append(ImageScores(name, kernels.confusion_matrix(a[known], b[known], data.n_classes)))
    total = np.stack([one.counts for one in images]).sum(axis=0, dtype=np.int64)
    return Agreement(data.class_names, total, tuple(images))
