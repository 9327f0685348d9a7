"""``export``: labels for Fiji and spreadsheets, models for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ._console import emit, emit_json, progress, say
from ._options import Json, Overwrite, Quiet
from ._parsing import parse_output


def export(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="Labels: …/labels/NAME, or the OME-Zarr that holds it. With --to: a model, by its name in the box, "
            "package or TorchScript file.",
            show_default=False,
        ),
    ],
    target: Annotated[
        str | None,
        typer.Argument(
            parser=parse_output,
            metavar="OUT",
            help="What to write: name.ome.tif or name.png for labels, name.pt, .pt2, .onnx or a folder or zip for "
            "models.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option(parser=parse_output, metavar="OUT", help="The same, as an option.", show_default=False)
    ] = None,
    to: Annotated[
        Literal["torchscript", "pt2", "onnx", "bioimageio"] | None,
        typer.Option(help="Export a model, in this format.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which labels, where there are several.", show_default=False)
    ] = None,
    author: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="bioimageio: who made the model; may be repeated.", show_default=False),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(metavar="SPDX", help="bioimageio: licence of the weights, such as CC-BY-4.0.", show_default=False),
    ] = None,
    cite: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DOI",
            help="bioimageio: DOI or URL to cite, or TEXT|DOI; may be repeated. The network's papers by default.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write labels for other programs or, with --to, a model.

    Labels become a tiled OME-TIFF for Fiji, MIPAR or ZEN, and the area of each class as CSV beside it; or, as
    name.png, a picture of at most 3000 px: the labels over the image, with legend and scale bar.

    A model becomes TorchScript, torch.export's pt2, ONNX, or a bioimage.io model (ilastik, deepImageJ). Every exported
    network takes intensities 0…1 and normalises them itself; it is run and compared before it is written.
    """
    place = _place(target, out)
    publication = {"author": author, "license": license, "cite": cite}
    if to is not None:
        if name is not None:
            raise typer.BadParameter("--name chooses among labels, and --to exports a model; leave one of them")
        written = [_export_model(source, place, to, publication, overwrite, quiet)]
    else:
        given = [f"--{key}" for key, value in publication.items() if value]
        if given:
            raise typer.BadParameter(f"{', '.join(given)} belong to --to bioimageio")
        written = _export_labels(source, place, name, overwrite, quiet)
    emit_json({"paths": [str(path) for path in written]}) if as_json else emit("\n".join(map(str, written)))


def _place(target: str | None, out: str | None) -> str:
    if (target is None) == (out is None):
        raise typer.BadParameter(
            "say once where to write: export SRC OUT, or export SRC --out OUT"
            + (f"; got {target} and {out}" * bool(out))
        )
    return target or out or ""


def _export_model(
    source: str,
    place: str,
    to: Literal["torchscript", "pt2", "onnx", "bioimageio"],
    publication: dict[str, Any],
    overwrite: bool,
    quiet: bool,
) -> Path:
    from .. import models

    entries = [tuple(part.strip() for part in entry.rpartition("|")[::2]) for entry in publication["cite"] or ()]
    written = models.export(
        source,
        place,
        format=to,
        authors=publication["author"] or (),
        license=publication["license"],
        cite=[(text, where) for text, where in entries],
        overwrite=overwrite,
    )
    if to != "bioimageio" and not quiet:  # its rdf.yaml says it
        contract = models.load(source).contract
        say(
            f"height and width of its input are multiples of {contract.stride} px; for the labels of `segment`, mirror "
            f"the image by {contract.halo} px on every side first, and cut that off again"
        )
    return written


def _export_labels(source: str, place: str, name: str | None, overwrite: bool, quiet: bool) -> list[Path]:
    from .. import io
    from ..models.describing import is_package

    if is_package(source):
        raise typer.BadParameter(f"{source} is a model: say --to torchscript, pt2, onnx or bioimageio")
    if place.lower().endswith(".png"):
        from ._picture import export_picture

        return [export_picture(source, Path(place), name=name, overwrite=overwrite)]
    with progress("export", quiet=quiet) as step:
        return list(io.export_labels(Path(source), place, name=name, overwrite=overwrite, progress=step))
