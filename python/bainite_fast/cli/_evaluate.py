"""``bainite-fast evaluate`` and ``agree``: scores of a model, and of two annotators against each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._optional import require
from ..errors import OutputError, OutputExistsError
from ._console import emit, emit_json, progress, say
from ._options import (
    Classes,
    CropBar,
    Device,
    Json,
    MaskValues,
    ModelClasses,
    Names,
    Normalize,
    Overwrite,
    Precision,
    Quiet,
    Scale,
    Tolerance,
)
from ._parsing import parse_mask_values, parse_output
from ._segment import tune_allocator

if TYPE_CHECKING:
    from ..evaluation import Scores


def evaluate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Bundled name, package, or TorchScript file.", show_default=False)
    ],
    images: Annotated[
        str, typer.Option(metavar="DIR|MOSAIC", help="Folder of the images, or one mosaic.", show_default=False)
    ],
    masks: Annotated[
        str,
        typer.Option(
            metavar="DIR|LABELS",
            help="Folder of the masks, named as their images are; for a mosaic: the name of its labels, or a file.",
            show_default=False,
        ),
    ],
    names: Names = None,
    tiles: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            min=1,
            help="Give the network tiles of this edge, each alone with its own padding, and not whole images.",
            show_default="whole images",
        ),
    ] = None,
    tolerance: Tolerance = 0,
    overlays: Annotated[
        str | None,
        typer.Option(
            parser=parse_output,
            metavar="DIR",
            help="Draw each image with over-prediction (background taken for foreground) red, under-prediction blue, "
            "and one foreground class taken for another orange.",
            show_default=False,
        ),
    ] = None,
    calibrate: Annotated[
        str | None,
        typer.Option(
            parser=parse_output,
            metavar="OUT",
            help="Write a copy of the model whose confidence is calibrated on these images, with OUT.png beside it. "
            "Take validation images, not the test set.",
            show_default=False,
        ),
    ] = None,
    csv: Annotated[
        str | None,
        typer.Option(parser=parse_output, metavar="FILE", help="Write the scores of every image.", show_default=False),
    ] = None,
    classes: ModelClasses = None,
    mask_value: MaskValues = None,
    scale: Scale = "auto",
    precision: Precision = "auto",
    device: Device = "auto",
    normalize: Normalize = None,
    crop_bar: CropBar = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Score a model on annotated images: IoU of each class, accuracy, precision, recall, F1, phase fractions.

    All counts are exact. A mosaic is read block by block.
    """
    diagram = None if calibrate is None else reliability_picture(Path(calibrate))
    for path in (calibrate, diagram, csv, overlays):
        if path is not None:
            check_place(Path(path), overwrite=overwrite, is_file=path in (diagram, csv))
    tune_allocator()
    from .. import evaluation
    from .._disk import write_text
    from ..evaluation.api import is_mosaic

    if calibrate is not None:
        from ..evaluation.calibrated import check_copy

        check_copy(model, calibrate, overwrite=overwrite)
        require("matplotlib", "plots", "the reliability diagram of --calibrate")
    units: dict[str, Any] = {} if is_mosaic(images) else {"unit": "images", "scale": 1}
    with progress("evaluate", **units, quiet=quiet) as step:
        scores = evaluation.evaluate(
            model,
            images,
            masks,
            classes=classes,
            names=names,
            tiles=tiles,
            tolerance=tolerance,
            calibrate=calibrate is not None,
            overlays=overlays,
            scale=scale,
            precision=precision,
            device=device,
            normalize=normalize,
            mask_values=parse_mask_values(mask_value),
            crop_bar=crop_bar or "off",
            progress=step,
        )
    if csv is not None:
        write_text(Path(csv), scores.to_csv())
    if calibrate is not None:
        write_calibrated(model, scores, Path(calibrate), overwrite=overwrite)
    emit_json(scores.to_dict()) if as_json else emit(str(scores))


def check_place(path: Path, *, overwrite: bool, is_file: bool) -> None:
    """Make the folder that a result goes into, and refuse what stands in its place: not when all is computed.

    Raises
    ------
    OutputExistsError
        If something is there and is not to be replaced.
    OutputError
        If a folder is where a file is to be written, or the folder around it cannot be made.
    """
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists; give another name, or add --overwrite")
    if is_file and path.is_dir():
        raise OutputError(f"{path} is a folder, and a file is to be written; give another name")
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder of {path} cannot be made ({error}); give another") from error


def reliability_picture(out: Path) -> Path:
    """Return where the reliability diagram of a calibrated copy goes: beside it."""
    return out.with_name(out.name.removesuffix(".zip") + ".png")


def write_calibrated(model: str, scores: Scores, out: Path, *, overwrite: bool) -> None:
    """Write the calibrated copy of a model, and its reliability diagram beside it."""
    from ..evaluation import calibrated_copy
    from ..evaluation.plots import draw_reliability

    assert scores.calibration is not None  # for the type checker: it was asked for
    calibrated_copy(model, out, scores.calibration.temperature, overwrite=overwrite)
    picture = reliability_picture(out)
    draw_reliability(picture, scores.calibration)
    say(f"wrote {out} and {picture}")


def agree(
    first: Annotated[Path, typer.Argument(metavar="MASKS_A", help="Masks of one annotator.", show_default=False)],
    second: Annotated[Path, typer.Argument(metavar="MASKS_B", help="Masks of the other.", show_default=False)],
    names: Names = None,
    classes: Classes = None,
    mask_value: MaskValues = None,
    as_json: Json = False,
) -> None:
    """Compare the masks of two annotators: IoU of each class, and Cohen's kappa."""
    from .. import evaluation

    found = evaluation.agree(first, second, classes=classes, names=names, mask_values=parse_mask_values(mask_value))
    emit_json(found.to_dict()) if as_json else emit(str(found))
