"""``bainite-fast train`` and ``recipes``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..training.words import counted, duration, span
from ._console import Step, emit, emit_json, hushed, progress, say, table
from ._interrupt import EXIT_INTERRUPTED, interrupt_between_steps
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
)
from ._parsing import parse_mask_values, parse_output
from ._segment import tune_allocator

ESTIMATE_STEPS, ESTIMATE_SECONDS = 5, 20.0

if TYPE_CHECKING:
    from ..training import Progress, Recipe
    from ..training.dataset import Dataset

Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Threads of PyTorch on the CPU.", show_default="OMP_NUM_THREADS, or the cores"
    ),
]
ImagesFolder = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR|MOSAIC", help="Folder of the images, or one OME-Zarr.", show_default=False),
]
MasksFolder = Annotated[
    Path | None,
    typer.Option(
        "--masks",
        metavar="DIR|LABELS",
        help="Folder of the masks, which are named as their images are; class indices, 0/255 or colours. Of OME-Zarrs: "
        "the name of their labels.",
        show_default=False,
    ),
]
Colour = Annotated[
    bool, typer.Option("--colour", "--color", help="Keep the colours of images, which are turned to gray otherwise.")
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
    description: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Of the model, in a line, for its card: steel, etching, microscope.",
            show_default=False,
        ),
    ] = "",
    um_per_px: UmPerPx = None,
    crop_bar: CropBar = None,
    colour: Colour = False,
    device: TrainDevice = "auto",
    threads: Threads = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in DIR; the model is that of an unbroken run.")
    ] = False,
    overwrite: StartAgain = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print what would be trained and, from a few steps, its time; write nothing."),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network on annotated images, and write it as a model package.

    A run that was broken off, by Ctrl-C too, goes on with the same command and --resume. Images and masks are left out
    where the recipe draws them (data.synthetic). On the CPU PyTorch takes as many threads as there are cores; their
    number changes the last bits of the weights, so a resumed run keeps that of its beginning. On a busy machine fewer
    --threads may be faster: --dry-run measures it.
    """
    tune_training()
    from .. import training

    given = {key: value for key, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    with resumable(out, what_is_kept), interrupt_between_steps() as check:
        full = training.read_recipe(recipe, changes=training.parse_changes(setting or []) | given)
        with hushed(quiet):
            data = open_data(full, images, masks, **reading(classes, mask_value, um_per_px, crop_bar, colour))
        if dry_run:
            with hushed(quiet):
                show_plan(full, data, Path(out), resume, overwrite, as_json, split, init, device, threads)
            return
        if resume and not overwrite and not quiet:
            say_if_new(Path(out))
        with progress("train", unit="steps", scale=1, quiet=quiet) as step:
            run = training.train(
                full,
                data,
                None,
                out,
                split=split,
                init=init,
                name=name,
                description=description,
                device=device,
                threads=threads,
                resume=resume,
                overwrite=overwrite,
                progress=watch(step, quiet=quiet, check=check),
            )
    emit_json(run.to_dict()) if as_json else emit(str(run))


def say_if_new(out: Path) -> None:
    """Say that a run to go on with is not there, which may be a mistyped folder; refuse what the run would."""
    from ..training.folder import check_folder
    from ..training.result import RUN

    check_folder(out, resume=True, overwrite=False)
    if not (out / RUN).exists():
        say(f"there is no run in {out} to go on with; a new one begins")


def show_plan(
    recipe: Recipe,
    data: Dataset,
    out: Path,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    split: Path | None,
    init: str | None,
    device: str,
    threads: int | None,
) -> None:
    """Print what a run would do, with a measured time; refuse what the run would."""
    from .. import training
    from ..training.folder import check_folder, steps_kept

    check_folder(out, resume=resume, overwrite=overwrite)
    plan = training.plan_training(recipe, data, split=split, init=init, device=device, threads=threads)
    kept = steps_kept(out) if resume else 0
    state = f"goes on after step {kept:,}" if kept else "replaces the run there" if overwrite else "new"
    if as_json:
        emit_json({**plan.to_dict(), "output": str(out), "steps_kept": kept})
    else:
        emit(f"{plan}\n{'output':<10}  {out} ({state})")


def tune_training() -> None:
    """Let PyTorch's threads sleep while they wait for one another, and keep large activations in this process.

    By default they spin: on a machine whose cores are busy with other work a thread then burns the time that the one
    it waits for needs, and training is many times slower. It must happen before torch is loaded, is process-wide, and
    changes no result. A user's own OMP_WAIT_POLICY is left alone.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    tune_allocator()


def reading(
    classes: Any, mask_value: list[str] | None, um_per_px: float | None, crop_bar: Any, colour: bool
) -> dict[str, Any]:
    """Return how annotated images are read, as the library takes it."""
    return {
        "classes": classes,
        "mask_values": parse_mask_values(mask_value),
        "um_per_px": um_per_px,
        "crop_bar": crop_bar or "off",
        "gray": False if colour else None,
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


NOTHING_KEPT = "nothing was finished that could be kept; the same command begins anew"


@contextmanager
def resumable(out: str | Path, kept: Callable[[Path], str]) -> Iterator[None]:
    """Say what is kept and how to go on when the user stops a job, and end with the status of an interrupted one."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted: {kept(Path(out))}")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def what_is_kept(out: Path) -> str:
    """Return in words what a training run that was stopped has left in its folder, and how to go on."""
    from ..training.folder import steps_kept

    kept = steps_kept(out)
    if not kept:
        return NOTHING_KEPT
    return f"the run is kept after {counted(kept, 'step')} in {out}; the same command with --resume goes on"


