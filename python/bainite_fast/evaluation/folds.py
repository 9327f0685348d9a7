"""What a cross-validation found: scores of every fold and seed, their mean and spread, as text, tables and a plot."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._disk import write_text
from ..errors import InputError
from ..training.recipe import Recipe
from ..training.words import counted
from .scores import Scores, finite

TABLE, SUMMARY, PLOT = "scores.csv", "summary.md", "folds.png"
WHOLE = "whole images"


@dataclass(frozen=True, slots=True)
class FoldScores:
    """What one fold scored on its test part.

    Attributes
    ----------
    seed, fold : int
        Of the training, and number of the fold.
    scores : dict of str to Scores
        By mode: ``"whole images"``, ``"tiles of N px"``.
    run : Path
        Folder of the training run.
    """

    seed: int
    fold: int
    scores: dict[str, Scores]
    run: Path

    @property
    def whole(self) -> Scores:
        """Scores on whole images.

        Raises
        ------
        InputError
            If they were not taken: folds by tile leave no image unseen.
        """
        if WHOLE not in self.scores:
            raise InputError(
                "folds by tile have no score on whole images, for their tiles were trained on; use by='micrograph'"
            )
        return self.scores[WHOLE]

    @property
    def on_tiles(self) -> Scores:
        """Scores on the first tile size.

        Raises
        ------
        InputError
            If none were taken.
        """
        found = [scores for mode, scores in self.scores.items() if mode != WHOLE]
        if not found:
            raise InputError(
                "no score on tiles was taken; the recipe has no data.tile, so give tiles=256 or another size"
            )
        return found[0]


@dataclass(frozen=True, slots=True, repr=False)
class CrossValidation:
    """All folds of a cross-validation, over all seeds.

    Attributes
    ----------
    recipe : Recipe
        In full.
    out : Path
        Folder with a run for each fold, ``scores.csv``, ``summary.md`` and ``folds.png``.
    class_names : tuple of str
        Of the label values, from 0.
    folds : tuple of FoldScores
        Seed after seed.
    """

    recipe: Recipe
    out: Path
    class_names: tuple[str, ...]
    folds: tuple[FoldScores, ...]

    @property
    def modes(self) -> tuple[str, ...]:
        """What was evaluated on."""
        return tuple(self.folds[0].scores)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names that :meth:`values` takes."""
        per_class = ("iou", "precision", "recall", "f1", "fraction error")
        named = (f"{what} {name}" for what in per_class for name in self.class_names)
        return ("mean iou", "accuracy", *named, *self._tolerant)

    @property
    def _tolerant(self) -> tuple[str, ...]:
        """Names of the scores without the pixels near a true boundary, where they were taken."""
        counted_to = min(0 if x.tolerance is None else len(x.tolerance) - 1 for x in self.folds[0].scores.values())
        return tuple(f"{what} beyond {px} px" for px in range(1, counted_to + 1) for what in ("mean iou", "accuracy"))

    def values(self, metric: str, mode: str | None = None) -> tuple[float, ...]:
        """Return a score of every fold and seed.

        Parameters
        ----------
        metric : str
            ``"mean iou"``, ``"accuracy"``, or ``"iou"``, ``"precision"``, ``"recall"``, ``"f1"`` or
            ``"fraction error"`` and the name of a class. ``"mean iou beyond 2 px"`` and ``"accuracy beyond 2 px"``, for
            each px of the tolerance, leave out the pixels within so many px of a true boundary.
        mode : str, optional
            Of :attr:`modes`; the first by default.
        """
        return tuple(_value(one.scores[mode or self.modes[0]], metric) for one in self.folds)

    def mean_std(self, metric: str, mode: str | None = None) -> tuple[float, float]:
        """Return mean and sample standard deviation of :meth:`values`; the deviation of one value is NaN.

        Folds without that score, such as the IoU of a class that neither truth nor prediction holds there, are left
        out.
        """
        return _mean_std(self.values(metric, mode))

    def seed_std(self, metric: str, mode: str | None = None) -> float:
        """Return the sample standard deviation of the means over the folds from seed to seed; NaN for one seed."""
        values = np.array(self.values(metric, mode))
        seeds = np.array([one.seed for one in self.folds])
        return _mean_std([_mean_std(values[seeds == seed])[0] for seed in dict.fromkeys(seeds.tolist())])[1]

    @property
    def mean_iou(self) -> tuple[float, float]:
        """Mean and standard deviation of the mean IoU, on whole images where they were taken."""
        return self.mean_std("mean iou")

    def to_dict(self) -> dict[str, Any]:
        """Return all scores as JSON-able values; NaN is None."""
        modes = {
            mode: {
                metric: {
                    "mean": self.mean_std(metric, mode)[0],
                    "std": self.mean_std(metric, mode)[1],
                    "seed_std": self.seed_std(metric, mode),
                    "values": list(self.values(metric, mode)),
                }
                for metric in self.metrics
            }
            for mode in self.modes
        }
        folds = [{"seed": one.seed, "fold": one.fold, "run": str(one.run)} for one in self.folds]
        plain: dict[str, Any] = finite(
            {"recipe": self.recipe.name, "out": str(self.out), "folds": folds, "modes": modes}
        )
        return plain

    def __str__(self) -> str:
        seeds = len({one.seed for one in self.folds})
        head = (
            f"recipe {self.recipe.name}: {counted(len(self.folds) // seeds, 'fold')}, {counted(seeds, 'seed')}, "
            "mean ± standard deviation"
        )
        width = max(len(metric) for metric in self.metrics)
        lines = [head, "  ".join([f"{'':<{width}}", *(f"{mode:>18}" for mode in self.modes)])]
        per_class = [m for m in self.metrics if m.startswith(("iou ", "fraction error "))]
        for metric in ("mean iou", "accuracy", *per_class, *self._tolerant):
            cells = [f"{spread(*self.mean_std(metric, mode)):>18}" for mode in self.modes]
            lines.append("  ".join([f"{metric:<{width}}", *cells]))
        if seeds > 1:
            cells = [f"{self.seed_std('mean iou', mode):>18.4f}" for mode in self.modes]
            lines.append("  ".join([f"{'std over seeds':<{width}}", *cells]))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<CrossValidation of {self.recipe.name}: mean IoU {spread(*self.mean_iou)}>"


