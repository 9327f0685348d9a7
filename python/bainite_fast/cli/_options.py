"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ._parsing import (
    parse_bytes,
    parse_channel,
    parse_classes,
    parse_crop_bar,
    parse_device,
    parse_normalize,
    parse_plane,
    parse_scale,
    parse_um_per_px,
)


def classes_option(default: str) -> Any:
    """Return the option for classes, whose default is said in words."""
    return typer.Option(
        parser=parse_classes,
        metavar="N|NAMES",
        help="Number of classes, or their names from label 0 with commas between.",
        show_default=default,
    )


Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing but errors.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an output that exists, once the new one is complete.")
]
Plane = Annotated[
    Any,
    typer.Option(
        parser=parse_plane,
        metavar="N|AXIS=N",
        help="Plane of a stack, counted from 0; of a file with several stack axes: z=3,t=0.",
        show_default=False,
    ),
]
Channel = Annotated[
    Any,
    typer.Option(
        parser=parse_channel,
        metavar="N|NAME|rgb",
        help="Channel of the file, counted from 0, or its name; several with commas; rgb: three as colours.",
        show_default=False,
    ),
]
Level = Annotated[int, typer.Option(metavar="N", min=0, help="Pyramid level of the file; 0 is full resolution.")]
CropBar = Annotated[
    Any,
    typer.Option(
        parser=parse_crop_bar,
        metavar="auto|ROWS",
        help="Cut off the annotation bar of an SEM picture: found, or that many px rows at the bottom.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="Bundled name (see `bainite-fast models`), package folder or zip, or TorchScript file.",
        show_default="the bundled model",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        parser=parse_device,
        metavar="auto|cpu|cuda[:N]",
        help="Where the network runs; auto takes a GPU where this installation and machine have one.",
    ),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    typer.Option(help="auto takes a lower one only where at most 0.1 % of the model's own test labels change."),
]
Runtime = Annotated[
    Literal["torchscript", "export", "compile", "auto"],
    typer.Option(
        help="What compiles the network; export, compile (Inductor) take a minute and more; auto measures export."
    ),
]
Edge = Annotated[
    Literal["mirror", "native"],
    typer.Option(help="Beyond the border: the mirrored image, or as one pass over the bare image has it."),
]
Scale = Annotated[
    Any,
    typer.Option(
        parser=parse_scale,
        metavar="auto|as-is|UM_PER_PX",
        help="Resample where the mosaic's µm/px is not the model's; never; or say the mosaic's µm/px.",
    ),
]
Tile = Annotated[
    int | None,
    typer.Option(
        metavar="PX",
        min=1,
        help="Edge of a tile's core, in px, a multiple of the stride.",
        show_default="from the memory",
    ),
]
Memory = Annotated[
    int | None,
    typer.Option(
        parser=parse_bytes,
        metavar="SIZE",
        help="Memory budget with its unit: 4GiB, 4GB, 4096MiB, or bytes.",
        show_default="from what is free",
    ),
]
Normalize = Annotated[
    Any,
    typer.Option(
        parser=parse_normalize,
        metavar="MEAN,STD",
        help="Intensity mean and deviation (0…1 scale) of a model that declares none.",
        show_default="0,1",
    ),
]

# Of annotated images, for training and scores.
Classes = Annotated[Any, classes_option("what the masks hold")]
ModelClasses = Annotated[Any, classes_option("the model's")]
MaskValues = Annotated[
    list[str] | None,
    typer.Option(
        "--mask-value",
        metavar="VALUE=CLASS",
        help="What a gray value or a colour (#rrggbb) of the masks means; 255 as CLASS: not known; repeatable.",
        show_default="indices, 0/255, or colours in ascending order",
    ),
]
UmPerPx = Annotated[
    float | None,
    typer.Option(
        parser=parse_um_per_px,
        metavar="UM",
        help="Size of a px in µm, where the files do not say it.",
        show_default=False,
    ),
]
Names = Annotated[
    Path | None,
    typer.Option("--list", metavar="FILE", help="Names of the images to take, one a line.", show_default="all"),
]
Tolerance = Annotated[
    int, typer.Option(metavar="PX", min=0, help="Also score without what is this near a true boundary.")
]

# Of training.
RecipeName = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="A recipe of `bainite-fast recipes`, or a YAML file.")
]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Another value of the recipe, such as loss.alpha=2; repeatable."),
]
Epochs = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Passes over the images.", show_default="the recipe's")
]
Init = Annotated[
    str | None,
    typer.Option(
        metavar="PACKAGE", help="A model to fine-tune: a package, or a model in the box.", show_default="the recipe's"
    ),
]
TrainDevice = Annotated[
    str, typer.Option(parser=parse_device, metavar="auto|cpu|cuda[:N]", help="Where to train; auto takes a GPU.")
]
StartAgain = Annotated[bool, typer.Option("--overwrite", help="Throw away what is in DIR, and start again.")]
