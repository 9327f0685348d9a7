"""What a run leaves beside its model: a table, a curve, TensorBoard's events, the model's card."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .._disk import beside, write_text
from .._optional import require
from ..models.contract import default_colors
from .result import TrainingRun

Row = Mapping[str, float]


def write_metrics(path: Path, history: Sequence[Row], classes: int) -> None:
    """Write a row per epoch as CSV; what was not measured is empty, IoU of a class that is not there is ``nan``."""
    columns = ["epoch", "learning_rate", "loss", "mean_iou", "accuracy"]
    columns += [f"iou_{i}" for i in range(classes)] + ["seconds"]
    text = io.StringIO()
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows({key: f"{value:.7g}" for key, value in row.items()} for row in history)
    write_text(path, text.getvalue())


def draw_curve(path: Path, history: Sequence[Row], class_names: Sequence[str]) -> None:
    """Draw loss, and IoU where it was measured, over the epochs as PNG.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    require("matplotlib", "train", "the training curve")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scored = [row for row in history if "mean_iou" in row]
    mark = "o" if len(history) < 2 or len(scored) == 1 else None  # a line of one point is invisible
    figure = Figure(figsize=(7, 5.5 if scored else 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2 if scored else 1, 1, sharex=True, squeeze=False)[:, 0]
    axes[0].plot([row["epoch"] for row in history], [row["loss"] for row in history], color="black", lw=1, marker=mark)
    axes[0].set_ylabel("training loss")
    if min(row["loss"] for row in history) > 0:
        axes[0].set_yscale("log")
    if scored:
        epochs = [row["epoch"] for row in scored]
        colors = default_colors(len(class_names))
        for i, name in enumerate(class_names):
            color = "0.5" if i == 0 else [x / 255 for x in colors[i]]
            axes[1].plot(epochs, [row[f"iou_{i}"] for row in scored], color=color, lw=1, marker=mark, label=name)
        axes[1].plot(epochs, [row["mean_iou"] for row in scored], color="black", lw=1.8, marker=mark, label="mean")
        axes[1].set(ylabel="validation IoU", ylim=(0, 1))
        axes[1].legend(loc="best", fontsize="small")
    axes[-1].set_xlabel("epoch")
    axes[-1].locator_params(axis="x", integer=True)
    for one in axes:
        one.grid(alpha=0.3)
    with beside(path) as made:
        figure.savefig(made, format="png", dpi=120)


class TensorBoard:
    """Events for TensorBoard, where it is installed; nothing elsewhere.

    Parameters
    ----------
    folder : Path
        Of the events.
    """

    def __init__(self, folder: Path) -> None:
        self.writer: Any = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(os.fspath(folder))

    def add(self, row: Row) -> None:
        """Write the row of an epoch."""
        if self.writer is not None:
            for name, value in row.items():
                if name != "epoch":
                    self.writer.add_scalar(name, value, int(row["epoch"]))

    def close(self) -> None:
        """Finish the file."""
        if self.writer is not None:
            self.writer.close()


def score_entries(run: TrainingRun, images: int) -> list[dict[str, Any]]:
    """Return the validation scores as a package keeps them.

    Parameters
    ----------
    run : TrainingRun
        The run.
    images : int
        Validation images.
    """
    scores = run.named_scores()
    if not scores:
        return []
    data = f"{images} validation image{'s' if images > 1 else ''}, whole, after epoch {run.kept_epoch}"
    if run.recipe.validation.keep == "best":
        data += ", the best of the run on these images, so a little high"
    rows = [{"metric": "IoU", "class_name": name, "value": value} for name, value in scores["iou"].items()]
    rows += [{"metric": "mean IoU", "value": scores["mean_iou"]}, {"metric": "accuracy", "value": scores["accuracy"]}]
    # A class that neither truth nor prediction holds has no IoU.
    return [{**row, "data": data} for row in rows if row["value"] == row["value"]]
