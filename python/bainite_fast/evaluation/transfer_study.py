"""Figure 4 of the study: trained on one etching, tested on another, with and without augmentation of gray values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .._disk import write_text
from ..errors import InputError, JournalError
from ..training.api import train
from ..training.dataset import Dataset
from ..training.differences import recipe_changes
from ..training.loop import Progress
from ..training.prepare import digest_of
from ..training.recipe_files import read_recipe
from ..training.splits import k_fold
from ..training.tiles import scale_dataset
from ..training.words import counted
from .api import evaluate
from .plots import draw_bars
from .predict import evaluation_device
from .scores import Scores, finite, from_counts
from .study import Budget, Cell, StudyTable

STRENGTHS = (0.05, 0.1, 0.2, 0.3)
AS_RECIPE = "the recipe's"


@dataclass(frozen=True, slots=True)
class Parts:
    """Images to train on and to test on of the source; to search on and to report on of the target."""

    train: Dataset
    source_test: Dataset
    search: Dataset
    target_test: Dataset


def study_transfer(
    source: Dataset,
    target: Dataset,
    out: Path,
    budget: Budget,
    *,
    recipe: str = "1",
    strengths: Sequence[float] = STRENGTHS,
) -> StudyTable:
    """Train on one etching and test on another.

    First with the recipe's augmentation, then with brightness and contrast of several strengths instead of the
    recipe's; the strength that does best on one half of the target's images is reported on the other half, so that what
    is reported was not searched on.

    Parameters
    ----------
    source, target : Dataset
        Annotated images of the two etchings, of one scale.
    out : Path
        Folder to make; what is finished there is kept.
    budget : Budget
        Epochs, and folds: one fold of the source is kept back as the test at home.
    recipe : str
        Name or file.
    strengths : sequence of float
        s: brightness changes by up to ± s of the full scale, contrast by a factor between 1/(1 + 2 s) and 1 + 2 s.

    Returns
    -------
    StudyTable
        For each augmentation: IoU per class and phase fraction against the labelled one, at home and on the target.

    Raises
    ------
    InputError
        If the two have other classes, the target has fewer than two images, the source fewer than folds, or the
        budget asks for several seeds or for folds by tile.
    """
    if budget.seeds != 1 or budget.by != "micrograph":
        raise InputError("fig4 trains once, and parts by micrograph; leave seeds and by out")
    parts = _parts(source, target, budget)
    if not strengths or any(not 0 < s <= 1 for s in strengths):
        raise InputError(f"strengths={list(strengths)} are refused; shares of the full gray scale, 0 … 1, are needed")
    options: dict[str, dict[str, Any]] = {AS_RECIPE: {}}
    for s in strengths:
        options[_named(s)] = {
            "augmentation.brightness": s, "augmentation.contrast": 2 * s, "augmentation.probability": 0.9,
        }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Scores]] = {}
    for name, changes in options.items():
        found[name] = _trained(parts, out / name.replace(" ", "-").replace("'", ""), budget, recipe, changes)
        budget.say(f"{name}: mean IoU {found[name]['search'].mean_iou:.4f} on the target's first half")
    best = max((name for name in found if name != AS_RECIPE), key=lambda name: found[name]["search"].mean_iou)
    table = transfer_table(found, best, parts, out)
    table.write()
    _draw(out / "fig4.png", found, best)
    return table


def _named(strength: float) -> str:
    return f"brightness and contrast {strength:g}"


def _parts(source: Dataset, target: Dataset, budget: Budget) -> Parts:
    if source.class_names != target.class_names or source.channels != target.channels:
        raise InputError(
            f"source and target have other classes ({', '.join(source.class_names)}; {', '.join(target.class_names)}) "
            "or channels; they must be annotated alike"
        )
    if len(target) < 2:
        raise InputError("the target has one image; at least two are needed, one to search on and one to report on")
    fold = k_fold(source, budget.folds)[0]
    order = np.random.default_rng(0).permutation(len(target))
    half = len(target) // 2
    return Parts(
        source.subset(fold.train), source.subset(fold.test), target.subset(order[:half]), target.subset(order[half:])
    )


def _trained(parts: Parts, out: Path, budget: Budget, recipe: str, changes: Mapping[str, Any]) -> dict[str, Scores]:
    """Return the scores of one augmentation on all parts but the training part; from disk where they are there."""
    given = {} if budget.epochs is None else {"epochs": budget.epochs}
    full = read_recipe(recipe, changes={**budget.changes, **given, **changes})
    tests = {"source": parts.source_test, "search": parts.search, "target": parts.target_test}
    identity: dict[str, Any] = {
        "recipe": full.to_dict(),
        "train": digest_of(parts.train),
        **{name: digest_of(part) for name, part in tests.items()},
    }
    store = out / "scores.json"
    if budget.overwrite:
        store.unlink(missing_ok=True)  # before the run that it is of: broken off, they would not belong together
    if store.exists():
        content = json.loads(store.read_text(encoding="utf-8"))
        other = recipe_changes(content["identity"]["recipe"], identity["recipe"])
        told = [f"another recipe ({other})"] if other else []
        told += [f"other {key} images" for key in ("train", *tests) if content["identity"].get(key) != identity[key]]
        if told:
            raise JournalError(
                f"{out} holds a study with {' and '.join(told)}; give another folder, or pass overwrite=True to throw "
                "it away"
            )
        return {name: from_counts(content["scores"][name]) for name in tests}

    def follow(now: Progress) -> None:
        if now.plan is not None:
            budget.say(f"{out.name}: {now.plan.extent}; {now.plan.device}")
        if now.scores is not None:
            budget.say(f"{out.name}: epoch {now.scores['epoch']:.0f} of {full.epochs}, loss {now.scores['loss']:.4g}")

    run = train(
        full, parts.train, out=out / "run", device=budget.device, resume=not budget.overwrite,
        overwrite=budget.overwrite, progress=follow,
    )  # fmt: skip
    scores = {
        name: evaluate(
            run.package, scale_dataset(part, full.data.scale), scale="as-is", device=evaluation_device(budget.device),
            overlays=out / "overlays" if name == "target" else None,
        )
        for name, part in tests.items()
    }  # fmt: skip
    plain = finite({name: one.to_dict() for name, one in scores.items()})
    write_text(store, json.dumps({"identity": identity, "scores": plain}, indent=1))
    return scores


def transfer_table(found: Mapping[str, Mapping[str, Scores]], best: str, parts: Parts, out: Path) -> StudyTable:
    """Return the table of all augmentations; the foreground is the last class."""
    names = parts.train.class_names
    columns = (
        "augmentation", "tested on", *(f"IoU {name}" for name in names), "mean IoU", "accuracy",
        f"{names[-1]} found", f"{names[-1]} labelled", "error", "searched best",
    )  # fmt: skip
    tests = {"source": "source, kept back", "search": "target, searched on", "target": "target, reported"}
    rows: list[tuple[Cell, ...]] = []
    for augmentation, scores in found.items():
        for part, text in tests.items():
            one = scores[part]
            rows.append(
                (
                    augmentation, text, *(one.iou[name] for name in names), one.mean_iou, one.accuracy,
                    one.fractions_found[names[-1]], one.fractions_true[names[-1]], one.fraction_errors[names[-1]],
                    "yes" if augmentation == best else "",
                )
            )  # fmt: skip
    caption = (
        f"Trained on {counted(len(parts.train), 'source image')}; tested on {len(parts.source_test)} that were kept "
        f"back and on the target: {counted(len(parts.search), 'image')} to search the strength of the augmentation on, "
        f"{len(parts.target_test)} others to report on. Fractions are of the area; errors are found minus labelled. "
        f"“searched best” is the best of the searched strengths; {AS_RECIPE} own augmentation is not among them."
    )
    return StudyTable("fig4", caption, columns, tuple(rows), out)


def _draw(path: Path, found: Mapping[str, Mapping[str, Scores]], best: str) -> None:
    shown = [AS_RECIPE, best]
    names = found[AS_RECIPE]["target"].class_names
    groups = [f"{name}\n{part}" for part in ("source", "target") for name in names]
    series = {
        name: (
            [found[name][part].iou[label] for part in ("source", "target") for label in names],
            [np.nan] * len(groups),
        )
        for name in shown
    }
    draw_bars(path, groups, series, ylabel="IoU, whole images")
