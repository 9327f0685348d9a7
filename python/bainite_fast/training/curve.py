"""What pretraining buys: the score over the number of training images, fine-tuned against from scratch."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._disk import beside, write_text
from .._optional import require
from ..errors import InputError
from .api import train
from .dataset import Dataset
from .prepare import SplitSource, part_indices
from .recipe import Recipe
from .recipe_files import read_recipe
from .result import TrainingRun
from .start import Init
from .tiles import micrograph_of

COUNTS = (1, 2, 4, 8, 16)
TABLE, PLOT = "learning_curve.csv", "learning_curve.png"
SCRATCH, TUNED = "from scratch", "fine-tuned"


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One run of a learning curve.

    Attributes
    ----------
    images : int
        Training images.
    start : {"from scratch", "fine-tuned"}
        First weights.
    seed : int
        Of the run, and of the choice of images.
    score : float
        Mean IoU, 0…1.
    """

    images: int
    start: str
    seed: int
    score: float


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """A learning curve; `points` in the order in which they were trained."""

    out: Path
    points: tuple[CurvePoint, ...]

    def scores(self, images: int, start: str) -> list[float]:
        """Return the scores of all seeds."""
        return [p.score for p in self.points if p.images == images and p.start == start]

    def table(self) -> str:
        """Return it as a Markdown table: mean ± standard deviation over the seeds, in percent."""
        lines = [f"| training images | {SCRATCH} | {TUNED} | gain |", "|---|---|---|---|"]
        for images in dict.fromkeys(p.images for p in self.points):
            a, b = self.scores(images, SCRATCH), self.scores(images, TUNED)
            gain = 100 * (np.mean(b) - np.mean(a))
            lines.append(f"| {images} | {_spread(a)} | {_spread(b)} | {gain:+.1f} |")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def learning_curve(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    data: Dataset,
    out: str | os.PathLike[str],
    *,
    init: Init,
    split: SplitSource,
    counts: Sequence[int] = COUNTS,
    seeds: Sequence[int] = (0,),
    score: Callable[[TrainingRun], float] | None = None,
    device: str = "auto",
    progress: Callable[[CurvePoint], None] | None = None,
) -> LearningCurve:
    """Train on more and more images, from scratch and from a pretrained model.

    Each seed deals the training images once, and a run takes the first of them, so that more images contain fewer. All
    runs have about as many steps: those on fewer images have more epochs, and are validated after as many steps.

    Parameters
    ----------
    recipe : str, path, mapping or Recipe
        Its epochs are those of the run on the most images.
    data : Dataset
        All images.
    out : path
        Folder to make; the same call goes on where it was broken off.
    init : path or LoadedModel
        The pretrained model, of the recipe's architecture.
    split : path, mapping or Split
        Training images to take from, and validation images to score on.
    counts : sequence of int
        How many training images.
    seeds : sequence of int
        How often.
    score : callable, optional
        Scores a run, the higher the better; its validation mean IoU by default.
    device : str
        As for :func:`bainite_fast.train`.
    progress : callable, optional
        Called with every point.

    Returns
    -------
    LearningCurve

    Raises
    ------
    InputError
        If there are fewer training images than asked for, no validation part, or no model to start from.
    """
    full, folder = read_recipe(recipe), Path(out)
    pool, validation = part_indices(data, split)
    names = micrograph_of(data)
    available = list(dict.fromkeys(names[i] for i in pool))
    if init is None or not validation:
        raise InputError("a learning curve needs init=, a pretrained model, and a split with a validation part")
    if not counts or min(counts) < 1 or max(counts) > len(available):
        raise InputError(
            f"counts={list(counts)} and the split has {len(available)} training images; take 1 … that many"
        )
    held_out = sorted({names[i] for i in validation})
    points = []
    for seed in seeds:
        dealt = np.random.default_rng(seed).permutation(len(available))
        for count in counts:
            parts = {"train": [available[i] for i in sorted(dealt[:count])], "validation": held_out}
            factor = max(counts) / count
            changes = {
                "epochs": max(1, round(full.epochs * factor)),
                "validation.every": max(1, round(full.validation.every * factor)),
                "seed": seed,
            }
            for start, model in ((SCRATCH, None), (TUNED, init)):
                target = folder / f"{count:03d}-{start.replace(' ', '-')}-{seed}"
                run = train(
                    full, data, None, target, split=parts, init=model, changes=changes, device=device, resume=True
                )
                point = CurvePoint(count, start, seed, score(run) if score else float(run.mean_iou or 0.0))
                points.append(point)
                if progress is not None:
                    progress(point)
    curve = LearningCurve(folder, tuple(points))
    _write(curve)
    return curve


def _write(curve: LearningCurve) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["images", "start", "seed", "mean_iou"])
    table.writerows([p.images, p.start, p.seed, f"{p.score:.6f}"] for p in curve.points)
    write_text(curve.out / TABLE, text.getvalue())
    _draw(curve)


def _draw(curve: LearningCurve) -> None:
    require("matplotlib", "train", "the learning curve")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    counts = list(dict.fromkeys(p.images for p in curve.points))
    for start, color in ((SCRATCH, "0.4"), (TUNED, "#0072B2")):
        scores = [curve.scores(n, start) for n in counts]
        axes.errorbar(
            counts, [np.mean(s) for s in scores], [_deviation(s) for s in scores], marker="o", color=color, label=start
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(n) for n in counts])
    axes.set(xlabel="training images", ylabel="mean IoU")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    with beside(curve.out / PLOT) as made:
        figure.savefig(made, format="png", dpi=120)


def _spread(values: Sequence[float]) -> str:
    mean = f"{100 * np.mean(values):.1f} %"
    return mean if len(values) < 2 else f"{mean} ± {100 * _deviation(values):.1f} %"


def _deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation; 0 for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
