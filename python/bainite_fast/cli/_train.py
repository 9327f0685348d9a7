"""``bainite-fast train`` and ``recipes``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ._console import Step, emit, emit_json, hushed, progress, say, table
from ._options import (
    Classes,
    CropBar,
    Epochs,
    Init,
    Json,
    MaskValues,
    Quiet,
    RecipeName,
    Setting,
    StartAgain,
    TrainDevice,
    UmPerPx,
    parse_mask_values,
    parse_output,
)
from ._segment import tune_allocator

if TYPE_CHECKING:
    from ..training import Progress, Recipe
    from ..training.dataset import Dataset

ImagesFolder = Annotated[
    Path | None, typer.Option("--images", metavar="DIR", help="Folder of the images.", show_default=False)
]
MasksFolder = Annotated[
    Path | None,
    typer.Option(
        "--masks",
        metavar="DIR",
        help="Folder of the masks, which are named as their images are; class indices, 0/255 or colours.",
        show_default=False,
    ),
]
SplitFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Names of the training, validation and test images: JSON, CSV, or a list of the training images.",
        show_default="all are for training",
    ),
]


def train(
    out: Annotated[
        str,
        typer.Option(
            parser=parse_output, metavar="DIR", help="Folder to make; DIR/model is the model.", show_default=False
        ),
    ],
    recipe: RecipeName = "vanilla",
    images: ImagesFolder = None,
    masks: MasksFolder = None,
    split: SplitFile = None,
    epochs: Epochs = None,
    classes: Classes = None,
    mask_value: MaskValues = None,
    init: Init = None,
    seed: Annotated[int | None, typer.Option(metavar="N", min=0, help="Seed.", show_default="the recipe's")] = None,
    setting: Setting = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model.", show_default="the folder's")
    ] = None,
    um_per_px: UmPerPx = None,
    crop_bar: CropBar = None,
    device: TrainDevice = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in DIR; the model is that of an unbroken run.")
    ] = False,
    overwrite: StartAgain = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on annotated images, and write it as a model package.

    A run that was broken off goes on with --resume. Images and masks are left out where the recipe draws them
    (data.synthetic).
    """
    tune_allocator()
    from .. import training

    full = training.read_recipe(recipe, changes=training.parse_changes(setting or []))
    with hushed(quiet):
        data = open_data(full, images, masks, **reading(classes, mask_value, um_per_px, crop_bar))
    with resumable(out), progress("train", unit="steps", scale=1, quiet=quiet) as step:
        run = training.train(
            full,
            data,
            None,
            out,
            split=split,
            epochs=epochs,
            init=init,
            seed=seed,
            name=name,
            device=device,
            resume=resume,
            overwrite=overwrite,
            progress=watch(step, quiet=quiet),
        )
    emit_json(run.to_dict()) if as_json else emit(str(run))


def reading(classes: Any, mask_value: list[str] | None, um_per_px: float | None, crop_bar: Any) -> dict[str, Any]:
    """Return how annotated images are read, as the library takes it."""
    return {
        "classes": classes,
        "mask_values": parse_mask_values(mask_value),
        "um_per_px": um_per_px,
        "crop_bar": crop_bar or "off",
    }


def open_data(recipe: Recipe, images: Path | None, masks: Path | None, **options: Any) -> Dataset:
    """Read the folders, or draw what the recipe draws; options of :func:`reading`.

    Raises
    ------
    InputError
        If folders are missing or too many, or as reading them does.
    """
    synthetic = recipe.data.synthetic
    if images is None and masks is None and synthetic is not None:
        from ..evaluation.synthetic_data import synthetic_dataset

        return synthetic_dataset(synthetic)
    if synthetic is not None:
        raise InputError(
            f"the recipe {recipe.name} draws its images (data.synthetic); leave --images and --masks out, or set it to "
            "null: --set data.synthetic=null"
        )
    if images is None or masks is None:
        raise InputError("images and masks are needed: give --images DIR and --masks DIR")
    from ..training.dataset import read_dataset

    return read_dataset(images, masks, **options)


@contextmanager
def resumable(out: str | Path, how: str = "the same line with --resume") -> Iterator[None]:
    """Say how to go on when the user stops a run that has left something to go on with."""
    try:
        yield
    except KeyboardInterrupt:
        begun = ("checkpoints", "study.db", "cross_validation.json", "tiles.md", "the-recipes")
        if any((Path(out) / name).exists() for name in begun):
            say(f"stopped: {how} goes on with {out}")
        raise


def watch(step: Step, *, quiet: bool) -> Callable[[Progress], None]:
    """Return a callback that moves the bar, and says where a run goes on and the scores of every validation."""
    begun = False

    def progress_made(now: Progress) -> None:
        nonlocal begun
        step(now.step, now.steps)
        if not begun and now.epoch > 1 and not quiet:
            say(f"goes on with epoch {now.epoch} of {now.epochs}")
        begun = True
        if now.scores is not None and "mean_iou" in now.scores and not quiet:
            say(
                f"epoch {now.epoch} of {now.epochs}: loss {now.loss:.4f}, validation mean IoU "
                f"{100 * now.scores['mean_iou']:.2f} %, accuracy {100 * now.scores['accuracy']:.2f} %"
            )

    return progress_made


def recipes(
    copy: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="NAME FILE", help="Write a recipe, every value in it, to a file to edit.", show_default=False
        ),
    ] = None,
    copy_space: Annotated[
        str | None,
        typer.Option(
            parser=parse_output,
            metavar="FILE",
            help="Write the default space of `bainite-fast search` to a file to edit.",
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
    as_json: Json = False,
) -> None:
    """List the training recipes in the box, or copy one to edit."""
    from .. import training

    if copy_space is not None:
        path = training.copy_space(copy_space, overwrite=overwrite)
        line = f"{path}: edit it, then bainite-fast search --space {path} …"
        emit_json({"path": str(path)}) if as_json else emit(line)
        return
    if copy is not None:
        path = training.copy_recipe(copy[0], parse_output(copy[1]), overwrite=overwrite)
        line = f"{path}: edit it, then bainite-fast train --recipe {path} …"
        emit_json({"path": str(path)}) if as_json else emit(line)
        return
    from ..training.words import counted

    found = {name: training.read_recipe(name) for name in training.recipe_names()}
    if as_json:
        emit_json({name: recipe.to_dict() for name, recipe in found.items()})
    else:
        rows = [(name, f"{one.description}; {counted(one.epochs, 'epoch')}") for name, one in found.items()]
        emit(table(rows))
