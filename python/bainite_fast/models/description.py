"""What an exported network says of itself: the JSON that travels in its file, written and read back."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .._version import __version__
from ..errors import ModelError
from .contract import Contract
from .package_files import open_zip

DESCRIPTION = "bainite_fast.json"
"""Name under which TorchScript and ``.pt2`` files (extra files) and ONNX (metadata) hold it."""

_Byte = Annotated[int, Field(ge=0, le=255)]


class _Said(BaseModel):
    """What is taken from a description; the rest is measured, or for other programs."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    channels: Annotated[int, Field(ge=1, le=256)]
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=256)]
    colors: tuple[tuple[_Byte, _Byte, _Byte], ...]
    um_per_px: Annotated[float, Field(gt=0)] | None
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    synthetic_only: bool = False


def describe(contract: Contract) -> dict[str, Any]:
    """Return, JSON-able, what an exported network needs and gives."""
    return {
        "made_by": f"bainite_fast {__version__}",
        "name": contract.name,
        "sha256": contract.sha256,
        "input": "float32 [N, C, H, W], intensities 0…1: uint8 / 255, uint16 / 65535, floats as they are; the "
        "normalisation is part of the network",
        "output": "logits [N, K, H, W]"
        + (": class 1 where the logit is above 0" if contract.out_channels == 1 else "; the class is their argmax"),
        "channels": contract.in_channels,
        "classes": list(contract.classes),
        "colors": [list(x) for x in contract.colors],
        "um_per_px": contract.um_per_px,
        "stride": contract.stride,
        "halo": contract.halo,
        "temperature": contract.temperature,
        "synthetic_only": contract.synthetic_only,
    }


def read_said(path: Path) -> _Said | None:
    """Return what a TorchScript file of ours says of itself; None where it holds no description.

    Raises
    ------
    ModelError
        If the description is none.
    """
    try:
        with open_zip(path) as archive:
            found = [name for name in archive.namelist() if name.partition("/")[2] == f"extra/{DESCRIPTION}"]
            return _Said.model_validate_json(archive.read(found[0])) if found else None
    except (zipfile.BadZipFile, OSError, ValidationError) as error:
        said = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise ModelError(f"{path} holds a description that cannot be read ({said}); export the model again") from error


def described(contract: Contract, said: _Said) -> Contract:
    """Return the contract of a network that was measured, with what it says of itself.

    Raises
    ------
    ModelError
        If it says other classes than it has.
    """
    if not len(said.classes) == len(said.colors) == len(contract.classes):
        raise ModelError(
            f"the network gives {len(contract.classes)} classes, and its description names {len(said.classes)} with "
            f"{len(said.colors)} colours; export the model again"
        )
    return replace(
        contract,
        name=said.name,
        classes=said.classes,
        colors=said.colors,
        um_per_px=said.um_per_px,
        temperature=said.temperature,
        synthetic_only=said.synthetic_only,
    )
