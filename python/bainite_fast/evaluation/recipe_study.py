"""Tables 1 and 2 of the study: the paper's recipes side by side, on folds of one data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..training.dataset import Dataset
from ..training.recipe_files import read_recipe
from ..training.tiles import TileSet, tile_dataset
from ..training.words import counted
from .cross_validation import check_recipe, cross_validate
from .folds import CrossValidation
from .plots import draw_bars
from .study import Budget, Cell, StudyTable, mean_std_cells, write_tile_summary

LOM_RECIPES = ("1", "2", "2v", "3", "3b", "3v", "4")
SEM_RECIPES = ("5", "6", "6v", "7", "8", "8v")


def study_recipes(
    name: str,
    data: Dataset,
    out: Path,
    recipes: Sequence[str],
    budget: Budget,
    *,
    imagenet: str | None = None,
) -> StudyTable:
    """Cross-validate recipes on one data set, and set them side by side.

    Parameters
    ----------
    name : str
        Of the table, such as ``"table1"``.
    data : Dataset
        Images.
    out : Path
        Folder to make; a recipe that is finished there is kept.
    recipes : sequence of str
        Names or files.
    budget : Budget
        Folds, epochs …
    imagenet : path, optional
        File with VGG16's ImageNet weights for recipes that start from them; downloaded by default.

    Returns
    -------
    StudyTable
        A row for each recipe and mode of evaluation.

    Raises
    ------
    InputError
        If no recipe is named, two of one file name, or one that does not fit the data, its network or the folds.
    """
    if not recipes:
        raise InputError("no recipe is named; name at least one, such as 1")
    _check_recipes(recipes, data, budget, imagenet)
    out.mkdir(parents=True, exist_ok=True)
    write_tile_summary(out / "tiles.md", recipe_tiles(data, recipes, budget))
    done = []
    for recipe in recipes:
        changes = {**budget.changes, "name": Path(recipe).stem}  # two copies of one recipe may have its name inside
        if imagenet is not None and read_recipe(recipe).network.weights == "imagenet":
            changes["network.weights"] = imagenet
        done.append(run_recipe(recipe, data, out / Path(recipe).stem, budget, changes))
        table = recipe_table(name, data, done, out, budget)
        table.write()
        draw_recipes(out / f"{name}.png", done)
    return table


def _check_recipes(recipes: Sequence[str], data: Dataset, budget: Budget, imagenet: str | None) -> None:
    """Refuse what would stop the study after the first recipes: that is not to be learnt when days are over."""
    names = [Path(one).stem for one in recipes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"several recipes are called {', '.join(twice)}, and each needs a folder and a row of its own; name each "
            "recipe once, and give copies other file names"
        )
    full = [read_recipe(one, changes=budget.changes) for one in recipes]
    for recipe in full:
        check_recipe(recipe, data, () if recipe.data.tile is None else (recipe.data.tile,))
        if recipe.data.tile is None and budget.by == "tile":
            raise InputError(
                f"folds by tile need the recipe's data.tile, and {recipe.name} is for whole images; leave it out, or "
                "deal by micrograph"
            )
    if any(recipe.network.weights == "imagenet" for recipe in full):
        _check_imagenet(imagenet)


def _check_imagenet(file: str | None) -> None:
    """Read the ImageNet weights once."""
    from ..models import VGG16UNet, load_imagenet

    load_imagenet(VGG16UNet(1, 2), file)


def recipe_tiles(data: Dataset, recipes: Sequence[str], budget: Budget) -> dict[str, TileSet]:
    """Return the tiles that each recipe makes of the images, by its name; none for recipes of whole images."""
    sets = {}
    for one in recipes:
        recipe = read_recipe(one, changes={**budget.changes, "name": Path(one).stem})
        rules = recipe.data
        if rules.tile is not None:
            sets[f"recipe {recipe.name}"] = tile_dataset(
                data, rules.tile, padding=rules.padding, scale=rules.scale, scale_when=rules.scale_when
            )
    return sets


def run_recipe(recipe: str, data: Dataset, out: Path, budget: Budget, changes: dict[str, Any]) -> CrossValidation:
    """Cross-validate one recipe within the budget."""
    return cross_validate(
        recipe,
        data,
        out=out,
        folds=budget.folds,
        by=budget.by,
        seeds=budget.seeds,
        epochs=budget.epochs,
        changes=changes,
        device=budget.device,
        overwrite=budget.overwrite,
        progress=budget.progress,
    )


def recipe_table(name: str, data: Dataset, done: Sequence[CrossValidation], out: Path, budget: Budget) -> StudyTable:
    """Return the table of finished recipes."""
    classes = [f"IoU {one}" for one in data.class_names]
    columns = (
        "recipe", "data", "network", "weights", "epochs", "evaluated on", *mean_std_cells([*classes, "mean IoU"]),
        "accuracy", f"error of the {data.class_names[-1]} fraction",
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for one in done:
        recipe = one.recipe
        for mode in one.modes:
            scores: list[Cell] = []
            for metric in (*(f"iou {label}" for label in data.class_names), "mean iou"):
                scores += one.mean_std(metric, mode)
            rows.append(
                (
                    recipe.name, scale_text(one), recipe.network.kind, Path(recipe.network.weights).name, recipe.epochs,
                    mode, *scores, one.mean_std("accuracy", mode)[0],
                    one.mean_std(f"fraction error {data.class_names[-1]}", mode)[0],
                )
            )  # fmt: skip
    caption = (
        f"{counted(len(data), 'image')}, {counted(budget.folds, 'fold')} by {budget.by}, "
        f"{counted(budget.seeds, 'seed')}; mean and standard deviation (±) over folds and seeds. A network of half "
        "scale is tested on images of half scale. The fraction error is found minus labelled, absolute."
    )
    return StudyTable(name, caption, columns, tuple(rows), out)


def scale_text(done: CrossValidation) -> str:
    """Return how a recipe tiles and scales, in words."""
    rules = done.recipe.data
    tile = "whole images" if rules.tile is None else f"tiles of {rules.tile} px"
    return tile if rules.scale == 1.0 else f"{tile}, × {rules.scale:g} {rules.scale_when} tiling"


def draw_recipes(path: Path, done: Sequence[CrossValidation]) -> None:
    """Draw the IoU of every class of each recipe, in its first mode, as bars; recipes of other modes say theirs."""
    modes = [one.modes[0] for one in done]
    shared = len(set(modes)) == 1
    series = {
        label: tuple(zip(*(one.mean_std(f"iou {label}") for one in done), strict=True)) for label in done[0].class_names
    }
    draw_bars(
        path,
        [one.recipe.name if shared else f"{one.recipe.name}\n{mode}" for one, mode in zip(done, modes, strict=True)],
        {label: (list(mean), list(std)) for label, (mean, std) in series.items()},
        ylabel=f"IoU, {modes[0]}" if shared else "IoU",
        xlabel="recipe",
    )
