"""Figure 2 of the study: what the size of the tiles does, and how tiles and whole images differ as test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from ..training.dataset import Dataset
from ..training.recipe_files import read_recipe
from ..training.tiles import tile_dataset
from ..training.words import counted
from .cross_validation import check_recipe
from .folds import WHOLE, CrossValidation
from .plots import draw_lines
from .recipe_study import run_recipe
from .study import Budget, Cell, StudyTable, mean_std_cells, write_tile_summary

SIZES = (64, 96, 128, 192, 256, 512)
RECIPES = {"lom": "1", "sem": "5"}
_MOST_TILES = 128  # in a step


def study_tile_sizes(
    data: Mapping[str, Dataset],
    out: Path,
    budget: Budget,
    *,
    sizes: Sequence[int] = SIZES,
    recipes: Mapping[str, str] = RECIPES,
) -> StudyTable:
    """Train on tiles of several sizes; test on tiles of that size, and on whole images.

    The number of pixels in a step stays that of the recipe, so that the batch grows as tiles shrink (at most 128).

    Parameters
    ----------
    data : mapping of str to Dataset
        By name, such as ``"lom"`` and ``"sem"``.
    out : Path
        Folder to make; what is finished there is kept.
    budget : Budget
        Folds, epochs … Folds are by micrograph: tiles and whole images can only be compared so.
    sizes : sequence of int
        Edges of tiles, px; those that do not divide an image are mirrored up.
    recipes : mapping of str to str
        Recipe for each data set, by name.

    Returns
    -------
    StudyTable
        A row for each data set and size.

    Raises
    ------
    InputError
        If there are no data or sizes, a size does not fit a network, or folds are by tile.
    """
    if not data or not sizes:
        raise InputError("fig2 needs data and tile sizes; give lom=DIR, sem=DIR or both")
    if budget.by != "micrograph":
        raise InputError("fig2 compares tiles with whole images, which needs folds by micrograph; leave by out")
    for name, images in data.items():
        check_recipe(read_recipe(recipes[name], changes=budget.changes), images, sizes)
    out.mkdir(parents=True, exist_ok=True)
    sets = {f"{name}, {size} px": tile_dataset(images, size) for name, images in data.items() for size in sizes}
    write_tile_summary(out / "tiles.md", sets)
    done: dict[tuple[str, int], CrossValidation] = {}
    for name, images in data.items():
        for size in sizes:
            recipe = read_recipe(recipes[name], changes=budget.changes)
            edge = recipe.data.tile or size
            batch = min(max(round(recipe.batch * (edge / size) ** 2), 1), _MOST_TILES)
            budget.say(f"{name}, tiles of {size} px")
            changes = {**budget.changes, "data.tile": size, "batch": batch}
            done[name, size] = run_recipe(recipes[name], images, out / f"{name}-{size}", budget, changes)
            table = tile_table(done, out, budget)
            table.write()
            draw_sizes(out / "fig2.png", done)
    return table


def tile_table(done: Mapping[tuple[str, int], CrossValidation], out: Path, budget: Budget) -> StudyTable:
    """Return the table of finished sizes; the foreground is the last class."""
    columns = (
        "data", "recipe", "tile px", "epochs", *mean_std_cells(["IoU on tiles", "IoU on whole images"]),
        "whole minus tiles", "mean IoU on tiles", "mean IoU on whole images",
    )  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    for (name, size), one in done.items():
        mode, metric = f"tiles of {size} px", f"iou {one.class_names[-1]}"
        tiles, whole = one.mean_std(metric, mode), one.mean_std(metric, WHOLE)
        means = one.mean_std("mean iou", mode)[0], one.mean_std("mean iou", WHOLE)[0]
        rows.append((name, one.recipe.name, size, one.recipe.epochs, *tiles, *whole, whole[0] - tiles[0], *means))
    foreground = next(iter(done.values())).class_names[-1]
    caption = (
        f"IoU of {foreground}, mean and standard deviation (±) over {counted(budget.folds, 'fold')} by micrograph "
        f"and {counted(budget.seeds, 'seed')}. On tiles each tile stands alone with the network's own padding; whole "
        "images are predicted at once."
    )
    return StudyTable("fig2", caption, columns, tuple(rows), out)


def draw_sizes(path: Path, done: Mapping[tuple[str, int], CrossValidation]) -> None:
    """Draw the IoU of the foreground over the tile size, on tiles and on whole images."""
    series = {}
    for name in dict.fromkeys(name for name, _ in done):
        sizes = [size for other, size in done if other == name]
        for label, mode in (("tiles", None), ("whole images", WHOLE)):
            found = [
                done[name, size].mean_std(f"iou {done[name, size].class_names[-1]}", mode or f"tiles of {size} px")
                for size in sizes
            ]
            series[f"{name}, {label}"] = (sizes, [one[0] for one in found], [one[1] for one in found])
    ticks = sorted({size for _, size in done})
    foreground = next(iter(done.values())).class_names[-1]
    draw_lines(path, series, xlabel="tile, px", ylabel=f"IoU of {foreground}", logarithmic=True, ticks=ticks)
