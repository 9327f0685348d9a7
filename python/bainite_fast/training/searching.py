"""Hyper-parameters by optuna: a study in SQLite that can be stopped and gone on with."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from .._disk import left_by, write_text
from .._optional import require
from ..errors import InputError, JournalError, OutputError, OutputExistsError, TrainingError
from .api import train
from .dataset import Classes, Dataset, as_dataset
from .differences import recipe_changes, space_changes
from .folder import LOCK, locked
from .loop import Progress
from .prepare import SplitSource, digest_of, part_indices
from .recipe import Recipe
from .recipe_files import read_recipe, recipe_text
from .result import CHECKPOINTS, MODEL
from .space import SearchSpace, read_space
from .tiles import micrograph_of
from .values import MaskValues
from .words import counted

Report = Callable[[int, float], None]
"""Called with an epoch and its score; ends the trial if it is to be given up."""

Objective = Callable[[Recipe, Report], float]
"""Returns the score of a recipe, the higher the better."""

STUDY, BEST, TRIALS, TRIAL_FOLDER = "study.db", "best.yaml", "trials.csv", "trials"
_OURS = (STUDY, f"{STUDY}-journal", BEST, TRIALS, TRIAL_FOLDER)
MEAN_IOU, _OTHER = "validation mean IoU", "score"
_NAME, _STARTED, _DIVERGED = "bainite-fast search", "fingerprint", "diverged"


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A finished search.

    Attributes
    ----------
    out : Path
        Its folder: ``best.yaml``, ``trials.csv``, ``study.db``.
    recipe : Recipe
        The best one.
    score : float
        Its score: validation mean IoU, 0…1, or what an objective of the caller's returned.
    values : mapping
        What it has in place of the base recipe's values, by dotted name.
    trials : tuple of mappings
        ``number``, ``state``, ``score``, and the values, of every trial.
    measure : str
        What the score is, in words.
    """

    out: Path
    recipe: Recipe
    score: float
    values: Mapping[str, Any]
    trials: tuple[Mapping[str, Any], ...]
    measure: str = MEAN_IOU

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "out": str(self.out),
            "recipe": str(self.out / BEST),
            "score": self.score,
            "measure": self.measure,
            "values": dict(self.values),
            "trials": [dict(trial) for trial in self.trials],
        }

    def __str__(self) -> str:
        states = [trial["state"] for trial in self.trials]
        counts = ", ".join(f"{states.count(s)} {s}" for s in ("complete", "pruned", "fail") if s in states)
        values = "\n".join(f"  {name}: {value}" for name, value in self.values.items())
        head = f"best {self.measure} {self.score:.4f} of {counted(len(states), 'trial')} ({counts}):"
        return f"{head}\n{values}\nrecipe: {self.out / BEST}"


