"""``bainite-fast study`` and ``cross-validate``: the paper's tables and figures on a user's own data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..errors import InputError
from ._console import emit, emit_json, hushed, say
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
    Tolerance,
    TrainDevice,
    UmPerPx,
)
from ._parsing import parse_numbers, parse_output
from ._train import Colour, finished_parts, reading, resumable, tune_training

if TYPE_CHECKING:
    from ..evaluation import Budget, StudyTable

TAKES = {
    "table1": ("lom", "recipes", "imagenet"),
    "table2": ("sem", "recipes", "imagenet"),
    "fig2": ("lom", "sem", "recipes", "sizes"),
    "fig4": ("source", "target", "recipes", "strengths"),
}
"""Which of the options that not all studies have each of them takes."""
BEGUN = ("cross_validation.json", "tiles.md", "the-recipes")
"""Files and folders of which one is there as soon as a study or a cross-validation has begun."""
Folds = Annotated[int, typer.Option(metavar="N", min=2, help="Folds.")]
Seeds = Annotated[int, typer.Option(metavar="N", min=1, help="How often each fold is trained.")]
By = Annotated[
    Literal["micrograph", "tile"],
    typer.Option(help="How folds are dealt: by micrograph, so that nothing leaks, or by tile, as in the paper."),
]


def folder(help: str) -> Any:
    """Return an option for a folder with images/ and masks/ in it."""
    return typer.Option(metavar="DIR", help=help, show_default=False)


def study(
    what: Annotated[
        Literal["table1", "table2", "fig2", "fig4"],
        typer.Argument(
            metavar="table1|table2|fig2|fig4",
            help="table1: the recipes for LOM; table2: for SEM; fig2: tile sizes, tiles against whole images; "
            "fig4: trained on one etching, tested on another.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str, typer.Option(parser=parse_output, metavar="DIR", help="Folder to make; WHAT goes into DIR/WHAT.")
    ] = "study",
    lom: Annotated[Path | None, folder("Light-optical data: a folder with images/ and masks/ in it.")] = None,
    sem: Annotated[Path | None, folder("Scanning-electron data: the same.")] = None,
    source: Annotated[Path | None, folder("fig4: the data to train on.")] = None,
    target: Annotated[Path | None, folder("fig4: the data of another etching.")] = None,
    recipes: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES", help="Other recipes, names or files with commas between.", show_default="the paper's"
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(metavar="PX,PX", help="fig2: edges of the tiles.", show_default="64,96,128,192,256,512"),
    ] = None,
    strengths: Annotated[
        str | None,
        typer.Option(
            metavar="S,S", help="fig4: strengths of brightness and contrast to try.", show_default="0.05,0.1,0.2,0.3"
        ),
    ] = None,
    imagenet: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="VGG16's ImageNet weights by torchvision's names.", show_default="downloaded"
        ),
    ] = None,
    epochs: Epochs = None,
    folds: Folds = 5,
    seeds: Seeds = 1,
    subset: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="So many images of each folder.", show_default="all"),
    ] = None,
    by: By = "micrograph",
    setting: Setting = None,
    classes: Classes = None,
    mask_value: MaskValues = None,
    um_per_px: UmPerPx = None,
    crop_bar: CropBar = None,
    colour: Colour = False,
    device: TrainDevice = "auto",
    overwrite: StartAgain = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Rerun a table or figure of Durmaz et al. (2021) on your own data: Markdown, CSV and a plot in DIR/WHAT.

    What is finished is kept: the same command, without any --resume, goes on where it was broken off. --epochs, --folds
    and --subset make it small.
    """
    folders = {"lom": lom, "sem": sem, "source": source, "target": target}
    chosen = {"recipes": recipes, "sizes": sizes, "strengths": strengths, "imagenet": imagenet}
    for name, value in (folders | chosen).items():
        if value is not None and name not in TAKES[what]:
            takes = ", ".join(f"--{one}" for one in TAKES[what])
            raise typer.BadParameter(f"--{name} is not for {what}, which takes {takes}")
    edges, tried = parse_numbers(sizes, int), parse_numbers(strengths, float, "0.05,0.1")
    tune_training()
    from ..evaluation import Budget
    from ..evaluation.study import read_study_data
    from ..training import parse_changes

    changes, told = parse_changes(setting or []), None if quiet else say
    budget = Budget(epochs, folds, seeds, subset, by, changes, device, told, overwrite)
    needed = {"table1": ["lom"], "table2": ["sem"], "fig4": ["source", "target"]}.get(
        what, [name for name in ("lom", "sem") if folders[name] is not None] or ["lom"]
    )
    named = None if recipes is None else [part.strip() for part in recipes.split(",")]
    with hushed(quiet), resumable(Path(out) / what, finished_parts(*BEGUN)):
        data = {
            name: read_study_data(
                folders[name], name, subset=subset, **reading(classes, mask_value, um_per_px, crop_bar, colour)
            )
            for name in needed
        }
        table = _run(what, data, Path(out) / what, budget, named, edges, tried, imagenet)
    if as_json:
        emit_json(table.to_dict())
    else:
        emit(f"{table.caption}\n\n{table}\n\n{table.out}")