def finished_parts(*files: str, how: str = "the same command goes on") -> Callable[[Path], str]:
    """Return what says the same of a job of several runs, which has begun where one of some files is in its folder."""

    def kept(out: Path) -> str:
        begun = any((out / file).exists() for file in files)
        return f"what is finished is kept in {out}; {how}" if begun else NOTHING_KEPT

    return kept


def watch(step: Step, *, quiet: bool, check: Callable[[], None] = lambda: None) -> Callable[[Progress], None]:
    """Return a callback that moves the bar, and says what is trained, how long it will take, and scores.

    Parameters
    ----------
    step : callable
        Moves the bar.
    quiet : bool
        Say nothing.
    check : callable
        Called between steps; what it raises ends the run.
    """
    estimate = Estimate()

    def progress_made(now: Progress) -> None:
        check()
        if now.plan is not None and not quiet:
            say(f"{now.plan.extent}; {now.plan.device}")
        step(now.step, now.steps)
        if quiet:
            return
        if now.plan is not None and now.step:
            say(f"goes on with epoch {now.epoch} of {now.epochs}")
        if now.plan is None and now.scores is None and (text := estimate.update(now.step, now.steps)):
            say(text)
        if now.scores is not None and "mean_iou" in now.scores:
            say(
                f"epoch {now.epoch} of {now.epochs}: loss {now.loss:.4f}, validation mean IoU "
                f"{100 * now.scores['mean_iou']:.2f} %, accuracy {100 * now.scores['accuracy']:.2f} %"
            )

    return progress_made


class Estimate:
    """Says once, after a few steps, how long a run will take."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, int] | None = None
        self._said = False

    def update(self, done: int, total: int) -> str:
        """Take note of `done` of `total` steps; return a line, or "" where there is nothing (new) to say."""
        now = self._clock()
        if self._first is None:
            self._first = now, done
            return ""
        seconds, steps = now - self._first[0], done - self._first[1]
        # The first steps warm up; a run that is over in seconds needs no estimate.
        if self._said or steps < 1 or not (steps >= ESTIMATE_STEPS and seconds >= 1 or seconds >= ESTIMATE_SECONDS):
            return ""
        self._said = True
        one = seconds / steps
        left = f"{duration(one * (total - done))} for the {counted(total - done, 'step')} to go"
        return f"a step takes {span(one)}: about {left}, validation not counted"


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
    found = {name: training.read_recipe(name) for name in training.recipe_names()}
    if as_json:
        emit_json({name: recipe.to_dict() for name, recipe in found.items()})
    else:
        rows = [(name, f"{one.description}; {counted(one.epochs, 'epoch')}") for name, one in found.items()]
        emit(table(rows))