def search(
    space: str | os.PathLike[str] | Mapping[str, Any] | SearchSpace,
    images: str | os.PathLike[str] | Sequence[Any] | Dataset | None = None,
    masks: str | os.PathLike[str] | Sequence[Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe = "vanilla",
    split: SplitSource = None,
    classes: Classes = None,
    mask_values: MaskValues | None = None,
    device: str = "auto",
    resume: bool = False,
    overwrite: bool = False,
    objective: Objective | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SearchResult:
    """Search the values of a recipe that give the best validation mean IoU.

    Parameters
    ----------
    space : str, path, mapping or SearchSpace
        ``"default"``, or what to vary and how; see :class:`bainite_fast.training.space.SearchSpace`.
    images, masks, split, classes, mask_values, device
        As :func:`bainite_fast.train` takes them; the split has a validation part.
    out : path
        Folder to make.
    recipe : str, path, mapping or Recipe
        What the rest of the values is.
    resume : bool
        Go on with the search in `out`; a trial that was broken off does not count.
    overwrite : bool
        Throw away the search in `out`.
    objective : callable, optional
        Scores a recipe in place of training it; `images`, `masks` and `split` are then left out.
    progress : callable, optional
        Called with the trials done and their number after each.

    Returns
    -------
    SearchResult

    Raises
    ------
    InputError
        If something in the space, the recipe or the data is not right, there is no validation part, or no trial came
        to its end.
    OutputExistsError
        If `out` holds a search, and neither `resume` nor `overwrite` is set; or files that are no search's.
    JournalError
        If the search in `out` is of another space, recipe, data or split.
    MissingExtraError
        If optuna is not installed.
    """
    optuna = require("optuna", "train", "a search")
    if out is None:
        raise InputError("no folder is given for the search; say where with out=")
    if objective is not None and any(one is not None for one in (images, masks, split)):
        raise InputError("an objective scores recipes in place of training; leave images, masks and split out")
    wanted, base, target = read_space(space), read_recipe(recipe), Path(out)
    wanted.check(base)
    _check_folder(target, resume=resume, overwrite=overwrite)
    fingerprint: dict[str, Any] = {"space": wanted.model_dump(mode="json"), "recipe": base.to_dict()}
    del fingerprint["space"]["trials"]  # more may be asked for
    if objective is None:
        data = as_dataset(images, masks, classes=classes, mask_values=mask_values)
        fingerprint |= {"data": digest_of(data), "split": _parts(data, split)}
        objective = _training(data, split, target / TRIAL_FOLDER, device)
    with locked(target), _quiet(optuna):
        if overwrite:
            _throw_away(target)
        study = _open(optuna, target, wanted, fingerprint)
        _run(optuna, study, wanted, base, objective, target, progress or (lambda done, total: None))
        return _result(optuna, study, base, target)


def _check_folder(out: Path, *, resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise InputError("resume goes on with a search and overwrite throws it away; choose one")
    if out.exists() and not out.is_dir():
        raise OutputExistsError(f"{out} is a file; give a folder to make")
    names = {path.name for path in out.iterdir() if left_by(path.name) is None} - {LOCK} if out.exists() else set()
    if not names:
        return
    foreign = sorted(names - set(_OURS))
    if foreign or STUDY not in names:
        raise OutputExistsError(
            f"{out} holds files that are no search's ({', '.join(foreign[:3]) or 'no ' + STUDY}); give another folder"
        )
    if not (resume or overwrite):
        raise OutputExistsError(
            f"{out} holds a search; pass resume=True to go on with it, pass overwrite=True to throw it away, or give "
            "another folder"
        )


def _throw_away(out: Path) -> None:
    try:
        for path in list(out.iterdir()):
            if path.name in _OURS or left_by(path.name) in _OURS:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{out} cannot be emptied ({error})") from error


def _parts(data: Dataset, split: SplitSource) -> dict[str, list[str]]:
    """Return the names of the images to learn from and to score on."""
    train_part, validation_part = part_indices(data, split)
    if not validation_part:
        raise InputError("a search needs a validation part to score on; give split= with train and validation images")
    names = micrograph_of(data)
    parts = {"train": train_part, "validation": validation_part}
    return {part: list(dict.fromkeys(names[i] for i in indices)) for part, indices in parts.items()}


def _training(data: Dataset, split: SplitSource, folder: Path, device: str) -> Objective:
    """Return an objective that trains in a folder of each trial's own."""

    def objective(recipe: Recipe, report: Report) -> float:
        def watch(now: Progress) -> None:
            if now.scores is not None and "mean_iou" in now.scores:
                report(now.epoch, now.scores["mean_iou"])

        out = folder / recipe.name
        try:
            run = train(recipe, data, None, out, split=split, device=device, overwrite=out.exists(), progress=watch)
        finally:
            shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        return run.mean_iou or 0.0

    return objective


def _keep_best_model(best: Any, folder: Path) -> None:
    """Remove the models of all trials but the best, whichever run of the search it was trained in."""
    for other in folder.glob("*"):
        if other.name != _trial_name(best.number):
            shutil.rmtree(other / MODEL, ignore_errors=True)


def _trial_name(number: int) -> str:
    return f"trial-{number:04d}"


@contextlib.contextmanager
def _quiet(optuna: ModuleType) -> Iterator[None]:
    """Let optuna keep its log, and its remarks on parts that are experimental, to itself."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _open(optuna: ModuleType, out: Path, space: SearchSpace, fingerprint: Mapping[str, Any]) -> Any:
    study = optuna.create_study(
        study_name=_NAME,
        storage=f"sqlite:///{(out / STUDY).resolve()}",
        direction="maximize",
        load_if_exists=True,
    )
    begun = study.user_attrs.get(_STARTED)
    if begun is None:
        study.set_user_attr(_STARTED, json.dumps(fingerprint, sort_keys=True))
    elif differing := _differing(json.loads(begun), fingerprint):
        raise JournalError(
            f"the search in {out} was begun with {differing}; go on with what it was begun with, or give another folder"
        )
    states = optuna.trial.TrialState
    for trial in study.get_trials(states=(states.RUNNING,)):  # the process was killed
        study.tell(trial.number, state=states.FAIL)
        shutil.rmtree(out / TRIAL_FOLDER / _trial_name(trial.number) / CHECKPOINTS, ignore_errors=True)
    # A resumed search must not draw what it drew before.
    seed = space.seed * 100_003 + len(study.trials)
    samplers = optuna.samplers
    study.sampler = (
        samplers.TPESampler(seed=seed, multivariate=True)
        if space.sampler == "tpe"
        else samplers.RandomSampler(seed=seed)
    )
    study.pruner = (
        optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1) if space.prune else optuna.pruners.NopPruner()
    )
    if space.sampler == "grid":
        # Not optuna's grid sampler, which takes a combination that was broken off for done.
        waiting = study.get_trials(states=(states.WAITING,))
        known = [trial.system_attrs.get("fixed_params", trial.params) for trial in waiting]
        known += [trial.params for trial in finished(optuna, study)]
        for values in space.combinations()[: space.total]:
            if values not in known:
                study.enqueue_trial(values)
    return study


def _differing(begun: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return in words what a search was begun with that is another now; "" where nothing is."""
    told = []
    for name, changes in (("space", space_changes), ("recipe", recipe_changes)):
        if text := changes(begun.get(name), wanted[name]):
            told.append(f"another {name} ({text})")
    if begun.get("data") != wanted.get("data"):
        told.append("other data" if "data" in begun and "data" in wanted else "another objective")
    elif "split" in begun and begun["split"] != wanted.get("split"):  # earlier versions did not record it
        told.append("another split")
    return " and ".join(told)


def finished(optuna: ModuleType, study: Any) -> list[Any]:
    """Return the trials that gave an answer: a score, given up on the way, or NaN; not those that were broken off."""
    states = optuna.trial.TrialState
    ended = study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED, states.FAIL))
    return [trial for trial in ended if trial.state != states.FAIL or trial.user_attrs.get(_DIVERGED)]


def _run(
    optuna: ModuleType,
    study: Any,
    space: SearchSpace,
    base: Recipe,
    objective: Objective,
    out: Path,
    progress: Callable[[int, int], None],
) -> None:
    def evaluate(trial: Any) -> float:
        values = {name: one.suggest(trial, name) for name, one in space.space.items()}

        def report(epoch: int, score: float) -> None:
            trial.report(score, epoch)
            if space.prune and trial.should_prune():
                raise optuna.TrialPruned

        try:
            score = objective(read_recipe(base, changes={**values, "name": _trial_name(trial.number)}), report)
            if math.isnan(score):
                raise TrainingError(f"the score of trial {trial.number} is NaN")
            return score
        except TrainingError:
            trial.set_user_attr(_DIVERGED, True)
            raise

    def note(study: Any, trial: Any) -> None:
        _write(optuna, study, base, out)
        progress(len(finished(optuna, study)), space.total)

    progress(len(finished(optuna, study)), space.total)
    while (left := space.total - len(finished(optuna, study))) > 0:
        # A loss that becomes NaN is a trial's answer, not the search's end.
        study.optimize(evaluate, n_trials=left, catch=(TrainingError,), callbacks=[note])


def _rows(optuna: ModuleType, study: Any) -> list[dict[str, Any]]:
    return [
        {"number": trial.number, "state": trial.state.name.lower(), "score": trial.value, **trial.params}
        for trial in finished(optuna, study)
    ]


def _measure(study: Any) -> str:
    """Return in words what the scores of a study are."""
    return MEAN_IOU if "data" in json.loads(study.user_attrs[_STARTED]) else _OTHER


def _best(optuna: ModuleType, study: Any, base: Recipe) -> tuple[Any, Recipe]:
    states = optuna.trial.TrialState
    done = study.get_trials(deepcopy=False, states=(states.COMPLETE,))
    if not done:
        raise InputError("no trial of the search came to its end; narrow the ranges, or train for more epochs")
    best = max(done, key=lambda trial: trial.value)
    about = f"{base.description} Best of a search: {_measure(study)} {best.value:.4f} in trial {best.number}.".strip()
    changes = {**best.params, "name": f"{base.name}-searched", "description": about}
    return best, read_recipe(base, changes=changes)


def _write(optuna: ModuleType, study: Any, base: Recipe, out: Path) -> None:
    """Bring table and best recipe up to date, and keep the best model only."""
    rows = _rows(optuna, study)
    if rows:
        text = io.StringIO()
        table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        write_text(out / TRIALS, text.getvalue())
    if any(row["state"] == "complete" for row in rows):
        best, recipe = _best(optuna, study, base)
        write_text(out / BEST, recipe_text(recipe))
        _keep_best_model(best, out / TRIAL_FOLDER)


def _result(optuna: ModuleType, study: Any, base: Recipe, out: Path) -> SearchResult:
    _write(optuna, study, base, out)
    best, recipe = _best(optuna, study, base)
    trials = tuple(_rows(optuna, study))
    return SearchResult(out, recipe, float(best.value), dict(best.params), trials, _measure(study))
