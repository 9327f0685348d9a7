"""``bainite_fast.train``: from images, masks and a recipe to a model package."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .._disk import write_text
from .._optional import require
from .._version import __version__
from ..errors import InputError
from ..geometry import round_up
from ..models import probe, save_package
from .batches import measure_intensities, mirrored
from .checkpoint import LAST, read
from .dataset import Classes, Dataset, as_dataset
from .folder import FORMAT, check_folder, check_source, locked, open_record, write_record
from .hardware import choose_device, choose_threads, torch_threads
from .loop import Callback, Job, Progress, Trainer
from .losses import make_loss
from .plan import TrainingPlan, plan_of
from .prepare import SplitSource, check_classes, digest_of, part_indices, training_items
from .recipe import Recipe
from .recipe_files import read_recipe, recipe_text
from .record import TensorBoard, draw_curve, score_entries, write_metrics
from .result import CHECKPOINTS, CURVE, METRICS, MODEL, RECIPE, TrainingRun, read_run, without_nan
from .start import Init, file_of_weights, named_after, start_network
from .tiles import micrograph_of, scale_dataset
from .values import MaskValues

TEST_EDGE = 128  # px, of the package's test input


def train(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    images: str | os.PathLike[str] | Sequence[Any] | Dataset,
    masks: str | os.PathLike[str] | Sequence[Any] | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    split: SplitSource = None,
    epochs: int | None = None,
    classes: Classes = None,
    mask_values: MaskValues | None = None,
    init: Init = None,
    seed: int | None = None,
    changes: Mapping[str, Any] | None = None,
    name: str | None = None,
    description: str = "",
    device: str = "auto",
    threads: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Callback | None = None,
) -> TrainingRun:
    """Train a network on annotated images, and write it as a model package.

    Parameters
    ----------
    recipe : str, path, mapping or Recipe
        ``"vanilla"``, ``"vgg16"`` or another name of :func:`bainite_fast.training.recipe_names`, a YAML file, or
        values.
    images, masks : path, sequence of arrays, or Dataset
        Two folders, an OME-Zarr (or a folder of such) and the name of the labels in it, two sequences of arrays
        (images uint8, uint16 or float [H, W] or [H, W, 3]; masks integers [H, W]), or one
        :class:`~bainite_fast.training.dataset.Dataset` in place of both.
    out : path
        Folder to make: ``model`` is the package, beside it ``metrics.csv``, ``curve.png``, ``recipe.yaml``,
        ``run.json`` and ``checkpoints``.
    split : path, mapping or Split, optional
        Names of the images by part, ``train``, ``validation`` and ``test``, or a file of them, as
        :func:`bainite_fast.training.splits.read_split` takes it. The test part is not looked at. Without a split every
        image is for training, and nothing is validated.
    epochs, seed : int, optional
        In place of the recipe's.
    classes : int or sequence of str, optional
        Number or names of the classes; as many as the masks hold by default.
    mask_values : mapping, optional
        From what stands in the masks to classes, as :func:`bainite_fast.training.dataset.read_dataset` takes it.
    init : path, LoadedModel, optional
        A model to fine-tune, of the recipe's architecture; with another number of classes its last layer is made anew.
        Its normalisation is kept.
    changes : mapping, optional
        Other values of the recipe by dotted name, such as ``{"loss.alpha": 2.0}``.
    name : str, optional
        Of the model; that of the folder by default.
    description : str
        Of the model, in a line, for its card: steel, etching, microscope. The recipe's own stands in the card too.
    device : {"auto", "cpu", "cuda", "cuda:N"}
        Auto: a GPU where there is one.
    threads : int, optional
        Threads of PyTorch for each operation on the CPU. By default those that a resumed run was begun with, for their
        number changes the last bits of sums; else as PyTorch has it: ``OMP_NUM_THREADS``, or the cores. Threads that
        wait for one another by spinning are many times slower where other work wants the cores: set
        ``OMP_WAIT_POLICY=passive`` before torch is imported (the command line does), or take one.
    resume : bool
        Go on with the unfinished run in `out`, to the same weights as if it had never been broken off; a run that is
        finished is returned as it is, and without one there it begins.
    overwrite : bool
        Throw away the run in `out`.
    progress : callable, optional
        Called with a :class:`~bainite_fast.training.Progress` before the first step (its ``plan`` says what will be
        trained), and after every step and epoch. What it raises ends the run, which can be resumed; before a
        ``KeyboardInterrupt`` the steps done are saved.

    Returns
    -------
    TrainingRun

    Raises
    ------
    InputError
        If recipe, data or split are not right: masks of another size, a class outside the range, one class only, an
        empty folder, an unknown key …
    ModelError
        If `init` or the recipe's weights are of another architecture.
    OutputExistsError
        If there is a run in `out` that is finished or has kept steps, and neither `resume` nor `overwrite` is set; or
        if `overwrite` would throw away the model to start from.
    JournalError
        If the run to resume was begun with another recipe, other data or another start.
    OutputLockedError
        If another process trains in `out`.
    TrainingError
        If loss or gradient is NaN or infinite: the batch is named and written out, the last good checkpoint kept.

    Warns
    -----
    BainiteWarning
        If a run goes on with another number of threads than it was begun with.
    """
    if resume and overwrite:
        raise InputError("resume goes on with a run and overwrite throws it away; choose one")
    given = {key: value for key, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    full = read_recipe(recipe, changes={**(changes or {}), **given})
    if out is None:
        raise InputError("no folder is given for the run; say where with out=")
    where, target = choose_device(device), Path(out)
    check_folder(target, resume=resume, overwrite=overwrite)
    if overwrite:
        check_source(target, file_of_weights(full, init))
    data = _dataset(full, images, masks, classes, mask_values)
    job, record = prepare_job(full, data, split, init, device=where, out=target, name=name)
    record["description"] = description
    trainer = Trainer(job)
    with locked(target):
        check_folder(target, resume=resume, overwrite=overwrite)  # another run may have been there in the meantime
        found = open_record(target, record, overwrite=not resume)
        if found["result"] is not None:
            return read_run(target)
        record["threads"] = choose_threads(threads, found.get("threads"))
        write_record(target, record)
        write_text(target / RECIPE, recipe_text(full))
        with torch_threads(record["threads"]):
            return _run(trainer, record, target, progress)


def plan_training(
    recipe: str | os.PathLike[str] | Mapping[str, Any] | Recipe,
    images: str | os.PathLike[str] | Sequence[Any] | Dataset,
    masks: str | os.PathLike[str] | Sequence[Any] | None = None,
    *,
    split: SplitSource = None,
    classes: Classes = None,
    mask_values: MaskValues | None = None,
    init: Init = None,
    changes: Mapping[str, Any] | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> TrainingPlan:
    """Return what :func:`train` would do with the same arguments, with a measured time; nothing is written.

    A few steps are trained and thrown away to time them, and one validation image is predicted.

    Parameters
    ----------
    recipe, images, masks, split, classes, mask_values, init, changes, device, threads
        As :func:`train` takes them.

    Returns
    -------
    TrainingPlan

    Raises
    ------
    InputError, ModelError, DeviceError
        As :func:`train` does.
    """
    full, where = read_recipe(recipe, changes=changes), choose_device(device)
    data = _dataset(full, images, masks, classes, mask_values)
    job, record = prepare_job(full, data, split, init, device=where, out=Path(), name=None)
    with torch_threads(choose_threads(threads, None)):
        trainer = Trainer(job)
        plan = plan_of(trainer, len(record["split"]["train"]), torch.get_num_threads())
        precision, step, validation = trainer.measure()
    return replace(plan, precision=precision, seconds_per_step=step, seconds_per_validation=validation)


def prepare_job(
    recipe: Recipe, data: Dataset, split: SplitSource, init: Init, *, device: torch.device, out: Path, name: str | None
) -> tuple[Job, dict[str, Any]]:
    """Return what the loop works with, checked, and the record of the run; nothing is written."""
    data = named_after(data, recipe, init)
    train_part, validation_part = part_indices(data, split)
    check_rules(recipe, data)
    if recipe.validation.early_stop is not None and not validation_part:
        raise InputError(
            "the recipe stops early by the validation score, and the split has no validation part; give one, or set "
            "validation.early_stop to null"
        )
    validate = scale_dataset(data.subset(validation_part), recipe.data.scale) if validation_part else None
    train_images = data.subset(train_part)
    shares = check_classes(train_images)  # of the images: tiles mirror some of it
    tiles = training_items(train_images, recipe.data)
    counts = check_classes(tiles)
    intensities = measure_intensities(tiles)
    start = start_network(recipe, init, channels=data.channels, classes=data.n_classes, intensities=intensities)
    reach = probe(start.network, data.channels)
    job = Job(
        recipe=recipe,
        start=start,
        train=tiles,
        validate=validate,
        loss=make_loss(recipe.loss, counts.tolist()),
        intensities=intensities,
        reach=reach,
        device=device,
        folder=out / CHECKPOINTS,
    )
    about = _about(data, tiles, shares, digest_of(data.subset((*train_part, *validation_part))))
    parts = {"train": list(train_images.names), "validation": list(validate.names if validate else ())}
    return job, _record(job, about, parts, name or out.resolve().name)


def _record(job: Job, about: dict[str, Any], parts: dict[str, list[str]], name: str) -> dict[str, Any]:
    """Return what ``run.json`` holds before there is a result; a run is resumed only with the same fingerprint."""
    recipe, start = job.recipe, job.start
    fingerprint = {
        "recipe": {key: value for key, value in recipe.to_dict().items() if key not in ("name", "description")},
        "data": about["sha256"],
        "split": parts,
        "starting weights": start.digest,
        "device": job.device.type,
    }
    return {
        "format": FORMAT,
        "name": name,
        "bainite_fast": __version__,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "recipe": recipe.to_dict(),
        "data": about,
        "split": parts,
        "origin": start.origin,
        "drawn": recipe.data.synthetic is not None,
        "synthetic_only": recipe.data.synthetic is not None and start.synthetic is not False,
        "normalize": {"mean": list(start.mean), "std": list(start.std)},
        "fingerprint": fingerprint,
        "result": None,
    }


def _dataset(recipe: Recipe, images: Any, masks: Any, classes: Classes, mask_values: MaskValues | None) -> Dataset:
    if images is None:
        drawn = "; draw the recipe's with bainite_fast.evaluation.synthetic_data.synthetic_dataset"
        given = ": give two folders, two sequences of arrays, or a data set"
        raise InputError(f"no images are given{given if recipe.data.synthetic is None else drawn}")
    if not hasattr(images, "subset"):
        return as_dataset(images, masks, classes=classes, mask_values=mask_values)
    data = as_dataset(images, masks, mask_values=mask_values)
    wanted = classes if classes is None or isinstance(classes, int) else len(classes)
    if wanted not in (None, data.n_classes):
        raise InputError(f"classes={wanted} and the data set has {data.n_classes}; leave classes out")
    return data


def check_rules(recipe: Recipe, data: Dataset) -> None:
    """Refuse images that are not those that a recipe draws.

    Raises
    ------
    InputError
        If they are others.
    MissingExtraError
        If the training curve could not be drawn.
    """
    require("matplotlib", "train", "the training curve")  # not to be missed when hours of training are over
    drawn = recipe.data.synthetic
    if drawn is not None and not set(micrograph_of(data)) <= set(drawn.names):
        raise InputError(
            f"the recipe {recipe.name} draws its images (data.synthetic), and others are given; set data.synthetic to "
            "null, or the model would be marked as one that has seen no real steel"
        )


def _about(data: Dataset, tiles: Dataset, counts: np.ndarray, digest: str) -> dict[str, Any]:
    known = max(1, int(counts.sum()))
    return {
        "sha256": digest,
        "images": len(data),
        "tiles": len(tiles),
        "class_names": list(data.class_names),
        "class_shares": {n: int(c) / known for n, c in zip(data.class_names, counts, strict=True)},
        "um_per_px": tiles.um_per_px,
        "channels": data.channels,
        **({"mask_values": values} if (values := getattr(data, "mask_values", {})) else {}),
    }


def _run(trainer: Trainer, record: dict[str, Any], out: Path, progress: Callback | None) -> TrainingRun:
    job, board = trainer.job, TensorBoard(out / "tensorboard")
    try:
        if progress is not None:
            progress(trainer.begin(plan_of(trainer, len(record["split"]["train"]), record["threads"])))
        place = trainer.run(_watching(job, board, out, progress))
    finally:
        board.close()
    write_metrics(out / METRICS, place.history, job.train.n_classes)
    network = trainer.result()
    keeps_best = job.recipe.validation.keep == "best" and place.best_epoch
    result = {
        "history": place.history,
        "kept_epoch": place.best_epoch if keeps_best else len(place.history),
        "class_names": record["data"]["class_names"],
        "device": str(job.device),
        "precision": trainer.hardware.precision,
        "seconds": place.seconds,
    }
    run = TrainingRun(
        out=out,
        recipe=job.recipe,
        history=tuple(place.history),
        kept_epoch=result["kept_epoch"],
        class_names=tuple(result["class_names"]),
        device=result["device"],
        precision=result["precision"],
        seconds=result["seconds"],
    )
    draw_curve(out / CURVE, run.history, run.class_names)
    _pack(network, job, record, run)
    write_record(out, {**record, "result": without_nan(result)})
    return run


def _watching(job: Job, board: TensorBoard, out: Path, progress: Callback | None) -> Callback:
    """Return a callback that keeps the table up to date, then passes on."""
    history: list[Mapping[str, float]] = []
    last = job.folder / LAST
    if last.exists():
        history += read(last)[1]["place"]["history"]

    def watch(now: Progress) -> None:
        if now.scores is not None:
            history.append(now.scores)
            write_metrics(out / METRICS, history, job.train.n_classes)
            board.add(now.scores)
        if progress is not None:
            progress(now)

    return watch


def _pack(network: torch.nn.Module, job: Job, record: Mapping[str, Any], run: TrainingRun) -> None:
    split, about = record["split"], record["data"]
    data = {
        "source": "drawn by the package" if record["drawn"] else "images given by the user (not drawn by the package)",
        "training images": split["train"],
        **({"validation images": split["validation"]} if split["validation"] else {}),
        "items to learn from": about["tiles"],
        "class shares of the images": {name: round(share, 4) for name, share in about["class_shares"].items()},
        **({"classes of mask values": about["mask_values"]} if about.get("mask_values") else {}),
        "sha256": about["sha256"],
    }
    training = {key: record[key] for key in ("origin", "bainite_fast", "torch")}
    save_package(
        network,
        run.out / MODEL,
        name=record["name"],
        classes=run.class_names,
        test_input=package_test_input(job.validate or job.train, job.reach.stride),
        um_per_px=about["um_per_px"],
        normalize=(job.start.mean, job.start.std),
        description=record["description"],
        training={"data": data, **training, "run": run.to_dict()},
        recipe=job.recipe.to_dict(),
        scores=score_entries(run, len(split["validation"])),
        synthetic_only=record["synthetic_only"],
        overwrite=True,
    )


def package_test_input(data: Dataset, stride: int) -> np.ndarray:
    """Return the middle of the first image, mirrored where it is too small: [h, w] or [h, w, C]."""
    edge = round_up(TEST_EDGE, stride)
    image = data.image(0)
    y, x = (max(0, (size - edge) // 2) for size in image.shape[:2])
    return np.ascontiguousarray(mirrored(image[y : y + edge, x : x + edge], (edge, edge)))
