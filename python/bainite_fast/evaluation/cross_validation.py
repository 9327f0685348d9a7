"""`cross_validate`: a recipe trained and tested on every fold, over repeated seeds, on whole images and on tiles."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from .._disk import left_by, write_text
from ..errors import InputError, JournalError, OutputExistsError
from ..geometry import round_up, scaled_shape
from ..models import load, load_package
from ..training.api import check_rules, train
from ..training.dataset import Classes, Dataset, as_dataset, class_pixels
from ..training.differences import NAMING, recipe_changes
from ..training.folder import check_source, locked
from ..training.loop import Progress
from ..training.losses import make_loss
from ..training.prepare import SplitSource, digest_of
from ..training.recipe import Recipe
from ..training.recipe_files import read_recipe
from ..training.splits import By, Fold, Split, k_fold, read_split
from ..training.start import Init, check_outputs, file_of_weights, named_after
from ..training.tiles import TileSet, scale_dataset, tile_dataset
from ..training.values import MaskValues
from .api import check_tolerance, evaluate
from .folds import PLOT, WHOLE, CrossValidation, FoldScores, write_tables
from .plots import draw_folds
from .predict import evaluation_device
from .scores import Scores, finite, from_counts

RECORD, SCORES, RUN = "cross_validation.json", "scores.json", "run"
_NOT_OF_THE_RECIPE = (*NAMING, "seed")  # seeds are recorded beside it
Tiles = Literal["recipe"] | int | Sequence[int] | None


def cross_validate(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    images: Any,
    masks: Any = None,
    out: str | os.PathLike[str] = "cross-validation",
    *,
    folds: int = 5,
    by: By = "micrograph",
    split: SplitSource = None,
    stratified: bool = False,
    fold_seed: int = 0,
    seeds: int | Sequence[int] = 1,
    epochs: int | None = None,
    classes: Classes = None,
    mask_values: MaskValues | None = None,
    init: Init = None,
    changes: Mapping[str, Any] | None = None,
    tiles: Tiles = "recipe",
    tolerance: int = 0,
    device: str = "auto",
    keep_models: bool = True,
    overwrite: bool = False,
    progress: Callable[[str], None] | None = None,
) -> CrossValidation:
    """Train and test a recipe on every fold, and say how well it does, and how reliably.

    A fold that is finished is kept: the same call goes on where it was broken off.

    Parameters
    ----------
    recipe, images, masks, classes, mask_values, init, changes, device
        As for :func:`bainite_fast.train`. The test part of a fold is looked at once, when its training is over.
    out : path
        Folder to make.
    folds : int
        How many.
    by : {"micrograph", "tile"}
        By micrograph: what is tested comes from images that were not trained on. By tile: tiles are dealt at random, as
        in the paper; then only scores on tiles are taken, as no image is unseen.
    split : path, mapping or Split, optional
        Fixed folds, or the parts train and test, in place of dealing; see
        :func:`bainite_fast.training.splits.read_split`.
    stratified : bool
        Deal so that class fractions of the folds are alike.
    fold_seed : int
        Of the dealing; the same for every seed.
    seeds : int or sequence of int
        How often each fold is trained, with the seeds 0, 1, …, or with these.
    epochs : int, optional
        In place of the recipe's.
    tiles : "recipe", int, sequence of int or None
        Also score on tiles of these sizes, px: each alone, with the network's own padding. By default the size of the
        recipe, if it has one. Folds by tile are scored on their tiles only.
    tolerance : int
        Also score without the pixels within so many px of a true boundary.
    keep_models : bool
        Keep what each fold trained; false keeps the scores only.
    overwrite : bool
        Throw away the cross-validation in `out`.
    progress : callable, optional
        Called with a line of text for each epoch and each finished fold.

    Returns
    -------
    CrossValidation

    Raises
    ------
    InputError
        If there are fewer images than folds, tiles do not fit the network, or recipe or data are not right.
    JournalError
        If `out` holds a cross-validation of other data, folds or recipe.
    """
    given = {} if epochs is None else {"epochs": epochs}
    full = read_recipe(recipe, changes={**(changes or {}), **given})
    data = named_after(as_dataset(images, masks, classes=classes, mask_values=mask_values), full, init)
    chosen = _seeds(seeds)
    target = Path(out)
    check_tolerance(tolerance)
    plan = _plan(full, data, tiles, by=by, split=split, folds=folds, stratified=stratified, fold_seed=fold_seed)
    check_recipe(plan.recipe, plan.data, plan.sizes)
    record = _record(plan, chosen, tolerance, init)
    if overwrite:
        check_source(target, file_of_weights(full, init))
    say = progress or (lambda text: None)
    with locked(target):
        _open(target, record, overwrite=overwrite)
        done = []
        for seed in chosen:
            for fold in plan.folds:
                done.append(_fold(plan, fold, seed, target, init, device, tolerance, keep_models, say))
                result = CrossValidation(plan.recipe, target, data.class_names, tuple(done))
                write_tables(result)
        draw_folds(target / PLOT, result)
    return result


@dataclass(frozen=True, slots=True)
class Plan:
    """What the folds have in common: `data` is what is divided, images or tiles."""

    recipe: Recipe
    data: Dataset
    folds: tuple[Fold, ...]
    sizes: tuple[int, ...]


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(seed) for seed in seeds)
    if not chosen or len(set(chosen)) != len(chosen):
        raise InputError(f"seeds={seeds} is refused; at least one, all different, are needed")
    return chosen


def _plan(recipe: Recipe, data: Dataset, tiles: Tiles, *, by: By, split: SplitSource, **dealing: Any) -> Plan:
    rules = recipe.data
    if by == "tile":
        if rules.tile is None:
            raise InputError("folds by tile need the recipe's data.tile, the edge of the tiles in px")
        cut = tile_dataset(data, rules.tile, padding=rules.padding, scale=rules.scale, scale_when=rules.scale_when)
        edge = len(cut.mask(0))
        if tiles is not None and set(_sizes(tiles, edge)) != {edge}:
            raise InputError(
                f"tiles={tiles} is for folds by micrograph; folds by tile are scored on their own tiles of {edge} px: "
                "leave tiles out, or set the recipe's data.tile"
            )
        # Each tile is an image of its own from here on, and is its only tile.
        alone = read_recipe(recipe, changes={"data.tile": edge, "data.scale": 1.0, "data.scale_when": "before"})
        return Plan(alone, cut, _dealt(cut, by, split, **dealing), (edge,))
    return Plan(recipe, data, _dealt(data, by, split, **dealing), _sizes(tiles, rules.tile))


def _sizes(tiles: Tiles, of_recipe: int | None) -> tuple[int, ...]:
    """Return the sizes that are asked for, px; those of the recipe by default."""
    chosen = of_recipe if tiles == "recipe" else tiles
    return (chosen,) if isinstance(chosen, int) else tuple(int(size) for size in chosen or ())


def check_recipe(recipe: Recipe, data: Dataset, sizes: Iterable[int]) -> None:
    """Refuse a recipe that no fold of some data could be trained and scored with; not when others are trained.

    Raises
    ------
    InputError
        If it needs a validation part, which folds do not have, other images or classes, or other sizes of tiles.
    """
    if recipe.validation.early_stop is not None:
        raise InputError(
            f"the recipe {recipe.name} stops early by a validation score, and folds have parts to train and to test on "
            "only; set validation.early_stop to null"
        )
    check_tiles(recipe, sizes)
    check_rules(recipe, data)
    check_outputs(recipe.network, data.n_classes)
    make_loss(recipe.loss, class_pixels(data).tolist())


def check_tiles(recipe: Recipe, sizes: Iterable[int]) -> None:
    """Refuse sizes of tiles that the network of a recipe cannot be given alone; not when its training is over.

    Raises
    ------
    InputError
        With a size that fits.
    """
    multiple = recipe.network.multiple
    scale = recipe.data.scale if recipe.data.scale_when == "after" else 1.0
    for size in sizes:
        seen = scaled_shape((size, size), scale)[0]
        if size < 1 or seen % multiple:
            fits = round(round_up(seen, multiple) / scale)
            scaled = "" if scale == 1.0 else f", scaled to {seen} px,"
            raise InputError(
                f"tiles of {size} px{scaled} do not fit the network, which takes multiples of {multiple} px; use tiles "
                f"of {fits} px, or another network.depth"
            )


def _dealt(
    data: Dataset, by: By, split: SplitSource, *, folds: int, stratified: bool, fold_seed: int
) -> tuple[Fold, ...]:
    if split is not None:
        fixed = split if isinstance(split, Split) else read_split(split if isinstance(split, Mapping) else Path(split))
        return fixed.folds(data)
    return k_fold(data, folds, by=by, stratified=stratified, seed=fold_seed)


def _record(plan: Plan, seeds: tuple[int, ...], tolerance: int, init: Init) -> dict[str, Any]:
    recipe = {key: value for key, value in plan.recipe.to_dict().items() if key not in _NOT_OF_THE_RECIPE}
    names = plan.data.names
    return {
        "recipe": recipe,
        "data": digest_of(plan.data),
        "folds": [[names[i] for i in fold.test] for fold in plan.folds],
        "trained on": _trained_on(plan),
        "tiles": list(plan.sizes),
        "tolerance": tolerance,
        "init": None if init is None else load(init).contract.sha256,
        "seeds": list(seeds),
    }


def _trained_on(plan: Plan) -> list[list[str]] | None:
    """Return what each fold is trained on, None where that is all that it is not tested on."""
    names = plan.data.names
    if all(len(fold.train) + len(fold.test) == len(names) for fold in plan.folds):
        return None
    return [[names[i] for i in fold.train] for fold in plan.folds]


def _open(out: Path, record: Mapping[str, Any], *, overwrite: bool) -> None:
    """Begin a cross-validation in a folder, or check that it goes on with its own; more seeds may be added."""
    path = out / RECORD
    if path.exists() and not overwrite:
        if differing := _differing(_read_record(path), record):
            raise JournalError(
                f"{out} holds a cross-validation with {differing}; give another folder, or pass "
                "overwrite=True to throw it away"
            )
    elif path.exists():
        for old in out.glob("seed*"):
            shutil.rmtree(old)
    elif any(one.name != ".lock" and left_by(one.name) != RECORD for one in out.iterdir()):
        raise OutputExistsError(f"{out} holds files that are no cross-validation's; give another folder")
    write_text(path, json.dumps(record, indent=2) + "\n")


def _read_record(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("no mapping")
    except (OSError, ValueError) as error:
        raise JournalError(
            f"{path} is not the record of a cross-validation ({error}); give another folder, or pass overwrite=True to "
            "throw away what is there"
        ) from error
    return found


_ANOTHER = {
    "data": "other data",
    "folds": "other folds",
    "trained on": "other images to train on",
    "tiles": "other tiles",
    "init": "another initial model",
}


def _differing(begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return in words what was begun with that is another now; "" where nothing is. More seeds may be added."""
    told = []
    for key in wanted:
        if key == "recipe":
            if changes := recipe_changes(begun.get(key), wanted[key], ignore=_NOT_OF_THE_RECIPE):
                told.append(f"another recipe ({changes})")
        elif key != "seeds" and begun.get(key) != wanted[key]:
            told.append(_ANOTHER.get(key, f"another {key}"))
    return " and ".join(told)


