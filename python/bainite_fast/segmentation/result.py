"""What a run gives back, and what it tells on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run_plan import Plan

if TYPE_CHECKING:
    import zarr


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """How far a run is.

    Attributes
    ----------
    done, total : int
        Pixels labelled and to label, in mosaic pixels; `done` includes what an earlier, broken run had finished.
    resumed : int
        Pixels that an earlier run had finished.
    seconds : float
        Time since this run began to read.
    """

    done: int
    total: int
    resumed: int
    seconds: float

    @property
    def pixels_per_second(self) -> float:
        """Rate of this run, in mosaic pixels per second."""
        return (self.done - self.resumed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated time left; None before the first block."""
        rate = self.pixels_per_second
        return (self.total - self.done) / rate if rate > 0 else None


@dataclass(frozen=True, slots=True, repr=False)
class Segmentation:
    """A finished segmentation.

    Attributes
    ----------
    path : Path
        The OME-Zarr label image.
    labels : zarr.Array
        Class of every pixel at full resolution, (rows, columns) uint8.
    confidence : zarr.Array or None
        255 · softmax(logits / temperature) of the winning class, (rows, columns) uint8, if it was asked for.
    counts : dict
        Pixels of each class, by name.
    um_per_px : float or None
        Scale of the mosaic.
    plan : Plan
        How it was run.
    seconds : float
        Time of this run from its first block to its last; of a resumed run, of its last part.
    pixels_per_second : float
        Pixels that this run labelled per second.
    stages : dict
        Seconds spent in each stage, added over the workers.
    provenance : dict
        What made the labels, as written beside them.
    """

    path: Path
    labels: zarr.Array[Any]
    confidence: zarr.Array[Any] | None
    counts: dict[str, int]
    um_per_px: float | None
    plan: Plan
    seconds: float
    pixels_per_second: float
    stages: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def fractions(self) -> dict[str, float]:
        """Area fraction of each class, 0…1, by name."""
        total = sum(self.counts.values())
        return {name: count / total for name, count in self.counts.items()}

    def __repr__(self) -> str:
        rows, columns = self.plan.shape
        shares = ", ".join(f"{name}: {100 * share:.2f} %" for name, share in self.fractions.items())
        return f"<Segmentation {self.path} {rows} × {columns} px; {shares}>"

    def __str__(self) -> str:
        rows, columns = self.plan.shape
        scale = f"{self.um_per_px:.4g} µm/px" if self.um_per_px else "scale unknown"
        head = f"{self.path}: {rows} × {columns} px, {scale}"
        width = max(len(name) for name in self.counts)
        lines = [
            f"  {name:<{width}}  {100 * self.fractions[name]:6.2f} %  {count:>15,} px"
            for name, count in self.counts.items()
        ]
        tail = f"  {self.seconds:.1f} s, {self.pixels_per_second / 1e6:.3g} Mpx/s"
        return "\n".join([head, *lines, tail])
