"""``bainite-fast segment``: the main job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..training.words import duration
from ._console import Step, emit, emit_json, hushed, progress, say
from ._interrupt import EXIT_INTERRUPTED, graceful_interrupt
from ._options import (
    Channel,
    CropBar,
    Device,
    Edge,
    Json,
    Level,
    Memory,
    Model,
    Normalize,
    Overwrite,
    Plane,
    Precision,
    Quiet,
    Runtime,
    Scale,
    Tile,
)
from ._parsing import parse_output

if TYPE_CHECKING:
    from ..segmentation import Outlook, ProgressEvent, Segmentation

RESUME_HINT = "interrupted: what is done is kept; the same command continues from there"


def segment(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="The mosaic: OME-Zarr or Zarr (folder, zip, URL), TIFF, BigTIFF, OME-TIFF, PNG or JPEG.",
            show_default=False,
        ),
    ],
    model: Model = None,
    out: Annotated[
        str | None,
        typer.Option(
            parser=parse_output,
            metavar="PATH",
            help="OME-Zarr to write the labels into.",
            show_default="the source, or beside it",
        ),
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Name of the label image: labels/NAME.")] = "phases",
    device: Device = "auto",
    precision: Precision = "auto",
    runtime: Runtime = "torchscript",
    edge: Edge = "mirror",
    tile: Tile = None,
    memory: Memory = None,
    scale: Scale = "auto",
    normalize: Normalize = None,
    plane: Plane = None,
    channel: Channel = None,
    level: Level = 0,
    crop_bar: CropBar = None,
    with_image: Annotated[
        bool, typer.Option("--with-image", help="Copy the image into the output, where that has none.")
    ] = False,
    ome_version: Annotated[
        Literal["0.4", "0.5"] | None,
        typer.Option(help="OME-Zarr version of a new output.", show_default="the source's, or 0.5"),
    ] = None,
    confidence: Annotated[
        bool, typer.Option("--confidence", help="Also write 255 × softmax of the winning class, as uint8.")
    ] = False,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Continue an interrupted run from its journal, or start anew.")
    ] = True,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Run on N processes of this machine, which share --memory, and its GPUs.",
            show_default="threads of one process",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run on a dask cluster, tcp://…, whose workers see the same folders; --memory is each worker's.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, its memory and its time; write nothing.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Segment a mosaic and write the labels beside it as OME-Zarr.

    The result equals one pass over the whole image. Memory stays within --memory, whatever the size of the mosaic. A
    run that was stopped continues when the same command is given again.
    """
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("--workers starts a cluster and --scheduler names one; give one of the two")
    tune_allocator()
    from ..segmentation import look_ahead
    from ..segmentation import segment as run
    from ._cluster import cluster

    settings: dict[str, Any] = {
        "out": out,
        "name": name,
        "device": device,
        "precision": precision,
        "runtime": runtime,
        "edge": edge,
        "scale": scale,
        "normalize": normalize,
        "tile": tile,
        "confidence": confidence,
        "plane": plane,
        "channel": channel,
        "level": level,
        "crop_bar": crop_bar,
        "with_image": with_image,
        "ome_version": ome_version,
        "resume": resume,
        "overwrite": overwrite,
    }
    try:
        with graceful_interrupt(), cluster(scheduler, workers, memory, device) as place:
            if place.client is not None:  # workers may stand in another folder
                source, settings["out"] = _absolute(source), None if out is None else _absolute(out)
            settings |= {"memory": place.memory, "client": place.client}
            if dry_run:
                with hushed(quiet):
                    show(look_ahead(source, model, **settings), as_json)
                return
            with progress("segment", quiet=quiet) as step:
                done = run(source, model, **settings, progress=_follower(step, quiet=quiet))
    except KeyboardInterrupt:
        say(RESUME_HINT)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    emit_json(as_dict(done)) if as_json else emit(str(done))


def _absolute(path: str) -> str:
    return path if "://" in path or "::" in path else str(Path(path).absolute())


def _follower(step: Step, *, quiet: bool) -> Callable[[ProgressEvent], None]:
    """Return what moves the progress bar, and says once what an earlier run had done already."""
    told = quiet

    def follow(event: ProgressEvent) -> None:
        nonlocal told
        if event.resumed and not told:
            say(f"continuing: {event.resumed / 1e6:,.3g} of {event.total / 1e6:,.3g} Mpx were done")
        told = True
        step(event.done, event.total)

    return follow


def show(outlook: Outlook, as_json: bool) -> None:
    """Print what a run would do and where it would write, with its memory and time."""
    output, state, seconds = str(outlook.output), outlook.state, outlook.seconds
    if as_json:
        emit_json({**outlook.plan.to_dict(), "estimated_seconds": seconds, "output": output, "state": state})
    else:
        time = "less than 1 s" if seconds < 1 else f"about {duration(seconds)}"
        emit(f"{outlook.plan}\n{'time':<11}{time} on this machine\n{'output':<11}{output} ({state})")


def tune_allocator() -> None:
    """Keep large activations in this process: glibc's habit of returning them costs half the network's time.

    It must happen before torch allocates, and is process-wide: right for a program, not for a library call.
    """
    from .. import _core

    _core.tune_allocator()


def as_dict(done: Segmentation) -> dict[str, Any]:
    """Return a finished segmentation as what ``--json`` prints."""
    return {
        "path": str(done.path),
        "shape": list(done.labels.shape),
        "counts": done.counts,
        "fractions": done.fractions,
        "seconds": done.seconds,
        "pixels_per_second": done.pixels_per_second,
        "plan": done.plan.to_dict(),
    }
