"""``info``, ``convert`` and ``export``: what a file holds, and the ways into and out of OME-Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ._console import emit, emit_json, progress, table
from ._options import parse_crop_bar


def info(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="A mosaic, or a label image, in any format.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Say what a file holds: shape, dtype, channels, pyramid, µm/px and where that came from."""
    from ..io import describe

    found = describe(path)
    emit_json(found) if as_json else emit(table([(key.replace("_", " "), text(value)) for key, value in found.items()]))


def text(value: Any) -> str:
    """Write a value of a description for a reader."""
    if value is None:
        return "unknown"
    if isinstance(value, dict):
        return ", ".join(f"{key} {text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        nested = any(isinstance(item, (list, tuple, dict)) for item in value)
        return ("; " if nested else " × " if all(isinstance(i, int) for i in value) else ", ").join(map(text, value))
    return str(value)


def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The mosaic to read.", show_default=False)],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="OME-Zarr folder to write.", show_default=False)],
    plane: Annotated[
        int | None, typer.Option(metavar="N", help="Plane of a stack, counted from 0.", show_default=False)
    ] = None,
    channel: Annotated[
        int | None, typer.Option(metavar="N", help="Channel of the file, counted from 0.", show_default=False)
    ] = None,
    level: Annotated[int, typer.Option(metavar="N", help="Pyramid level of the file; 0 is full resolution.")] = 0,
    crop_bar: Annotated[
        Any,
        typer.Option(
            parser=parse_crop_bar,
            metavar="auto|ROWS",
            help="Cut off the annotation bar of an SEM picture: found, or that many px rows at the bottom.",
            show_default=False,
        ),
    ] = None,
    ome_version: Annotated[Literal["0.4", "0.5"], typer.Option(help="OME-Zarr version to write.")] = "0.5",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; warnings and errors only.")] = False,
) -> None:
    """Turn a mosaic of any format into OME-Zarr with a pyramid, streaming: memory does not depend on its size."""
    from .. import io

    choice: dict[str, Any] = {"plane": plane, "channel": channel, "level": level, "crop_bar": crop_bar}
    with progress("convert", quiet=quiet) as step:
        path = io.convert(source, out, **choice, ome_version=ome_version, overwrite=overwrite, progress=step)
    emit_json({"path": str(path)}) if as_json else emit(str(path))


def export(
    labels: Annotated[
        Path,
        typer.Argument(metavar="LABELS", help="Label image: …/labels/NAME in an OME-Zarr.", show_default=False),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="OME-TIFF to write, name.ome.tif.", show_default=False)],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; warnings and errors only.")] = False,
) -> None:
    """Write labels as tiled OME-TIFF for Fiji, MIPAR or ZEN, and the area of each class as CSV beside it."""
    from .. import io

    with progress("export", quiet=quiet) as step:
        written = io.export_labels(labels, out, overwrite=overwrite, progress=step)
    emit_json({"paths": [str(path) for path in written]}) if as_json else emit("\n".join(map(str, written)))
