"""Scores from confusion counts: of each image, and of all together. Imports no torch.

IoU = TP / (TP + FP + FN), accuracy = (TP + TN) / all, as Durmaz et al., Nat. Commun. 12, 6272 (2021) define them;
precision = TP / (TP + FP), recall = TP / (TP + FN), F1 = 2 TP / (2 TP + FP + FN). The phase-fraction error is the share
found minus the true share. Every class stands as the positive one in turn, foreground and background alike. What has no
denominator is NaN, never 0 or 1.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..metrics import accuracy_from_confusion, iou_from_confusion, mean_iou_from_confusion
from ..training.words import counted

if TYPE_CHECKING:
    from .calibration import Calibration

Counts = NDArray[np.int64]
COLUMNS = ("iou", "precision", "recall", "f1", "fraction_true", "fraction_found", "fraction_error")


def _ratio(part: Counts, whole: Counts) -> NDArray[np.float64]:
    out = np.full(part.shape, np.nan)
    np.divide(part, whole, out=out, where=whole > 0)
    return out


def class_scores(counts: Counts) -> dict[str, NDArray[np.float64]]:
    """Return the scores of every class of a confusion matrix (k, k), row = truth, by the names in `COLUMNS`."""
    right, true, found = np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)
    total = np.full_like(true, counts.sum())
    return {
        "iou": iou_from_confusion(counts),
        "precision": _ratio(right, found),
        "recall": _ratio(right, true),
        "f1": _ratio(2 * right, true + found),
        "fraction_true": _ratio(true, total),
        "fraction_found": _ratio(found, total),
        "fraction_error": _ratio(found - true, total),
    }


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """Counts of one image: int64 [k, k], row = truth."""

    name: str
    counts: Counts


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Scores:
    """What a model scored on annotated images.

    Attributes
    ----------
    class_names : tuple of str
        Of the label values, from 0.
    counts : ndarray (k, k), int64
        Pixels by true and predicted class, of all images; pixels of unknown truth are in none.
    images : tuple of ImageScores
        The same for each image.
    mode : str
        ``"whole images"``, or ``"tiles of N px"``.
    model : str
        Name of the model.
    tolerance : ndarray (t + 1, k, k), int64, or None
        Counts without the pixels within 0 … t px of a true boundary.
    calibration : Calibration or None
        How far the confidence can be trusted.
    provenance : dict
        JSON-able: model (name, sha256), versions, device, precision, and what of images and masks was scored (sha256).
    """

    class_names: tuple[str, ...]
    counts: Counts
    images: tuple[ImageScores, ...]
    mode: str = "whole images"
    model: str = ""
    tolerance: Counts | None = None
    calibration: Calibration | None = field(default=None)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def _named(self, column: str) -> dict[str, float]:
        values = class_scores(self.counts)[column]
        return {name: float(value) for name, value in zip(self.class_names, values, strict=True)}

    @property
    def iou(self) -> dict[str, float]:
        """IoU of every class, by name."""
        return self._named("iou")

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes that truth or prediction holds."""
        return mean_iou_from_confusion(self.counts)

    @property
    def accuracy(self) -> float:
        """Share of pixels whose class is right."""
        return accuracy_from_confusion(self.counts)

    @property
    def precision(self) -> dict[str, float]:
        """TP / (TP + FP) of every class, by name."""
        return self._named("precision")

    @property
    def recall(self) -> dict[str, float]:
        """TP / (TP + FN) of every class, by name."""
        return self._named("recall")

    @property
    def f1(self) -> dict[str, float]:
        """2 TP / (2 TP + FP + FN) of every class, by name."""
        return self._named("f1")

    @property
    def fractions_true(self) -> dict[str, float]:
        """True area fraction of every class, by name, 0…1."""
        return self._named("fraction_true")

    @property
    def fractions_found(self) -> dict[str, float]:
        """Predicted area fraction of every class, by name, 0…1."""
        return self._named("fraction_found")

    @property
    def fraction_errors(self) -> dict[str, float]:
        """Predicted minus true area fraction of every class, by name, absolute, -1…1."""
        return self._named("fraction_error")

    def tolerant_iou(self, px: int) -> dict[str, float]:
        """Return the IoU of every class without the pixels within `px` of a true boundary.

        Raises
        ------
        InputError
            If that tolerance was not counted.
        """
        return {n: float(v) for n, v in zip(self.class_names, iou_from_confusion(self._tolerant(px)), strict=True)}

    def tolerant_mean_iou(self, px: int) -> float:
        """Return the mean IoU without the pixels within `px` of a true boundary; errors as :meth:`tolerant_iou`."""
        return mean_iou_from_confusion(self._tolerant(px))

    def tolerant_accuracy(self, px: int) -> float:
        """Return the accuracy without the pixels within `px` of a true boundary; errors as :meth:`tolerant_iou`."""
        return accuracy_from_confusion(self._tolerant(px))

    def _tolerant(self, px: int) -> Counts:
        if self.tolerance is None or not 0 <= px < len(self.tolerance):
            most = "none" if self.tolerance is None else f"0 … {len(self.tolerance) - 1} px"
            raise InputError(f"a tolerance of {px} px was not counted ({most} were); evaluate with tolerance={px}")
        return np.asarray(self.tolerance[px])

    def to_dict(self) -> dict[str, Any]:
        """Return all scores and counts as JSON-able values; NaN stays NaN."""
        result: dict[str, Any] = {
            "model": self.model,
            "mode": self.mode,
            "classes": list(self.class_names),
            **_values(self.counts, self.class_names),
            "images": [{"name": one.name, **_values(one.counts, self.class_names)} for one in self.images],
            "provenance": dict(self.provenance),
        }
        if self.tolerance is not None:
            result["tolerance"] = [
                {
                    "px": px,
                    "pixels": int(counts.sum()),
                    "iou": self.tolerant_iou(px),
                    "mean_iou": self.tolerant_mean_iou(px),
                    "accuracy": self.tolerant_accuracy(px),
                    "counts": counts.tolist(),
                }
                for px, counts in enumerate(self.tolerance)
            ]
        if self.calibration is not None:
            result["calibration"] = self.calibration.to_dict()
        return result

    def to_json(self) -> str:
        """Return :meth:`to_dict` as JSON; NaN, which JSON lacks, becomes null."""
        return json.dumps(finite(self.to_dict()), indent=2, allow_nan=False)

    def to_csv(self) -> str:
        """Return a table with a row for each class of each image, and of all images (``total``)."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["image", "class", *COLUMNS, "mean_iou", "accuracy", "pixels"])
        for name, counts in [*((one.name, one.counts) for one in self.images), ("total", self.counts)]:
            table = class_scores(counts)
            common = [mean_iou_from_confusion(counts), accuracy_from_confusion(counts), int(counts.sum())]
            for k, label in enumerate(self.class_names):
                writer.writerow([name, label, *(float(table[column][k]) for column in COLUMNS), *common])
        return out.getvalue()

    def __repr__(self) -> str:
        images = counted(len(self.images), "image")
        return f"<Scores of {self.model or 'a model'} on {images}: mean IoU {self.mean_iou:.4f}>"

    def __str__(self) -> str:
        table = class_scores(self.counts)
        width = max(len("class"), *(len(name) for name in self.class_names))
        head = f"{'class':<{width}}     IoU  precision  recall      F1   true %  found %  error %"
        rows = [
            f"{name:<{width}}  {table['iou'][k]:6.4f}     {table['precision'][k]:6.4f}  {table['recall'][k]:6.4f}  "
            f"{table['f1'][k]:6.4f}  {100 * table['fraction_true'][k]:7.2f}  {100 * table['fraction_found'][k]:7.2f}  "
            f"{100 * table['fraction_error'][k]:+7.2f}"
            for k, name in enumerate(self.class_names)
        ]
        each = np.array([mean_iou_from_confusion(one.counts) for one in self.images])
        each = each[np.isfinite(each)]
        spread = f", per image {each.mean():.4f} ± {each.std(ddof=1):.4f}" if len(each) > 1 else ""
        images = counted(len(self.images), "image")
        lines = [
            f"{self.model or 'model'} on {images}, {self.mode}, {int(self.counts.sum()):,} px",
            head,
            *rows,
            f"mean IoU {self.mean_iou:.4f}{spread}, accuracy {self.accuracy:.4f}",
        ]
        if self.tolerance is not None:
            lines.append("without pixels near true boundaries:")
            lines += [
                f"  {px} px: mean IoU {self.tolerant_mean_iou(px):.4f}, accuracy {self.tolerant_accuracy(px):.4f}, "
                f"{100 * counts.sum() / max(self.counts.sum(), 1):.1f} % of the pixels"
                for px, counts in enumerate(self.tolerance)
                if px
            ]
        if self.calibration is not None:
            lines.append(str(self.calibration))
        if made := self.provenance:
            factor = made["input"].get("factor", 1.0)
            lines += [] if factor == 1.0 else [f"images resampled by {factor:.4g} to the scale of the model"]
            lines.append(
                f"model sha256 {made['model']['sha256'][:16]}…, {made['runtime']['precision']} on {made['device']}, "
                f"bainite_fast {made['bainite_fast']}"
            )
        return "\n".join(lines)


def _values(counts: Counts, names: tuple[str, ...]) -> dict[str, Any]:
    table = class_scores(counts)
    return {
        "pixels": int(counts.sum()),
        "mean_iou": mean_iou_from_confusion(counts),
        "accuracy": accuracy_from_confusion(counts),
        **{column: {n: float(v) for n, v in zip(names, table[column], strict=True)} for column in COLUMNS},
        "counts": counts.tolist(),
    }


def finite(value: Any) -> Any:
    """Return nested plain values with NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def from_counts(content: Mapping[str, Any]) -> Scores:
    """Return scores from what :meth:`Scores.to_dict` holds; the calibration is not restored."""
    tolerance = content.get("tolerance")
    return Scores(
        class_names=tuple(content["classes"]),
        counts=np.array(content["counts"], np.int64),
        images=tuple(ImageScores(one["name"], np.array(one["counts"], np.int64)) for one in content["images"]),
        mode=content["mode"],
        model=content["model"],
        tolerance=None if tolerance is None else np.array([one["counts"] for one in tolerance], np.int64),
        provenance=content.get("provenance") or {},
    )
