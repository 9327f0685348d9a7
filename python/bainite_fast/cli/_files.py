"""``info`` and ``convert``: what a file holds, and the way into OME-Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..errors import InputError
from ._console import emit, emit_json, file_size, progress, table
from ._models import show_model
from ._options import Channel, CropBar, Json, Level, Overwrite, Plane, Quiet, UmPerPx
from ._parsing import parse_output
from ._wording import as_options


def info(
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH",
            help="A mosaic or a label image in any format, or a model: package, or name in the box.",
            show_default=False,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Say what a file holds: shape, dtype, channels, pyramid, µm/px and where that came from.

    Of a model: classes, scale, scores, what it was trained on and with, and its card.
    """
    from ..models.describing import FOREIGN, foreign_model, is_package

    if "://" not in path and is_package(path):
        show_model(path, as_json=as_json)
        return
    if "://" not in path and is_package(model := Path(path) / "model"):
        raise InputError(f"{path} is the folder of a training run; its model is {model}")
    if "://" not in path and (kind := foreign_model(path)):
        raise InputError(f"{path} is {FOREIGN[kind]}, which does not say what info shows; {_REMEDIES[kind]}")
    from ..io import describe

    found = describe(path)
    emit_json(found) if as_json else emit(summarize(found))


_EXPORTED = "if it was exported from a package, that package is what info describes and `segment --model` takes"
_REMEDIES = {
    "torchscript": "`bainite-fast segment --model` takes it, and info describes the package that it was made of",
    "pt2": _EXPORTED,
    "onnx": _EXPORTED,
    "bioimageio": _EXPORTED,
    "pickle": "it is never opened, for that would run what it holds; info describes packages",
    "safetensors": "if a package was made of them, info describes that",
}
"""What to do with a model that is no package."""

_KINDS = {
    "ZarrMosaic": "Zarr image",
    "TiffMosaic": "TIFF image",
    "PictureMosaic": "picture",
    "labels": "label image",
}


def summarize(found: dict[str, Any]) -> str:
    """Return what matters of a description as lines for a reader; ``--json`` has all of it."""
    rows = [
        ("kind", _KINDS.get(found["kind"], found["kind"])),
        ("place", found["location"]),
        *_pixels(found),
        *_storage(found),
    ]
    if found.get("classes"):
        rows.append(("classes", ", ".join(f"{value} {name}" for name, value in found["classes"].items())))
    for key in ("labels", "unfinished"):
        names = [item["name"] if isinstance(item, dict) else str(item) for item in found.get(key) or []]
        rows += [(key, ", ".join(names))] if names else []
    made = found.get("provenance") or {}
    if "model" in made:
        model, plan = made["model"], made["plan"]
        rows.append(("made by", f"model {model['name']} (sha256 {model['sha256'][:12]}…)"))
        rows.append(("trained on", made["trained_on"]))
        rows.append(("made with", f"bainite_fast {made['bainite_fast']}, {plan['device']}, {plan['precision']}"))
        rows += [(name, f"{100 * share:.2f} %") for name, share in made["fractions"].items()]
    rows += [(key, as_options(str(found[key]))) for key in ("choose", "advice") if found.get(key)]
    return table(rows)


def _pixels(found: dict[str, Any]) -> list[tuple[str, str]]:
    if "shape" not in found:
        return []
    channels = found.get("channels", 1)
    kind = "RGB" if found.get("rgb") else "gray" if channels == 1 else f"{channels} channels"
    kind = "labels" if found["kind"] == "labels" else kind
    scale = "unknown" if found["um_per_px"] is None else f"{found['um_per_px']:.5g} µm/px, from {found['unit_source']}"
    return [
        ("size", f"{_by(found['shape'])} px, {found['gigapixels'] * 1000:.4g} Mpx"),
        ("pixels", f"{found['dtype']}, {kind}"),
        ("scale", scale),
    ]


def _storage(found: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if found.get("chunks"):
        inside = f" in shards of {_by(found['shards'])} px" if found.get("shards") else ""
        rows.append(("chunks", f"{_by(found['chunks'])} px{inside}"))
    elif found.get("chunk_shape"):
        packed = f", {found['compression']}" if found.get("compression", "none") != "none" else ""
        rows.append(("tiles", f"{_by(found['chunk_shape'])} px{packed}"))
    if len(found.get("level_shapes") or ()) > 1:
        rows.append(("pyramid", ", ".join(_by(shape) for shape in found["level_shapes"])))
    if "bytes_on_disk" in found:
        rows.append(("on disk", file_size(found["bytes_on_disk"])))
    return rows


def _by(shape: list[int]) -> str:
    return " × ".join(map(str, shape))


def convert(
    source: Annotated[str, typer.Argument(metavar="SRC", help="The mosaic to read.", show_default=False)],
    out: Annotated[
        str, typer.Argument(parser=parse_output, metavar="OUT", help="OME-Zarr folder to write.", show_default=False)
    ],
    plane: Plane = None,
    channel: Channel = None,
    level: Level = 0,
    crop_bar: CropBar = None,
    um_per_px: UmPerPx = None,
    ome_version: Annotated[Literal["0.4", "0.5"], typer.Option(help="OME-Zarr version to write.")] = "0.5",
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn a mosaic of any format into OME-Zarr with a pyramid, streaming: memory does not depend on its size."""
    from .. import io

    choice: dict[str, Any] = {"plane": plane, "channel": channel, "level": level, "crop_bar": crop_bar}
    writing: dict[str, Any] = {"um_per_px": um_per_px, "ome_version": ome_version, "overwrite": overwrite}
    with progress("convert", quiet=quiet) as step:
        path = io.convert(source, out, **choice, **writing, progress=step)
    emit_json({"path": str(path)}) if as_json else emit(str(path))
