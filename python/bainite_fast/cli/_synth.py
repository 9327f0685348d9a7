"""``bainite-fast synth``: a synthetic mosaic on disk."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from ._console import emit, emit_json, progress, table
from ._options import Json, Overwrite, Quiet
from ._parsing import parse_output, parse_shape

PresetName = Literal["lom", "sem", "lom_contrast", "sem_contrast"]


def synth(
    out: Annotated[
        str, typer.Argument(parser=parse_output, metavar="OUT", help="OME-Zarr folder to write.", show_default=False)
    ],
    shape: Annotated[
        Any,
        typer.Option(parser=parse_shape, metavar="H,W", help="Height and width in px.", show_default=False),
    ],
    preset: Annotated[
        PresetName,
        typer.Option(help="Light-optical (126.6 nm/px) or electron (27.7 nm/px) picture, or another contrast of it."),
    ] = "lom",
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same mosaic.")] = 0,
    mask: Annotated[bool, typer.Option("--mask", help="Also write the true phases, as labels/truth.")] = False,
    seams: Annotated[bool, typer.Option("--seams", help="With stitching seams.")] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Draw a mosaic of complex-phase steel, polygonal ferrite and lath bainite, with its true mask on request.

    Memory does not depend on the shape. Anything made of it, a trained model too, has seen no real steel.
    """
    from ..synthetic import write

    with progress("synth", quiet=quiet) as step:
        path = write(out, shape, preset=preset, seed=seed, seams=seams, mask=mask, overwrite=overwrite, progress=step)
    result = {"path": str(path), "shape": shape, "preset": preset, "seed": seed, "mask": mask, "seams": seams}
    emit_json(result) if as_json else emit(table([("mosaic", str(path)), ("size", f"{shape[0]} × {shape[1]} px")]))
