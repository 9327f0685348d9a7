"""What a finished run is: its folder, its scores, its model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import JournalError
from ..models import LoadedModel, load_package
from .recipe import Recipe
from .words import counted

RECIPE, RUN, METRICS, CURVE, MODEL, CHECKPOINTS = (
    "recipe.yaml", "run.json", "metrics.csv", "curve.png", "model", "checkpoints",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A finished run.

    Attributes
    ----------
    out : Path
        Its folder: ``model`` (the package), ``metrics.csv``, ``curve.png``, ``recipe.yaml``, ``run.json``,
        ``checkpoints``.
    recipe : Recipe
        In full.
    history : tuple of mappings
        A row per epoch: ``epoch``, ``learning_rate``, ``loss``, ``seconds``, and where it was validated ``mean_iou``,
        ``accuracy``, ``iou_0`` ….
    kept_epoch : int
        Whose weights the model holds.
    class_names : tuple of str
        Of the label values, from 0.
    device, precision : str
        Where and in what it was trained.
    seconds : float
        Of training and validation.
    """

    out: Path
    recipe: Recipe
    history: tuple[Mapping[str, float], ...]
    kept_epoch: int
    class_names: tuple[str, ...]
    device: str
    precision: str
    seconds: float

    @property
    def package(self) -> Path:
        """The model package."""
        return self.out / MODEL

    @property
    def scores(self) -> Mapping[str, float] | None:
        """Validation scores of the kept weights, or None without a validation part."""
        rows = [row for row in self.history if row["epoch"] == self.kept_epoch and "mean_iou" in row]
        return rows[-1] if rows else None

    @property
    def mean_iou(self) -> float | None:
        """Validation mean IoU of the kept weights, or None."""
        return None if self.scores is None else self.scores["mean_iou"]

    def load(self) -> LoadedModel:
        """Return the model."""
        return load_package(self.package)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, without recipe and history."""
        return {
            "out": str(self.out),
            "package": str(self.package),
            "recipe": self.recipe.name,
            "epochs": len(self.history),
            "kept_epoch": self.kept_epoch,
            "loss": self.history[-1]["loss"],
            "scores": None if self.scores is None else without_nan(self.named_scores()),
            "device": self.device,
            "precision": self.precision,
            "seconds": self.seconds,
        }

    def named_scores(self) -> dict[str, Any]:
        """Return the validation scores with the IoU by class name; empty without a validation part."""
        row = self.scores
        if row is None:
            return {}
        iou = {name: row[f"iou_{i}"] for i, name in enumerate(self.class_names)}
        return {"mean_iou": row["mean_iou"], "accuracy": row["accuracy"], "iou": iou}

    def __str__(self) -> str:
        lines = [
            f"recipe {self.recipe.name}: {counted(len(self.history), 'epoch')} in {self.seconds:.0f} s on "
            f"{self.device}, {self.precision}; loss {self.history[-1]['loss']:.4f}"
        ]
        scores = self.named_scores()
        if scores:
            classes = ", ".join(f"{name} {100 * value:.1f} %" for name, value in scores["iou"].items())
            lines.append(
                f"validation, epoch {self.kept_epoch}: mean IoU {100 * scores['mean_iou']:.1f} % ({classes}), accuracy "
                f"{100 * scores['accuracy']:.1f} %"
            )
        return "\n".join([*lines, f"model: {self.package}"])


def read_run(out: Path) -> TrainingRun:
    """Return the run that finished in a folder.

    Raises
    ------
    JournalError
        If none did.
    """
    try:
        values = json.loads((out / RUN).read_text(encoding="utf-8"))
        done = values["result"]
        return TrainingRun(
            out=out,
            recipe=Recipe.model_validate(values["recipe"]),
            history=tuple({k: math.nan if v is None else v for k, v in row.items()} for row in done["history"]),
            kept_epoch=done["kept_epoch"],
            class_names=tuple(done["class_names"]),
            device=done["device"],
            precision=done["precision"],
            seconds=done["seconds"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JournalError(f"{out} holds no finished training run ({error})") from error


def without_nan(value: Any) -> Any:
    """Return values with None for NaN, which JSON cannot hold: the IoU of a class that is nowhere."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
