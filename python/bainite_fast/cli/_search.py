"""``bainite-fast search``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ._console import emit, emit_json, hushed, progress, say
from ._options import Classes, CropBar, Json, MaskValues, Quiet, Setting, StartAgain, TrainDevice, UmPerPx
from ._parsing import parse_output
from ._train import (
    Colour,
    ImagesFolder,
    MasksFolder,
    SplitFile,
    finished_parts,
    open_data,
    reading,
    resumable,
    tune_training,
)


def search(
    out: Annotated[
        str,
        typer.Option(
            parser=parse_output,
            metavar="DIR",
            help="Folder to make; DIR/best.yaml is the recipe, DIR/trials.csv the table.",
            show_default=False,
        ),
    ],
    space: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="What to vary and how, in YAML; `default` is the one in the box (`recipes --copy-space FILE`).",
        ),
    ] = "default",
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="What the rest of the values is, as for `train`.")
    ] = "vanilla",
    images: ImagesFolder = None,
    masks: MasksFolder = None,
    split: SplitFile = None,
    trials: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="How many at most.", show_default="the space's")
    ] = None,
    sampler: Annotated[
        Literal["tpe", "random", "grid"] | None,
        typer.Option(help="How values are chosen.", show_default="the space's"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Of every trial.", show_default="the recipe's")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Of the choice of values.", show_default="the space's")
    ] = None,
    classes: Classes = None,
    mask_value: MaskValues = None,
    setting: Setting = None,
    um_per_px: UmPerPx = None,
    crop_bar: CropBar = None,
    colour: Colour = False,
    device: TrainDevice = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the search in DIR.")] = False,
    overwrite: StartAgain = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Search the values of a recipe that give the best validation mean IoU.

    Every trial trains on the training part of --split and is scored on its validation part; the test part stays
    unseen. Trials that fall behind are given up. The best recipe is written after every trial, for `train --recipe`.
    A search that was broken off goes on with the same command and --resume; with --trials N it goes on to N.
    """
    tune_training()
    from .. import training

    given: dict[str, Any] = {"trials": trials, "sampler": sampler, "seed": seed}
    wanted = training.read_space(space, changes={key: value for key, value in given.items() if value is not None})
    changes = training.parse_changes(setting or []) | ({} if epochs is None else {"epochs": epochs})
    base = training.read_recipe(recipe, changes=changes)
    wanted.check(base)
    left = finished_parts("study.db", how="the same command with --resume goes on")
    with resumable(out, left):
        if resume and not quiet and not (Path(out) / "study.db").exists():
            say(f"there is no search in {out} to go on with; a new one begins")
        with hushed(quiet):
            data = open_data(base, images, masks, **reading(classes, mask_value, um_per_px, crop_bar, colour))
        with progress("search", unit="trials", scale=1, quiet=quiet) as step:
            found = training.search(
                wanted, data, None, out, recipe=base, split=split, device=device, resume=resume, overwrite=overwrite,
                progress=step,
            )  # fmt: skip
    emit_json(found.to_dict()) if as_json else emit(str(found))
