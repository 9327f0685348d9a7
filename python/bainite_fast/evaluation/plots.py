"""Plots of scores. matplotlib is imported when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._disk import beside
from .._optional import require

if TYPE_CHECKING:
    from .calibration import Calibration
    from .folds import CrossValidation

# Okabe & Ito (2008): distinguishable with any colour vision.
COLOURS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Any, Sequence[Any]]:
    """Return a figure of inches and its axes, side by side; nothing is shown on a screen.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    require("matplotlib", "plots", "a plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def save(figure: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with beside(path) as made:
        figure.savefig(made, dpi=150, format="png")


def draw_folds(path: Path, done: CrossValidation) -> None:
    """Draw the IoU of every class in every fold, one panel for each mode, with the means as lines."""
    modes = done.modes
    figure, panels = new_figure(4.2 * len(modes) + 1.2, 3.8, len(modes))
    place = {fold: i for i, fold in enumerate(sorted({one.fold for one in done.folds}))}
    x = np.array([place[one.fold] for one in done.folds])
    classes = len(done.class_names)
    apart = min(0.12, 0.6 / classes)  # of a fold's width, so that classes do not hide each other
    for axes, mode in zip(panels, modes, strict=True):
        for k, name in enumerate(done.class_names):
            values = np.array(done.values(f"iou {name}", mode))
            colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
            beside = x + apart * (k - (classes - 1) / 2)
            axes.plot(beside, values, marker, color=colour, ms=5, label=name, clip_on=False, zorder=3)
            mean = done.mean_std(f"iou {name}", mode)[0]
            axes.axhline(mean, color=colour, lw=0.8, ls="--")
        axes.set(title=mode, xlabel="fold", ylabel="IoU", xlim=(-0.5, len(place) - 0.5), ylim=(0, 1))
        axes.set_xticks(range(len(place)), [str(fold + 1) for fold in place])
    # Outside, where it hides no fold.
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize="small", loc="outside right upper", title="dashed: mean")
    save(figure, path)


def draw_reliability(path: Path, calibration: Calibration) -> None:
    """Draw accuracy over confidence, before and after the temperature."""
    figure, panels = new_figure(8, 3.8, 2)
    for axes, bins, title in (
        (panels[0], calibration.bins_before, f"as it is: error {100 * calibration.ece_before:.2f} %"),
        (
            panels[1],
            calibration.bins_after,
            f"temperature {calibration.temperature:.3f}: error {100 * calibration.ece_after:.2f} %",
        ),
    ):
        total = max(sum(one.pixels for one in bins), 1)
        used = [one for one in bins if one.pixels]
        width = bins[0].upper - bins[0].lower
        axes.bar([one.lower for one in used], [one.accuracy for one in used], width, align="edge", color=COLOURS[2],
                 edgecolor="white", label="accuracy")  # fmt: skip
        axes.bar([one.lower for one in used], [one.pixels / total for one in used], width, align="edge", color="0.3",
                 alpha=0.5, label="share of pixels")  # fmt: skip
        axes.plot([0, 1], [0, 1], color="black", lw=0.8, ls="--")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", title=title)
    panels[0].set_ylabel("accuracy")
    panels[0].legend(fontsize="small", loc="upper left")
    save(figure, path)


def draw_lines(
    path: Path,
    series: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    logarithmic: bool = False,
    ticks: Sequence[float] | None = None,
) -> None:
    """Draw (x, mean, standard deviation) of each series as a line with error bars."""
    figure, (axes,) = new_figure(6, 4)
    for k, (name, (x, mean, std)) in enumerate(series.items()):
        bars = [value if np.isfinite(value) else 0.0 for value in std]
        axes.errorbar(x, mean, bars, color=COLOURS[k % len(COLOURS)], marker=MARKERS[k % len(MARKERS)], ms=5, lw=1.2,
                      capsize=3, label=name)  # fmt: skip
    if logarithmic:
        axes.set_xscale("log", base=2)
    if ticks is not None:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.legend(fontsize="small")
    save(figure, path)


def draw_bars(
    path: Path,
    groups: Sequence[str],
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    ylabel: str,
    xlabel: str = "",
) -> None:
    """Draw (mean, standard deviation) of each series as bars beside each other in each group.

    A standard deviation of NaN, that of one value, gives no error bar.
    """
    figure, (axes,) = new_figure(max(5.0, 0.9 * len(groups) + 2), 4)
    width = 0.8 / max(len(series), 1)
    x = np.arange(len(groups))
    for k, (name, (mean, std)) in enumerate(series.items()):
        place, colour = x - 0.4 + width * (k + 0.5), COLOURS[(k + 1) % len(COLOURS)]
        axes.bar(place, mean, width, label=name, color=colour)
        spread = np.isfinite(std)
        axes.errorbar(place[spread], np.array(mean)[spread], np.array(std)[spread], fmt="none", ecolor="black",
                      capsize=2, lw=1)  # fmt: skip
    axes.set_xticks(x, groups)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    figure.legend(fontsize="small", loc="outside upper center", ncols=len(series))
    save(figure, path)