def _mean_std(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    mean = float(known.mean()) if len(known) else float("nan")
    return mean, float(known.std(ddof=1)) if len(known) > 1 else float("nan")


def spread(mean: float, std: float) -> str:
    """Return ``0.9012 ± 0.0034``."""
    return f"{mean:.4f} ± {std:.4f}" if np.isfinite(std) else f"{mean:.4f}"


def _value(scores: Scores, metric: str) -> float:
    if metric in ("mean iou", "accuracy"):
        return scores.mean_iou if metric == "mean iou" else scores.accuracy
    if beyond := re.fullmatch(r"(mean iou|accuracy) beyond (\d+) px", metric):
        px = int(beyond[2])
        return scores.tolerant_mean_iou(px) if beyond[1] == "mean iou" else scores.tolerant_accuracy(px)
    for prefix, table in (
        ("iou ", scores.iou),
        ("precision ", scores.precision),
        ("recall ", scores.recall),
        ("f1 ", scores.f1),
        ("fraction error ", scores.fraction_errors),
    ):
        if metric.startswith(prefix) and metric.removeprefix(prefix) in table:
            return table[metric.removeprefix(prefix)]
    raise InputError(f"there is no score {metric!r}; use 'mean iou', 'accuracy', or 'iou' and the name of a class")


def write_tables(done: CrossValidation) -> None:
    """Write ``scores.csv`` and ``summary.md`` of the folds that are finished."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["seed", "fold", "mode", *done.metrics])
    for one in done.folds:
        for mode, scores in one.scores.items():
            table.writerow([one.seed, one.fold, mode, *(_value(scores, metric) for metric in done.metrics)])
    write_text(done.out / TABLE, text.getvalue())
    write_text(done.out / SUMMARY, markdown(done))


def markdown(done: CrossValidation) -> str:
    """Return mean and standard deviation of every score as a Markdown table."""
    seeds = len({one.seed for one in done.folds})
    beyond = " Beyond N px: without the pixels within N px of a true boundary." if done._tolerant else ""
    lines = [
        f"# Cross-validation of recipe {done.recipe.name}",
        "",
        f"{done.recipe.description}. {counted(len(done.folds), 'training')} ({counted(seeds, 'seed')}), "
        f"{counted(done.recipe.epochs, 'epoch')} each; "
        "mean ± standard deviation over them, without those where a score is not defined. Fraction errors are found "
        f"minus true, absolute.{beyond}",
        "",
        "| score | " + " | ".join(done.modes) + " |",
        "|---" * (1 + len(done.modes)) + "|",
    ]
    for metric in done.metrics:
        cells = [spread(*done.mean_std(metric, mode)) for mode in done.modes]
        lines.append(f"| {metric} | " + " | ".join(cells) + " |")
    if seeds > 1:
        cells = [f"{done.seed_std('mean iou', mode):.4f}" for mode in done.modes]
        lines.append("| mean iou: standard deviation from seed to seed | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
