"""``bainite-fast demo``: the whole chain on a mosaic drawn for the purpose, scored against its true mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import OutputExistsError
from ..training.words import duration
from ._console import emit, emit_json, progress, table
from ._options import Json, Quiet
from ._parsing import parse_shape
from ._segment import tune_allocator
from ._synth import PresetName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..segmentation import Segmentation
    from ..synthetic import SyntheticMosaic
    from ._overlay import Color

SEED = 20211
"""Of the mosaic drawn by default; the bundled model was trained on other seeds."""

BLOCK_PX = 2048
FIELD_PX = 900


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the mosaic, its labels and the picture.")] = Path(
        "demo-output"
    ),
    shape: Annotated[
        Any, typer.Option(parser=parse_shape, metavar="H,W", help="Height and width in px.")
    ] = "3072,4096",
    preset: Annotated[PresetName, typer.Option(help="What is drawn; see `bainite-fast synth --help`.")] = "lom",
    seed: Annotated[int, typer.Option(metavar="N", help="Another seed gives another mosaic.")] = SEED,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier demo left in DIR.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw a synthetic mosaic, segment it with the bundled model, score it and leave a picture of the result.

    The bundled model has seen synthetic mosaics only: a good score here says that the software works, and nothing about
    real steel.
    """
    tune_allocator()
    from ..segmentation import segment
    from ..synthetic import SyntheticMosaic, write

    mosaic_path, picture_path = out / "mosaic.ome.zarr", out / "overlay.png"
    if picture_path.exists() and not overwrite:
        raise OutputExistsError(f"{picture_path} exists; add --overwrite to replace it, or give another --out")
    colors = default_model_colors()  # before anything is drawn: without a model in the box there is nothing to show
    out.mkdir(parents=True, exist_ok=True)
    with progress("draw", quiet=quiet) as step:
        write(mosaic_path, shape, preset=preset, seed=seed, mask=True, overwrite=overwrite, progress=step)
    with progress("segment", quiet=quiet) as step:
        done = segment(mosaic_path, overwrite=overwrite, progress=lambda event: step(event.done, event.total))
    source = SyntheticMosaic(shape, preset=preset, seed=seed)
    score = measure(done, source)
    draw(picture_path, done, source, score, colors)
    result = {
        "mosaic": str(mosaic_path),
        "labels": str(done.path),
        "overlay": str(picture_path),
        "shape": shape,
        "preset": preset,
        "seed": seed,
        "fractions": done.fractions,
        "true_fractions": score.true_fractions,
        "iou": score.iou,
        "accuracy": score.accuracy,
        "seconds": done.seconds,
        "pixels_per_second": done.pixels_per_second,
    }
    emit_json(result) if as_json else emit(describe(result))


@dataclass(frozen=True, slots=True)
class Score:
    """How the labels compare with the true mask."""

    iou: dict[str, float]
    true_fractions: dict[str, float]
    accuracy: float


def measure(done: Segmentation, source: SyntheticMosaic) -> Score:
    """Compare labels and true mask, block by block: memory does not depend on the mosaic."""
    import numpy as np

    from ..kernels import confusion_matrix
    from ..metrics import accuracy_from_confusion, iou_from_confusion

    names = list(done.counts)
    confusion: NDArray[np.int64] = np.zeros((len(names), len(names)), np.int64)
    height, width = done.labels.shape
    for y0 in range(0, height, BLOCK_PX):
        for x0 in range(0, width, BLOCK_PX):
            y1, x1 = min(y0 + BLOCK_PX, height), min(x0 + BLOCK_PX, width)
            truth = source.read_mask(y0, y1, x0, x1)
            confusion += confusion_matrix(truth, np.asarray(done.labels[y0:y1, x0:x1]), len(names))
    return Score(
        dict(zip(names, iou_from_confusion(confusion).tolist(), strict=True)),
        dict(zip(names, (confusion.sum(axis=1) / confusion.sum()).tolist(), strict=True)),
        float(accuracy_from_confusion(confusion)),
    )


def draw(path: Path, done: Segmentation, source: SyntheticMosaic, score: Score, colors: Sequence[Color]) -> None:
    """Write the picture: a field from the middle of the mosaic, bare and with labels and errors."""
    import numpy as np

    from ._overlay import Field, compose, write_png

    height, width = done.labels.shape
    y0, x0 = max(0, (height - FIELD_PX) // 2), max(0, (width - FIELD_PX) // 2)
    y1, x1 = min(height, y0 + FIELD_PX), min(width, x0 + FIELD_PX)
    field = Field(
        source.read(y0, y1, x0, x1),
        np.asarray(done.labels[y0:y1, x0:x1]),
        source.read_mask(y0, y1, x0, x1),
        source.um_per_px,
    )
    names = list(done.counts)
    heading = " · ".join(
        f"{name} {100 * done.fractions[name]:.1f} % of the area (true: {100 * score.true_fractions[name]:.1f} %), "
        f"IoU {score.iou[name]:.3f}"
        for name in names[1:]
    )
    scale = "scale unknown" if source.um_per_px is None else f"{1000 * source.um_per_px:.4g} nm/px"
    origin = f"synthetic mosaic, {height} × {width} px, {scale}; the middle {y1 - y0} × {x1 - x0} px"
    network = f"model {done.provenance['model']['name']}, which has seen no real steel"
    write_png(path, compose(field, colors, names, [heading, f"{origin} · {network}"]))


def default_model_colors() -> list[Color]:
    """Return the colour of each class of the default model."""
    from ..models.catalog import CONFIG, DEFAULT_MODEL, bundled_path, parse_config

    path = bundled_path(DEFAULT_MODEL) / CONFIG
    return [item.color for item in parse_config(path.read_bytes(), str(path)).classes]


def describe(result: dict[str, Any]) -> str:
    """Return the result as lines for a reader."""
    iou, true = result["iou"], result["true_fractions"]
    rows = [
        (name, f"{100 * share:.2f} % of the area (true: {100 * true[name]:.2f} %), IoU {iou[name]:.4f}")
        for name, share in result["fractions"].items()
    ]
    rows += [
        ("accuracy", f"{result['accuracy']:.4f}"),
        ("speed", f"{result['pixels_per_second'] / 1e6:.2f} Mpx/s ({duration(result['seconds'])})"),
        ("mosaic", result["mosaic"]),
        ("labels", result["labels"]),
        ("picture", result["overlay"]),
    ]
    return table(rows)
