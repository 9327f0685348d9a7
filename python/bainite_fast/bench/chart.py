"""The stages of a report as a bar chart: text for a terminal, PNG for a document."""

from __future__ import annotations

from pathlib import Path

from .._disk import beside
from .._optional import require
from .acceptance import Report

_WIDTH = 40  # characters of the longest bar
_NAMES = {"read": "read + decode", "write": "encode + write"}


def bars(report: Report) -> list[tuple[str, float, float]]:
    """Return (stage, busy seconds, seconds that the network waited for it), in the order of the work."""
    waited = report.values["network_waited_seconds"]
    rows = [
        (_NAMES.get(stage, stage), float(values["busy_seconds"]), float(waited.get(stage, 0.0)))
        for stage, values in report.values["stages"].items()
        if values["busy_seconds"] or stage not in ("upload", "download")  # which a CPU does not
    ]
    others = [(name, 0.0, float(waited[name])) for name in ("start", "blocks", "finish")]
    return [*rows, *others]


def text(report: Report) -> str:
    """Return the chart in characters: busy time of each stage, and what the network waited for it."""
    rows = bars(report)
    longest = max(max(busy, waited) for _, busy, waited in rows) or 1.0
    lines = [f"{'stage':<15} {'busy s':>8} {'waited s':>9}"]
    for name, busy, waited in rows:
        bar = "█" * round(_WIDTH * busy / longest)
        late = "░" * round(_WIDTH * waited / longest)
        lines.append(f"{name:<15} {busy:8.3f} {waited:9.3f}  {bar}{late}".rstrip())
    return "\n".join([*lines, "█ busy, all threads   ░ the network waited for it, mean over networks"])


def save_png(report: Report, path: Path) -> None:
    """Write the chart as PNG.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    OutputError
        If the file cannot be written; it is then as it was.
    """
    require("matplotlib", "plots", "a chart")
    from matplotlib.figure import Figure

    rows = bars(report)[::-1]
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    places = range(len(rows))
    axes.barh(
        [p + 0.2 for p in places], [busy for _, busy, _ in rows], 0.38, label="busy, all threads", color="#0072b2"
    )
    axes.barh([p - 0.2 for p in places], [w for _, _, w in rows], 0.38, label="the network waited", color="#e69f00")
    axes.set_yticks(list(places), [name for name, _, _ in rows])
    axes.set_xlabel("seconds per mosaic")
    rate, latency = report.values["pixels_per_second"] / 1e6, report.latency
    axes.set_title(f"{report.values['mosaic']['name']}: {rate:.3g} Mpx/s, {latency:.3g} s per mosaic", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    with beside(path) as made:
        figure.savefig(made, format="png", dpi=150)