def _fold(
    plan: Plan,
    fold: Fold,
    seed: int,
    out: Path,
    init: Init,
    device: str,
    tolerance: int,
    keep_models: bool,
    say: Callable[[str], None],
) -> FoldScores:
    folder = out / f"seed{seed}" / f"fold{fold.number}"
    run = folder / RUN
    if (folder / SCORES).exists():
        stored = json.loads((folder / SCORES).read_text(encoding="utf-8"))
        return FoldScores(seed, fold.number, {mode: from_counts(one) for mode, one in stored.items()}, run)
    title = f"{plan.recipe.name}, seed {seed}, fold {fold.number + 1} of {len(plan.folds)}"

    def follow(now: Progress) -> None:
        if now.plan is not None:
            say(f"{title}: {now.plan.extent}; {now.plan.device}")
        if now.scores is not None:
            say(f"{title}: epoch {now.scores['epoch']:.0f} of {plan.recipe.epochs}, loss {now.scores['loss']:.4g}")

    trained = train(
        plan.recipe, plan.data.subset(fold.train), out=run, seed=seed, init=init, device=device, resume=True,
        progress=follow,
    )  # fmt: skip
    scores = score_fold(plan, trained.package, fold.test, tolerance, device)
    write_text(folder / SCORES, json.dumps(finite({mode: one.to_dict() for mode, one in scores.items()}), indent=1))
    if not keep_models:
        shutil.rmtree(run)
    say(f"{title}: " + ", ".join(f"mean IoU {one.mean_iou:.4f} on {mode}" for mode, one in scores.items()))
    return FoldScores(seed, fold.number, scores, run)


def score_fold(
    plan: Plan, package: Path, indices: Iterable[int], tolerance: int, device: str = "auto"
) -> dict[str, Scores]:
    """Return the scores of a package on a test part, by mode; `device` is where it was trained."""
    test, rules = plan.data.subset(indices), plan.recipe.data
    model = load_package(package)  # compiled once

    def score(data: Dataset, tiles: int | None) -> Scores:
        return evaluate(model, data, tiles=tiles, tolerance=tolerance, scale="as-is", device=evaluation_device(device))

    if isinstance(test, TileSet):
        once = replace(test, mask_padding="ignore")  # what is mirrored counts once, in the tile that it comes from
        only = score(once, plan.sizes[0])
        return {only.mode: only}
    # A network of half scale sees images of half scale; the truth is scaled with them.
    scaled = scale_dataset(test, rules.scale)
    found = {WHOLE: score(scaled, None)}
    for size in plan.sizes:
        if rules.scale != 1.0 and rules.scale_when == "after":
            cut = tile_dataset(test, size, scale=rules.scale, scale_when="after", mask_padding="ignore")
            found[f"tiles of {size} px"] = score(cut, len(cut.mask(0)))
        else:
            found[f"tiles of {size} px"] = score(scaled, size)
    return found