def _run(
    what: str,
    data: dict[str, Any],
    out: Path,
    budget: Budget,
    recipes: list[str] | None,
    sizes: list[int] | None,
    strengths: list[float] | None,
    imagenet: Path | None,
) -> StudyTable:
    from .. import evaluation
    from ..evaluation.recipe_study import LOM_RECIPES, SEM_RECIPES
    from ..evaluation.tile_study import RECIPES

    if what in ("table1", "table2"):
        (images,) = data.values()
        names = recipes or (LOM_RECIPES if what == "table1" else SEM_RECIPES)
        file = None if imagenet is None else str(imagenet)
        return evaluation.study_recipes(what, images, out, names, budget, imagenet=file)
    most = {"fig2": len(data), "fig4": 1}[what]
    if recipes is not None and len(recipes) not in (1, most):
        several = f", or one for each of {', '.join(data)}" if most > 1 else ""
        raise InputError(f"{what} takes one recipe{several}, and {len(recipes)} are named")
    if what == "fig2":
        chosen = RECIPES
        if recipes is not None:  # one for each data set, or one for all
            chosen = {name: recipes[min(k, len(recipes) - 1)] for k, name in enumerate(data)}
        options: dict[str, Any] = {} if sizes is None else {"sizes": sizes}
        return evaluation.study_tile_sizes(data, out, budget, recipes=chosen, **options)
    options = {} if strengths is None else {"strengths": strengths}
    if recipes is not None:
        options["recipe"] = recipes[0]
    return evaluation.study_transfer(data["source"], data["target"], out, budget, **options)


def cross_validate(
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the images.", show_default=False)],
    masks: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the masks.", show_default=False)],
    out: Annotated[str, typer.Option(parser=parse_output, metavar="DIR", help="Folder to make.", show_default=False)],
    recipe: RecipeName = "vanilla",
    folds: Folds = 5,
    by: By = "micrograph",
    split: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Fixed folds, or train and test: JSON or CSV.", show_default="dealt"),
    ] = None,
    stratified: Annotated[
        bool, typer.Option("--stratified", help="Deal so that the class fractions of the folds are alike.")
    ] = False,
    seeds: Seeds = 1,
    epochs: Epochs = None,
    tiles: Annotated[
        str | None,
        typer.Option(metavar="PX,PX", help="Also score on tiles of these edges.", show_default="the recipe's"),
    ] = None,
    tolerance: Tolerance = 0,
    init: Init = None,
    setting: Setting = None,
    classes: Classes = None,
    mask_value: MaskValues = None,
    um_per_px: UmPerPx = None,
    crop_bar: CropBar = None,
    colour: Colour = False,
    device: TrainDevice = "auto",
    overwrite: StartAgain = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train and test a recipe on every fold: mean and standard deviation, on whole images and on tiles.

    Finished folds are kept: the same command, without any --resume, goes on where it was broken off.
    """
    edges = parse_numbers(tiles, int)
    tune_training()
    from .. import evaluation
    from ..training import parse_changes
    from ..training.dataset import read_dataset

    with hushed(quiet), resumable(out, finished_parts(*BEGUN)):
        data = read_dataset(images, masks, **reading(classes, mask_value, um_per_px, crop_bar, colour))
        done = evaluation.cross_validate(
            recipe,
            data,
            out=out,
            folds=folds,
            by=by,
            split=split,
            stratified=stratified,
            seeds=seeds,
            epochs=epochs,
            init=init,
            changes=parse_changes(setting or []),
            tiles=edges or "recipe",
            tolerance=tolerance,
            device=device,
            overwrite=overwrite,
            progress=None if quiet else say,
        )
    emit_json(done.to_dict()) if as_json else emit(f"{done}\n{done.out}")
